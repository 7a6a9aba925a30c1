//! A responder on loopback, with a client, a neighbour and a resolver of the test's own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use orlop_names::{Entry, Settings, is_served, register, run, unregister};
use simple_dns::rdata::{A, RData};
use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE,
};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

const PORT: u16 = 5399;
const UPSTREAM: u16 = 5398;

fn entry(names: &[&str], address: &str) -> Entry {
    Entry {
        version: 1,
        names: names.iter().map(ToString::to_string).collect(),
        addresses: vec![address.parse().unwrap()],
        networks: vec!["net".into()],
        servers: Vec::new(),
    }
}

struct Responder {
    _temp: tempfile::TempDir,
    dir: PathBuf,
    at: SocketAddr,
    client: IpAddr,
    thread: JoinHandle<()>,
}

/// `number` makes the addresses differ between tests.
fn start(number: u8, forward: bool) -> Responder {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("net");
    let ip = |last: u8| IpAddr::from([127, 77, number, last]);
    let (own, client, resolver) = (ip(1), ip(2), ip(9));
    let resolv_conf = temp.path().join("resolv.conf");
    // The first one is dead: nobody listens there.
    std::fs::write(&resolv_conf, format!("nameserver {}\nnameserver {resolver}\n", ip(8))).unwrap();
    let settings = Settings {
        dir: dir.clone(),
        device: String::new(),
        addresses: vec![own],
        port: PORT,
        forward,
        resolv_conf,
        upstream_port: UPSTREAM,
    };
    let thread = register(&dir, "a", &entry(&["web", "alias"], &client.to_string()), || {
        assert!(!is_served(&dir).unwrap());
        let (sender, ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            run(settings, move || sender.send(()).unwrap()).unwrap();
        });
        ready.recv().unwrap();
        assert!(is_served(&dir).unwrap());
        Ok(thread)
    })
    .unwrap();
    Responder { _temp: temp, dir, at: SocketAddr::new(own, PORT), client, thread }
}

fn resolver(number: u8) {
    let at = (IpAddr::from([127, 77, number, 9]), UPSTREAM);
    let (datagrams, streams) = (UdpSocket::bind(at).unwrap(), TcpListener::bind(at).unwrap());
    let answer = |question: &[u8]| {
        let mut packet = Packet::parse(question).unwrap().into_reply();
        let name = packet.questions[0].qname.clone();
        let data = RData::A(A { address: u32::from_be_bytes([192, 0, 2, 1]) });
        packet.answers.push(ResourceRecord::new(name, CLASS::IN, 60, data));
        packet.build_bytes_vec().unwrap()
    };
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = datagrams.recv_from(&mut buffer) {
            let right = answer(&buffer[..length]);
            // One that guesses comes first.
            let mut wrong = right.clone();
            wrong[0] ^= 0xff;
            datagrams.send_to(&wrong, from).unwrap();
            datagrams.send_to(&right, from).unwrap();
        }
    });
    std::thread::spawn(move || {
        for stream in streams.incoming() {
            let mut stream = stream.unwrap();
            let message = receive(&mut stream);
            send(&mut stream, &answer(&message));
        }
    });
}

fn question(id: u16, name: &str, kind: TYPE) -> Vec<u8> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let class = QCLASS::CLASS(CLASS::IN);
    packet.questions.push(Question::new(Name::new(name).unwrap(), QTYPE::TYPE(kind), class, false));
    packet.build_bytes_vec().unwrap()
}

