//! Waiting for the kernel to tell that something changed, instead of asking again and again.

use super::{Address, Error, Link, address, decode, link, messages};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{SocketAddr, protocols::NETLINK_ROUTE};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::io;
use std::time::{Duration, Instant};

/// Multicast groups of rtnetlink, as bits of a socket address.
const GROUP_LINK: u32 = 1;
const GROUP_IPV4_ADDRESS: u32 = 1 << 4;
const GROUP_IPV6_ADDRESS: u32 = 1 << 8;

/// A change that was announced.
#[derive(Debug, Clone)]
pub enum Change {
    /// An interface is new or different.
    Link(Link),
    /// An address is new or different.
    Address(Address),
    /// Something else, or announcements were lost: look at everything again.
    Other,
}

/// Announcements of one network namespace.
pub struct Watch {
    inner: netlink_sys::Socket,
    buffer: Vec<u8>,
}

impl Watch {
    /// Starts to listen in the calling thread's network namespace. What changed before is not
    /// announced: look once after this call.
    pub fn open() -> Result<Self, Error> {
        let open = || -> io::Result<netlink_sys::Socket> {
            let mut socket = netlink_sys::Socket::new(NETLINK_ROUTE)?;
            socket
                .bind(&SocketAddr::new(0, GROUP_LINK | GROUP_IPV4_ADDRESS | GROUP_IPV6_ADDRESS))?;
            Ok(socket)
        };
        Ok(Self { inner: open().map_err(Error::Socket)?, buffer: vec![0; super::BUFFER] })
    }

    /// Waits until `done` says yes; it is asked once at first, then after every announcement.
    pub fn wait<F>(&mut self, limit: Duration, what: &str, mut done: F) -> Result<(), Error>
    where
        F: FnMut(&[Change]) -> Result<bool, Error>,
    {
        let end = Instant::now() + limit;
        let mut changes = vec![Change::Other];
        while !done(&changes)? {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.poll(left)? {
                return Err(Error::Timeout(format!(
                    "{what}: not within {} s",
                    limit.as_secs_f32()
                )));
            }
            changes = self.read()?;
        }
        Ok(())
    }

    fn poll(&self, limit: Duration) -> Result<bool, Error> {
        let mut fds = [PollFd::new(&self.inner, PollFlags::IN)];
        let limit =
            Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
        loop {
            match rustix::event::poll(&mut fds, Some(&limit)) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::Socket(error.into())),
            }
        }
    }

    fn read(&mut self) -> Result<Vec<Change>, Error> {
        let length = match self.inner.recv(&mut &mut self.buffer[..], 0) {
            Ok(length) => length,
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                return Ok(vec![Change::Other]);
            }
            Err(error) => return Err(Error::Socket(error)),
        };
        let mut changes = Vec::new();
        for (header, payload) in messages(&self.buffer[..length])? {
            changes.push(match decode(&header, payload) {
                Ok(message @ RouteNetlinkMessage::NewLink(_)) => {
                    link::to_link(message).map(Change::Link)
                }
                Ok(message @ RouteNetlinkMessage::NewAddress(_)) => {
                    address::to_address(message).map(Change::Address)
                }
                _ => None,
            });
        }
        Ok(changes.into_iter().map(|change| change.unwrap_or(Change::Other)).collect())
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
