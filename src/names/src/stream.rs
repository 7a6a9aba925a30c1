//! Messages over TCP: two bytes of length, then the message.

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A connection on which nothing happens ends.
const IDLE: Duration = Duration::from_secs(10);
/// What waits to be written at most; whoever does not read is cut off.
const MAX_OUT: usize = 256 << 10;

/// A connection, either side.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) socket: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    pub(crate) until: Instant,
}

impl Stream {
    /// One that was accepted.
    pub(crate) fn accepted(socket: TcpStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let (input, output) = (Vec::new(), Vec::new());
        Ok(Self { socket, input, output, until: Instant::now() + IDLE })
    }

    /// One to a resolver, which is on its way.
    pub(crate) fn connect(to: SocketAddr) -> io::Result<Self> {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        match connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => Self::accepted(TcpStream::from(socket)),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn wants_room(&self) -> bool {
        !self.output.is_empty()
    }

    /// Queues a message, and writes what there is room for.
    pub(crate) fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let length = u16::try_from(message.len()).map_err(io::Error::other)?;
        if self.output.len() + message.len() > MAX_OUT {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.output.extend(length.to_be_bytes());
        self.output.extend(message);
        self.flush()
    }

    /// Writes what there is room for.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.socket.write(&self.output) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.output.drain(..written);
                    self.until = Instant::now() + IDLE;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // Not connected yet.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The whole messages that have come; an error at the end.
    pub(crate) fn receive(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut buffer = [0; 4096];
        match self.socket.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.input.extend(buffer.get(..count).unwrap_or_default()),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        }
        self.until = Instant::now() + IDLE;
        let mut messages = Vec::new();
        while let [high, low, rest @ ..] = self.input.as_slice() {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let Some(message) = rest.get(..length) else { break };
            messages.push(message.to_vec());
            self.input.drain(..length + 2);
        }
        Ok(messages)
    }
}
