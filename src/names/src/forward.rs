//! Questions that others answer: what waits for them, within bounds.

use crate::message::{answers, with_id};
use crate::stream::Stream;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// How long one resolver may take, before the next is asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// By a datagram to this of our sockets.
    Datagram(usize, SocketAddr),
    /// On this connection.
    Stream(u64),
}

/// A question that a resolver has.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) key: u64,
    pub(crate) asker: Asker,
    pub(crate) client: IpAddr,
    /// As it was asked, with the client's id.
    pub(crate) question: Vec<u8>,
    servers: VecDeque<SocketAddr>,
    id: u16,
    link: Option<Link>,
    pub(crate) until: Instant,
}

#[derive(Debug)]
enum Link {
    Datagram(UdpSocket),
    Stream(Stream),
}

impl Waiting {
    /// Nobody is asked yet.
    pub(crate) fn new(
        key: u64,
        asker: Asker,
        client: IpAddr,
        question: &[u8],
        servers: Vec<SocketAddr>,
    ) -> Self {
        Self {
            key,
            asker,
            client,
            question: question.to_vec(),
            servers: servers.into(),
            id: 0,
            link: None,
            until: Instant::now(),
        }
    }

    /// Asks the next resolver that can be asked; false: there is none left.
    pub(crate) fn next(&mut self) -> bool {
        self.link = None;
        while let Some(server) = self.servers.pop_front() {
            self.id = random();
            if let Ok(link) = self.open(server) {
                self.link = Some(link);
                self.until = Instant::now() + PATIENCE;
                return true;
            }
        }
        false
    }

    /// A socket of its own for each question: its port is one more thing that nobody can guess.
    fn open(&self, server: SocketAddr) -> io::Result<Link> {
        let message = with_id(&self.question, self.id);
        match self.asker {
            Asker::Datagram(..) => {
                let any: IpAddr = match server {
                    SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                    SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                };
                let socket = UdpSocket::bind((any, 0))?;
                socket.set_nonblocking(true)?;
                socket.connect(server)?;
                socket.send(&message)?;
                Ok(Link::Datagram(socket))
            }
            // Whoever asks this way expects a long answer.
            Asker::Stream(_) => {
                let mut stream = Stream::connect(server)?;
                stream.send(&message)?;
                Ok(Link::Stream(stream))
            }
        }
    }

    /// What to wait for, and whether for room as well.
    pub(crate) fn socket(&self) -> Option<(BorrowedFd<'_>, bool)> {
        match self.link.as_ref()? {
            Link::Datagram(socket) => Some((socket.as_fd(), false)),
            Link::Stream(stream) => Some((stream.socket.as_fd(), stream.wants_room())),
        }
    }

    /// Something came: the answer with the client's id. An error: this resolver does not answer.
    pub(crate) fn ready(&mut self, buffer: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
        let messages = match self.link.as_mut() {
            None => return Ok(None),
            Some(Link::Datagram(socket)) => match socket.recv(buffer) {
                Ok(length) => vec![buffer.get(..length).unwrap_or_default().to_vec()],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            },
            Some(Link::Stream(stream)) => {
                stream.flush()?;
                stream.receive()?
            }
        };
        // Anything that is not the answer is passed over: it may still come.
        let answer = messages.iter().find(|one| answers(&self.question, one, self.id));
        let client = self.question.get(..2).and_then(|id| id.try_into().ok());
        let id = u16::from_be_bytes(client.unwrap_or_default());
        Ok(answer.map(|answer| with_id(answer, id)))
    }
}

fn random() -> u16 {
    let mut bytes = [0; 2];
    // It fails before the kernel has any randomness only; the port is random all the same.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u16::from_ne_bytes(bytes)
}
