//! The members of an archive as text, for comparison with other readers.

use std::io::Read;

use sha2::{Digest as _, Sha256};

use super::archive::{Kind, Member, Reader};
use super::error::UnpackError;
use super::limits::Limits;
use super::slab::Stream;

/// Reads an archive without unpacking it and gives `each` a line for every member: type, mode,
/// owner, size, time, device, name, target and the digest of the contents (`-` for files above
/// 1 MiB). For tests and fuzzing.
#[doc(hidden)]
pub fn list(
    tar: impl Read,
    limits: &Limits,
    mut each: impl FnMut(&str),
) -> Result<(), UnpackError> {
    let mut reader = Reader::new(Stream::new(tar, None), limits);
    while let Some(member) = reader.next()? {
        let digest = digest(&mut reader, &member)?;
        let kind = match member.kind {
            Kind::File => "file",
            Kind::HardLink => "link",
            Kind::Symlink => "symlink",
            Kind::Character => "char",
            Kind::Block => "block",
            Kind::Directory => "dir",
            Kind::Fifo => "fifo",
        };
        let xattrs: Vec<String> = member
            .xattrs
            .iter()
            .map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii()))
            .collect();
        each(&format!(
            "{kind} {:o} {}:{} {} {}.{:09} {}:{} \"{}\" \"{}\" [{}] {digest}",
            member.mode,
            member.uid,
            member.gid,
            member.size,
            member.mtime.0,
            member.mtime.1,
            member.device.0,
            member.device.1,
            member.path.escape_ascii(),
            member.link.escape_ascii(),
            xattrs.join(","),
        ));
    }
    Ok(())
}

/// The digest of a member's contents, holes included; large files are not read.
fn digest(reader: &mut Reader<'_, impl Read>, member: &Member) -> Result<String, UnpackError> {
    const LARGEST: u64 = 1 << 20;
    if member.size > LARGEST {
        return Ok("-".to_owned());
    }
    let mut digest = Sha256::new();
    let mut at = 0;
    let hole = |digest: &mut Sha256, from: u64, to: u64| {
        // Bounded above: fits.
        digest.update(vec![0; (to - from) as usize]);
    };
    while let Some((offset, chunk)) = reader.contents(member)? {
        hole(&mut digest, at, offset);
        digest.update(&*chunk);
        at = offset + chunk.len() as u64;
    }
    hole(&mut digest, at, member.size);
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
