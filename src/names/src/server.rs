//! The responder: one thread, one place where it waits.

use crate::book::{Book, Entry, lock};
use crate::forward::{Asker, Waiting};
use crate::message::{Answer, Bad, Kind, MAX_DATAGRAM, ask, refuse, reply};
use crate::resolvers::Resolvers;
use crate::stream::Stream;
use nix::sys::socket::{setsockopt, sockopt::BindToDevice};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, inotify};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use simple_dns::RCODE;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;

/// Questions that wait for resolvers, of all clients and of one.
const MAX_WAITING: usize = 256;
const MAX_WAITING_OF_ONE: usize = 64;
/// Connections, of all clients and of one.
const MAX_STREAMS: usize = 64;
const MAX_STREAMS_OF_ONE: usize = 8;
/// Datagrams that are read before others get their turn.
const TURN: usize = 32;
/// Held by the responder as long as it lives.
const RESPONDER: &str = "responder";

/// What a responder is for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory of the network's containers; those of other networks are beside it.
    pub dir: PathBuf,
    /// The bridge: what comes in elsewhere is not for us. Empty: anywhere.
    pub device: String,
    /// The bridge's addresses.
    pub addresses: Vec<IpAddr>,
    /// 53.
    pub port: u16,
    /// Whether other names are asked for at all: not on an internal network.
    pub forward: bool,
    /// `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Where resolvers listen, 53.
    pub upstream_port: u16,
}

/// Serves until the last container is gone. `ready` is called when the addresses are ours.
pub fn run(settings: Settings, ready: impl FnOnce()) -> io::Result<()> {
    let mut server = Server::open(settings)?;
    ready();
    server.serve()
}

/// Whether a responder lives for the network whose directory this is.
pub(crate) fn is_served(dir: &std::path::Path) -> io::Result<bool> {
    let file = responder_file(dir)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn responder_file(dir: &std::path::Path) -> io::Result<File> {
    std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(RESPONDER))
}

struct Server {
    settings: Settings,
    book: Book,
    resolvers: Resolvers,
    datagrams: Vec<UdpSocket>,
    listeners: Vec<TcpListener>,
    streams: Vec<(u64, IpAddr, Stream)>,
    waiting: Vec<Waiting>,
    notify: OwnedFd,
    next_key: u64,
    buffer: Vec<u8>,
    _alive: File,
}

/// What is ready.
#[derive(Debug, Clone, Copy)]
enum Slot {
    Directory,
    Datagram(usize),
    Listener(usize),
    Stream(u64),
    Waiting(u64),
}

impl Server {
    fn open(settings: Settings) -> io::Result<Self> {
        let alive = responder_file(&settings.dir)?;
        rustix::fs::flock(&alive, FlockOperation::NonBlockingLockExclusive)?;
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let notify = inotify::init(flags)?;
        let changes = inotify::WatchFlags::DELETE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::MOVED_FROM
            | inotify::WatchFlags::DELETE_SELF;
        inotify::add_watch(&notify, &settings.dir, changes)?;
        let mut server = Self {
            book: Book::new(&settings.dir),
            resolvers: Resolvers::new(&settings.resolv_conf, settings.addresses.clone()),
            datagrams: Vec::new(),
            listeners: Vec::new(),
            streams: Vec::new(),
            waiting: Vec::new(),
            notify,
            next_key: 0,
            buffer: vec![0; MAX_DATAGRAM],
            settings,
            _alive: alive,
        };
        for address in server.settings.addresses.clone() {
            let at = SocketAddr::new(address, server.settings.port);
            let device = &server.settings.device;
            let named = |error: io::Error| io::Error::new(error.kind(), format!("{at}: {error}"));
            let datagram = socket(at, SocketType::DGRAM, device).map_err(named)?;
            server.datagrams.push(UdpSocket::from(datagram));
            let listener = socket(at, SocketType::STREAM, device).map_err(named)?;
            listen(&listener, 16)?;
            server.listeners.push(TcpListener::from(listener));
        }
        Ok(server)
    }

    fn serve(&mut self) -> io::Result<()> {
        loop {
            for slot in self.wait()? {
                match slot {
                    Slot::Directory => self.drain_notices(),
                    Slot::Datagram(index) => self.datagrams_ready(index),
                    Slot::Listener(index) => self.accept(index),
                    Slot::Stream(key) => self.stream_ready(key),
                    Slot::Waiting(key) => self.resolver_ready(key),
                }
            }
            self.tidy();
            if self.book.is_empty() && self.leave()? {
                return Ok(());
            }
        }
    }

