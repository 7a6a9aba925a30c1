//! Archives for tests, made byte by byte so that they can be wrong in any way.

use super::slab::BLOCK;

/// Builds an archive.
#[derive(Debug, Clone, Default)]
pub(crate) struct Builder {
    pub(crate) bytes: Vec<u8>,
}

/// One header, ustar unless changed.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) block: [u8; BLOCK],
}

impl Head {
    pub(crate) fn new(kind: u8, name: &[u8]) -> Self {
        let mut head = Self { block: [0; BLOCK] };
        head.put(0, &name[..name.len().min(100)]);
        head.octal(100, 8, 0o755).octal(108, 8, 0).octal(116, 8, 0);
        head.octal(124, 12, 0).octal(136, 12, 1000);
        head.octal(329, 8, 0).octal(337, 8, 0);
        head.block[156] = kind;
        head.put(257, b"ustar\x0000");
        head
    }

    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// An octal number with its NUL.
    pub(crate) fn octal(&mut self, at: usize, width: usize, value: u64) -> &mut Self {
        let digits = format!("{value:0width$o}\0", width = width - 1);
        self.put(at, digits.as_bytes())
    }

    pub(crate) fn mode(mut self, mode: u64) -> Self {
        self.octal(100, 8, mode);
        self
    }

    pub(crate) fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.octal(108, 8, uid).octal(116, 8, gid);
        self
    }

    pub(crate) fn size(mut self, size: u64) -> Self {
        self.octal(124, 12, size);
        self
    }

    pub(crate) fn link(mut self, target: &[u8]) -> Self {
        self.put(157, target);
        self
    }

    pub(crate) fn device(mut self, major: u64, minor: u64) -> Self {
        self.octal(329, 8, major).octal(337, 8, minor);
        self
    }

    pub(crate) fn gnu(mut self) -> Self {
        self.put(257, b"ustar  \0");
        self
    }

    /// The block with its checksum.
    pub(crate) fn sealed(mut self) -> [u8; BLOCK] {
        self.put(148, b"        ");
        let sum: u64 = self.block.iter().map(|&byte| u64::from(byte)).sum();
        let digits = format!("{sum:06o}\0 ");
        self.put(148, digits.as_bytes());
        self.block
    }
}

impl Builder {
    pub(crate) fn head(mut self, head: Head) -> Self {
        self.bytes.extend(head.sealed());
        self
    }

    /// Contents and their padding.
    pub(crate) fn data(mut self, data: &[u8]) -> Self {
        self.bytes.extend(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        self
    }

    pub(crate) fn file(self, name: &str, data: &[u8]) -> Self {
        let head = Head::new(b'0', name.as_bytes()).size(data.len() as u64);
        self.head(head).data(data)
    }

    pub(crate) fn dir(self, name: &str, mode: u64) -> Self {
        self.head(Head::new(b'5', name.as_bytes()).mode(mode))
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.head(Head::new(b'2', name.as_bytes()).link(target.as_bytes()))
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.head(Head::new(b'1', name.as_bytes()).link(target.as_bytes()))
    }

    /// A PAX header for the member that follows.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let data: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.pax_raw(&data)
    }

    pub(crate) fn pax_raw(self, data: &[u8]) -> Self {
        self.head(Head::new(b'x', b"PaxHeaders/x").size(data.len() as u64)).data(data)
    }

    /// A GNU long name (`L`) or link target (`K`).
    pub(crate) fn long(self, kind: u8, name: &[u8]) -> Self {
        let head = Head::new(kind, b"././@LongLink").gnu().size(name.len() as u64 + 1);
        self.head(head).data(&[name, b"\0"].concat())
    }

    /// With the two blocks that end an archive.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.bytes.extend([0; 2 * BLOCK]);
        self.bytes
    }
}

/// One PAX record.
pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    [length.to_string().as_bytes(), &rest].concat()
}
