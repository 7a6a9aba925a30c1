//! Frames of SPDY/3.1: bytes to frames and back, without I/O and without state beyond one frame.

use std::fmt;

/// Bytes in front of every frame.
pub const HEADER_LEN: usize = 8;
/// The longest control frame that is accepted. A header block of a remote command has some dozens
/// of bytes; the specification leaves the limit to the receiver.
pub const MAX_CONTROL: usize = 16 * 1024;
/// The largest number of a stream.
pub const MAX_STREAM: u32 = 0x7fff_ffff;

const VERSION: u16 = 3;
const CONTROL: u8 = 0x80;
const FLAG_FIN: u8 = 0x01;
const FLAG_UNIDIRECTIONAL: u8 = 0x02;
const MAX_LENGTH: usize = 0x00ff_ffff;

/// Why a stream was reset (section 2.6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub enum Reset {
    ProtocolError = 1,
    InvalidStream = 2,
    RefusedStream = 3,
    Cancel = 5,
    InternalError = 6,
    FlowControlError = 7,
    StreamAlreadyClosed = 9,
}

/// Why a session ends (section 2.6.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub enum GoAway {
    Ok = 0,
    ProtocolError = 1,
}

/// A setting that means something to us (section 2.6.4): the window that new streams begin with.
pub const SETTING_INITIAL_WINDOW: u32 = 7;

/// One frame. Header blocks are still compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub enum Frame {
    SynStream {
        stream: u32,
        associated: u32,
        priority: u8,
        fin: bool,
        unidirectional: bool,
        block: Vec<u8>,
    },
    SynReply {
        stream: u32,
        fin: bool,
        block: Vec<u8>,
    },
    RstStream {
        stream: u32,
        status: u32,
    },
    /// Pairs of identifier and value.
    Settings {
        entries: Vec<(u32, u32)>,
    },
    Ping {
        id: u32,
    },
    GoAway {
        last: u32,
        status: u32,
    },
    Headers {
        stream: u32,
        fin: bool,
        block: Vec<u8>,
    },
    WindowUpdate {
        stream: u32,
        delta: u32,
    },
    /// A data frame, or as much of one as has come; `fin` is with its last part.
    Data {
        stream: u32,
        fin: bool,
        bytes: Vec<u8>,
    },
    /// A control frame of a type that is not known, which is to be ignored.
    Unknown {
        kind: u16,
    },
}

/// Why bytes are not a frame. The session cannot go on after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// Another version of SPDY.
    Version(u16),
    /// A control frame beyond [`MAX_CONTROL`].
    TooLong(usize),
    /// A control frame whose length does not fit its type.
    Length(u16, usize),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "SPDY version {version} is not spoken here"),
            Self::TooLong(length) => {
                write!(f, "control frame of {length} bytes is longer than {MAX_CONTROL}")
            }
            Self::Length(kind, length) => {
                write!(f, "control frame of type {kind} cannot have {length} bytes")
            }
        }
    }
}

impl std::error::Error for FrameError {}

impl Frame {
    /// Appends the frame's bytes. A block or data beyond the 16 MiB of a length field is cut; no
    /// caller comes near that.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::SynStream { stream, associated, priority, fin, unidirectional, block } => {
                let flags = fin_flag(*fin) | if *unidirectional { FLAG_UNIDIRECTIONAL } else { 0 };
                control(out, 1, flags, 10 + block.len());
                words(out, &[*stream, *associated]);
                out.extend_from_slice(&[priority << 5, 0]);
                out.extend_from_slice(block);
            }
            Self::SynReply { stream, fin, block } => {
                control(out, 2, fin_flag(*fin), 4 + block.len());
                words(out, &[*stream]);
                out.extend_from_slice(block);
            }
            Self::RstStream { stream, status } => {
                control(out, 3, 0, 8);
                words(out, &[*stream, *status]);
            }
            Self::Settings { entries } => {
                control(out, 4, 0, 4 + 8 * entries.len());
                words(out, &[entries.len() as u32]);
                for (id, value) in entries {
                    words(out, &[id & 0x00ff_ffff, *value]);
                }
            }
            Self::Ping { id } => {
                control(out, 6, 0, 4);
                words(out, &[*id]);
            }
            Self::GoAway { last, status } => {
                control(out, 7, 0, 8);
                words(out, &[*last, *status]);
            }
            Self::Headers { stream, fin, block } => {
                control(out, 8, fin_flag(*fin), 4 + block.len());
                words(out, &[*stream]);
                out.extend_from_slice(block);
            }
            Self::WindowUpdate { stream, delta } => {
                control(out, 9, 0, 8);
                words(out, &[*stream, *delta]);
            }
            Self::Data { stream, fin, bytes } => data(out, *stream, *fin, bytes),
            Self::Unknown { kind } => control(out, *kind, 0, 0),
        }
    }
}

