//! Who reads next, while there is more to do than time for it.
//!
//! Those who publish stand in line then, and a few at a time are let in; each reads once, a little, and stands behind the others again. So whatever else
//! is to be done, deliveries, their acknowledgements, connects, waits for a few short reads and not for all that are ready: what is taken is what is
//! left of the time after what was taken before has been passed on. What is not read stays with the kernel, which makes its sender wait and
//! costs nothing. Those who bring something critical have a line of their own.
//!
//! From L2 on whoever is let in, and brings nothing critical, first gives way ([`give_way`]) to all who are ready at that moment, and to all whose
//! sockets show by then that they are. A task that is woken by the one before it in line is otherwise run before those that have been ready for
//! longer, and the line goes round among publishers alone.
//!
//! How long the last ones stood is how late the gateway is ([`Turnstile::longest_wait`]). Who is no longer pressed does not stand any more;
//! the others are let in one after the other.

use super::Context as Shared;
use super::task::Connection;
use super::turn::{is_overloaded, is_pressed};
use crate::registry::behind_all_ready;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// A stream that knows whether there is something to be read.
pub trait Readable {
    /// Whether there may be something; if not, the task is woken when there is.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()>;
}

impl Readable for TcpStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // An error is found by whoever reads.
        self.poll_read_ready(cx).map(drop)
    }
}

/// How many of a line are let in at one time, for each thread: one that reads, and one that is ready to.
const LET_IN_PER_THREAD: usize = 2;

/// Where connections stand in line.
#[derive(Debug)]
pub struct Turnstile {
    critical: Arc<Semaphore>,
    others: Arc<Semaphore>,
    standing: AtomicUsize,
    /// The longest wait since it was asked for, in nanoseconds.
    longest: AtomicU64,
    /// The one that was told last.
    told: AtomicU64,
}

type GivesWay = Pin<Box<dyn Future<Output = ()> + Send>>;
type LetIn = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// One that stands in line, or was let in. Dropped, it leaves.
pub(super) struct Standing {
    shared: Arc<Turnstile>,
    since: Instant,
    state: State,
}

enum State {
    InLine(LetIn),
    /// It may go in, and others go first, once, if it is to give way. Nobody closes a line, so there is a permit.
    AtGate {
        permit: Option<OwnedSemaphorePermit>,
        way: Option<GivesWay>,
        /// It gives way since the turn under way: whoever asks again in it has not been woken for it.
        in_this_turn: bool,
    },
    Inside {
        _permit: Option<OwnedSemaphorePermit>,
    },
}

impl Turnstile {
    /// For as many threads.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let line = || Arc::new(Semaphore::new(threads.max(1) * LET_IN_PER_THREAD));
        Self {
            critical: line(),
            others: line(),
            standing: AtomicUsize::new(0),
            longest: AtomicU64::new(0),
            told: AtomicU64::new(0),
        }
    }

    /// How long those have stood who were let in since this was last asked; what it was before, where nobody was let in and some stand.
    #[must_use]
    pub fn longest_wait(&self) -> Duration {
        let longest = match self.longest.swap(0, Ordering::Relaxed) {
            0 if self.standing.load(Ordering::Relaxed) > 0 => self.told.load(Ordering::Relaxed),
            longest => longest,
        };
        self.told.store(longest, Ordering::Relaxed);
        Duration::from_nanos(longest)
    }

    /// Stands in line.
    pub(super) fn stand(self: &Arc<Self>, is_critical: bool) -> Standing {
        let line = if is_critical { &self.critical } else { &self.others };
        self.standing.fetch_add(1, Ordering::Relaxed);
        let state = match line.clone().try_acquire_owned() {
            Ok(permit) => State::AtGate { permit: Some(permit), way: None, in_this_turn: false },
            Err(_) => State::InLine(Box::pin(line.clone().acquire_owned())),
        };
        Standing { shared: self.clone(), since: Instant::now(), state }
    }
}

/// Until the thread has looked at its sockets, and all who are ready then have had their turn.
async fn give_way() {
    // Woken when the thread has looked, and then to run next.
    tokio::task::yield_now().await;
    behind_all_ready().await;
}

