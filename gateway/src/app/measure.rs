//! What the sampler asks the system: how late the runtime is, and how full the disk.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;

/// Sends a byte through a socket of the runtime and sees how long it is under way: as long as the packets of clients are, for their tasks
/// are woken in the same way.
pub(super) struct Probe {
    socket: UnixStream,
    began: Instant,
    shared: Arc<Answers>,
    /// Bytes sent, and when the last one was.
    sent: u64,
    sent_at: Instant,
}

#[derive(Default)]
struct Answers {
    received: AtomicU64,
    /// When the last byte came, in nanoseconds since `began`.
    received_nanos: AtomicU64,
}

impl Probe {
    /// To be called inside a tokio runtime, whose task ends when the probe is dropped.
    pub(super) fn start() -> io::Result<Self> {
        let (socket, other) = UnixStream::pair()?;
        socket.set_nonblocking(true)?;
        other.set_nonblocking(true)?;
        let mut other = tokio::net::UnixStream::from_std(other)?;
        let began = Instant::now();
        let shared = Arc::new(Answers::default());
        let answers = shared.clone();
        tokio::spawn(async move {
            let mut bytes = [0; 16];
            while let Ok(count) = other.read(&mut bytes).await
                && count > 0
            {
                answers.received_nanos.store(nanos(began.elapsed()), Ordering::Relaxed);
                answers.received.fetch_add(count as u64, Ordering::Release);
            }
        });
        Ok(Self { socket, began, shared, sent: 0, sent_at: began })
    }

    /// How late the runtime is. Sends the next byte, if the last one has come.
    pub(super) fn lag(&mut self) -> Duration {
        let now = Instant::now();
        if self.shared.received.load(Ordering::Acquire) < self.sent {
            return now.saturating_duration_since(self.sent_at);
        }
        let received_at =
            self.began + Duration::from_nanos(self.shared.received_nanos.load(Ordering::Relaxed));
        let lag = received_at.saturating_duration_since(self.sent_at);
        self.sent_at = Instant::now();
        // Were it not sent there would be no answer; and there is one byte under way at most.
        if self.socket.write(&[1]).is_ok() {
            self.sent += 1;
        }
        lag
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How full a file system is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Disk {
    /// Bytes that may still be written.
    pub(super) available: u64,
    /// The part that is used of what can be used, 0 to 1.
    pub(super) used: f64,
}

impl Default for Disk {
    fn default() -> Self {
        Self { available: u64::MAX, used: 0.0 }
    }
}

impl Disk {
    /// Of the file system that has `dir`; where that is not told, there is room.
    pub(super) fn of(dir: &Path) -> Self {
        let Ok(stat) = rustix::fs::statvfs(dir) else { return Self::default() };
        // Some blocks are free for the system alone: they are neither used nor available.
        let used = stat.f_blocks.saturating_sub(stat.f_bfree);
        let usable = used.saturating_add(stat.f_bavail).max(1);
        Self { available: stat.f_bavail.saturating_mul(stat.f_frsize), used: used as f64 / usable as f64 }
    }

    /// 0.92 at the high-water mark, 1 where nothing is left; it begins four times as far from the end as the mark is, with 0.60.
    pub(super) fn pressure(&self, high_water: f64) -> f64 {
        let margin = (1.0 - high_water).max(0.001);
        let left = (1.0 - self.used) / margin;
        match left {
            ..=1.0 => 1.0 - 0.08 * left,
            ..=4.0 => 0.92 - 0.32 * (left - 1.0) / 3.0,
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_presses_from_four_margins_on() {
        let pressure = |used| Disk { available: 0, used }.pressure(0.95);
        assert_eq!(pressure(0.5), 0.0);
        assert!((pressure(0.801) - 0.60).abs() < 0.01, "{}", pressure(0.801));
        assert!((pressure(0.95) - 0.92).abs() < 1e-6);
        assert!((pressure(1.0) - 1.0).abs() < 1e-9);
        let all: Vec<_> = (800..=1000).map(|used| pressure(f64::from(used) / 1000.0)).skip(1).collect();
        assert!(all.is_sorted());
        assert_eq!(Disk::of(Path::new("/no/such/place")), Disk::default());
        assert!(Disk::of(Path::new("/")).used > 0.0);
    }

    #[test]
    fn a_runtime_that_is_busy_is_seen_to_be_late_while_it_is() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _inside = runtime.enter();
        let mut probe = Probe::start().expect("a pair of sockets");
        let answered = |probe: &Probe| {
            while probe.shared.received.load(Ordering::Acquire) < probe.sent {
                std::thread::yield_now();
            }
        };
        assert_eq!(probe.lag(), Duration::ZERO, "nothing was asked yet");
        answered(&probe);
        // The only worker does nothing else until it is let go.
        let (let_go, held) = std::sync::mpsc::sync_channel::<()>(0);
        let (begin, begun) = std::sync::mpsc::sync_channel(0);
        runtime.spawn(async move {
            begin.send(()).expect("waited for");
            let _ = held.recv();
        });
        begun.recv().expect("it runs");
        let _ = probe.lag();
        let late = Duration::from_millis(20);
        while probe.lag() < late {
            std::thread::yield_now();
        }
        let_go.send(()).expect("held");
        answered(&probe);
        assert!(probe.lag() >= late, "and told once more when it is over");
    }
}
