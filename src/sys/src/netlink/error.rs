//! Errors of rtnetlink, with the kernel's own words where it gives them (extended acknowledgements).

use netlink_packet_core::{NLM_F_ACK_TLVS, NLM_F_CAPPED, NetlinkHeader, NlasIterator};
use std::io;

/// Size of the netlink header that an acknowledgement repeats.
const HEADER: usize = 16;
/// Attribute of an extended acknowledgement: a text for people.
const ATTR_MSG: u16 = 1;

/// What can go wrong on an rtnetlink socket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a request.
    #[error("{what}: {}{}", io::Error::from_raw_os_error(*errno), reason.as_ref().map(|r| format!(" ({r})")).unwrap_or_default())]
    Refused {
        /// What was asked for.
        what: String,
        /// Error number.
        errno: i32,
        /// The kernel's explanation.
        reason: Option<String>,
    },
    /// The socket itself failed.
    #[error("netlink socket: {0}")]
    Socket(#[source] io::Error),
    /// An answer cannot be read.
    #[error("netlink answer: {0}")]
    Decode(String),
    /// What was waited for did not happen in time.
    #[error("{0}")]
    Timeout(String),
}

impl Error {
    /// The error number of a refusal.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Socket(error) => error.raw_os_error(),
            _ => None,
        }
    }
}

/// Reads an acknowledgement: `Ok`, or why the request was refused.
pub(super) fn acknowledgement(
    header: &NetlinkHeader,
    payload: &[u8],
    what: &str,
) -> Result<(), Error> {
    let Some((code, rest)) = payload.split_first_chunk::<4>() else {
        return Err(Error::Decode(format!("{what}: the acknowledgement is too short")));
    };
    let code = i32::from_ne_bytes(*code);
    if code == 0 {
        return Ok(());
    }
    Err(Error::Refused { what: what.to_owned(), errno: -code, reason: reason(header, rest) })
}

/// The text among the attributes behind the repeated request.
fn reason(header: &NetlinkHeader, rest: &[u8]) -> Option<String> {
    if header.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let repeated = if header.flags & NLM_F_CAPPED != 0 {
        HEADER
    } else {
        let length = u32::from_ne_bytes(*rest.first_chunk::<4>()?);
        (length as usize).next_multiple_of(4)
    };
    let text = NlasIterator::new(rest.get(repeated..)?)
        .flatten()
        .find(|attribute| attribute.kind() == ATTR_MSG)?;
    let text = text.value().split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(flags: u16, code: i32, rest: &[u8]) -> (NetlinkHeader, Vec<u8>) {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        let mut payload = code.to_ne_bytes().to_vec();
        payload.extend_from_slice(rest);
        (header, payload)
    }

    #[test]
    fn words_of_the_kernel_are_shown() {
        let mut rest = vec![0; HEADER];
        rest.extend_from_slice(&9u16.to_ne_bytes());
        rest.extend_from_slice(&ATTR_MSG.to_ne_bytes());
        rest.extend_from_slice(b"oops\0\0\0\0");
        let (header, payload) = answer(NLM_F_ACK_TLVS | NLM_F_CAPPED, -libc::EINVAL, &rest);
        let error = acknowledgement(&header, &payload, "add link x").unwrap_err();
        assert_eq!(error.errno(), Some(libc::EINVAL));
        let text = error.to_string();
        assert!(text.starts_with("add link x: ") && text.ends_with("(oops)"), "{text}");
    }

    #[test]
    fn zero_is_success_and_short_is_refused() {
        let (header, payload) = answer(0, 0, &[0; HEADER]);
        assert!(acknowledgement(&header, &payload, "x").is_ok());
        assert!(acknowledgement(&header, &payload[..3], "x").is_err());
    }
}
