//! Who is on a network: a directory of small files, one per container.

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Held by whoever adds a container or starts a responder, and by a responder that ends.
pub const LOCK: &str = "lock";
/// What the files of containers end with.
const SUFFIX: &str = ".json";
/// A directory that was changed so lately may be changed again under the same time.
const FRESH: Duration = Duration::from_secs(2);
/// Files that are larger are none of ours.
const MAX_FILE: u64 = 64 << 10;

/// A container on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Form of this file; 1.
    pub version: u32,
    /// Its name, its aliases there and its short id, in small letters; the first is what its address is
    /// called.
    pub names: Vec<String>,
    /// Its addresses there.
    pub addresses: Vec<IpAddr>,
    /// All networks that it is on: names on any of them are known to it.
    pub networks: Vec<String>,
    /// Resolvers of its own choice; empty: the host's.
    pub servers: Vec<IpAddr>,
}

/// Adds or replaces a container of the network whose directory this is. The lock is held while `then`
/// runs, which sees to it that a responder runs.
pub fn register<T>(
    dir: &Path,
    id: &str,
    entry: &Entry,
    then: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let _lock = lock(dir)?;
    let file = dir.join(format!("{id}{SUFFIX}"));
    let temporary = dir.join(format!(".{id}.new"));
    fs::write(&temporary, serde_json::to_vec(entry)?)?;
    fs::rename(&temporary, &file)?;
    let done = then();
    if done.is_err() {
        let _ = fs::remove_file(&file);
    }
    done
}

/// Takes a container off; nothing there is fine. The responder ends with the last one.
pub fn unregister(dir: &Path, id: &str) -> io::Result<()> {
    match fs::remove_file(dir.join(format!("{id}{SUFFIX}"))) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Takes the directory's lock, which lasts as long as the file.
pub(crate) fn lock(dir: &Path) -> io::Result<File> {
    let file =
        fs::OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(LOCK))?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

/// What was read.
#[derive(Debug)]
struct Page {
    changed: Option<SystemTime>,
    read: SystemTime,
    entries: Vec<Entry>,
}

/// The directories of all networks, read as they are needed.
#[derive(Debug)]
pub(crate) struct Book {
    dir: PathBuf,
    above: PathBuf,
    pages: HashMap<PathBuf, Page>,
}

impl Book {
    /// The book of a network; those of other networks are its directory's neighbours.
    pub(crate) fn new(dir: &Path) -> Self {
        let above = dir.parent().unwrap_or(dir).to_owned();
        Self { dir: dir.to_owned(), above, pages: HashMap::new() }
    }

    /// Whether nobody is on the network any more.
    pub(crate) fn is_empty(&mut self) -> bool {
        let dir = self.dir.clone();
        self.entries(&dir).is_empty()
    }

    /// The container that has this address.
    pub(crate) fn client(&mut self, address: IpAddr) -> Option<Entry> {
        let dir = self.dir.clone();
        let entries = self.entries(&dir);
        entries.iter().find(|entry| entry.addresses.contains(&address)).cloned()
    }

    /// The addresses that a name has for a client: on the network where it is asked first.
    pub(crate) fn addresses(&mut self, client: &Entry, name: &str) -> Option<Vec<IpAddr>> {
        self.dirs(client).into_iter().find_map(|dir| {
            let named = self.entries(&dir).iter().filter(|entry| entry.has(name));
            let mut found = None::<Vec<IpAddr>>;
            for entry in named {
                found.get_or_insert_default().extend(&entry.addresses);
            }
            found
        })
    }

    /// The name of an address, for a client.
    pub(crate) fn name(&mut self, client: &Entry, address: IpAddr) -> Option<String> {
        self.dirs(client).into_iter().find_map(|dir| {
            let mut entries = self.entries(&dir).iter();
            entries.find(|entry| entry.addresses.contains(&address))?.names.first().cloned()
        })
    }

    fn dirs(&self, client: &Entry) -> Vec<PathBuf> {
        let plain = |name: &&String| !name.contains('/') && !name.starts_with('.');
        let others = client.networks.iter().filter(plain).map(|name| self.above.join(name));
        std::iter::once(self.dir.clone()).chain(others.filter(|dir| *dir != self.dir)).collect()
    }

    fn entries(&mut self, dir: &Path) -> &[Entry] {
        let changed = fs::metadata(dir).and_then(|found| found.modified()).ok();
        let current = self.pages.get(dir).is_some_and(|page| {
            // What changed right before it was read may have changed once more since.
            let settled = changed
                .and_then(|at| page.read.duration_since(at).ok())
                .is_some_and(|since| since > FRESH);
            page.changed == changed && settled
        });
        if !current {
            let page = Page { changed, read: SystemTime::now(), entries: read(dir) };
            self.pages.insert(dir.to_owned(), page);
        }
        self.pages.get(dir).map_or(&[], |page| page.entries.as_slice())
    }
}

impl Entry {
    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }
}