/// Appends a data frame.
pub fn data(out: &mut Vec<u8>, stream: u32, fin: bool, bytes: &[u8]) {
    let bytes = bytes.get(..MAX_LENGTH).unwrap_or(bytes);
    words(out, &[stream & MAX_STREAM, u32::from(fin_flag(fin)) << 24 | bytes.len() as u32]);
    out.extend_from_slice(bytes);
}

fn fin_flag(fin: bool) -> u8 {
    if fin { FLAG_FIN } else { 0 }
}

fn control(out: &mut Vec<u8>, kind: u16, flags: u8, length: usize) {
    let first = u32::from(CONTROL) << 24 | u32::from(VERSION) << 16 | u32::from(kind);
    words(out, &[first, u32::from(flags) << 24 | length.min(MAX_LENGTH) as u32]);
}

fn words(out: &mut Vec<u8>, words: &[u32]) {
    for word in words {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

/// Takes frames out of a flow of bytes that is cut anywhere.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The begin of a frame that is not whole yet; never longer than a control frame.
    held: Vec<u8>,
    /// What is left of a data frame whose header has come: stream, fin, bytes.
    data: Option<(u32, bool, usize)>,
}

impl Decoder {
    /// The next frame, or `None` when `input` is used up first. Takes what it uses off `input`.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        if let Some((stream, fin, left)) = self.data {
            if input.is_empty() {
                return Ok(None);
            }
            return Ok(Some(self.part(input, stream, fin, left)));
        }
        if !self.hold(input, HEADER_LEN) {
            return Ok(None);
        }
        let (first, second) = (word(&self.held, 0), word(&self.held, 4));
        let (flags, length) = ((second >> 24) as u8, (second & 0x00ff_ffff) as usize);
        if first >> 31 == 0 {
            self.held.clear();
            let (stream, fin) = (first & MAX_STREAM, flags & FLAG_FIN != 0);
            return Ok(if length > 0 && input.is_empty() {
                self.data = Some((stream, fin, length));
                None
            } else {
                Some(self.part(input, stream, fin, length))
            });
        }
        let version = (first >> 16 & 0x7fff) as u16;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        if length > MAX_CONTROL {
            return Err(FrameError::TooLong(length));
        }
        if !self.hold(input, HEADER_LEN + length) {
            return Ok(None);
        }
        let frame = parse(first as u16, flags, self.held.get(HEADER_LEN..).unwrap_or_default());
        self.held.clear();
        frame.map(Some)
    }

    /// A part of a data frame with `left` bytes to come.
    fn part(&mut self, input: &mut &[u8], stream: u32, fin: bool, left: usize) -> Frame {
        let (bytes, rest) = input.split_at(left.min(input.len()));
        *input = rest;
        let left = left - bytes.len();
        self.data = (left > 0).then_some((stream, fin, left));
        Frame::Data { stream, fin: fin && left == 0, bytes: bytes.to_vec() }
    }

    /// Whether `wanted` bytes of a frame are there, after taking them from `input`.
    fn hold(&mut self, input: &mut &[u8], wanted: usize) -> bool {
        let missing = wanted.saturating_sub(self.held.len());
        let (taken, rest) = input.split_at(missing.min(input.len()));
        self.held.extend_from_slice(taken);
        *input = rest;
        self.held.len() >= wanted
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
    u32::from_be_bytes(four.unwrap_or_default())
}

