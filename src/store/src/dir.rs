//! A directory of records.

use crate::{Record, StoreError, envelope};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Larger files are no records: a record is a few kilobytes.
const MAX_RECORD: u64 = 64 << 20;
const SUFFIX: &str = ".json";
/// Where files go that are no records.
const ASIDE: &str = "bad";
/// Start of the names that `atomic_write` gives to unfinished files.
const TEMPORARY: &str = ".tmp-";

/// Whether a write waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Survives the end of the process; a power cut may lose it.
    Process,
    /// Survives a power cut: the file and its directory are synced.
    Power,
}

/// A file that is no record; it has been moved aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// The record's name: its file's name without `.json`.
    pub name: String,
    /// Where the file is now; its old place if it could not be moved.
    pub moved_to: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// What [`RecordDir::load_all`] found.
#[derive(Debug)]
pub struct Loaded<T> {
    /// Good records with their names, in the order of the names.
    pub records: Vec<(String, T)>,
    /// Files that are none.
    pub bad: Vec<BadRecord>,
}

/// One JSON file per object of type `T`. Calls block on the disk.
#[derive(Debug)]
pub struct RecordDir<T> {
    path: PathBuf,
    dir: OwnedFd,
    kind: PhantomData<fn() -> T>,
}

impl<T: Record> RecordDir<T> {
    /// Opens a directory, making it (mode 0700) where it does not exist. Other things may live
    /// in it: only `*.json` files are looked at.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let fail = |what| move |source| StoreError::Io { what, path: path.to_owned(), source };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(fail("making directory"))?;
        let dir = orlop_sys::fs::open_dir(path).map_err(fail("opening directory"))?;
        Ok(Self { path: path.to_owned(), dir, kind: PhantomData })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a record, replacing the one of that name.
    pub fn put(&self, name: &str, record: &T, durability: Durability) -> Result<(), StoreError> {
        let file = file_name(name)?;
        let bytes = envelope::encode(record)
            .map_err(|source| StoreError::Encode { name: name.to_owned(), source })?;
        let durable = durability == Durability::Power;
        orlop_sys::fs::atomic_write(self.dir.as_fd(), &file, &bytes, durable)
            .map_err(|source| self.failed("writing record", &file, source))
    }

    /// Reads one record; `None`: there is none. One that cannot be read is an error and stays.
    pub fn get(&self, name: &str) -> Result<Option<T>, StoreError> {
        let file = file_name(name)?;
        match self.read(&file) {
            Ok(record) => Ok(Some(record)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.failed("reading record", &file, source)),
        }
    }

