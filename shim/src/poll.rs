//! The one place where the shim waits: epoll over descriptors and pidfds.

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// What a ready descriptor belongs to. Keys are never used twice, so an event that was already
/// fetched when its owner went away finds nobody and is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// A client wants to connect.
    Listener,
    /// A signal came.
    Signals,
    /// The kernel may have killed for memory.
    Oom,
    /// The connection to containerd's event service.
    Publisher,
    /// The connection to the foreign shim of a keeper.
    Foreign,
    /// What that complains of.
    ForeignLog,
    /// A client's connection.
    Conn(u32),
    /// A process ended.
    Exit(u32),
    /// A process on its way to exec has news.
    Stage(u32),
    /// A process wrote to stdout or its terminal (0), or to stderr (1).
    Output(u32, u8),
    /// The reader of such a stream has room again.
    OutputSink(u32, u8),
    /// Somebody wrote to a process's stdin FIFO.
    Input(u32),
    /// A process's stdin has room again.
    InputSink(u32),
    /// The reader of an attachment has gone.
    Attachment(u32),
}

impl Token {
    fn pack(self) -> u64 {
        let (tag, stream, key) = match self {
            Self::Listener => (0, 0, 0),
            Self::Signals => (1, 0, 0),
            Self::Oom => (2, 0, 0),
            Self::Publisher => (3, 0, 0),
            Self::Conn(key) => (4, 0, key),
            Self::Exit(key) => (5, 0, key),
            Self::Stage(key) => (6, 0, key),
            Self::Output(key, stream) => (7, stream, key),
            Self::OutputSink(key, stream) => (8, stream, key),
            Self::Input(key) => (9, 0, key),
            Self::InputSink(key) => (10, 0, key),
            Self::Attachment(key) => (11, 0, key),
            Self::Foreign => (12, 0, 0),
            Self::ForeignLog => (13, 0, 0),
        };
        u64::from(tag as u8) << 40 | u64::from(stream) << 32 | u64::from(key)
    }

    fn unpack(packed: u64) -> Option<Self> {
        let [_, _, tag, stream, k0, k1, k2, k3] = packed.to_be_bytes();
        let key = u32::from_be_bytes([k0, k1, k2, k3]);
        Some(match tag {
            0 => Self::Listener,
            1 => Self::Signals,
            2 => Self::Oom,
            3 => Self::Publisher,
            4 => Self::Conn(key),
            5 => Self::Exit(key),
            6 => Self::Stage(key),
            7 => Self::Output(key, stream),
            8 => Self::OutputSink(key, stream),
            9 => Self::Input(key),
            10 => Self::InputSink(key),
            11 => Self::Attachment(key),
            12 => Self::Foreign,
            13 => Self::ForeignLog,
            _ => return None,
        })
    }
}

/// An epoll instance, level-triggered.
#[derive(Debug)]
pub(crate) struct Poller(OwnedFd);

/// Something to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    /// For whom.
    pub(crate) token: Token,
    /// Bytes to read, or the other side is gone.
    pub(crate) read: bool,
    /// Room to write, or the other side is gone.
    pub(crate) write: bool,
}

const READ_END: EventFlags = EventFlags::IN
    .union(EventFlags::HUP)
    .union(EventFlags::ERR)
    .union(EventFlags::RDHUP)
    .union(EventFlags::PRI);
const WRITE_END: EventFlags = EventFlags::OUT.union(EventFlags::HUP).union(EventFlags::ERR);

impl Poller {
    pub(crate) fn new() -> Result<Self, Errno> {
        epoll::create(CreateFlags::CLOEXEC).map(Self)
    }

    /// Waits for bytes from `fd`.
    pub(crate) fn readable(&self, fd: impl AsFd, token: Token) -> Result<(), Errno> {
        self.add(fd, token, EventFlags::IN)
    }

    /// Waits for room in `fd`.
    pub(crate) fn writable(&self, fd: impl AsFd, token: Token) -> Result<(), Errno> {
        self.add(fd, token, EventFlags::OUT)
    }

    /// Waits for news of a file of the kernel's. It can always be read: waiting for bytes as well would never wait.
    pub(crate) fn news(&self, fd: impl AsFd, token: Token) -> Result<(), Errno> {
        self.add(fd, token, EventFlags::PRI)
    }

    /// Waits for the other side to go, which is always told.
    pub(crate) fn hang_up(&self, fd: impl AsFd, token: Token) -> Result<(), Errno> {
        self.add(fd, token, EventFlags::empty())
    }

    fn add(&self, fd: impl AsFd, token: Token, flags: EventFlags) -> Result<(), Errno> {
        epoll::add(&self.0, fd, EventData::new_u64(token.pack()), flags)
    }

    /// From now on waits for bytes, and with `write` for room too.
    pub(crate) fn rearm(&self, fd: impl AsFd, token: Token, write: bool) -> Result<(), Errno> {
        let flags = if write { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        epoll::modify(&self.0, fd, EventData::new_u64(token.pack()), flags)
    }

    /// Forgets `fd`. Closing a descriptor does that too, but only when no duplicate lives.
    pub(crate) fn forget(&self, fd: impl AsFd) {
        // Not being registered is as good.
        let _ = epoll::delete(&self.0, fd);
    }

    /// Waits for events, at most `timeout_ms` if given, and hands them out.
    pub(crate) fn wait(
        &self,
        timeout_ms: Option<u64>,
        ready: &mut Vec<Ready>,
    ) -> Result<(), Errno> {
        ready.clear();
        let mut events =
            [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 16];
        let timeout = timeout_ms.map(|ms| Timespec {
            tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
            tv_nsec: (ms % 1000) as i64 * 1_000_000,
        });
        let count = match epoll::wait(&self.0, &mut events[..], timeout.as_ref()) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(error) => return Err(error),
        };
        for event in events.iter().take(count) {
            let (flags, data) = (event.flags, event.data);
            if let Some(token) = Token::unpack(data.u64()) {
                let (read, write) = (flags.intersects(READ_END), flags.intersects(WRITE_END));
                ready.push(Ready { token, read, write });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_packing() {
        for token in [
            Token::Listener,
            Token::Signals,
            Token::Oom,
            Token::Publisher,
            Token::Foreign,
            Token::ForeignLog,
            Token::Conn(u32::MAX),
            Token::Exit(7),
            Token::Stage(0),
            Token::Output(9, 1),
            Token::OutputSink(u32::MAX, 0),
            Token::Input(1),
            Token::InputSink(2),
            Token::Attachment(3),
        ] {
            assert_eq!(Token::unpack(token.pack()), Some(token));
        }
        assert_eq!(Token::unpack(u64::MAX), None);
    }

    /// `/proc/self/mounts` notifies as `memory.events` does: an event is urgent, and there are always bytes.
    #[test]
    fn a_file_of_the_kernel_is_quiet_until_there_is_news() {
        let mounts = std::fs::File::open("/proc/self/mounts").unwrap();
        let (poller, mut ready) = (Poller::new().unwrap(), Vec::new());
        poller.news(&mounts, Token::Oom).unwrap();
        // Somebody may mount something just now; that is told once.
        let quiet = (0..100).any(|_| poller.wait(Some(0), &mut ready).is_ok() && ready.is_empty());
        assert!(quiet);
    }
}
