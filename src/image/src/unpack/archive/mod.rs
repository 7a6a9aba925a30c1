//! The reader of tar archives. It reads as Go's `archive/tar` does, which every other container
//! tool is built on, so that a layer means the same here and there; where readers in the field
//! disagree about where a member ends, the archive is refused. See docs/decisions/0005-tar.md.

mod header;
mod pax;
mod sparse;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::Read;

use super::error::UnpackError;
use super::limits::Limits;
use super::slab::{Chunk, Stream};
use header::{Header, text};
use pax::Records;
pub(crate) use sparse::Segment;

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file.
    File,
    /// Another name of an earlier file.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// One member, all extensions applied, nothing else believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) kind: Kind,
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: i64,
    pub(crate) uid: i64,
    pub(crate) gid: i64,
    /// Seconds and nanoseconds.
    pub(crate) mtime: (i64, u32),
    /// Major and minor number.
    pub(crate) device: (i64, i64),
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Size of the file with its holes.
    pub(crate) size: u64,
    /// Bytes of contents in the archive.
    pub(crate) stored: u64,
    /// Where the contents belong, if not from 0 on.
    pub(crate) sparse: Option<Vec<Segment>>,
}

/// Extension members that wait for the member they describe.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Option<Records>,
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.name.is_none() && self.link.is_none() && self.records.is_none()
    }
}

/// Reads members one after the other.
pub(crate) struct Reader<'limits, R> {
    stream: Stream<R>,
    limits: &'limits Limits,
    /// Bytes of the current member's contents that were not read yet.
    left: u64,
    /// Size that the padding after the current contents is computed from.
    padded: u64,
    /// Index of the current segment and the bytes of it that were read.
    segment: (usize, u64),
}

impl<'limits, R: Read> Reader<'limits, R> {
    pub(crate) fn new(stream: Stream<R>, limits: &'limits Limits) -> Self {
        Self { stream, limits, left: 0, padded: 0, segment: (0, 0) }
    }

    /// Buffers of the stream that were begun: changes when the reader moves to another.
    pub(crate) fn slabs(&self) -> u64 {
        self.stream.slabs()
    }

    fn bad(&self, reason: &str) -> UnpackError {
        UnpackError::Format { offset: self.stream.offset(), reason: reason.to_owned() }
    }

