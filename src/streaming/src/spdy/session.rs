//! A SPDY session without I/O: bytes in, events out; what is to be sent gathers in a buffer.
//!
//! Flow control works in both directions, per stream and for the session. The field's clients
//! (Kubernetes' own among them) do not take part in it: they send what they have and never open a
//! window. A peer that has sent neither SETTINGS nor WINDOW_UPDATE is taken for one of those: our
//! windows do not bind what we send it, and what it sends beyond its window is held back by not
//! reading on ([`Session::is_congested`]), which TCP passes on to it. From a peer that takes part,
//! bytes beyond a window are an error.

use super::frame::{
    self, Decoder, Frame, FrameError, GoAway, MAX_STREAM, Reset, SETTING_INITIAL_WINDOW,
};
use super::header::{BlockError, Deflater, Headers, Inflater};
use std::collections::{BTreeMap, VecDeque};

/// The window that everything begins with (section 2.6.8).
pub const WINDOW: u32 = 64 * 1024;
/// Bytes on their way out, above which nothing more is taken from streams.
pub const MAX_OUT: usize = 128 * 1024;
/// The same with answers to the peer's own frames, above which nothing more is read. Far enough above
/// the other limit: two sides that both wait for the other to read would wait for ever.
pub const MAX_ANSWERS: usize = 2 * MAX_OUT;
/// The largest data frame that we send.
const MAX_DATA: usize = 32 * 1024;

/// Which side we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Opens streams with odd numbers.
    Client,
    /// Opens none.
    Server,
}

/// Something that whoever uses the session wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The peer opened a stream; it waits for [`Session::reply`] or [`Session::reset`].
    Opened {
        /// Its number.
        stream: u32,
        /// What it is for.
        headers: Headers,
    },
    /// Bytes, the end or a reset came for a stream.
    Readable(u32),
    /// A stream, or with 0 any stream, may send more.
    Writable(u32),
}

/// What a stream has to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// So many bytes were taken.
    Bytes(usize),
    /// Nothing yet.
    Pending,
    /// The peer has finished.
    End,
    /// The peer gave the stream up, or it is not there.
    Reset,
}

/// What became of bytes to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// So many were taken.
    Bytes(usize),
    /// No room now; [`Event::Writable`] tells when to try again.
    Pending,
    /// The peer gave the stream up, or it is finished.
    Reset,
}

/// Why the session is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Bytes that are not frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Headers that cannot be read.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// Frames that break a rule which the session cannot outlive.
    #[error("peer broke the protocol: {0}")]
    Protocol(&'static str),
}

#[derive(Debug)]
struct Stream {
    inbound: VecDeque<u8>,
    /// Consumed and not yet told.
    unacknowledged: u32,
    receive_window: i64,
    send_window: i64,
    peer_finished: bool,
    finished: bool,
    reset: bool,
}

/// One side of a session.
#[derive(Debug)]
pub struct Session {
    role: Role,
    decoder: Decoder,
    inflater: Inflater,
    deflater: Deflater,
    streams: BTreeMap<u32, Stream>,
    max_streams: usize,
    /// The highest stream that the peer has opened.
    last_peer: u32,
    next: u32,
    /// The peer takes part in flow control.
    polite: bool,
    initial_send_window: i64,
    send_window: i64,
    receive_window: i64,
    unacknowledged: u32,
    out: Vec<u8>,
    /// Bytes that were taken from `out` and are not sent yet.
    leaving: usize,
    going: bool,
}

impl Session {
    /// A session in which the peer may have `max_streams` open at once.
    pub fn new(role: Role, max_streams: usize) -> Self {
        Self {
            role,
            decoder: Decoder::default(),
            inflater: Inflater::default(),
            deflater: Deflater::default(),
            streams: BTreeMap::new(),
            max_streams,
            last_peer: 0,
            next: 1,
            polite: false,
            initial_send_window: i64::from(WINDOW),
            send_window: i64::from(WINDOW),
            receive_window: i64::from(WINDOW),
            unacknowledged: 0,
            out: Vec::new(),
            leaving: 0,
            going: false,
        }
    }

