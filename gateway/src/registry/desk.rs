//! Who is worked on while connections come and go: a few at one time.
//!
//! When a fleet comes back at once, thousands of tasks are ready in the same instant, and a runtime takes whoever is ready in its order: a
//! client that stayed, and publishes as ever, stands behind all of them. So each step of a handshake, and of an end, is made at the
//! desk, which has a few places for each thread. Who finds none waits in line and costs nothing meanwhile; what else is ready waits for
//! those few steps. Whoever has a place first goes behind all who are ready by then, with the place: so many steps are made, and no more, before
//! they have had their turn. A place is held for one step and never while a peer or the log is waited for.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use tokio::sync::Semaphore;

/// Steps made between two turns of anybody else, for each thread: few enough to be over within a fraction of a millisecond.
const PLACES_PER_THREAD: usize = 8;

#[derive(Debug)]
pub(super) struct Desk {
    places: Semaphore,
}

impl Desk {
    /// For a runtime with as many threads.
    pub(super) fn new(threads: usize) -> Self {
        Self { places: Semaphore::new(threads.max(1) * PLACES_PER_THREAD) }
    }

    /// Waits until one more step could be made.
    pub(super) async fn room(&self) {
        // Nobody closes the desk.
        drop(self.places.acquire().await);
    }

    /// Does `work`, each step of it at the desk.
    pub(super) async fn work<W: Future>(&self, work: W) -> W::Output {
        let mut work = pin!(work);
        loop {
            let place = self.places.acquire().await;
            behind_all_ready().await;
            let step = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
            drop(place);
            if let Poll::Ready(done) = step {
                return done;
            }
            woken().await;
        }
    }
}

/// Until all who are ready now have had their turn: a task that wakes itself goes behind them.
pub async fn behind_all_ready() {
    let mut is_behind = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_behind, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Until the task is polled again: it is by whom the last step waits for, or for nothing, which costs one step more.
async fn woken() {
    let mut has_waited = false;
    poll_fn(|_| if std::mem::replace(&mut has_waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn who_stayed_waits_for_a_few_steps_and_not_for_all_who_come() {
        const COMING: usize = 1000;
        let desk = Arc::new(Desk::new(1));
        let steps = Arc::new(AtomicUsize::new(0));
        // The one that stayed is a task as they are, and is ready when they are, again and again.
        let seen = steps.clone();
        let stays = tokio::spawn(async move {
            let mut longest = 0;
            while seen.load(Ordering::Relaxed) < COMING {
                let before = seen.load(Ordering::Relaxed);
                behind_all_ready().await;
                longest = longest.max(seen.load(Ordering::Relaxed) - before);
            }
            longest
        });
        let coming: Vec<_> = (0..COMING)
            .map(|_| {
                let (desk, steps) = (desk.clone(), steps.clone());
                tokio::spawn(async move {
                    desk.work(async { steps.fetch_add(1, Ordering::Relaxed) }).await;
                })
            })
            .collect();
        let longest = stays.await.unwrap();
        for task in coming {
            task.await.unwrap();
        }
        assert!(longest <= PLACES_PER_THREAD, "{longest} steps at once");
    }

    #[tokio::test]
    async fn nobody_holds_a_place_while_waiting_for_a_peer() {
        let desk = Arc::new(Desk::new(1));
        let (peers, waiting): (Vec<_>, Vec<_>) = (0..4 * PLACES_PER_THREAD)
            .map(|_| {
                let (peer, bytes) = oneshot::channel::<()>();
                let desk = desk.clone();
                (peer, tokio::spawn(async move { desk.work(bytes).await }))
            })
            .unzip();
        for _ in 0..8 * PLACES_PER_THREAD {
            tokio::task::yield_now().await;
        }
        desk.room().await;
        assert_eq!(desk.work(async { 7 }).await, 7, "others come and go");
        for (peer, task) in peers.into_iter().zip(waiting) {
            peer.send(()).unwrap();
            task.await.unwrap().unwrap();
        }
        assert_eq!(desk.places.available_permits(), PLACES_PER_THREAD);
    }

    #[tokio::test]
    async fn who_gives_up_in_line_is_not_waited_for() {
        let desk = Desk::new(1);
        let held = desk.places.acquire_many(PLACES_PER_THREAD as u32).await.unwrap();
        let mut gone = Box::pin(desk.work(async {}));
        assert!(futures_poll(&mut gone).is_pending());
        let mut next = Box::pin(desk.work(async {}));
        assert!(futures_poll(&mut next).is_pending());
        drop(gone);
        drop(held);
        next.await;
    }

    fn futures_poll<F: Future>(future: &mut std::pin::Pin<Box<F>>) -> Poll<F::Output> {
        future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }
}
