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

/// A whole frame: header, message, and how many bytes both took.
pub type Frame<'a> = (Header, &'a [u8], usize);

/// Takes the first whole frame from the front of `input`; `None` while bytes are missing.
pub fn split(input: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ttrpc::Request;
    use proptest::prelude::*;

    #[test]
    fn headers() {
        let bytes = [0, 0, 1, 2, 0, 0, 0, 7, 2, 1];
        let header = Header { len: 258, stream: 7, kind: Kind::Response, flags: 1 };
        assert_eq!(Header::parse(bytes), Ok(header));
        assert_eq!(header.bytes(), bytes);
        assert_eq!(Header::parse([0, 0, 0, 0, 0, 0, 0, 1, 9, 0]), Err(FrameError::Kind(9)));
        let limit = Header::parse([0, 0x40, 0, 0, 0, 0, 0, 1, 1, 0]);
        assert_eq!(limit.map(|header| header.len as usize), Ok(MAX_MESSAGE));
        assert_eq!(
            Header::parse([0, 0x40, 0, 1, 0, 0, 0, 1, 1, 0]),
            Err(FrameError::TooLong(0x40_0001))
        );
        assert_eq!(Header::parse([0xff; HEADER_LEN]), Err(FrameError::TooLong(u32::MAX)));
    }

    #[test]
    fn too_long_a_message_leaves_the_output_alone() {
        let request = Request { payload: vec![0; MAX_MESSAGE], ..Request::default() };
        let mut out = b"before".to_vec();
        assert!(matches!(
            encode(1, Kind::Request, &request, &mut out),
            Err(FrameError::TooLong(_))
        ));
        assert_eq!(out, b"before");
    }

    #[test]
    fn codes_have_grpcs_numbers() {
        for (number, code) in [
            (0, Code::Ok),
            (5, Code::NotFound),
            (9, Code::FailedPrecondition),
            (16, Code::Unauthenticated),
        ] {
            assert_eq!((Code::from_number(number), code as i32), (code, number));
        }
        for strange in [-1, 17, i32::MAX, i32::MIN] {
            assert_eq!(Code::from_number(strange), Code::Unknown);
        }
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..5), cut in 0usize..64) {
            let mut bytes = Vec::new();
            for (stream, payload) in (1..).zip(&payloads) {
                let request = Request { payload: payload.clone(), ..Request::default() };
                encode(stream, Kind::Request, &request, &mut bytes).unwrap();
            }
            let mut rest = bytes.as_slice();
            for (stream, payload) in (1..).zip(&payloads) {
                let (header, message, length) = split(rest).unwrap().unwrap();
                prop_assert_eq!((header.stream, header.kind), (stream, Kind::Request));
                prop_assert_eq!(&Request::decode(message).unwrap().payload, payload);
                // Short of its last bytes it is no frame yet.
                let short = rest.get(..length.saturating_sub(cut + 1)).unwrap_or_default();
                prop_assert_eq!(split(short), Ok(None));
                rest = &rest[length..];
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = split(&bytes);
        }
    }
}
