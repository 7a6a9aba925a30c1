//! The directory of a network: which address belongs to whom.

use super::range::RangeSet;
use crate::{Ip, PluginError};
use ipnet::IpNet;
use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, flock};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

/// What the files were last seen to say. An address file never changes once it is complete, so
/// a name and an inode that are known need not be read again: an ADD on a busy node then reads one
/// directory instead of hundreds of files. It only serves to find a container that already has an
/// address; whatever it says is read again before it counts.
type Seen = HashMap<String, (u64, String)>;
static SEEN: LazyLock<Mutex<HashMap<PathBuf, Seen>>> = LazyLock::new(Mutex::default);

/// The largest file that can be a reservation: an id, a line break, an interface name.
const MAX_RESERVATION: u64 = 4096;

/// The open directory of one network.
#[derive(Debug)]
pub(super) struct Store {
    dir: OwnedFd,
    path: PathBuf,
}

/// Held while the directory is read and changed; other processes honour it too.
struct Lock {
    _file: OwnedFd,
}

fn failed(what: &str, path: &Path, error: impl Into<io::Error>) -> PluginError {
    PluginError::io(format!("host-local: {what} {}: {}", path.display(), error.into()))
}

fn owner(container: &str, ifname: &str) -> String {
    format!("{}\r\n{ifname}", container.trim())
}

impl Store {
    /// Opens the directory of a network, making it first where it is not there.
    pub(super) fn open(data_dir: &Path, network: &str) -> Result<Self, PluginError> {
        let path = data_dir.join(network);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = || rustix::fs::open(&path, flags, Mode::empty());
        let dir = match open() {
            Err(rustix::io::Errno::NOENT) => {
                let made = std::fs::DirBuilder::new().mode(0o755).recursive(true).create(&path);
                made.map_err(|error| failed("create", &path, error))?;
                open()
            }
            result => result,
        };
        Ok(Self { dir: dir.map_err(|error| failed("open", &path, error))?, path })
    }

    fn lock(&self) -> Result<Lock, PluginError> {
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let lock = || -> rustix::io::Result<OwnedFd> {
            let file = rustix::fs::openat(&self.dir, "lock", flags, Mode::from_raw_mode(0o750))?;
            flock(&file, FlockOperation::LockExclusive)?;
            Ok(file)
        };
        Ok(Lock { _file: lock().map_err(|error| failed("lock", &self.path, error))? })
    }

    /// Reserves an address: the one that is wanted, or the first free one after the last given.
    pub(super) fn reserve(
        &self,
        set: &RangeSet,
        index: usize,
        wanted: Option<IpAddr>,
        container: &str,
        ifname: &str,
    ) -> Result<Ip, PluginError> {
        let _lock = self.lock()?;
        let owner = owner(container, ifname);
        if let Some(ip) = wanted {
            let Some(range) = set.range_of(ip) else {
                return Err(PluginError::new(format!("{ip} is not in {set}")));
            };
            if ip == range.gateway {
                return Err(PluginError::new(format!(
                    "the requested address {ip} is the gateway of {}",
                    range.subnet
                )));
            }
            if !self.claim(ip, index, &owner)? {
                return Err(PluginError::new(format!("the requested address {ip} is taken")));
            }
            return Ok(answer(ip, range.subnet.prefix_len(), range.gateway));
        }
        if let Some(ip) =
            self.owned(&owner, container)?.into_iter().find(|ip| set.range_of(*ip).is_some())
        {
            return Err(PluginError::new(format!("{container} already has {ip} in this range")));
        }
        let last =
            self.read(&format!("last_reserved_ip.{index}")).and_then(|text| text.parse().ok());
        for (ip, range) in set.after(last) {
            if self.claim(ip, index, &owner)? {
                return Ok(answer(ip, range.subnet.prefix_len(), range.gateway));
            }
        }
        Err(PluginError::new(format!(
            "no address is left in {set}: pods that are gone without a DEL may hold some in {}",
            self.path.display()
        )))
    }

    /// Makes the file of an address; false where another owner has it.
    fn claim(&self, ip: IpAddr, index: usize, owner: &str) -> Result<bool, PluginError> {
        let name = ip.to_string();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file =
            match rustix::fs::openat(&self.dir, name.as_str(), flags, Mode::from_raw_mode(0o644)) {
                Ok(file) => file,
                Err(rustix::io::Errno::EXIST) => return Ok(false),
                Err(error) => return Err(failed("create", &self.path.join(name), error)),
            };
        let written = std::fs::File::from(file).write_all(owner.as_bytes());
        let written = written
            .and_then(|()| self.write(&format!("last_reserved_ip.{index}"), name.as_bytes()));
        written.map(|()| true).map_err(|error| {
            let _ = rustix::fs::unlinkat(&self.dir, name.as_str(), AtFlags::empty());
            failed("write", &self.path.join(name), error)
        })
    }

