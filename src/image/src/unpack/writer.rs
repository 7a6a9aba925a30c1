//! One thread that creates files, links and devices in the order it is told.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, SyncSender};

use rustix::fs::{AtFlags, Dev, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::attributes::{Attributes, ignore_unsupported};
use super::error::UnpackError;
use super::slab::Chunk;
use super::writers::{Progress, SharedDir, unlink};

/// Files of this size or more begin to go to the disk when they are complete, so that the sync at
/// the end finds little left to write. For smaller ones the call costs more than it gains.
const EARLY: u64 = 32 * 1024;

/// After so many bytes a big file begins to go to the disk while it still grows.
const EARLY_STEP: u64 = 8 << 20;

/// Where something is created.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) dir: SharedDir,
    /// Path in the layer, for messages; its last component is the name in `dir`.
    pub(crate) path: Vec<u8>,
}

impl Place {
    fn name(&self) -> &[u8] {
        super::path::split(&self.path).map_or(&[], |(_, name)| name)
    }

    fn failed(&self, op: &'static str, error: impl Into<std::io::Error>) -> UnpackError {
        UnpackError::io(op, &self.path, error.into())
    }
}

/// What a file holds.
#[derive(Debug)]
pub(crate) enum Contents {
    /// All of it, perhaps nothing.
    Whole(Option<Chunk>),
    /// It follows as [`Work::Data`] up to [`Work::End`]; the file is this long.
    Follows(u64),
}

/// One order.
#[derive(Debug)]
pub(crate) enum Work {
    /// A regular file.
    File(Place, Attributes, Contents),
    /// Contents of the file that was begun last, and where they belong.
    Data(u64, Chunk),
    /// The file that was begun last is complete.
    End,
    /// A symbolic link and its target.
    Symlink(Place, Attributes, Vec<u8>),
    /// A device or a pipe.
    Node(Place, Attributes, FileType, Dev),
    /// Drop the sender when this is reached.
    Report(SyncSender<()>),
}

/// A file whose contents are still coming.
struct Begun {
    place: Place,
    attributes: Attributes,
    file: File,
    size: u64,
    /// Where the next byte goes if nothing is left out; the size that the file has now.
    end: u64,
}

pub(crate) struct Writer<'progress> {
    progress: &'progress Progress,
    umask: u32,
    begun: Option<Begun>,
}

impl<'progress> Writer<'progress> {
    pub(crate) fn new(progress: &'progress Progress, umask: u32) -> Self {
        Self { progress, umask, begun: None }
    }

    /// Works until the queue is closed. After a failure, of this or of another thread, orders are
    /// only taken and dropped, so that nobody waits for room.
    pub(crate) fn run(&mut self, batches: &Receiver<Vec<Work>>) {
        for batch in batches {
            for work in batch {
                if self.progress.failed() {
                    self.begun = None;
                    break;
                }
                if let Err(error) = self.work(work) {
                    self.progress.fail(error);
                }
            }
        }
    }

    fn work(&mut self, work: Work) -> Result<(), UnpackError> {
        match work {
            Work::File(place, attributes, contents) => self.file(place, attributes, contents),
            Work::Data(offset, chunk) => self.data(offset, &chunk),
            Work::End => self.end(),
            Work::Symlink(place, attributes, target) => self.symlink(&place, &attributes, &target),
            Work::Node(place, attributes, kind, device) => {
                self.node(&place, &attributes, kind, device)
            }
            Work::Report(done) => {
                drop(done);
                Ok(())
            }
        }
    }

    /// Creates with `create`, in the place of what an earlier member put there.
    fn create<T>(
        &self,
        place: &Place,
        op: &'static str,
        create: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, UnpackError> {
        let mut created = create();
        if matches!(created, Err(Errno::EXIST)) {
            unlink(self.progress, &place.dir, place.name())
                .map_err(|error| place.failed("replace", error))?;
            created = create();
        }
        let created = created.map_err(|error| place.failed(op, error))?;
        self.progress.add_inodes(1);
        Ok(created)
    }

    fn file(
        &mut self,
        place: Place,
        attributes: Attributes,
        contents: Contents,
    ) -> Result<(), UnpackError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(attributes.mode & 0o777);
        let fd = self.create(&place, "create", || {
            rustix::fs::openat(&place.dir, place.name(), flags | OFlags::CLOEXEC, mode)
        })?;
        let mut file = File::from(fd);
        match contents {
            Contents::Whole(chunk) => {
                let size = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                if let Some(chunk) = chunk {
                    file.write_all(&chunk).map_err(|error| place.failed("write", error))?;
                }
                self.finish_file(&place, &attributes, &file, size)
            }
            Contents::Follows(size) => {
                self.begun = Some(Begun { place, attributes, file, size, end: 0 });
                Ok(())
            }
        }
    }

