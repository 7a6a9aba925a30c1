//! How flows share a WebSocket: the first byte of a message, or its first letter, is the channel.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use tokio_tungstenite::tungstenite::Message;

/// How bytes become messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    /// Binary messages: a byte for the channel, then the bytes.
    Binary,
    /// Text messages: a digit for the channel, then base64.
    Base64,
}

impl Codec {
    pub(crate) fn encode(self, channel: u8, bytes: &[u8]) -> Message {
        match self {
            Self::Binary => {
                let mut message = BytesMut::with_capacity(1 + bytes.len());
                message.extend_from_slice(&[channel]);
                message.extend_from_slice(bytes);
                Message::Binary(message.freeze())
            }
            Self::Base64 => {
                let mut text = String::from(char::from(b'0'.wrapping_add(channel)));
                STANDARD.encode_string(bytes, &mut text);
                Message::Text(text.into())
            }
        }
    }

    /// Channel and bytes; `None` for what is no message of a flow.
    pub(crate) fn decode(self, message: Message) -> Option<(u8, Bytes)> {
        match (self, message) {
            (Self::Binary, Message::Binary(mut bytes)) => {
                let channel = *bytes.first()?;
                Some((channel, bytes.split_off(1)))
            }
            (Self::Base64, Message::Text(text)) => {
                let (digit, rest) = text.as_bytes().split_first()?;
                let channel = digit.checked_sub(b'0')?;
                Some((channel, STANDARD.decode(rest).ok()?.into()))
            }
            // Some clients write text on binary protocols; the bytes are the same.
            (Self::Binary, Message::Text(text)) => {
                let bytes = Bytes::copy_from_slice(text.as_bytes());
                let channel = *bytes.first()?;
                Some((channel, bytes.slice(1..)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn flows_survive(channel in 0..10_u8, bytes in proptest::collection::vec(any::<u8>(), 0..99)) {
            for codec in [Codec::Binary, Codec::Base64] {
                let decoded = codec.decode(codec.encode(channel, &bytes));
                prop_assert_eq!(decoded, Some((channel, Bytes::from(bytes.clone()))));
            }
        }
    }

    #[test]
    fn what_is_no_flow() {
        for (codec, message) in [
            (Codec::Binary, Message::Binary(Bytes::new())),
            (Codec::Base64, Message::Text("".into())),
            (Codec::Base64, Message::Text("1???".into())),
            (Codec::Base64, Message::Text("\u{1}aaaa".into())),
            (Codec::Base64, Message::Binary(Bytes::from_static(b"1aaaa"))),
        ] {
            assert_eq!(codec.decode(message), None);
        }
    }
}