    /// Overwrites a file in place. Truncating it first would make ext4 start to write it out when
    /// it is closed, which has been seen to take milliseconds.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, name, flags, Mode::from_raw_mode(0o644))?;
        let mut file = std::fs::File::from(file);
        file.write_all(bytes)?;
        file.set_len(bytes.len() as u64)
    }

    /// The content of a small file; none where it cannot be read.
    fn read(&self, name: &str) -> Option<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&self.dir, name, flags, Mode::empty()).ok()?;
        let mut text = String::new();
        std::fs::File::from(file).take(MAX_RESERVATION).read_to_string(&mut text).ok()?;
        Some(text.trim().to_owned())
    }

    /// Names and inodes of all address files.
    fn addresses(&self) -> Result<Vec<(String, u64)>, PluginError> {
        let bad = |error: rustix::io::Errno| failed("list", &self.path, error);
        let mut found = Vec::new();
        for entry in Dir::read_from(&self.dir).map_err(bad)? {
            let entry = entry.map_err(bad)?;
            let name =
                OsStr::from_bytes(entry.file_name().to_bytes()).to_string_lossy().into_owned();
            if name.parse::<IpAddr>().is_ok() {
                found.push((name, entry.ino()));
            }
        }
        Ok(found)
    }

    /// The addresses whose files name the owner (or, as very old versions wrote, the container alone).
    fn owned(&self, owner: &str, container: &str) -> Result<Vec<IpAddr>, PluginError> {
        let present = self.addresses()?;
        let old = SEEN
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.path)
            .unwrap_or_default();
        let mut seen = Seen::with_capacity(present.len());
        let mut owned = Vec::new();
        for (name, inode) in present {
            let text = match old.get(&name) {
                Some((known, text)) if *known == inode => text.clone(),
                _ => self.read(&name).unwrap_or_default(),
            };
            let matches = |text: &str| text == owner || text == container.trim();
            if matches(&text) && self.read(&name).is_some_and(|text| matches(&text)) {
                owned.extend(name.parse::<IpAddr>().ok());
            }
            seen.insert(name, (inode, text));
        }
        SEEN.lock().unwrap_or_else(PoisonError::into_inner).insert(self.path.clone(), seen);
        Ok(owned)
    }

    /// The addresses of a container's interface.
    pub(super) fn owned_by(
        &self,
        container: &str,
        ifname: &str,
    ) -> Result<Vec<IpAddr>, PluginError> {
        let _lock = self.lock()?;
        self.owned(&owner(container, ifname), container)
    }

    /// Gives back one address, if the container's interface has it.
    pub(super) fn release_address(
        &self,
        ip: IpAddr,
        container: &str,
        ifname: &str,
    ) -> Result<bool, PluginError> {
        let _lock = self.lock()?;
        self.unlink_if_owned(ip, &owner(container, ifname), container)
    }

    fn unlink_if_owned(
        &self,
        ip: IpAddr,
        owner: &str,
        container: &str,
    ) -> Result<bool, PluginError> {
        let name = ip.to_string();
        if self.read(&name).is_none_or(|text| text != owner && text != container.trim()) {
            return Ok(false);
        }
        match rustix::fs::unlinkat(&self.dir, name.as_str(), AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(true),
            Err(error) => Err(failed("remove", &self.path.join(name), error)),
        }
    }

    /// Gives back the container's addresses: the known ones, or, where they are not its own, all
    /// that are found.
    pub(super) fn release(
        &self,
        known: &[IpAddr],
        container: &str,
        ifname: &str,
    ) -> Result<(), PluginError> {
        let _lock = self.lock()?;
        let owner = owner(container, ifname);
        let mut complete = !known.is_empty();
        for ip in known {
            complete &= self.unlink_if_owned(*ip, &owner, container)?;
        }
        if !complete {
            for ip in self.owned(&owner, container)? {
                self.unlink_if_owned(ip, &owner, container)?;
            }
        }
        Ok(())
    }

    /// Gives back every address whose container is not in `live`.
    pub(super) fn retain(&self, live: &[String]) -> Result<(), PluginError> {
        let _lock = self.lock()?;
        for (name, _) in self.addresses()? {
            let Some(text) = self.read(&name) else { continue };
            let container = text.lines().next().unwrap_or_default().trim();
            if !live.iter().any(|id| id == container) {
                rustix::fs::unlinkat(&self.dir, name.as_str(), AtFlags::empty())
                    .map_err(|error| failed("remove", &self.path.join(&name), error))?;
            }
        }
        Ok(())
    }
}

fn answer(ip: IpAddr, prefix: u8, gateway: IpAddr) -> Ip {
    // The prefix comes from a subnet of the same family.
    let address = IpNet::new(ip, prefix).unwrap_or_else(|_| IpNet::from(ip));
    Ip { interface: None, address, gateway: Some(gateway) }
}
