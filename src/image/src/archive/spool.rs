//! An archive taken apart: documents in memory, everything else in files without a name, each with
//! its digest. The archive is hostile: its names are only looked up, never used as paths.

use super::ArchiveError;
use crate::disk::TempFile;
use crate::inner::Inner;
use crate::unpack::decompress;
use orlop_model::Digest;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use tar::EntryType;

/// Most bytes of an index or a Docker manifest list.
const DOCUMENT: u64 = 8 << 20;
/// Most members.
const MEMBERS: usize = 100_000;
/// Documents that are needed by name.
const NAMED: [&str; 3] = ["oci-layout", "index.json", "manifest.json"];

/// Content of one member.
pub(super) struct Part {
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// `None` where the store has it already.
    pub(super) file: Option<TempFile>,
}

#[derive(Default)]
pub(super) struct Spool {
    documents: HashMap<String, Vec<u8>>,
    /// By name in the archive.
    names: HashMap<String, Digest>,
    links: HashMap<String, String>,
    pub(super) parts: HashMap<Digest, Part>,
}

impl Spool {
    /// Reads an archive to its end; it may be compressed as a whole.
    pub(super) fn read(inner: &Inner, source: impl Read) -> Result<Self, ArchiveError> {
        let broken = |source| ArchiveError::Stream { op: "read the archive", source };
        let plain = decompress(None, source, &inner.options.inflate).map_err(broken)?;
        let mut archive = tar::Archive::new(plain);
        let mut spool = Self::default();
        let entries = archive.entries().map_err(broken)?;
        for (count, entry) in entries.enumerate() {
            if count >= MEMBERS {
                let what = format!("it has more than {MEMBERS} members");
                return Err(ArchiveError::Malformed(what));
            }
            spool.member(inner, entry.map_err(broken)?)?;
        }
        Ok(spool)
    }

    fn member<R: Read>(
        &mut self,
        inner: &Inner,
        mut entry: tar::Entry<'_, R>,
    ) -> Result<(), ArchiveError> {
        let broken = |source| ArchiveError::Stream { op: "read the archive", source };
        let path = tidy(&entry.path_bytes());
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {}
            // Old Docker archives name a layer that they have already by a link.
            EntryType::Symlink | EntryType::Link => {
                let hard = entry.header().entry_type() == EntryType::Link;
                if let Some(target) = entry.link_name_bytes() {
                    let target = String::from_utf8_lossy(&target).into_owned();
                    let target =
                        if hard { tidy(target.as_bytes()) } else { beside(&path, &target) };
                    self.links.insert(path, target);
                }
                return Ok(());
            }
            _ => return Ok(()),
        }
        if NAMED.contains(&path.as_str()) {
            if entry.size() > DOCUMENT {
                let what = format!("{path} has {} bytes, with a limit of {DOCUMENT}", entry.size());
                return Err(ArchiveError::Malformed(what));
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(broken)?;
            self.documents.insert(path, bytes);
            return Ok(());
        }
        let part = part(inner, &mut entry)?;
        if let Some(named) = path.strip_prefix("blobs/sha256/")
            && named != part.digest.hex()
        {
            let what = format!("{path} has the digest {}", part.digest);
            return Err(ArchiveError::Malformed(what));
        }
        self.names.insert(path, part.digest.clone());
        self.parts.entry(part.digest.clone()).or_insert(part);
        Ok(())
    }

    pub(super) fn document(&self, name: &str) -> Option<&[u8]> {
        self.documents.get(name).map(Vec::as_slice)
    }

    /// What a Docker archive calls by a name.
    pub(super) fn by_name(&self, name: &str) -> Option<&Part> {
        let mut name = tidy(name.as_bytes());
        // A link may lead to a link; a circle ends.
        for _ in 0..8 {
            if let Some(digest) = self.names.get(&name) {
                return self.parts.get(digest);
            }
            name = self.links.get(&name)?.clone();
        }
        None
    }

    /// Bytes of a small part.
    pub(super) fn bytes(
        &self,
        inner: &Inner,
        digest: &Digest,
        limit: u64,
    ) -> Result<Vec<u8>, ArchiveError> {
        let broken = |source| ArchiveError::Stream { op: "read the store", source };
        let missing = || ArchiveError::Malformed(format!("{digest} is not in it"));
        let path = match self.parts.get(digest) {
            Some(Part { file: Some(file), .. }) => file.path().to_owned(),
            Some(_) => inner.layout.blob(digest),
            None if inner.state().blobs.contains_key(digest) => inner.layout.blob(digest),
            None => return Err(missing()),
        };
        let size = std::fs::metadata(&path).map_err(broken)?.len();
        if size > limit {
            let what = format!("{digest} has {size} bytes, with a limit of {limit}");
            return Err(ArchiveError::Malformed(what));
        }
        std::fs::read(path).map_err(broken)
    }

    /// Adds a document that was made here.
    pub(super) fn add(&mut self, inner: &Inner, bytes: &[u8]) -> Result<Digest, ArchiveError> {
        let part = part(inner, bytes)?;
        let digest = part.digest.clone();
        self.parts.entry(digest.clone()).or_insert(part);
        Ok(digest)
    }
}

/// Writes a stream to a file of the store and computes its digest on the way.
fn part(inner: &Inner, mut source: impl Read) -> Result<Part, ArchiveError> {
    let (temp, mut file) =
        inner.layout.ingest().map_err(crate::disk::io_error("write to", &inner.layout.root))?;
    let (mut hasher, mut buffer, mut size) = (Sha256::new(), vec![0; 256 << 10], 0);
    loop {
        let read = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(ArchiveError::Stream { op: "read the archive", source }),
        };
        hasher.update(&buffer[..read]);
        file.write_all(&buffer[..read])
            .map_err(crate::disk::io_error("write to", &inner.layout.root))?;
        size += read as u64;
    }
    let digest = Digest::from_sha256(&hasher.finalize().into());
    let known = inner.state().blobs.contains_key(&digest);
    Ok(Part { digest, size, file: (!known).then_some(temp) })
}

/// A name without `./`, `/` and doubled slashes; `..` stays and matches nothing.
fn tidy(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let parts: Vec<_> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    parts.join("/")
}

/// What a symbolic link in the archive means.
fn beside(path: &str, target: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