    fn data(&mut self, offset: u64, chunk: &[u8]) -> Result<(), UnpackError> {
        let Some(begun) = &mut self.begun else { return Ok(()) };
        let wrote = begun.file.write_all_at(chunk, offset);
        wrote.map_err(|error| begun.place.failed("write", error))?;
        let end = offset + chunk.len() as u64;
        if begun.end / EARLY_STEP != end / EARLY_STEP {
            begin_writeback(&begun.file);
        }
        begun.end = end;
        Ok(())
    }

    fn end(&mut self) -> Result<(), UnpackError> {
        let Some(begun) = self.begun.take() else { return Ok(()) };
        if begun.end < begun.size {
            // The file ends in a hole.
            let grown = rustix::fs::ftruncate(&begun.file, begun.size);
            grown.map_err(|error| begun.place.failed("set the size of", error))?;
        }
        self.finish_file(&begun.place, &begun.attributes, &begun.file, begun.size)
    }

    /// Sets what the file did not get when it was created. Directories have no set-group-id bit
    /// and no default ACL yet, so that a new file is root's.
    fn finish_file(
        &self,
        place: &Place,
        attributes: &Attributes,
        file: &File,
        size: u64,
    ) -> Result<(), UnpackError> {
        let failed = |(op, error): (&'static str, Errno)| place.failed(op, error);
        let fd = file.as_fd();
        let (uid, gid) = attributes.owner();
        if (attributes.uid, attributes.gid) != (0, 0) {
            rustix::fs::fchown(fd, uid, gid)
                .map_err(|error| failed(("set the owner of", error)))?;
        }
        if attributes.mode & (self.umask | 0o7000) != 0 {
            rustix::fs::fchmod(fd, Mode::from_raw_mode(attributes.mode))
                .map_err(|error| failed(("set the mode of", error)))?;
        }
        attributes.apply_xattrs(fd).map_err(failed)?;
        attributes.apply_times(fd).map_err(failed)?;
        if size >= EARLY {
            begin_writeback(file);
        }
        Ok(())
    }

    fn symlink(
        &self,
        place: &Place,
        attributes: &Attributes,
        target: &[u8],
    ) -> Result<(), UnpackError> {
        self.create(place, "create symbolic link", || {
            rustix::fs::symlinkat(target, &place.dir, place.name())
        })?;
        self.owner_by_name(place, attributes)?;
        self.finish_by_name(place, attributes)
    }

    fn node(
        &self,
        place: &Place,
        attributes: &Attributes,
        kind: FileType,
        device: Dev,
    ) -> Result<(), UnpackError> {
        let mode = Mode::from_raw_mode(attributes.mode & 0o777);
        self.create(place, "create device", || {
            rustix::fs::mknodat(&place.dir, place.name(), kind, mode, device)
        })?;
        self.owner_by_name(place, attributes)?;
        // Never a link: this thread created it, and nobody else writes here.
        rustix::fs::chmodat(
            &place.dir,
            place.name(),
            Mode::from_raw_mode(attributes.mode),
            AtFlags::empty(),
        )
        .map_err(|error| place.failed("set the mode of", error))?;
        self.finish_by_name(place, attributes)
    }

    /// A new owner clears setuid and setgid: to be set before the mode.
    fn owner_by_name(&self, place: &Place, attributes: &Attributes) -> Result<(), UnpackError> {
        if (attributes.uid, attributes.gid) == (0, 0) {
            return Ok(());
        }
        let (uid, gid) = attributes.owner();
        rustix::fs::chownat(&place.dir, place.name(), uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| place.failed("set the owner of", error))
    }

    /// Attributes and times of something that cannot be opened without side effects.
    fn finish_by_name(&self, place: &Place, attributes: &Attributes) -> Result<(), UnpackError> {
        for (name, value) in &attributes.xattrs {
            let set = orlop_sys::fs::set_xattr_at(&place.dir, place.name(), name, value);
            ignore_unsupported(name, set)
                .map_err(|error| place.failed("set an extended attribute of", error))?;
        }
        let no_follow = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(&place.dir, place.name(), &attributes.times(), no_follow)
            .map_err(|error| place.failed("set the time of", error))
    }
}

/// Only a hint: the sync at the end is what counts, and what reports errors.
fn begin_writeback(file: &File) {
    let _ = orlop_sys::fs::begin_writeback(file);
}
