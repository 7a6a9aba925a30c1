//! Members, one after the other, become orders to the writers.

use std::io::Read;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, Mode, makedev};
use rustix::io::Errno;

use super::archive::{Kind, Member, Reader};
use super::attributes::Attributes;
use super::error::UnpackError;
use super::limits::Limits;
use super::path::{components, join};
use super::tree::{Tree, is_whiteout};
use super::writer::{Contents, Place, Work};
use super::writers::Writers;

/// What aufs put before the name of a file that is to disappear; images kept it.
const WHITEOUT: &[u8] = b".wh.";
/// Names that meant something to aufs itself.
const AUFS: &[u8] = b".wh..wh.";
/// The one of them that images have: the directory hides what lower layers have in it.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Numbers of devices that fit into the kernel's encoding; it cuts off larger ones silently.
const MAJORS: i64 = 1 << 12;
const MINORS: i64 = 1 << 20;

/// Applies an archive.
pub(crate) struct Applier<'a, 'scope, R> {
    pub(crate) reader: Reader<'a, R>,
    pub(crate) tree: Tree<'a>,
    pub(crate) writers: Writers<'scope>,
    pub(crate) limits: &'a Limits,
    /// Members applied.
    pub(crate) entries: u64,
    /// Bytes of file contents.
    pub(crate) bytes: u64,
}

impl<'a, 'scope, R: Read> Applier<'a, 'scope, R> {
    pub(crate) fn new(
        reader: Reader<'a, R>,
        dest: BorrowedFd<'a>,
        writers: Writers<'scope>,
        limits: &'a Limits,
    ) -> Self {
        Self { reader, tree: Tree::new(dest), writers, limits, entries: 0, bytes: 0 }
    }