fn parse(kind: u16, flags: u8, body: &[u8]) -> Result<Frame, FrameError> {
    let wrong = Err(FrameError::Length(kind, body.len()));
    let (stream, fin) = (word(body, 0) & MAX_STREAM, flags & FLAG_FIN != 0);
    let block = |from: usize| body.get(from..).unwrap_or_default().to_vec();
    Ok(match (kind, body.len()) {
        (1, 10..) => Frame::SynStream {
            stream,
            associated: word(body, 4) & MAX_STREAM,
            priority: body.get(8).copied().unwrap_or(0) >> 5,
            fin,
            unidirectional: flags & FLAG_UNIDIRECTIONAL != 0,
            block: block(10),
        },
        (2, 4..) => Frame::SynReply { stream, fin, block: block(4) },
        (3, 8) => Frame::RstStream { stream, status: word(body, 4) },
        (4, 4..) => {
            let count = word(body, 0) as usize;
            if count.checked_mul(8).is_none_or(|bytes| bytes != body.len() - 4) {
                return wrong;
            }
            let entry = |at: usize| (word(body, at) & 0x00ff_ffff, word(body, at + 4));
            Frame::Settings { entries: (0..count).map(|index| entry(4 + 8 * index)).collect() }
        }
        (6, 4) => Frame::Ping { id: word(body, 0) },
        (7, 8) => Frame::GoAway { last: stream, status: word(body, 4) },
        (8, 4..) => Frame::Headers { stream, fin, block: block(4) },
        (9, 8) => Frame::WindowUpdate { stream, delta: word(body, 4) & MAX_STREAM },
        (1..=4 | 6..=9, _) => return wrong,
        _ => Frame::Unknown { kind },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let (id, block) = (0..=MAX_STREAM, proptest::collection::vec(any::<u8>(), 0..300));
        let block = || block.clone();
        prop_oneof![
            (id.clone(), id.clone(), 0..8_u8, any::<bool>(), any::<bool>(), block()).prop_map(
                |(stream, associated, priority, fin, unidirectional, block)| Frame::SynStream {
                    stream,
                    associated,
                    priority,
                    fin,
                    unidirectional,
                    block
                }
            ),
            (id.clone(), any::<bool>(), block()).prop_map(|(stream, fin, block)| Frame::SynReply {
                stream,
                fin,
                block
            }),
            (id.clone(), any::<u32>())
                .prop_map(|(stream, status)| Frame::RstStream { stream, status }),
            proptest::collection::vec((0..1_u32 << 24, any::<u32>()), 0..5)
                .prop_map(|entries| Frame::Settings { entries }),
            any::<u32>().prop_map(|id| Frame::Ping { id }),
            (id.clone(), any::<u32>()).prop_map(|(last, status)| Frame::GoAway { last, status }),
            (id.clone(), any::<bool>(), block()).prop_map(|(stream, fin, block)| Frame::Headers {
                stream,
                fin,
                block
            }),
            (id.clone(), 0..=MAX_STREAM)
                .prop_map(|(stream, delta)| Frame::WindowUpdate { stream, delta }),
            (id, any::<bool>(), block()).prop_map(|(stream, fin, bytes)| Frame::Data {
                stream,
                fin,
                bytes
            }),
        ]
    }

    /// All frames of `chunks`, with the parts of a data frame put together again.
    fn decode_all<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Frame>, FrameError> {
        let (mut decoder, mut found) = (Decoder::default(), Vec::new());
        let mut open: Option<(u32, Vec<u8>)> = None;
        for mut chunk in chunks {
            while let Some(frame) = decoder.decode(&mut chunk)? {
                match frame {
                    Frame::Data { stream, fin, bytes } => {
                        let (_, mut all) = open.take().unwrap_or((stream, Vec::new()));
                        all.extend_from_slice(&bytes);
                        if decoder.data.is_some() {
                            open = Some((stream, all));
                        } else {
                            found.push(Frame::Data { stream, fin, bytes: all });
                        }
                    }
                    other => found.push(other),
                }
            }
        }
        Ok(found)
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(
            all in proptest::collection::vec(frames(), 0..6),
            step in 1..64_usize,
        ) {
            let mut bytes = Vec::new();
            for frame in &all {
                frame.encode(&mut bytes);
            }
            prop_assert_eq!(decode_all(bytes.chunks(step)).unwrap(), all);
        }

        #[test]
        fn no_bytes_panic_or_are_held_without_bound(
            bytes in proptest::collection::vec(any::<u8>(), 0..4096),
            step in 1..512_usize,
        ) {
            let mut decoder = Decoder::default();
            'all: for mut chunk in bytes.chunks(step) {
                loop {
                    match decoder.decode(&mut chunk) {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => break 'all,
                    }
                }
                prop_assert!(decoder.held.len() <= HEADER_LEN + MAX_CONTROL);
            }
        }
    }

    #[test]
    fn refuses_what_is_no_frame() {
        for (bytes, error) in [
            (&[0x80, 2, 0, 1, 0, 0, 0, 10][..], FrameError::Version(2)),
            (&[0x80, 3, 0, 1, 0, 1, 0, 0], FrameError::TooLong(65_536)),
            (&[0x80, 3, 0, 3, 0, 0, 0, 0], FrameError::Length(3, 0)),
            (&[0x80, 3, 0, 4, 0, 0, 0, 4, 255, 255, 255, 255], FrameError::Length(4, 4)),
        ] {
            assert_eq!(decode_all(std::iter::once(bytes)), Err(error));
        }
        assert_eq!(
            decode_all(std::iter::once(&[0x80, 3, 0, 99, 0, 0, 0, 1, 7][..])),
            Ok(vec![Frame::Unknown { kind: 99 }])
        );
    }
}