    /// Takes bytes from the peer. After an error the session is over; a GOAWAY waits to be sent.
    pub fn receive(
        &mut self,
        mut bytes: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), SessionError> {
        let result = loop {
            match self.decoder.decode(&mut bytes) {
                Ok(Some(frame)) => {
                    if let Err(error) = self.take(frame, events) {
                        break Err(error);
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            }
        };
        if result.is_err() {
            self.go_away(GoAway::ProtocolError);
        }
        result
    }

    /// Whether nothing more should be read now: a stream's buffer is full, or the peer does not take
    /// what we answer.
    pub fn is_congested(&self) -> bool {
        self.queued() > MAX_ANSWERS
            || self.streams.values().any(|stream| stream.inbound.len() >= WINDOW as usize)
    }

    fn queued(&self) -> usize {
        self.out.len() + self.leaving
    }

    /// Takes what is to be sent; [`Session::sent`] tells when it has been.
    pub fn take_out(&mut self) -> Vec<u8> {
        let out = std::mem::take(&mut self.out);
        self.leaving += out.len();
        out
    }

    /// So many bytes have been sent. Whether streams that had no room have some again.
    pub fn sent(&mut self, count: usize) -> bool {
        let full = self.queued() >= MAX_OUT;
        self.leaving = self.leaving.saturating_sub(count);
        full && self.queued() < MAX_OUT
    }

    /// Accepts a stream of the peer.
    pub fn reply(&mut self, stream: u32) {
        // Without headers nothing can fail but zlib itself.
        if let Ok(block) = self.deflater.deflate(&Headers::default()) {
            Frame::SynReply { stream, fin: false, block }.encode(&mut self.out);
        }
    }

    /// Opens a stream of our own.
    pub fn open(&mut self, headers: &Headers) -> Result<u32, SessionError> {
        if self.role == Role::Server || self.next > MAX_STREAM {
            return Err(SessionError::Protocol("no more streams"));
        }
        let stream = self.next;
        self.next += 2;
        let block = self.deflater.deflate(headers)?;
        Frame::SynStream {
            stream,
            associated: 0,
            priority: 0,
            fin: false,
            unidirectional: false,
            block,
        }
        .encode(&mut self.out);
        self.insert(stream, false);
        Ok(stream)
    }

    /// Takes bytes that came for a stream.
    pub fn read(&mut self, stream: u32, buffer: &mut [u8]) -> Read {
        let Some(found) = self.streams.get_mut(&stream) else { return Read::Reset };
        if found.inbound.is_empty() {
            // What was finished before it was given up came whole.
            return match (found.peer_finished, found.reset) {
                (true, _) => Read::End,
                (false, true) => Read::Reset,
                (false, false) => Read::Pending,
            };
        }
        let count = buffer.len().min(found.inbound.len());
        for (to, from) in buffer.iter_mut().zip(found.inbound.drain(..count)) {
            *to = from;
        }
        if found.inbound.is_empty() {
            // A stream that once had much to say and now is silent keeps no memory.
            found.inbound.shrink_to(4096);
        }
        self.acknowledge(stream, count as u32);
        Read::Bytes(count)
    }

    /// Opens the peer's windows again for bytes that have been consumed.
    fn acknowledge(&mut self, stream: u32, count: u32) {
        self.unacknowledged += count;
        if self.unacknowledged >= WINDOW / 2 {
            let delta = std::mem::take(&mut self.unacknowledged);
            self.receive_window += i64::from(delta);
            Frame::WindowUpdate { stream: 0, delta }.encode(&mut self.out);
        }
        let Some(found) = self.streams.get_mut(&stream) else { return };
        found.unacknowledged += count;
        if found.unacknowledged >= WINDOW / 2 && !found.peer_finished && !found.reset {
            let delta = std::mem::take(&mut found.unacknowledged);
            found.receive_window += i64::from(delta);
            Frame::WindowUpdate { stream, delta }.encode(&mut self.out);
        }
    }

    /// Sends bytes on a stream, as many as there is room for.
    pub fn send(&mut self, stream: u32, bytes: &[u8]) -> Sent {
        let (room, polite) = (MAX_OUT.saturating_sub(self.queued()), self.polite);
        let session_window = self.send_window;
        let Some(found) = self.streams.get_mut(&stream) else { return Sent::Reset };
        if found.reset || found.finished {
            return Sent::Reset;
        }
        let window = if polite { found.send_window.min(session_window) } else { i64::MAX };
        let count = bytes
            .len()
            .min(room)
            .min(MAX_DATA)
            .min(usize::try_from(window.max(0)).unwrap_or(usize::MAX));
        if count == 0 && !bytes.is_empty() {
            return Sent::Pending;
        }
        found.send_window -= count as i64;
        self.send_window -= count as i64;
        frame::data(&mut self.out, stream, false, bytes.get(..count).unwrap_or_default());
        Sent::Bytes(count)
    }

    /// Says that nothing more comes from us on a stream.
    pub fn finish(&mut self, stream: u32) {
        if let Some(found) = self.streams.get_mut(&stream)
            && !found.finished
            && !found.reset
        {
            found.finished = true;
            frame::data(&mut self.out, stream, true, &[]);
        }
    }

    /// Nobody has an interest in the stream any more; unless both sides have finished, the peer is
    /// told so.
    pub fn release(&mut self, stream: u32, status: Reset) {
        let Some(found) = self.streams.remove(&stream) else { return };
        let unread = found.inbound.len() as u32;
        let over = found.reset || (found.finished && found.peer_finished);
        if !over {
            self.send_reset(stream, status);
        }
        self.acknowledge(stream, unread);
    }

    /// Refuses a stream, or ends it for a fault of the peer.
    pub fn reset(&mut self, stream: u32, status: Reset) {
        if let Some(found) = self.streams.get_mut(&stream) {
            found.reset = true;
        }
        self.send_reset(stream, status);
    }

    fn send_reset(&mut self, stream: u32, status: Reset) {
        Frame::RstStream { stream, status: status as u32 }.encode(&mut self.out);
    }

    /// Asks whether the peer is there; a dead one answers with an error of the connection.
    pub fn ping(&mut self) {
        let id = if self.role == Role::Server { 2 } else { 1 };
        Frame::Ping { id }.encode(&mut self.out);
    }

    /// Says that the session is over.
    pub fn go_away(&mut self, status: GoAway) {
        if !std::mem::replace(&mut self.going, true) {
            Frame::GoAway { last: self.last_peer, status: status as u32 }.encode(&mut self.out);
        }
    }

    fn insert(&mut self, stream: u32, peer_finished: bool) {
        let fresh = Stream {
            inbound: VecDeque::new(),
            unacknowledged: 0,
            receive_window: i64::from(WINDOW),
            send_window: self.initial_send_window,
            peer_finished,
            finished: false,
            reset: false,
        };
        self.streams.insert(stream, fresh);
    }

    fn take(&mut self, frame: Frame, events: &mut Vec<Event>) -> Result<(), SessionError> {
        match frame {
            Frame::SynStream { stream, fin, unidirectional, block, .. } => {
                // The block first, whatever becomes of the stream: later blocks build on it.
                let headers = self.inflater.inflate(&block)?;
                self.opened(stream, fin, unidirectional, headers, events)?;
            }
            Frame::SynReply { stream, fin, block } | Frame::Headers { stream, fin, block } => {
                self.inflater.inflate(&block)?;
                if fin {
                    self.peer_finished(stream, events);
                }
            }
            Frame::RstStream { stream, .. } => {
                if let Some(found) = self.streams.get_mut(&stream) {
                    found.reset = true;
                    events.extend([Event::Readable(stream), Event::Writable(stream)]);
                }
            }
            Frame::Settings { entries } => {
                self.turn_polite();
                for (_, value) in entries.iter().filter(|(id, _)| *id == SETTING_INITIAL_WINDOW) {
                    self.set_initial_window(*value)?;
                }
                events.push(Event::Writable(0));
            }
            // An even number is our own ping coming back, for a server; odd ones are answered.
            Frame::Ping { id } => {
                if (id % 2 == 1) == (self.role == Role::Server) {
                    Frame::Ping { id }.encode(&mut self.out);
                }
            }
            Frame::WindowUpdate { stream, delta } => {
                self.turn_polite();
                self.widen(stream, delta, events)?;
            }
            Frame::Data { stream, fin, bytes } => self.arrived(stream, fin, &bytes, events)?,
            // The peer opens nothing more; what is open goes on.
            Frame::GoAway { .. } | Frame::Unknown { .. } => {}
        }
        Ok(())
    }

    fn opened(
        &mut self,
        stream: u32,
        fin: bool,
        unidirectional: bool,
        headers: Headers,
        events: &mut Vec<Event>,
    ) -> Result<(), SessionError> {
        let theirs = (stream % 2 == 1) == (self.role == Role::Server);
        if !theirs || stream == 0 || stream <= self.last_peer {
            return Err(SessionError::Protocol("a stream's number does not ascend"));
        }
        self.last_peer = stream;
        if self.going || unidirectional || self.streams.len() >= self.max_streams {
            self.send_reset(stream, Reset::RefusedStream);
            return Ok(());
        }
        self.insert(stream, fin);
        events.push(Event::Opened { stream, headers });
        Ok(())
    }

    fn arrived(
        &mut self,
        stream: u32,
        fin: bool,
        bytes: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), SessionError> {
        let count = bytes.len() as u32;
        self.receive_window -= i64::from(count);
        if self.polite && self.receive_window < 0 {
            return Err(SessionError::Protocol("data beyond the session's window"));
        }
        let Some(found) = self.streams.get_mut(&stream).filter(|found| !found.reset) else {
            if stream == 0 || (stream > self.last_peer && stream >= self.next) {
                return Err(SessionError::Protocol("data on a stream that was never opened"));
            }
            // It was on its way when we gave the stream up.
            self.acknowledge(stream, count);
            return Ok(());
        };
        if found.peer_finished {
            found.reset = true;
            self.send_reset(stream, Reset::StreamAlreadyClosed);
            events.push(Event::Readable(stream));
            self.acknowledge(stream, count);
            return Ok(());
        }
        found.receive_window -= i64::from(count);
        if self.polite && found.receive_window < 0 {
            found.reset = true;
            self.send_reset(stream, Reset::FlowControlError);
            self.acknowledge(stream, count);
        } else {
            found.inbound.extend(bytes);
            found.peer_finished = fin;
        }
        events.push(Event::Readable(stream));
        Ok(())
    }

    fn peer_finished(&mut self, stream: u32, events: &mut Vec<Event>) {
        if let Some(found) = self.streams.get_mut(&stream) {
            found.peer_finished = true;
            events.push(Event::Readable(stream));
        }
    }

    /// What was sent before counts: the windows were kept all along.
    fn turn_polite(&mut self) {
        self.polite = true;
    }

    /// Applies to open streams too; their windows may become negative.
    fn set_initial_window(&mut self, value: u32) -> Result<(), SessionError> {
        if value > MAX_STREAM {
            return Err(SessionError::Protocol("an initial window beyond 2^31 - 1"));
        }
        let change = i64::from(value) - self.initial_send_window;
        self.initial_send_window = i64::from(value);
        for stream in self.streams.values_mut() {
            stream.send_window += change;
        }
        Ok(())
    }

    fn widen(
        &mut self,
        stream: u32,
        delta: u32,
        events: &mut Vec<Event>,
    ) -> Result<(), SessionError> {
        const LARGEST: i64 = MAX_STREAM as i64;
        if stream == 0 {
            self.send_window += i64::from(delta);
            if self.send_window > LARGEST {
                return Err(SessionError::Protocol("a session window beyond 2^31 - 1"));
            }
        } else if let Some(found) = self.streams.get_mut(&stream) {
            found.send_window += i64::from(delta);
            if found.send_window > LARGEST {
                found.reset = true;
                self.send_reset(stream, Reset::FlowControlError);
                events.push(Event::Readable(stream));
            }
        }
        events.push(Event::Writable(stream));
        Ok(())
    }
}