    /// Applies all members and waits until the writers are done with them.
    pub(crate) fn run(&mut self) -> Result<(), UnpackError> {
        let mut slabs = 0;
        while let Some(member) = self.reader.next()? {
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(UnpackError::Limit { what: "members", limit: self.limits.entries });
            }
            self.bytes = self.bytes.saturating_add(member.stored);
            if self.bytes > self.limits.bytes || member.size > self.limits.bytes {
                return Err(UnpackError::Limit { what: "bytes", limit: self.limits.bytes });
            }
            self.member(&member)?;
            if self.reader.slabs() != slabs {
                slabs = self.reader.slabs();
                self.writers.flush()?;
            }
        }
        self.reader.drain()?;
        self.writers.settle_all()
    }

    fn member(&mut self, member: &Member) -> Result<(), UnpackError> {
        let parts = components(&member.path, self.limits)?;
        let Some((name, parents)) = parts.split_last() else { return self.root(member) };
        if parents.iter().any(|part| part.starts_with(AUFS))
            || (name.starts_with(AUFS) && *name != OPAQUE)
        {
            return Ok(());
        }
        if parents.iter().any(|part| part.starts_with(WHITEOUT)) {
            let reason = "it lies in a directory that has the name of a whiteout";
            return Err(UnpackError::refused(&member.path, reason));
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(member, parents, name, hidden);
        }
        // Everything that can be refused is refused before anything is made.
        let attributes = Attributes::of(member, self.limits)?;
        let Some(parent) = self.tree.resolve(parents, true, &mut self.writers)? else {
            return Ok(());
        };
        let path = join(&parent, name);
        match member.kind {
            Kind::Directory => self.directory(&path, attributes),
            Kind::HardLink => self.hard_link(member, &parent, &path),
            _ => self.leaf(member, &parent, path, attributes),
        }
    }

    /// A member that is the root itself: only a directory may be that.
    fn root(&mut self, member: &Member) -> Result<(), UnpackError> {
        if member.kind != Kind::Directory {
            let reason = "the root of the layer must be a directory";
            return Err(UnpackError::refused(&member.path, reason));
        }
        let attributes = Attributes::of(member, self.limits)?;
        self.directory(b"", attributes)
    }

    fn directory(&mut self, path: &[u8], attributes: Attributes) -> Result<(), UnpackError> {
        self.tree.make(path, &mut self.writers)?;
        if let Some(directory) = self.tree.get_mut(path) {
            directory.attributes = Some(Box::new(attributes));
        }
        Ok(())
    }

    /// `.wh.name` hides `name` of the layers below, `.wh..wh..opq` all that is in its directory
    /// there; what this layer itself has stays, wherever in the archive it is.
    fn whiteout(
        &mut self,
        member: &Member,
        parents: &[&[u8]],
        name: &[u8],
        hidden: &[u8],
    ) -> Result<(), UnpackError> {
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(UnpackError::refused(&member.path, "it is a whiteout of no name"));
        }
        let Some(parent) = self.tree.resolve(parents, true, &mut self.writers)? else {
            return Ok(());
        };
        let path = if name == OPAQUE { parent.clone() } else { join(&parent, hidden) };
        if name != OPAQUE {
            self.tree.hide(&path);
        }
        if let Some(directory) = self.tree.get_mut(&path) {
            directory.opaque = true;
            return Ok(());
        }
        self.writers.settle(&path)?;
        let dir = self.tree.open(&parent)?;
        let mode = Mode::empty();
        match rustix::fs::mknodat(&dir, hidden, FileType::CharacterDevice, mode, makedev(0, 0)) {
            Ok(()) => self.writers.count_inode(),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(UnpackError::io("create whiteout", &path, error.into())),
        }
        Ok(())
    }

    /// Another name of a file of this layer. Its target is looked up in the layer's directory, and
    /// a link as the last component is itself what gets the second name.
    fn hard_link(
        &mut self,
        member: &Member,
        parent: &[u8],
        path: &[u8],
    ) -> Result<(), UnpackError> {
        let refuse = |reason: &str| {
            let target = member.link.escape_ascii();
            UnpackError::refused(&member.path, format!("its target \"{target}\" {reason}"))
        };
        let parts = components(&member.link, self.limits)
            .map_err(|_| refuse("is not a name in this layer"))?;
        let Some((target_name, target_parents)) = parts.split_last() else {
            return Err(refuse("is a directory"));
        };
        let absent = || refuse("is not in this layer");
        let target_dir = self.tree.resolve(target_parents, false, &mut self.writers)?;
        let target_dir = target_dir.ok_or_else(absent)?;
        let target = join(&target_dir, target_name);
        if target == path {
            return Err(refuse("is the member itself"));
        }
        if self.tree.get_mut(&target).is_some() {
            return Err(refuse("is a directory"));
        }
        self.writers.settle(&target)?;
        self.writers.settle(path)?;
        let from = self.tree.open(&target_dir)?;
        if is_whiteout(&from, target_name) {
            return Err(absent());
        }
        let Some((_, name)) = super::path::split(path) else { return Err(absent()) };
        let link = |tree: &mut Tree<'_>| -> Result<Result<(), Errno>, UnpackError> {
            let to = tree.open(parent)?;
            Ok(rustix::fs::linkat(&from, *target_name, &to, name, AtFlags::empty()))
        };
        let mut linked = link(&mut self.tree)?;
        if linked == Err(Errno::EXIST) {
            self.tree.clear(path, &mut self.writers)?;
            let to = self.tree.open(parent)?;
            match self.writers.unlink(&to, name, path) {
                Err(UnpackError::Io { source, .. }) if is_absent(&source) => {}
                other => other?,
            }
            linked = link(&mut self.tree)?;
        }
        match linked {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) => Err(absent()),
            Err(error) => Err(UnpackError::io("create hard link", path, error.into())),
        }
    }

    /// Anything that has no entries of its own; a writer makes it.
    fn leaf(
        &mut self,
        member: &Member,
        parent: &[u8],
        path: Vec<u8>,
        attributes: Attributes,
    ) -> Result<(), UnpackError> {
        let node = node(member)?;
        self.tree.clear(&path, &mut self.writers)?;
        self.writers.note(&path)?;
        let owner = self.writers.owner_of(parent);
        let place = Place { dir: self.tree.open(parent)?, path };
        match member.kind {
            Kind::Symlink if member.link.is_empty() => {
                Err(UnpackError::refused(&member.path, "it is a symbolic link to nothing"))
            }
            Kind::Symlink => {
                let target = member.link.clone();
                self.writers.give(owner, Work::Symlink(place, attributes, target))
            }
            _ => match node {
                Some((kind, device)) => {
                    self.writers.give(owner, Work::Node(place, attributes, kind, device))
                }
                None => self.file(member, owner, place, attributes),
            },
        }
    }

    fn file(
        &mut self,
        member: &Member,
        owner: usize,
        place: Place,
        attributes: Attributes,
    ) -> Result<(), UnpackError> {
        let first = self.reader.contents(member)?;
        let whole = first.as_ref().map_or(0, |(_, chunk)| chunk.len() as u64) == member.size;
        if whole {
            let contents = Contents::Whole(first.map(|(_, chunk)| chunk));
            return self.writers.give(owner, Work::File(place, attributes, contents));
        }
        let contents = Contents::Follows(member.size);
        self.writers.give(owner, Work::File(place, attributes, contents))?;
        let mut next = first;
        while let Some((offset, chunk)) = next {
            self.writers.give(owner, Work::Data(offset, chunk))?;
            self.writers.flush()?;
            next = self.reader.contents(member)?;
        }
        self.writers.give(owner, Work::End)
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

/// Type and number of a device or pipe; `None` for anything else.
fn node(member: &Member) -> Result<Option<(FileType, rustix::fs::Dev)>, UnpackError> {
    let kind = match member.kind {
        Kind::Character => FileType::CharacterDevice,
        Kind::Block => FileType::BlockDevice,
        Kind::Fifo => return Ok(Some((FileType::Fifo, makedev(0, 0)))),
        _ => return Ok(None),
    };
    let (major, minor) = member.device;
    if !(0..MAJORS).contains(&major) || !(0..MINORS).contains(&minor) {
        let reason = format!("device number {major}:{minor} does not exist");
        return Err(UnpackError::refused(&member.path, reason));
    }
    if kind == FileType::CharacterDevice && (major, minor) == (0, 0) {
        let reason = "character device 0:0 would be a whiteout, which has a name of its own";
        return Err(UnpackError::refused(&member.path, reason));
    }
    // Both are in range: they fit.
    Ok(Some((kind, makedev(major as u32, minor as u32))))
}