/// A file that cannot be read is nobody.
fn read(dir: &Path) -> Vec<Entry> {
    let Ok(files) = fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = files
        .flatten()
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    let entry = |path: &PathBuf| {
        let small = fs::metadata(path).is_ok_and(|found| found.len() <= MAX_FILE);
        serde_json::from_slice(&fs::read(path).ok().filter(|_| small)?).ok()
    };
    paths.iter().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(names: &[&str], addresses: &[&str], networks: &[&str]) -> Entry {
        Entry {
            version: 1,
            names: names.iter().map(ToString::to_string).collect(),
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            networks: networks.iter().map(ToString::to_string).collect(),
            servers: Vec::new(),
        }
    }

    #[test]
    fn names_of_all_networks_that_a_client_is_on() {
        let temp = tempfile::tempdir().unwrap();
        let (one, two, three) =
            (temp.path().join("one"), temp.path().join("two"), temp.path().join("three"));
        let add = |dir: &Path, id: &str, entry: &Entry| {
            register(dir, id, entry, || Ok(())).unwrap();
        };
        let client = entry(&["a"], &["10.1.0.2"], &["one", "two", "../three"]);
        add(&one, "a", &client);
        add(&one, "b", &entry(&["b", "db"], &["10.1.0.3", "fd00::3"], &["one"]));
        add(&one, "b2", &entry(&["b2", "db"], &["10.1.0.4"], &["one"]));
        add(&two, "c", &entry(&["c", "b"], &["10.2.0.3"], &["two"]));
        add(&three, "d", &entry(&["d"], &["10.3.0.3"], &["three"]));
        let mut book = Book::new(&one);
        let ips =
            |texts: &[&str]| texts.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        assert_eq!(book.client(ips(&["10.1.0.2"])[0]), Some(client.clone()));
        assert_eq!(book.client(ips(&["10.9.0.2"])[0]), None);
        let db = ips(&["10.1.0.3", "fd00::3", "10.1.0.4"]);
        assert_eq!(book.addresses(&client, "db"), Some(db));
        assert_eq!(book.addresses(&client, "b"), Some(ips(&["10.1.0.3", "fd00::3"])));
        assert_eq!(book.addresses(&client, "c"), Some(ips(&["10.2.0.3"])));
        assert_eq!(book.addresses(&client, "d"), None, "not its network");
        assert_eq!(book.name(&client, ips(&["fd00::3"])[0]), Some("b".into()));
        unregister(&one, "b").unwrap();
        unregister(&one, "b").unwrap();
        assert_eq!(book.addresses(&client, "db"), Some(ips(&["10.1.0.4"])));
        for id in ["a", "b2"] {
            assert!(!book.is_empty());
            unregister(&one, id).unwrap();
        }
        assert!(book.is_empty());
    }

    #[test]
    fn a_responder_that_cannot_be_started_leaves_no_entry() {
        let temp = tempfile::tempdir().unwrap();
        let failed = || Err::<(), _>(io::Error::other("no"));
        register(temp.path(), "a", &Entry::default(), failed).unwrap_err();
        assert!(Book::new(temp.path()).is_empty());
    }
}