impl Standing {
    /// Whether it is let in; if not, the task is woken when it is. If it `gives_way` everybody who is ready now goes first.
    pub(super) fn is_let_in(&mut self, cx: &mut Context<'_>, gives_way: bool) -> bool {
        if let State::InLine(let_in) = &mut self.state {
            let Poll::Ready(permit) = let_in.as_mut().poll(cx) else { return false };
            let waited = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.shared.longest.fetch_max(waited, Ordering::Relaxed);
            self.state = State::AtGate { permit: permit.ok(), way: None, in_this_turn: false };
        }
        let State::AtGate { permit, way, in_this_turn } = &mut self.state else { return true };
        if gives_way
            && (*in_this_turn
                || way.get_or_insert_with(|| Box::pin(give_way())).as_mut().poll(cx).is_pending())
        {
            *in_this_turn = true;
            return false;
        }
        self.state = State::Inside { _permit: permit.take() };
        true
    }

    /// The task has been woken, for whatever it is.
    const fn begin_turn(&mut self) {
        if let State::AtGate { in_this_turn, .. } = &mut self.state {
            *in_this_turn = false;
        }
    }

    /// Whether it was let in when it asked last.
    pub(super) const fn is_inside(&self) -> bool {
        matches!(self.state, State::Inside { .. })
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.shared.standing.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    /// Whether it may read now. If not it stands in line, or has nothing to read; the task is woken when that changes.
    pub(super) fn is_let_in<S>(&mut self, shared: &Shared, stream: &S, cx: &mut Context<'_>) -> bool
    where
        S: Readable,
    {
        let Some(toll) = &mut self.toll else { return true };
        if !is_pressed(shared) {
            toll.standing = None;
            return true;
        }
        if toll.standing.is_none() && !self.feed.has_unparsed && stream.poll_readable(cx).is_pending() {
            return false;
        }
        let is_critical = toll.brings_critical();
        let gives_way = !is_critical && is_overloaded(shared);
        toll.standing.get_or_insert_with(|| shared.turnstile.stand(is_critical)).is_let_in(cx, gives_way)
    }

    /// A turn begins.
    #[inline]
    pub(super) fn begin_turn(&mut self) {
        if let Some(standing) = self.toll.as_mut().and_then(|toll| toll.standing.as_mut()) {
            standing.begin_turn();
        }
    }

    /// It had its turn, or what it was in line for is not to be now.
    pub(super) fn leave_line(&mut self) {
        if let Some(standing) = self.toll.as_ref().and_then(|toll| toll.standing.as_ref())
            && (standing.is_inside() || !self.can_read())
        {
            self.step_out();
        }
    }

    /// It has brought something critical.
    pub(super) fn brings_critical(&self) -> bool {
        self.toll.as_ref().is_some_and(|toll| toll.brings_critical())
    }

    /// It has read once, and as much as it may at once if there `is_more`.
    #[inline]
    pub(super) fn end_turn(&mut self, context: &Shared, is_more: bool) {
        if let Some(toll) = &mut self.toll
            && is_pressed(context)
        {
            toll.end_turn(context, &self.claim.seat.client_id, is_more);
        }
    }

    /// It reads no more.
    pub(super) fn step_out(&mut self) {
        if let Some(toll) = &mut self.toll {
            toll.standing = None;
        }
    }

    /// It had its turn, and there may be more to do. Whether that is to be at once; if not, the task is woken.
    pub(super) fn stands_again<S>(
        &mut self,
        shared: &Shared,
        stream: &S,
        cx: &mut Context<'_>,
        is_done: bool,
    ) -> bool
    where
        S: Readable,
    {
        self.leave_line();
        !is_done || (self.can_read() && self.is_let_in(shared, stream, cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::io::Write;
    use std::sync::Mutex;
    use std::task::Waker;
    use tokio::io::AsyncReadExt;

    #[test]
    fn a_few_are_let_in_and_the_others_in_their_order_as_those_leave() {
        let turnstile = Arc::new(Turnstile::new(1));
        let cx = &mut Context::from_waker(Waker::noop());
        let mut line: Vec<_> = (0..5).map(|_| turnstile.stand(false)).collect();
        let let_in = |line: &mut Vec<Standing>, cx: &mut Context<'_>| -> Vec<bool> {
            line.iter_mut().map(|standing| standing.is_let_in(cx, false)).collect()
        };
        assert_eq!(let_in(&mut line, cx), [true, true, false, false, false]);
        assert!(turnstile.stand(true).is_let_in(cx, false), "what is critical stands elsewhere");
        // One of those who wait gives up.
        line.remove(3);
        line.remove(0);
        assert_eq!(let_in(&mut line, cx), [true, true, false]);
        line.remove(1);
        assert_eq!(let_in(&mut line, cx), [true, true]);
    }

    #[test]
    fn who_gives_way_goes_in_when_all_who_are_ready_have_had_their_turn() {
        let turnstile = Arc::new(Turnstile::new(1));
        let log = Arc::new(Mutex::new(Vec::new()));
        let stands = |name: &'static str, is_critical: bool| {
            let (turnstile, log) = (turnstile.clone(), log.clone());
            async move {
                let mut standing = turnstile.stand(is_critical);
                poll_fn(|cx| {
                    standing.begin_turn();
                    // A connection asks when its turn begins and when it ends.
                    match standing.is_let_in(cx, !is_critical) || standing.is_let_in(cx, !is_critical) {
                        true => Poll::Ready(()),
                        false => Poll::Pending,
                    }
                })
                .await;
                log.lock().unwrap().push(name);
            }
        };
        let (sockets, wire) = std::os::unix::net::UnixStream::pair().unwrap();
        sockets.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let mut socket = tokio::net::UnixStream::from_std(sockets).unwrap();
            let tasks = [
                tokio::spawn(stands("gives way", false)),
                tokio::spawn(stands("gives way", false)),
                tokio::spawn(stands("in line", false)),
                tokio::spawn(stands("critical", true)),
                tokio::spawn({
                    let log = log.clone();
                    async move {
                        log.lock().unwrap().push("ready");
                        tokio::task::yield_now().await;
                        log.lock().unwrap().push("ready again");
                    }
                }),
                tokio::spawn({
                    let log = log.clone();
                    async move {
                        let _ = socket.read_u8().await;
                        log.lock().unwrap().push("its socket is ready");
                    }
                }),
            ];
            (&wire).write_all(b"1").unwrap();
            for task in tasks {
                task.await.unwrap();
            }
        });
        let log = log.lock().unwrap();
        let (others, publishers) = log.split_at(4);
        assert_eq!(others[..2], ["critical", "ready"]);
        assert!(
            others[2..].contains(&"ready again") && others[2..].contains(&"its socket is ready"),
            "{log:?}"
        );
        assert_eq!(publishers, ["gives way", "gives way", "in line"]);
        assert_eq!(turnstile.standing.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn who_gives_way_keeps_its_place_and_goes_in_at_once_when_the_pressure_is_less() {
        let turnstile = Arc::new(Turnstile::new(1));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(poll_fn(|cx| {
            let mut line: Vec<_> = (0..3).map(|_| turnstile.stand(false)).collect();
            assert!(!line[0].is_let_in(cx, true));
            assert!(!line[0].is_inside(), "it keeps its place although it has not read");
            assert!(!line[2].is_let_in(cx, true), "in line");
            assert!(line[0].is_let_in(cx, false), "the pressure is less");
            assert!(line[0].is_inside());
            Poll::Ready(())
        }));
    }

    #[test]
    fn the_longest_wait_is_told_and_stays_while_some_stand_and_nobody_is_let_in() {
        let turnstile = Arc::new(Turnstile::new(1));
        let cx = &mut Context::from_waker(Waker::noop());
        let mut line: Vec<_> = (0..3).map(|_| turnstile.stand(false)).collect();
        line.iter_mut().for_each(|standing| standing.since -= Duration::from_millis(500));
        assert_eq!(turnstile.longest_wait(), Duration::ZERO, "those who were let in at once did not wait");
        line.remove(0);
        assert!(line[1].is_let_in(cx, false));
        for _ in 0..2 {
            assert!(turnstile.longest_wait() >= Duration::from_millis(500));
        }
        line.clear();
        assert_eq!(turnstile.longest_wait(), Duration::ZERO);
    }
}