fn send(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(&u16::try_from(message.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(message).unwrap();
}

fn receive(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    message
}

impl Responder {
    fn socket(&self, from: IpAddr) -> UdpSocket {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.connect(self.at).unwrap();
        socket
    }

    fn asked(&self, name: &str, kind: TYPE) -> (RCODE, Vec<IpAddr>) {
        let socket = self.socket(self.client);
        socket.send(&question(4711, name, kind)).unwrap();
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        read(&buffer[..length], 4711)
    }

    fn end(self) {
        unregister(&self.dir, "a").unwrap();
        self.thread.join().unwrap();
        assert!(!is_served(&self.dir).unwrap());
    }
}

fn read(message: &[u8], id: u16) -> (RCODE, Vec<IpAddr>) {
    let packet = Packet::parse(message).unwrap();
    assert_eq!(packet.id(), id);
    let ips = packet.answers.iter().filter_map(|answer| match &answer.rdata {
        RData::A(a) => Some(IpAddr::from(a.address.to_be_bytes())),
        RData::AAAA(a) => Some(IpAddr::from(a.address.to_be_bytes())),
        _ => None,
    });
    (packet.rcode(), ips.collect())
}

#[test]
fn names_are_known_others_are_forwarded_and_it_ends_with_the_last_container() {
    let responder = start(1, true);
    resolver(1);
    let client = vec![responder.client];
    assert_eq!(responder.asked("web", TYPE::A), (RCODE::NoError, client.clone()));
    assert_eq!(responder.asked("ALIAS", TYPE::A), (RCODE::NoError, client));
    assert_eq!(responder.asked("web", TYPE::AAAA), (RCODE::NoError, vec![]));
    let outside: Vec<IpAddr> = vec!["192.0.2.1".parse().unwrap()];
    assert_eq!(responder.asked("example.org", TYPE::A), (RCODE::NoError, outside.clone()));

    register(&responder.dir, "b", &entry(&["late"], "10.9.9.9"), || Ok(())).unwrap();
    let late: Vec<IpAddr> = vec!["10.9.9.9".parse().unwrap()];
    assert_eq!(responder.asked("late", TYPE::A), (RCODE::NoError, late));
    unregister(&responder.dir, "b").unwrap();
    assert_eq!(responder.asked("late", TYPE::A), (RCODE::NoError, outside.clone()));

    // Two questions on one connection, of which one is for others.
    let mut stream = TcpStream::connect(responder.at).unwrap_or_else(|error| panic!("{error}"));
    drop(stream);
    let socket = socket_from(responder.client);
    rustix::net::connect(&socket, &responder.at).unwrap();
    stream = TcpStream::from(socket);
    send(&mut stream, &question(1, "web", TYPE::A));
    send(&mut stream, &question(2, "example.org", TYPE::A));
    assert_eq!(read(&receive(&mut stream), 1).1, [responder.client]);
    assert_eq!(read(&receive(&mut stream), 2).1, outside);
    responder.end();
}

fn socket_from(address: IpAddr) -> std::os::fd::OwnedFd {
    use rustix::net::{AddressFamily, SocketType, bind, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::new(address, 0)).unwrap();
    socket
}

#[test]
fn strangers_and_garbage_get_nothing() {
    let responder = start(2, true);
    let stranger = responder.socket("127.77.2.200".parse().unwrap());
    stranger.send(&question(7, "web", TYPE::A)).unwrap();
    let known = responder.socket(responder.client);
    for bytes in [&b""[..], b"x", &[0xff; 600], &[0; 12]] {
        known.send(bytes).unwrap();
    }
    // Served behind those: it is one thread, so that they have been looked at.
    assert_eq!(responder.asked("web", TYPE::A).0, RCODE::NoError);
    stranger.set_nonblocking(true).unwrap();
    assert!(stranger.recv(&mut [0; 512]).is_err(), "a stranger is not answered");
    responder.end();
}

#[test]
fn an_internal_network_knows_its_own_names_only() {
    let responder = start(3, false);
    assert_eq!(responder.asked("example.org", TYPE::A), (RCODE::NameError, vec![]));
    assert_eq!(responder.asked("web", TYPE::A).1, [responder.client]);
    responder.end();
}

#[test]
fn resolvers_that_do_not_answer_are_a_failure_and_are_not_asked_without_end() {
    let responder = start(4, true);
    // Both are dead: the kernel says so at once.
    assert_eq!(responder.asked("example.org", TYPE::A), (RCODE::ServerFailure, vec![]));
    let flood = responder.socket(responder.client);
    let silent = UdpSocket::bind((IpAddr::from([127, 77, 4, 9]), UPSTREAM)).unwrap();
    let mut refused = 0;
    for n in 0..200 {
        flood.send(&question(n, "example.org", TYPE::A)).unwrap();
    }
    let mut buffer = [0; 512];
    // What is above the bound is refused at once; the others wait for the silent one.
    while refused < 200 - 64 {
        flood.recv(&mut buffer).unwrap();
        refused += 1;
    }
    assert_eq!(responder.asked("web", TYPE::A).1, [responder.client], "names go on");
    drop(silent);
    responder.end();
}

#[test]
fn a_directory_that_goes_away_ends_it() {
    let responder = start(5, true);
    let dir: &Path = &responder.dir;
    std::fs::remove_dir_all(dir).unwrap();
    responder.thread.join().unwrap();
}
