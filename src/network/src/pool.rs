//! Namespaces made ahead of need: a set of net, ipc and uts is pinned by bind mounts, so that it
//! lives without a process, and costs a start nothing but its name. A pod with a user namespace of
//! its own gets a set made for it, which that namespace owns.
//!
//! The pins are in two mounts that lie upon each other at `run_dir/ns`. The lower one is
//! unbindable, so that a container with a recursive bind of `/run` or `/` gets none of the pins
//! and cannot keep namespaces alive. The upper one is a small tmpfs with a propagation group of
//! its own, so that removing a pin also removes it from mount namespaces that other services made
//! meanwhile, where it would keep the namespace alive as well.

use crate::sysctl;
use crate::{Namespaces, NetworkError};
use nix::sched::{CloneFlags, unshare};
use orlop_sys::netlink::{Request, Socket};
use orlop_sys::process::{IdMap, NamespaceHolder, Namespaces as Kinds};
use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const KINDS: [&str; 3] = ["net", "ipc", "uts"];
/// Only in sets that a user namespace owns.
const USER: &str = "user";

/// Between attempts to prepare namespaces while the host cannot.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(5);

/// Sets of namespaces, ready to be taken.
pub(crate) struct Pool {
    dir: PathBuf,
    ready: Mutex<Option<Receiver<Namespaces>>>,
    filler: Mutex<Option<std::thread::JoinHandle<()>>>,
    /// Slots that this process made: never stale, whatever the records say.
    made: Arc<Mutex<HashSet<String>>>,
    /// Nothing more is to be prepared.
    stop: Arc<AtomicBool>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the locks here guard is whole at any moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NetworkError {
    move |source| NetworkError::Io { action, path: path.to_owned(), source }
}

impl Pool {
    /// Prepares `run_dir/ns` and starts to fill the pool.
    pub(crate) fn open(run_dir: &Path, size: usize) -> Result<Self, NetworkError> {
        let dir = run_dir.join("ns");
        prepare(&dir)?;
        let made = Arc::new(Mutex::new(HashSet::new()));
        let pool = Self {
            dir,
            ready: Mutex::new(None),
            filler: Mutex::new(None),
            made,
            stop: Arc::default(),
        };
        if size > 0 {
            // The filler holds one more set while it waits for room.
            let (sender, receiver) = sync_channel(size - 1);
            let (dir, made, stop) =
                (pool.dir.clone(), Arc::clone(&pool.made), Arc::clone(&pool.stop));
            let filler = std::thread::Builder::new()
                .name("netns-pool".into())
                .stack_size(256 * 1024)
                .spawn(move || fill(&dir, &made, &stop, &sender))
                .map_err(crate::netns::error("start the thread that prepares namespaces"))?;
            *lock(&pool.ready) = Some(receiver);
            *lock(&pool.filler) = Some(filler);
        }
        Ok(pool)
    }

    /// A set that is ready, at once, if there is one.
    pub(crate) fn take(&self) -> Option<Namespaces> {
        lock(&self.ready).as_ref().and_then(|ready| ready.try_recv().ok())
    }

    /// Makes a set now.
    pub(crate) fn make(&self) -> Result<Namespaces, NetworkError> {
        let work = || make_slot(&self.dir, &self.made, fill_slot);
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("netns-make".into())
                .spawn_scoped(scope, work)
                .map_err(crate::netns::error("start a thread that makes namespaces"))?;
            thread.join().unwrap_or_else(|_| {
                Err(NetworkError::Namespace {
                    action: "make namespaces",
                    source: io::Error::other("thread panicked"),
                })
            })
        })
    }

    /// Makes a set whose owner is a new user namespace with these maps. Nothing of it can be made ahead:
    /// a pod's maps are its own, and a namespace keeps its owner.
    pub(crate) fn make_owned(
        &self,
        uids: &[IdMap],
        gids: &[IdMap],
    ) -> Result<Namespaces, NetworkError> {
        make_slot(&self.dir, &self.made, |path| fill_owned(path, uids, gids))
    }

    /// Removes the pins of a slot. Its namespaces end with the last process in them.
    pub(crate) fn release(&self, slot: &str) -> Result<(), NetworkError> {
        if !crate::conf::plain_name(slot) {
            return Err(NetworkError::Invalid(format!("namespace slot {slot:?} is not a name")));
        }
        remove_slot(&self.dir.join(slot))?;
        lock(&self.made).remove(slot);
        Ok(())
    }

    /// Removes every slot that neither this process made nor `live` names.
    pub(crate) fn remove_stale(&self, live: &[String]) -> Result<usize, NetworkError> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.dir).map_err(failed("list", &self.dir))? {
            let entry = entry.map_err(failed("list", &self.dir))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if live.contains(&name) || lock(&self.made).contains(&name) {
                continue;
            }
            remove_slot(&entry.path())?;
            removed += 1;
        }
        Ok(removed)
    }

    /// Whether the namespace is one of this pool's: it ends when its slot is released.
    pub(crate) fn owns(&self, netns: &Path) -> bool {
        netns.starts_with(&self.dir)
    }
}

