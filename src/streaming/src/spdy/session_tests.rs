//! Two sessions against each other, and against what a hostile peer sends.

use super::frame::{Decoder, Frame, data};
use super::header::{Deflater, Headers};
use super::session::{Event, MAX_ANSWERS, Read, Role, Sent, Session, WINDOW};
use proptest::prelude::*;

fn server() -> Session {
    Session::new(Role::Server, 4)
}

/// Carries bytes over until both are silent.
fn exchange(a: &mut Session, b: &mut Session) -> (Vec<Event>, Vec<Event>) {
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    loop {
        let (to_b, to_a) = (a.take_out(), b.take_out());
        a.sent(to_b.len());
        b.sent(to_a.len());
        if to_a.is_empty() && to_b.is_empty() {
            return (of_a, of_b);
        }
        b.receive(&to_b, &mut of_b).unwrap();
        a.receive(&to_a, &mut of_a).unwrap();
    }
}

fn frames(session: &mut Session) -> Vec<Frame> {
    let bytes = session.take_out();
    session.sent(bytes.len());
    let (mut rest, mut decoder, mut found) = (bytes.as_slice(), Decoder::default(), Vec::new());
    while let Some(frame) = decoder.decode(&mut rest).unwrap() {
        found.push(frame);
    }
    found
}

fn give(session: &mut Session, frame: &Frame) -> Vec<Event> {
    let (mut bytes, mut events) = (Vec::new(), Vec::new());
    frame.encode(&mut bytes);
    session.receive(&bytes, &mut events).unwrap();
    events
}

fn syn(stream: u32, deflater: &mut Deflater) -> Frame {
    let block = deflater.deflate(&[("streamType", "stdin")].into_iter().collect()).unwrap();
    Frame::SynStream {
        stream,
        associated: 0,
        priority: 0,
        fin: false,
        unidirectional: false,
        block,
    }
}

#[test]
fn a_stream_lives_and_ends() {
    let (mut client, mut server) = (Session::new(Role::Client, 0), server());
    let headers: Headers = [("streamType", "stdin")].into_iter().collect();
    let id = client.open(&headers).unwrap();
    let (_, events) = exchange(&mut client, &mut server);
    assert_eq!(events, [Event::Opened { stream: id, headers }]);
    server.reply(id);
    assert_eq!(client.send(id, b"hello"), Sent::Bytes(5));
    client.finish(id);
    let (_, events) = exchange(&mut client, &mut server);
    assert_eq!(events, [Event::Readable(id), Event::Readable(id)]);
    let mut buffer = [0; 3];
    assert_eq!(server.read(id, &mut buffer), Read::Bytes(3));
    assert_eq!(server.read(id, &mut buffer), Read::Bytes(2));
    assert_eq!(server.read(id, &mut buffer), Read::End);
    assert_eq!(server.send(id, b"bye"), Sent::Bytes(3), "half closed is half open");
    server.finish(id);
    server.release(id, super::frame::Reset::Cancel);
    exchange(&mut server, &mut client);
    assert_eq!(client.read(id, &mut buffer), Read::Bytes(3));
    assert_eq!(client.read(id, &mut buffer), Read::End);
    assert!(frames(&mut server).is_empty(), "an orderly end needs no reset");
}

#[test]
fn windows_bind_both_ways_and_open_again() {
    let (mut client, mut server) = (Session::new(Role::Client, 0), server());
    let id = client.open(&Headers::default()).unwrap();
    exchange(&mut client, &mut server);
    server.reply(id);
    // Each shows the other that it takes part.
    for session in [&mut client, &mut server] {
        give(session, &Frame::Settings { entries: vec![] });
    }
    let (block, mut sent, mut got) = (vec![7; 16 * 1024], 0, 0);
    let mut buffer = vec![0; 8 * 1024];
    while sent < 1 << 20 {
        match client.send(id, &block) {
            Sent::Bytes(count) => sent += count,
            Sent::Pending => {
                assert!(sent - got <= WINDOW as usize);
                exchange(&mut client, &mut server);
                while let Read::Bytes(count) = server.read(id, &mut buffer) {
                    got += count;
                }
                exchange(&mut client, &mut server);
            }
            Sent::Reset => panic!("reset"),
        }
        let leaving = client.take_out();
        client.sent(leaving.len());
        server.receive(&leaving, &mut Vec::new()).unwrap();
    }
}

#[test]
fn a_peer_without_flow_control_is_neither_cut_off_nor_waited_for() {
    let mut server = server();
    give(&mut server, &syn(1, &mut Deflater::default()));
    server.reply(1);
    // It gets more than a window although it never opens one, as long as its connection takes it.
    let mut sent = 0;
    while sent < 4 * WINDOW as usize {
        match server.send(1, &[1; 4096]) {
            Sent::Bytes(count) => sent += count,
            Sent::Pending => {
                let taken = server.take_out().len();
                assert!(server.sent(taken), "room again");
            }
            Sent::Reset => panic!("reset"),
        }
    }
    // It may send beyond its window too, but is not read any further then.
    assert!(!server.is_congested());
    give(
        &mut server,
        &Frame::Data { stream: 1, fin: false, bytes: vec![0; WINDOW as usize + 100] },
    );
    assert!(server.is_congested());
    let mut buffer = vec![0; 200];
    assert_eq!(server.read(1, &mut buffer), Read::Bytes(200));
    assert!(!server.is_congested());
}

