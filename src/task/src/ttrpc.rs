//! ttrpc on the wire: a frame is a header of ten bytes (length and stream id as big-endian u32,
//! type, flags) and a protobuf message. No I/O here: the shim's event loop and the daemon's tokio
//! client both feed bytes in and take bytes out.

use prost::Message;
use std::fmt;

/// Bytes in front of every message.
pub const HEADER_LEN: usize = 10;
/// The longest message that either side accepts (ttrpc's own limit).
pub const MAX_MESSAGE: usize = 4 << 20;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A call, client to server.
    Request = 1,
    /// Its answer.
    Response = 2,
    /// A part of a stream; none of our services has streams.
    Data = 3,
}

/// The ten bytes in front of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the message that follows.
    pub len: u32,
    /// Which call; odd numbers are the client's.
    pub stream: u32,
    /// What follows.
    pub kind: Kind,
    /// Bits for streams; 0 in a plain call.
    pub flags: u8,
}

/// Why bytes are not a frame. The connection cannot go on after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MAX_MESSAGE`].
    #[error("message of {0} bytes is longer than the limit of {MAX_MESSAGE}")]
    TooLong(u32),
    /// A type that ttrpc does not have.
    #[error("frame type {0} is not known")]
    Kind(u8),
}

impl Header {
    /// Reads a header.
    pub fn parse(bytes: [u8; HEADER_LEN]) -> Result<Self, FrameError> {
        let [l0, l1, l2, l3, s0, s1, s2, s3, kind, flags] = bytes;
        let len = u32::from_be_bytes([l0, l1, l2, l3]);
        if len as usize > MAX_MESSAGE {
            return Err(FrameError::TooLong(len));
        }
        let kind = match kind {
            1 => Kind::Request,
            2 => Kind::Response,
            3 => Kind::Data,
            other => return Err(FrameError::Kind(other)),
        };
        Ok(Self { len, stream: u32::from_be_bytes([s0, s1, s2, s3]), kind, flags })
    }

    /// Writes a header.
    pub fn bytes(self) -> [u8; HEADER_LEN] {
        let [l0, l1, l2, l3] = self.len.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [l0, l1, l2, l3, s0, s1, s2, s3, self.kind as u8, self.flags]
    }
}

/// Appends a whole frame to `out`. A message above [`MAX_MESSAGE`] is refused, `out` unchanged.
pub fn encode(
    stream: u32,
    kind: Kind,
    message: &impl Message,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    let len = message.encoded_len();
    let short = u32::try_from(len).unwrap_or(u32::MAX);
    if len > MAX_MESSAGE {
        return Err(FrameError::TooLong(short));
    }
    out.reserve(HEADER_LEN + len);
    out.extend_from_slice(&Header { len: short, stream, kind, flags: 0 }.bytes());
    // A Vec always has room, so encoding into it cannot fail.
    let _ = message.encode(out);
    Ok(())
}

/// Takes the first whole frame from the front of `input`: the header, its message, and how many
/// bytes both took. `None` while bytes are missing.
pub fn split(input: &[u8]) -> Result<Option<(Header, &[u8], usize)>, FrameError> {
    let Some(head) = input.first_chunk::<HEADER_LEN>() else { return Ok(None) };
    let header = Header::parse(*head)?;
    let end = HEADER_LEN + header.len as usize;
    Ok(input.get(HEADER_LEN..end).map(|message| (header, message, end)))
}

/// gRPC status codes, the field's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
#[expect(missing_docs, reason = "gRPC's own names")]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// The code for a number; numbers that gRPC does not have are `Unknown`.
    pub fn from_number(number: i32) -> Self {
        const ALL: [Code; 17] = [
            Code::Ok,
            Code::Cancelled,
            Code::Unknown,
            Code::InvalidArgument,
            Code::DeadlineExceeded,
            Code::NotFound,
            Code::AlreadyExists,
            Code::PermissionDenied,
            Code::ResourceExhausted,
            Code::FailedPrecondition,
            Code::Aborted,
            Code::OutOfRange,
            Code::Unimplemented,
            Code::Internal,
            Code::Unavailable,
            Code::DataLoss,
            Code::Unauthenticated,
        ];
        usize::try_from(number).ok().and_then(|n| ALL.get(n)).copied().unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