impl Pool {
    /// Removes what was prepared and not taken; nothing more is prepared.
    fn drain(&self) {
        let Some(ready) = lock(&self.ready).take() else { return };
        self.stop.store(true, Ordering::Release);
        // Taking sets out makes room for the filler to go on and see that it shall end; the
        // channel ends with it, and only then is nothing left in it.
        let filler = lock(&self.filler).take();
        if let Some(filler) = &filler {
            filler.thread().unpark();
        }
        let unused: Vec<Namespaces> = ready.iter().collect();
        if let Some(filler) = filler {
            let _ = filler.join();
        }
        for set in unused {
            if let Err(error) = self.release(&set.slot) {
                tracing::warn!(slot = set.slot, %error, "prepared namespaces were not removed");
            }
        }
    }

    /// Ends the pool. Its own mounts go too, unless a sandbox has its namespaces there.
    pub(crate) fn close(&self) -> Result<(), NetworkError> {
        self.drain();
        let in_use = fs::read_dir(&self.dir).map_err(failed("list", &self.dir))?.next().is_some();
        if in_use {
            return Ok(());
        }
        // The tmpfs and the bind mount beneath it. A pin that appears now makes the first one busy.
        for _ in 0..2 {
            match unmount(&self.dir, UnmountFlags::NOFOLLOW) {
                Ok(()) => {}
                Err(rustix::io::Errno::BUSY | rustix::io::Errno::INVAL) => return Ok(()),
                Err(errno) => return Err(failed("unmount", &self.dir)(errno.into())),
            }
        }
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.drain();
    }
}

/// Makes sets until told to stop. The thread moves from set to set and never back.
fn fill(
    dir: &Path,
    made: &Mutex<HashSet<String>>,
    stop: &AtomicBool,
    sender: &SyncSender<Namespaces>,
) {
    while !stop.load(Ordering::Acquire) {
        match make_slot(dir, made, fill_slot) {
            Ok(set) => {
                // The receiver outlives this thread: it is drained until the thread ends.
                if sender.send(set).is_err() {
                    return;
                }
            }
            // Starts then make their own, and say why where it fails. What fails for want of
            // descriptors or space may go well later; whoever stops the pool wakes this thread.
            Err(error) => {
                tracing::error!(%error, "namespaces cannot be prepared ahead; trying again later");
                std::thread::park_timeout(PAUSE);
            }
        }
    }
}

/// Makes the directory of a slot and lets `fill` pin namespaces in it.
fn make_slot(
    dir: &Path,
    made: &Mutex<HashSet<String>>,
    fill: impl FnOnce(&Path) -> Result<(), NetworkError>,
) -> Result<Namespaces, NetworkError> {
    let slot = format!("{:016x}", rand::random::<u64>());
    let path = dir.join(&slot);
    lock(made).insert(slot.clone());
    let create = || fs::DirBuilder::new().mode(0o700).create(&path);
    let result = create().map_err(failed("create", &path)).and_then(|()| fill(&path));
    if result.is_err() {
        let _ = remove_slot(&path);
        lock(made).remove(&slot);
    }
    result?;
    let user = path.join(USER);
    Ok(Namespaces {
        net: path.join("net"),
        ipc: path.join("ipc"),
        uts: path.join("uts"),
        user: user.exists().then_some(user),
        slot,
    })
}

