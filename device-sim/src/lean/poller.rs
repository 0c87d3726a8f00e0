//! Waiting for many connections at once.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

/// Events of one wait.
const EVENTS: usize = 512;

/// What happened to one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    /// The token it was watched under.
    pub(crate) token: u64,
    /// There is something to read, or an error to be read.
    pub(crate) readable: bool,
    /// There is room to write, or an error to be found out.
    pub(crate) writable: bool,
}

/// An epoll instance. A connection that is closed leaves it by itself.
pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Poller { epoll: epoll::create(CreateFlags::CLOEXEC)?, events: Vec::with_capacity(EVENTS) })
    }

    /// Watches a new connection: for room to write first, which is how it tells that it is there.
    pub(crate) fn add(&self, connection: impl AsFd, token: u64) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT;
        Ok(epoll::add(&self.epoll, connection, EventData::new_u64(token), flags)?)
    }

    /// Watches for something to read, and for room to write if that is wanted.
    pub(crate) fn watch(&self, connection: impl AsFd, token: u64, for_room: bool) -> io::Result<()> {
        let flags = if for_room { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        Ok(epoll::modify(&self.epoll, connection, EventData::new_u64(token), flags)?)
    }

    /// Watches no more.
    pub(crate) fn remove(&self, connection: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, connection)?)
    }

    /// Waits until something happens or the time is over.
    pub(crate) fn wait(&mut self, timeout: Duration, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        self.events.clear();
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        ready.extend(self.events.iter().map(|event| {
            // Copied out: the event is packed.
            let (flags, data) = (event.flags, event.data);
            let failed = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            Ready {
                token: data.u64(),
                readable: failed || flags.contains(EventFlags::IN),
                writable: failed || flags.contains(EventFlags::OUT),
            }
        }));
        Ok(())
    }
}