    /// The next member, past what is left of the current one; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Member>, UnpackError> {
        let mut extensions = Extensions::default();
        loop {
            self.finish_member()?;
            let Some(header) = self.header()? else {
                if extensions.is_empty() {
                    return Ok(None);
                }
                return Err(self.bad("extension header without the member it describes"));
            };
            match header.typeflag() {
                b'x' | b'g' | b'L' | b'K' => self.extension(&header, &mut extensions)?,
                _ => return self.member(&header, &extensions).map(Some),
            }
        }
    }

    fn finish_member(&mut self) -> Result<(), UnpackError> {
        self.stream.skip(std::mem::take(&mut self.left))?;
        self.stream.skip_padding(std::mem::take(&mut self.padded))
    }

    /// The next header; two zero blocks, or no more bytes, are the end.
    fn header(&mut self) -> Result<Option<Header>, UnpackError> {
        let zero = |block: &[u8]| block.iter().all(|&byte| byte == 0);
        let Some(block) = self.stream.block()? else { return Ok(None) };
        if !zero(&block) {
            return Header::new(block).map(Some).map_err(|reason| self.bad(reason));
        }
        match self.stream.block()? {
            Some(block) if !zero(&block) => Err(self.bad("member after an end-of-archive block")),
            _ => Ok(None),
        }
    }

    /// Reads an extension member into `extensions`.
    fn extension(
        &mut self,
        header: &Header,
        extensions: &mut Extensions,
    ) -> Result<(), UnpackError> {
        header.check().map_err(|reason| self.bad(reason))?;
        let size = header.size().and_then(|size| u64::try_from(size).ok());
        let size = size.ok_or_else(|| self.bad("extension header without a valid size"))?;
        if size > self.limits.extension_bytes {
            let limit = self.limits.extension_bytes;
            return Err(UnpackError::Limit { what: "bytes in an extension header", limit });
        }
        let data = self.stream.bytes(size)?;
        self.padded = size;
        let records = |data: &[u8]| Records::parse(data, self.limits.sparse_segments);
        let repeated = match header.typeflag() {
            b'L' => extensions.name.replace(text(&data).to_vec()).is_some(),
            b'K' => extensions.link.replace(text(&data).to_vec()).is_some(),
            b'x' => {
                let records = records(&data).map_err(|reason| self.bad(reason))?;
                extensions.records.replace(records).is_some()
            }
            // Global records are checked and then left alone, as everywhere in the field:
            // layers have at most git's comment here.
            _ => {
                records(&data).map_err(|reason| self.bad(reason))?;
                !extensions.is_empty()
            }
        };
        if repeated {
            return Err(self.bad("two extension headers of a kind for one member"));
        }
        Ok(())
    }

    fn member(&mut self, header: &Header, extensions: &Extensions) -> Result<Member, UnpackError> {
        let default = Records::default();
        let records = extensions.records.as_ref().unwrap_or(&default);
        let mut member =
            described(header, extensions, records).map_err(|reason| self.bad(reason))?;
        if member.kind != Kind::File {
            // Only files have contents; what a size field says of others is ignored.
            (member.size, member.stored) = (0, 0);
        }
        let most = self.limits.sparse_segments;
        let old = header.typeflag() == b'S';
        let map = if old {
            Some(sparse::old_gnu(header, member.stored, &mut self.stream, most)?)
        } else {
            sparse::from_pax(records, member.stored, &mut self.stream, most)?
        };
        self.left = member.stored;
        self.padded = member.stored;
        self.segment = (0, 0);
        if let Some(map) = map {
            if member.kind != Kind::File {
                return Err(self.bad("sparse map for a member that is not a file"));
            }
            self.left -= map.consumed;
            member.stored -= map.consumed;
            member.size = map.size;
            member.sparse = Some(map.segments);
            if let (false, Some(name)) = (old, records.get("GNU.sparse.name")) {
                member.path = name.to_vec();
            }
        }
        Ok(member)
    }

    /// The next piece of the current member's contents and its place in the file.
    pub(crate) fn contents(
        &mut self,
        member: &Member,
    ) -> Result<Option<(u64, Chunk)>, UnpackError> {
        if self.left == 0 {
            return Ok(None);
        }
        let Some(segments) = &member.sparse else {
            let offset = member.stored - self.left;
            let chunk = self.stream.chunk(self.left)?;
            self.left -= chunk.len() as u64;
            return Ok(Some((offset, chunk)));
        };
        let (index, done) = self.segment;
        let Some(segment) = segments.get(index) else {
            return Err(self.bad("sparse map and stored size disagree"));
        };
        let chunk = self.stream.chunk(segment.length - done)?;
        let read = chunk.len() as u64;
        self.left -= read;
        self.segment = match done + read {
            done if done == segment.length => (index + 1, 0),
            done => (index, done),
        };
        Ok(Some((segment.offset + done, chunk)))
    }

    /// Reads what follows the archive, for the digest's sake.
    pub(crate) fn drain(&mut self) -> Result<(), UnpackError> {
        self.stream.drain(self.limits.bytes)
    }
}

/// Puts header and extensions together. The PAX size always wins over the header's.
fn described(
    header: &Header,
    extensions: &Extensions,
    records: &Records,
) -> Result<Member, &'static str> {
    let number = |key: &str, field: Option<i64>| -> Result<i64, &'static str> {
        let field = field.ok_or("header field is not a number")?;
        Ok(records.number(key)?.unwrap_or(field))
    };
    let name = |long: &Option<Vec<u8>>, key: &str, field: fn(&Header) -> Vec<u8>| {
        let long = long.as_deref().filter(|long| !long.is_empty());
        long.or_else(|| records.get(key)).map_or_else(|| field(header), <[u8]>::to_vec)
    };
    header.check()?;
    records.check()?;
    let path = name(&extensions.name, "path", Header::path);
    let mtime = header.mtime().ok_or("header field is not a number")?;
    let size = number("size", header.size())?;
    let size = u64::try_from(size).map_err(|_| "member has a negative size")?;
    Ok(Member {
        kind: kind(header.typeflag(), &path)?,
        path,
        link: name(&extensions.link, "linkpath", Header::link),
        mode: header.mode().ok_or("header field is not a number")?,
        uid: number("uid", header.uid())?,
        gid: number("gid", header.gid())?,
        mtime: records.time("mtime")?.unwrap_or((mtime, 0)),
        device: header.device().ok_or("header field is not a number")?,
        xattrs: records.xattrs()?,
        size,
        stored: size,
        sparse: None,
    })
}

fn kind(typeflag: u8, path: &[u8]) -> Result<Kind, &'static str> {
    Ok(match typeflag {
        // Archives from before POSIX know a directory by its name.
        0 if path.last() == Some(&b'/') => Kind::Directory,
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::Character,
        b'4' => Kind::Block,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        _ => return Err("member of an unknown type"),
    })
}