/// Leaves the calling thread in fresh namespaces and pins them. Never on a thread that goes on
/// with other work.
fn fill_slot(path: &Path) -> Result<(), NetworkError> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)
        .map_err(|errno| crate::netns::error("make namespaces")(errno.into()))?;
    prepare_net()?;
    KINDS.iter().try_for_each(|kind| {
        pin(Path::new(&format!("/proc/thread-self/ns/{kind}")), &path.join(kind))
    })
}

/// The same with an owner of their own; a thread cannot enter that, and need not.
fn fill_owned(path: &Path, uids: &[IdMap], gids: &[IdMap]) -> Result<(), NetworkError> {
    let others = Kinds::NET.with(Kinds::IPC).with(Kinds::UTS);
    let failed = |error: io::Error| crate::netns::error("make a user namespace")(error);
    let holder = NamespaceHolder::new(others, uids, gids)
        .map_err(|error| failed(io::Error::from_raw_os_error(error.errno)))?;
    let net = holder.open("net").map_err(|error| failed(error.into()))?;
    crate::netns::inside_net(&net, prepare_net)
        .map_err(crate::netns::error("enter the sandbox's network namespace"))??;
    let mut kinds = KINDS.iter().chain([&USER]);
    kinds.try_for_each(|kind| pin(&holder.path(kind), &path.join(kind)))
}

/// What every pod finds in its network namespace.
fn prepare_net() -> Result<(), NetworkError> {
    loopback_up()?;
    let root = sysctl::root().map_err(crate::netns::error("open /proc/sys"))?;
    for (key, value) in sysctl::POD_DEFAULTS {
        sysctl::write(&root, key, value)
            .map_err(failed("write", &Path::new("/proc/sys").join(key)))?;
    }
    Ok(())
}

fn pin(namespace: &Path, at: &Path) -> Result<(), NetworkError> {
    fs::File::create(at).map_err(failed("create", at))?;
    mount_bind(namespace, at).map_err(|errno| failed("pin a namespace at", at)(errno.into()))
}

fn loopback_up() -> Result<(), NetworkError> {
    let up = || -> Result<(), orlop_sys::netlink::Error> {
        let mut socket = Socket::open()?;
        let Some(link) = socket.link_by_name("lo")? else { return Ok(()) };
        socket.run(&[Request::set_up(&link, true)])
    };
    up().map_err(|error| crate::netns::error("bring loopback up")(io::Error::other(error)))
}

/// Removes pins and directory; what is not there is removed already.
fn remove_slot(path: &Path) -> Result<(), NetworkError> {
    for kind in KINDS.iter().chain([&USER]) {
        let pin = path.join(kind);
        // A crash between two mounts on one file cannot happen, so one is enough; a second try finds none.
        match unmount(&pin, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(failed("unmount", &pin)(errno.into())),
        }
        match fs::remove_file(&pin) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &pin)(error));
            }
            _ => {}
        }
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Lays the two mounts, unless a daemon before this one did.
fn prepare(dir: &Path) -> Result<(), NetworkError> {
    fs::DirBuilder::new().mode(0o700).recursive(true).create(dir).map_err(failed("create", dir))?;
    let stat = rustix::fs::statx(rustix::fs::CWD, dir, AtFlags::empty(), StatxFlags::TYPE)
        .map_err(|errno| failed("look at", dir)(errno.into()))?;
    let attributes = StatxAttributes::MOUNT_ROOT;
    if stat.stx_attributes_mask.contains(attributes) && stat.stx_attributes.contains(attributes) {
        return Ok(());
    }
    let lay = || -> rustix::io::Result<()> {
        mount_bind(dir, dir)?;
        mount_change(dir, MountPropagationFlags::PRIVATE)?;
        mount_change(dir, MountPropagationFlags::UNBINDABLE)?;
        mount(
            "orlop-ns",
            dir,
            "tmpfs",
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
            Some(c"mode=0700,size=4m"),
        )?;
        mount_change(dir, MountPropagationFlags::SHARED)
    };
    lay().map_err(|errno| failed("prepare mounts at", dir)(errno.into()))
}
