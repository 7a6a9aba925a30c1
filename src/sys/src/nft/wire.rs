//! The shape of netlink messages: headers and attributes, written and read.

use super::NftError;

/// `NLMSG_HDRLEN`.
pub(super) const HEADER: usize = 16;
/// Header of netfilter's own: family, version, resource id.
pub(super) const NF_HEADER: usize = 4;

pub(super) const NLM_F_REQUEST: u16 = 0x1;
pub(super) const NLM_F_ACK: u16 = 0x4;
pub(super) const NLM_F_DUMP_INTR: u16 = 0x10;
pub(super) const NLM_F_DUMP: u16 = 0x300;
pub(super) const NLM_F_EXCL: u16 = 0x200;
pub(super) const NLM_F_CREATE: u16 = 0x400;
pub(super) const NLM_F_APPEND: u16 = 0x800;
/// In an error message: the request is not repeated in it.
pub(super) const NLM_F_CAPPED: u16 = 0x100;
/// In an error message: attributes with more about the error follow.
pub(super) const NLM_F_ACK_TLVS: u16 = 0x200;

pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;
pub(super) const NFNL_MSG_BATCH_BEGIN: u16 = 16;
pub(super) const NFNL_MSG_BATCH_END: u16 = 17;

const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;

const fn align(length: usize) -> usize {
    (length + 3) & !3
}

/// Messages under construction, one after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Writer {
    buffer: Vec<u8>,
}

impl Writer {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Writes one message; `body` writes its attributes.
    pub(super) fn message(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        (family, resource): (u8, u16),
        body: impl FnOnce(&mut Self),
    ) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 4]);
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(&flags.to_ne_bytes());
        self.buffer.extend_from_slice(&sequence.to_ne_bytes());
        self.buffer.extend_from_slice(&[0; 4]);
        self.buffer.extend_from_slice(&[family, 0]);
        self.buffer.extend_from_slice(&resource.to_be_bytes());
        body(self);
        let length = u32::try_from(self.buffer.len() - start).unwrap_or(u32::MAX);
        self.buffer[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Adds flags to the message that starts at `offset`.
    pub(super) fn add_flags(&mut self, offset: usize, flags: u16) {
        let old = u16::from_ne_bytes([self.buffer[offset + 6], self.buffer[offset + 7]]);
        self.buffer[offset + 6..offset + 8].copy_from_slice(&(old | flags).to_ne_bytes());
    }

    fn attribute_header(&mut self, kind: u16, payload: usize) {
        // The callers keep every attribute below 64 KiB: names are bounded and lists are split.
        let length = u16::try_from(payload + 4).unwrap_or(u16::MAX);
        self.buffer.extend_from_slice(&length.to_ne_bytes());
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
    }

    /// An attribute of raw bytes.
    pub(super) fn put(&mut self, kind: u16, payload: &[u8]) {
        self.attribute_header(kind, payload.len());
        self.buffer.extend_from_slice(payload);
        self.buffer.resize(align(self.buffer.len()), 0);
    }

    /// A number in network order, as netfilter has nearly all of them.
    pub(super) fn put_u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// A number in network order.
    pub(super) fn put_u64(&mut self, kind: u16, value: u64) {
        self.put(kind, &value.to_be_bytes());
    }

    /// A string with its final NUL.
    pub(super) fn put_str(&mut self, kind: u16, value: &str) {
        self.attribute_header(kind, value.len() + 1);
        self.buffer.extend_from_slice(value.as_bytes());
        self.buffer.push(0);
        self.buffer.resize(align(self.buffer.len()), 0);
    }

    /// A comment as the `nft` tool reads it: type 0, length, text with NUL.
    pub(super) fn put_comment(&mut self, kind: u16, text: &str) {
        // Longer would not fit the length byte; callers bound ids well below.
        let mut end = text.len().min(253);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut value = Vec::with_capacity(end + 3);
        value.push(0);
        value.push(u8::try_from(end + 1).unwrap_or(u8::MAX));
        value.extend_from_slice(&text.as_bytes()[..end]);
        value.push(0);
        self.put(kind, &value);
    }

    /// An attribute that holds attributes.
    pub(super) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.buffer.len();
        self.attribute_header(kind | NLA_F_NESTED, 0);
        body(self);
        let length = u16::try_from(self.buffer.len() - start).unwrap_or(u16::MAX);
        self.buffer[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

/// One message of an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    /// What follows the netlink header.
    pub(super) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes behind netfilter's header.
    pub(super) fn attributes(&self) -> Attributes<'a> {
        Attributes::new(self.payload.get(NF_HEADER..).unwrap_or_default())
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

/// Splits a datagram into its messages.
pub(super) fn messages(mut datagram: &[u8]) -> Result<Vec<Message<'_>>, NftError> {
    let broken = || NftError::Malformed { what: "netlink header" };
    let mut found = Vec::new();
    while !datagram.is_empty() {
        let length = u32_at(datagram, 0).ok_or_else(broken)? as usize;
        if length < HEADER || length > datagram.len() {
            return Err(broken());
        }
        found.push(Message {
            kind: u16_at(datagram, 4).ok_or_else(broken)?,
            flags: u16_at(datagram, 6).ok_or_else(broken)?,
            sequence: u32_at(datagram, 8).ok_or_else(broken)?,
            payload: &datagram[HEADER..length],
        });
        datagram = datagram.get(align(length)..).unwrap_or_default();
    }
    Ok(found)
}

/// Attributes one after the other; ends at the first that does not fit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// The first attribute of a kind.
    pub(super) fn get(self, kind: u16) -> Option<&'a [u8]> {
        { self }.find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// The attributes inside of one.
    pub(super) fn nested(self, kind: u16) -> Attributes<'a> {
        Attributes::new(self.get(kind).unwrap_or_default())
    }

    pub(super) fn u32(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    pub(super) fn u64(self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    pub(super) fn string(self, kind: u16) -> Option<String> {
        let bytes = self.get(kind)?;
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    /// A comment inside user data.
    pub(super) fn comment(self, kind: u16) -> Option<String> {
        self.comment_text(kind).map(str::to_owned)
    }

    /// The same without a copy; `None` too where it is not UTF-8, so none of ours.
    pub(super) fn comment_text(self, kind: u16) -> Option<&'a str> {
        let mut rest = self.get(kind)?;
        while let [tag, length, tail @ ..] = rest {
            let value = tail.get(..usize::from(*length))?;
            if *tag == 0 {
                return std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok();
            }
            rest = &tail[usize::from(*length)..];
        }
        None
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.rest, 0)?);
        let kind = u16_at(self.rest, 2)? & NLA_TYPE_MASK;
        let value = self.rest.get(4..length)?;
        self.rest = self.rest.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    }
}
