//! One request, with the words for its error.

use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;

/// A request that was built but not sent; several can be sent in one go.
#[derive(Debug, Clone)]
pub struct Request {
    message: RouteNetlinkMessage,
    flags: u16,
    what: String,
}

impl Request {
    pub(super) fn new(message: RouteNetlinkMessage, flags: u16, what: impl Into<String>) -> Self {
        Self { message, flags, what: what.into() }
    }

    pub(super) fn what(&self) -> &str {
        &self.what
    }

    /// Appends the encoded request.
    pub(super) fn append(&self, bytes: &mut Vec<u8>, sequence: u32, flags: u16) {
        let mut header = NetlinkHeader::default();
        header.flags = self.flags | flags;
        header.sequence_number = sequence;
        let mut message =
            NetlinkMessage::new(header, NetlinkPayload::InnerMessage(self.message.clone()));
        message.finalize();
        let start = bytes.len();
        bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut bytes[start..]);
    }
}