#[test]
fn a_peer_with_flow_control_that_breaks_it_is_cut_off() {
    let mut server = Session::new(Role::Server, 4);
    let mut deflater = Deflater::default();
    give(&mut server, &Frame::Settings { entries: vec![] });
    give(&mut server, &syn(1, &mut deflater));
    frames(&mut server);
    let mut bytes = Vec::new();
    data(&mut bytes, 1, false, &vec![0; WINDOW as usize + 1]);
    assert!(server.receive(&bytes, &mut Vec::new()).is_err(), "the session's window is broken");
    assert!(matches!(frames(&mut server).last(), Some(Frame::GoAway { status: 1, .. })));
}

#[test]
fn windows_cannot_overflow() {
    let mut server = server();
    give(&mut server, &syn(1, &mut Deflater::default()));
    frames(&mut server);
    give(&mut server, &Frame::WindowUpdate { stream: 1, delta: 0x7fff_ffff });
    assert_eq!(frames(&mut server), [Frame::RstStream { stream: 1, status: 7 }]);
    let (mut bytes, update) = (Vec::new(), Frame::WindowUpdate { stream: 0, delta: 0x7fff_ffff });
    update.encode(&mut bytes);
    assert!(server.receive(&bytes, &mut Vec::new()).is_err());
    let (mut bytes, huge) = (Vec::new(), Frame::Settings { entries: vec![(7, u32::MAX)] });
    huge.encode(&mut bytes);
    assert!(self::server().receive(&bytes, &mut Vec::new()).is_err());
}

#[test]
fn streams_are_few_and_ascend() {
    let (mut server, mut deflater) = (server(), Deflater::default());
    for stream in [1, 3, 5, 7] {
        give(&mut server, &syn(stream, &mut deflater));
    }
    assert!(frames(&mut server).is_empty());
    for stream in (9..2009).step_by(2) {
        assert!(give(&mut server, &syn(stream, &mut deflater)).is_empty());
        assert_eq!(frames(&mut server), [Frame::RstStream { stream, status: 3 }]);
    }
    for stream in [2, 9, 0] {
        let (mut bytes, mut fresh) = (Vec::new(), Session::new(Role::Server, 4));
        let mut deflater = Deflater::default();
        give(&mut fresh, &syn(9, &mut deflater));
        syn(stream, &mut deflater).encode(&mut bytes);
        assert!(fresh.receive(&bytes, &mut Vec::new()).is_err(), "stream {stream}");
    }
}

#[test]
fn answers_that_nobody_reads_stop_the_reading() {
    let mut server = server();
    let mut pings = 0;
    while !server.is_congested() {
        give(&mut server, &Frame::Ping { id: 1 });
        pings += 1;
    }
    assert!(pings * 12 <= MAX_ANSWERS + 12);
}

#[test]
fn pings_come_back_and_data_on_nothing_ends_it() {
    let mut server = server();
    give(&mut server, &Frame::Ping { id: 5 });
    assert_eq!(frames(&mut server), [Frame::Ping { id: 5 }]);
    server.ping();
    assert_eq!(frames(&mut server), [Frame::Ping { id: 2 }]);
    give(&mut server, &Frame::Ping { id: 2 });
    assert!(frames(&mut server).is_empty(), "our own ping is not answered again");
    let mut bytes = Vec::new();
    data(&mut bytes, 77, false, b"x");
    assert!(server.receive(&bytes, &mut Vec::new()).is_err());
}

#[test]
fn data_after_the_end_and_after_a_release() {
    let (mut server, mut deflater) = (server(), Deflater::default());
    give(&mut server, &syn(1, &mut deflater));
    give(&mut server, &Frame::Data { stream: 1, fin: true, bytes: vec![] });
    give(&mut server, &Frame::Data { stream: 1, fin: false, bytes: vec![1] });
    assert_eq!(frames(&mut server), [Frame::RstStream { stream: 1, status: 9 }]);
    give(&mut server, &syn(3, &mut deflater));
    server.release(3, super::frame::Reset::Cancel);
    assert_eq!(frames(&mut server), [Frame::RstStream { stream: 3, status: 5 }]);
    give(&mut server, &Frame::Data { stream: 3, fin: false, bytes: vec![1; 40_000] });
    assert_eq!(frames(&mut server), [Frame::WindowUpdate { stream: 0, delta: 40_001 }]);
}

proptest! {
    #[test]
    fn no_frames_panic_or_take_memory_without_bound(
        seed in proptest::collection::vec((0..12_u8, 0..12_u32, 0..70_000_u32, any::<bool>()), 0..60),
    ) {
        let (mut server, mut deflater) = (server(), Deflater::default());
        for (kind, stream, number, flag) in seed {
            if server.is_congested() {
                break;
            }
            let frame = match kind {
                0..=2 => syn(stream, &mut deflater),
                3 => Frame::RstStream { stream, status: 5 },
                4 => Frame::Settings { entries: vec![(7, number)] },
                5 => Frame::Ping { id: number },
                6 => Frame::GoAway { last: stream, status: 0 },
                7 => Frame::WindowUpdate { stream, delta: number },
                8 => { server.release(stream, super::frame::Reset::Cancel); continue }
                9 => { server.send(stream, &[0; 9]); continue }
                _ => Frame::Data { stream, fin: flag, bytes: vec![0; number as usize % 16_384] },
            };
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            if server.receive(&bytes, &mut Vec::new()).is_err() {
                break;
            }
        }
        prop_assert!(server.take_out().len() <= MAX_ANSWERS + 32 * 1024);
    }
}