    /// Nobody is there. Unless somebody comes at this moment, the addresses are given back before
    /// another responder can want them.
    fn leave(&mut self) -> io::Result<bool> {
        let Ok(_lock) = lock(&self.settings.dir) else {
            // The directory is gone with the network.
            return Ok(true);
        };
        if !self.book.is_empty() {
            return Ok(false);
        }
        self.datagrams.clear();
        self.listeners.clear();
        self.streams.clear();
        self.waiting.clear();
        rustix::fs::flock(&self._alive, FlockOperation::Unlock)?;
        Ok(true)
    }

    /// Waits, and tells what is ready.
    fn wait(&self) -> io::Result<Vec<Slot>> {
        let mut slots = vec![(Slot::Directory, self.notify.as_fd(), false)];
        let datagrams = self.datagrams.iter().enumerate();
        slots.extend(datagrams.map(|(n, socket)| (Slot::Datagram(n), socket.as_fd(), false)));
        if self.streams.len() < MAX_STREAMS {
            let listeners = self.listeners.iter().enumerate();
            slots.extend(listeners.map(|(n, socket)| (Slot::Listener(n), socket.as_fd(), false)));
        }
        let streams = self.streams.iter().map(|(key, _, stream)| {
            (Slot::Stream(*key), stream.socket.as_fd(), stream.wants_room())
        });
        slots.extend(streams);
        slots.extend(self.waiting.iter().filter_map(|one| {
            let (socket, room) = one.socket()?;
            Some((Slot::Waiting(one.key), socket, room))
        }));
        let mut polled: Vec<PollFd<'_>> = slots.iter().map(poll_fd).collect();
        let now = Instant::now();
        let ends = self.waiting.iter().map(|one| one.until);
        let ends = ends.chain(self.streams.iter().map(|(_, _, stream)| stream.until));
        let pause = ends.min().map(|end| end.saturating_duration_since(now));
        let pause = pause.map(|pause| Timespec {
            tv_sec: i64::try_from(pause.as_secs()).unwrap_or(i64::MAX),
            // A little more, so that it is over when we look.
            tv_nsec: i64::from(pause.subsec_nanos()).saturating_add(1_000_000).min(999_999_999),
        });
        match poll(&mut polled, pause.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        let ready = polled.iter().map(|fd| !fd.revents().is_empty());
        Ok(slots
            .iter()
            .zip(ready)
            .filter_map(|((slot, ..), ready)| ready.then_some(*slot))
            .collect())
    }

    fn drain_notices(&mut self) {
        // What they say is found in the directory.
        while rustix::io::read(&self.notify, &mut self.buffer[..]).is_ok_and(|count| count > 0) {}
    }

    fn datagrams_ready(&mut self, index: usize) {
        for _ in 0..TURN {
            let Some(socket) = self.datagrams.get(index) else { return };
            let Ok((length, from)) = socket.recv_from(&mut self.buffer) else { return };
            let message = self.buffer.get(..length).unwrap_or_default().to_vec();
            let client = from.ip().to_canonical();
            self.question(Asker::Datagram(index, from), client, &message);
        }
    }

    fn accept(&mut self, index: usize) {
        let Some(listener) = self.listeners.get(index) else { return };
        let Ok((socket, from)) = listener.accept() else { return };
        let client = from.ip().to_canonical();
        let own = self.streams.iter().filter(|(_, other, _)| *other == client).count();
        if own >= MAX_STREAMS_OF_ONE || self.book.client(client).is_none() {
            return;
        }
        if let Ok(stream) = Stream::accepted(socket) {
            let key = self.key();
            self.streams.push((key, client, stream));
        }
    }

    fn stream_ready(&mut self, key: u64) {
        let found = self.streams.iter_mut().find(|(own, ..)| *own == key);
        let Some((_, client, stream)) = found else { return };
        let client = *client;
        match stream.flush().and_then(|()| stream.receive()) {
            Ok(messages) => {
                for message in messages {
                    self.question(Asker::Stream(key), client, &message);
                }
            }
            Err(_) => self.hang_up(key),
        }
    }

    fn hang_up(&mut self, key: u64) {
        self.streams.retain(|(own, ..)| *own != key);
        self.waiting.retain(|one| one.asker != Asker::Stream(key));
    }

    /// Answers, forwards, or drops what does not come from a container of the network.
    fn question(&mut self, asker: Asker, address: IpAddr, message: &[u8]) {
        let Some(client) = self.book.client(address) else { return };
        let asked = match ask(message) {
            Ok(asked) => asked,
            Err(Bad::Noise) => return,
            Err(Bad::Refused(code)) => return self.answer(asker, refuse(message, code)),
        };
        let known = match asked.kind {
            Kind::Pointer(ip) => self.book.name(&client, ip).map(Answer::Name),
            _ => self.book.addresses(&client, &asked.name).map(Answer::Addresses),
        };
        match known {
            Some(known) => self.answer(asker, reply(message, &known)),
            None if self.settings.forward => self.forward(asker, address, &client, message),
            None => self.answer(asker, refuse(message, RCODE::NameError)),
        }
    }

    fn forward(&mut self, asker: Asker, address: IpAddr, client: &Entry, message: &[u8]) {
        let own = self.waiting.iter().filter(|one| one.client == address).count();
        let full = self.waiting.len() >= MAX_WAITING || own >= MAX_WAITING_OF_ONE;
        let servers =
            if client.servers.is_empty() { self.resolvers.servers() } else { &client.servers };
        let port = self.settings.upstream_port;
        let servers = servers.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        let key = self.key();
        let mut waiting = Waiting::new(key, asker, address, message, servers);
        if !full && waiting.next() {
            self.waiting.push(waiting);
        } else {
            self.answer(asker, refuse(message, RCODE::ServerFailure));
        }
    }

    fn resolver_ready(&mut self, key: u64) {
        let Some(at) = self.waiting.iter().position(|one| one.key == key) else { return };
        let mut buffer = std::mem::take(&mut self.buffer);
        let ready = self.waiting.get_mut(at).map(|one| one.ready(&mut buffer));
        self.buffer = buffer;
        match ready {
            Some(Ok(Some(answer))) => {
                let done = self.waiting.swap_remove(at);
                self.answer(done.asker, Some(answer));
            }
            Some(Err(_)) => self.ask_another(at),
            Some(Ok(None)) | None => {}
        }
    }

    /// The resolver that was asked does not answer.
    fn ask_another(&mut self, at: usize) {
        if self.waiting.get_mut(at).is_some_and(Waiting::next) {
            return;
        }
        let given_up = self.waiting.swap_remove(at);
        self.answer(given_up.asker, refuse(&given_up.question, RCODE::ServerFailure));
    }

    /// Ends what has lasted too long.
    fn tidy(&mut self) {
        let now = Instant::now();
        while let Some(at) = self.waiting.iter().position(|one| one.until <= now) {
            self.ask_another(at);
        }
        let idle: Vec<u64> = self
            .streams
            .iter()
            .filter(|(key, _, stream)| {
                let busy = self.waiting.iter().any(|one| one.asker == Asker::Stream(*key));
                stream.until <= now && !busy
            })
            .map(|(key, ..)| *key)
            .collect();
        idle.into_iter().for_each(|key| self.hang_up(key));
    }

    fn answer(&mut self, asker: Asker, message: Option<Vec<u8>>) {
        let Some(message) = message else { return };
        match asker {
            Asker::Datagram(index, to) => {
                // A client that cannot take it now asks again.
                let _ = self.datagrams.get(index).map(|socket| socket.send_to(&message, to));
            }
            Asker::Stream(key) => {
                let found = self.streams.iter_mut().find(|(own, ..)| *own == key);
                if found.is_some_and(|(_, _, stream)| stream.send(&message).is_err()) {
                    self.hang_up(key);
                }
            }
        }
    }

    fn key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }
}

fn poll_fd<'a>((_, socket, room): &(Slot, BorrowedFd<'a>, bool)) -> PollFd<'a> {
    let flags = if *room { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
    PollFd::from_borrowed_fd(*socket, flags)
}

fn socket(at: SocketAddr, kind: SocketType, device: &str) -> io::Result<OwnedFd> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, kind, flags, None)?;
    if !device.is_empty() {
        setsockopt(&socket, BindToDevice, &OsString::from(device))?;
    }
    if at.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if kind == SocketType::STREAM {
        // Connections of a responder before us may still be ending.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &at)?;
    Ok(socket)
}