    /// Removes a record; that there is none is no error.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        let file = file_name(name)?;
        match rustix::fs::unlinkat(&self.dir, file.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failed("removing record", &file, error.into())),
        }
    }

    /// Reads all records. Files that are none are moved to `bad/` beneath the directory, so that
    /// they are reported once and can be looked at. Unfinished writes of a process that died are
    /// removed; call this before the first [`Self::put`].
    pub fn load_all(&self) -> Result<Loaded<T>, StoreError> {
        let mut loaded = Loaded { records: Vec::new(), bad: Vec::new() };
        for file in self.file_names()? {
            if file.starts_with(TEMPORARY) {
                // Nobody else writes here: its writer is gone. A leftover would only waste space.
                let _ = rustix::fs::unlinkat(&self.dir, file.as_str(), AtFlags::empty());
                continue;
            }
            let Some(name) = file.strip_suffix(SUFFIX) else { continue };
            match self.read(&file) {
                Ok(record) => loaded.records.push((name.to_owned(), record)),
                Err(error) => {
                    let moved_to = self.move_aside(&file);
                    let why = error.to_string();
                    loaded.bad.push(BadRecord { name: name.to_owned(), moved_to, why });
                }
            }
        }
        loaded.records.sort_by(|(a, _), (b, _)| a.cmp(b));
        loaded.bad.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(loaded)
    }

    /// Names of the entries that are UTF-8; records have no others.
    fn file_names(&self) -> Result<Vec<String>, StoreError> {
        let fail = |source| self.failed("listing directory", ".", source);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if let (false, Ok(name)) = (is_dir, entry.file_name().into_string()) {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn read(&self, file: &str) -> io::Result<T> {
        // Not blocking: what bears the name may be a FIFO that nobody writes to.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = File::from(rustix::fs::openat(&self.dir, file, flags, Mode::empty())?);
        let meta = opened.metadata()?;
        if !meta.is_file() {
            return Err(invalid("it is not a regular file".into()));
        }
        if meta.len() > MAX_RECORD {
            return Err(invalid(format!("it has {} bytes, more than {MAX_RECORD}", meta.len())));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0) + 1);
        opened.take(MAX_RECORD).read_to_end(&mut bytes)?;
        envelope::decode(&bytes).map_err(invalid)
    }

    /// Moves a file to `bad/`; an earlier bad file of that name is replaced by the newer one.
    fn move_aside(&self, file: &str) -> PathBuf {
        let aside = self.path.join(ASIDE);
        let made = rustix::fs::mkdirat(&self.dir, ASIDE, Mode::RWXU);
        let target = aside.join(file);
        let moved = match made {
            Ok(()) | Err(Errno::EXIST) => std::fs::rename(self.path.join(file), &target),
            Err(error) => Err(error.into()),
        };
        if moved.is_ok() { target } else { self.path.join(file) }
    }

    fn failed(&self, what: &'static str, file: &str, source: io::Error) -> StoreError {
        StoreError::Io { what, path: self.path.join(file), source }
    }
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The file of a record; the name must be a plain, visible one.
fn file_name(name: &str) -> Result<String, StoreError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if (1..=200).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain) {
        Ok(format!("{name}{SUFFIX}"))
    } else {
        Err(StoreError::Name { name: name.chars().take(80).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Migration;
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Ship {
        name: String,
        masts: u32,
    }

    impl Record for Ship {
        const KIND: &'static str = "ship";
        const MIGRATIONS: &'static [Migration] = &[
            // Version 1 called the name "title".
            |mut data| {
                let title = data.get("title").cloned().ok_or("it has no title")?;
                data["name"] = title;
                Ok(data)
            },
            // Version 2 did not count masts.
            |mut data| {
                data["masts"] = 3.into();
                Ok(data)
            },
        ];
    }

    fn ship(name: &str) -> Ship {
        Ship { name: name.into(), masts: 2 }
    }

    fn dir() -> (tempfile::TempDir, RecordDir<Ship>) {
        let temp = tempfile::tempdir().unwrap();
        let dir = RecordDir::open(&temp.path().join("ships")).unwrap();
        (temp, dir)
    }

    #[test]
    fn what_was_put_is_there() {
        let (_temp, dir) = dir();
        for durability in [Durability::Process, Durability::Power] {
            dir.put("b", &ship("beagle"), durability).unwrap();
        }
        dir.put("a", &ship("argo"), Durability::Process).unwrap();
        dir.put("a", &ship("arcona"), Durability::Process).unwrap();
        assert_eq!(dir.get("a").unwrap(), Some(ship("arcona")));
        assert_eq!(dir.get("c").unwrap(), None);
        let loaded = dir.load_all().unwrap();
        let names: Vec<_> = loaded.records.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((names, loaded.bad), (vec!["a", "b"], vec![]));
        dir.remove("a").unwrap();
        dir.remove("a").unwrap();
        assert_eq!(dir.get("a").unwrap(), None);
    }

    #[test]
    fn the_directory_is_private_and_left_alone_otherwise() {
        use std::os::unix::fs::PermissionsExt;
        let (_temp, dir) = dir();
        assert_eq!(std::fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::create_dir(dir.path().join("x.json")).unwrap();
        std::fs::write(dir.path().join("note"), "").unwrap();
        std::fs::write(dir.path().join(".tmp-1-2"), "half").unwrap();
        let loaded = dir.load_all().unwrap();
        assert!(loaded.records.is_empty() && loaded.bad.is_empty());
        assert!(dir.path().join("note").exists() && dir.path().join("x.json").exists());
        assert!(!dir.path().join(".tmp-1-2").exists());
    }

    #[test]
    fn bad_records_are_moved_aside_and_harm_no_other() {
        let (_temp, dir) = dir();
        dir.put("good", &ship("good"), Durability::Process).unwrap();
        for (name, content, why) in [
            ("empty", "", "not a record"),
            ("half", r#"{"version":3,"kind":"ship","da"#, "not a record"),
            ("kind", r#"{"version":3,"kind":"boat","data":{}}"#, "boat"),
            ("future", r#"{"version":4,"kind":"ship","data":{}}"#, "version 4"),
            ("zero", r#"{"version":0,"kind":"ship","data":{}}"#, "version 0"),
            ("unfit", r#"{"version":3,"kind":"ship","data":{"name":1,"masts":1}}"#, "does not fit"),
            ("stuck", r#"{"version":1,"kind":"ship","data":{}}"#, "migration from version 1"),
        ] {
            std::fs::write(dir.path().join(format!("{name}.json")), content).unwrap();
            let loaded = dir.load_all().unwrap();
            assert_eq!(loaded.records, vec![("good".to_owned(), ship("good"))], "{name}");
            assert_eq!(loaded.bad.len(), 1, "{name}");
            assert_eq!(loaded.bad[0].name, name);
            assert!(loaded.bad[0].why.contains(why), "{name}: {}", loaded.bad[0].why);
            assert_eq!(std::fs::read_to_string(&loaded.bad[0].moved_to).unwrap(), content);
        }
        assert!(dir.load_all().unwrap().bad.is_empty(), "each is reported once");
    }

    #[test]
    fn not_a_file() {
        let (_temp, dir) = dir();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link.json")).unwrap();
        let fifo = dir.path().join("fifo.json");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR, 0)
            .unwrap();
        let bad: Vec<_> = dir.load_all().unwrap().bad.into_iter().map(|bad| bad.name).collect();
        assert_eq!(bad, ["fifo", "link"]);
    }

    #[test]
    fn older_versions_are_migrated() {
        let (_temp, dir) = dir();
        std::fs::write(
            dir.path().join("a.json"),
            r#"{"version":1,"kind":"ship","data":{"title":"argo"}}"#,
        )
        .unwrap();
        std::fs::write(
            dir.path().join("b.json"),
            r#"{"version":2,"kind":"ship","data":{"name":"beagle"}}"#,
        )
        .unwrap();
        for (name, full) in [("a", "argo"), ("b", "beagle")] {
            let expected = Ship { name: full.into(), masts: 3 };
            assert_eq!(dir.get(name).unwrap(), Some(expected));
        }
    }

    #[test]
    fn names_are_plain() {
        let (_temp, dir) = dir();
        for bad in ["", ".", "..", ".x", "a/b", "a\0", "a b", &"a".repeat(201)] {
            assert!(dir.put(bad, &ship("x"), Durability::Process).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_load_or_are_bad(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = envelope::decode::<Ship>(&bytes);
        }

        #[test]
        fn any_prefix_of_a_record_is_bad(cut in 0usize..60) {
            let bytes = envelope::encode(&ship("a ship with a long name")).unwrap();
            prop_assume!(cut < bytes.len() - 1);
            prop_assert!(envelope::decode::<Ship>(&bytes[..cut]).is_err());
        }
    }
}
