//! The container: its spec, its control group, its processes.

mod metrics;
pub(crate) mod process;
pub(crate) mod record;
pub(crate) mod state;

use crate::error::Refusal;
use crate::hooks::Hooked;
use crate::poll::{Poller, Token};
use crate::supervise::Supervised;
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Spec, User};
use orlop_sys::cgroup::{Cgroup, Hierarchies, OomNotifier};
use orlop_sys::process::Pidfd;
use orlop_task::protocol::shim::CreateOptions;
use process::Process;
use state::Event;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The exit code of a process that was never let go; containerd's for a start that failed.
pub(crate) const START_FAILED: u32 = 128;
/// The exit code of what SIGKILL ended.
pub(crate) const KILLED: u32 = 137;

/// A container and all that belongs to it.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) options: CreateOptions,
    pub(crate) spec: Spec,
    /// Its hooks, where it has some.
    pub(crate) hooked: Option<Box<Hooked>>,
    pub(crate) cgroup: Cgroup,
    /// What we do for it by ourselves, where that was asked for.
    pub(crate) supervised: Option<Box<Supervised>>,
    oom: Option<OomNotifier>,
    oom_kills: u64,
    /// A foreign shim told of a memory kill.
    oom_told: bool,
    pub(crate) init: Process,
    pub(crate) execs: BTreeMap<u32, Process>,
}

/// Reads `config.json`.
pub(crate) fn load_spec(bundle: &Path) -> Result<Spec, Refusal> {
    let path = bundle.join("config.json");
    let bytes = std::fs::read(&path)
        .map_err(|error| Refusal::precondition(format!("{}: {error}", path.display())))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::invalid(format!("{}: {error}", path.display())))
}

/// Makes the control group that the spec names; `/orlop/<id>` when it names none.
pub(crate) fn make_cgroup(
    hierarchies: &Hierarchies,
    spec: &Spec,
    id: &str,
) -> Result<Cgroup, Refusal> {
    let linux = spec.linux().as_ref();
    let path = cgroup_path(spec, id);
    // Without resources there are still device rules: a container's group denies what is not given.
    let resources = linux.and_then(|linux| linux.resources().clone()).unwrap_or_default();
    Ok(Cgroup::create(hierarchies, &path, Some(&resources))?)
}

/// The control group that the spec names.
pub(crate) fn cgroup_path(spec: &Spec, id: &str) -> String {
    let named = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref());
    named.map_or_else(|| format!("/orlop/{id}"), |path| path.to_string_lossy().into_owned())
}

/// User and group of a process as the host numbers them.
pub(crate) fn host_owner(spec: &Spec, user: &User) -> (u32, u32) {
    let linux = spec.linux().as_ref();
    let outside = |id: u32, maps: Option<&Vec<LinuxIdMapping>>| match maps {
        None => id,
        Some(maps) if maps.is_empty() => id,
        Some(maps) => maps
            .iter()
            .find_map(|map| {
                let offset = id.checked_sub(map.container_id())?;
                (offset < map.size()).then(|| map.host_id().checked_add(offset)).flatten()
            })
            .unwrap_or(u32::MAX),
    };
    (
        outside(user.uid(), linux.and_then(|linux| linux.uid_mappings().as_ref())),
        outside(user.gid(), linux.and_then(|linux| linux.gid_mappings().as_ref())),
    )
}

impl Container {
    pub(crate) fn new(
        id: String,
        bundle: PathBuf,
        options: CreateOptions,
        spec: Spec,
        cgroup: Cgroup,
        init: Process,
    ) -> Self {
        let mut spec = spec;
        // Of use only to the container's first process, which has its plan already.
        spec.set_process(None).set_mounts(None).set_annotations(None).set_hooks(None);
        Self {
            id,
            bundle,
            options,
            spec,
            hooked: None,
            cgroup,
            supervised: None,
            oom: None,
            oom_kills: 0,
            oom_told: false,
            init,
            execs: BTreeMap::new(),
        }
    }

    /// Listens for memory kills, where the host tells of them.
    pub(crate) fn watch_memory(&mut self, poller: &Poller) {
        let Ok(notifier) = self.cgroup.oom_notifier() else { return };
        let watched = match notifier.is_priority() {
            true => poller.news(notifier.fd(), Token::Oom),
            false => poller.readable(notifier.fd(), Token::Oom),
        };
        if watched.is_ok() {
            self.oom = Some(notifier);
        }
    }

    /// Takes a notification; true when a process was killed for memory since the last look.
    pub(crate) fn memory_killed(&mut self) -> bool {
        if self.oom.as_ref().is_some_and(|notifier| !notifier.consume()) {
            self.oom = None;
        }
        let now = self.cgroup.oom_kills().unwrap_or(self.oom_kills);
        let news = now > self.oom_kills;
        self.oom_kills = now;
        news
    }

    /// Memory kills so far.
    pub(crate) fn memory_kills(&self) -> u64 {
        self.oom_kills
    }

    /// Whether any process of it was killed for memory.
    pub(crate) fn oom_killed(&self) -> bool {
        self.oom_kills > 0 || self.oom_told
    }

    /// A foreign shim tells of a memory kill, which the host's counters may not show.
    pub(crate) fn note_oom(&mut self) {
        self.oom_told = true;
    }

    /// The process with this key.
    pub(crate) fn by_key(&mut self, key: u32) -> Option<&mut Process> {
        if self.init.key == key {
            return Some(&mut self.init);
        }
        let supervised = self.supervised.as_mut();
        match supervised.and_then(|supervised| supervised.probe_mut()) {
            Some(probe) if probe.key == key => Some(probe),
            _ => self.execs.get_mut(&key),
        }
    }

    /// The process that a request names; empty is the first one.
    pub(crate) fn by_exec_id(&mut self, exec_id: &str) -> Result<&mut Process, Refusal> {
        if exec_id.is_empty() {
            return Ok(&mut self.init);
        }
        let found = self.execs.values_mut().find(|process| process.exec_id == exec_id);
        found.ok_or_else(|| {
            Refusal::not_found(format!("exec {exec_id} of container {} does not exist", self.id))
        })
    }

    /// Whether we are the one who reaps this process.
    pub(crate) fn owner_of(&self, pid: i32) -> Option<u32> {
        let probe = self.supervised.as_ref().and_then(|supervised| supervised.probe());
        let mut all = std::iter::once(&self.init).chain(self.execs.values()).chain(probe);
        all.find(|process| process.alive() && process.pid == pid).map(|process| process.key)
    }

    /// Whether the kernel ends the others with the first process, because it is pid 1 of a
    /// namespace of its own.
    pub(crate) fn owns_pid_namespace(&self) -> bool {
        let namespaces = self.spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
        namespaces.is_some_and(|all| {
            all.iter().any(|one| one.typ() == LinuxNamespaceType::Pid && one.path().is_none())
        })
    }

    /// Sends a signal to every process in the control group.
    pub(crate) fn signal_all(&self, signal: u32) -> Result<(), Refusal> {
        if signal == 9 {
            return Ok(self.cgroup.kill_all()?);
        }
        let open: Vec<(i32, Pidfd)> = self
            .cgroup
            .procs()?
            .into_iter()
            .filter_map(|pid| Some((pid, Pidfd::open(pid).ok()?)))
            .collect();
        // A number that is still listed now was so while its descriptor was opened.
        let listed = self.cgroup.procs()?;
        for (_, pidfd) in open.iter().filter(|(pid, _)| listed.contains(pid)) {
            // It may end at any moment.
            let _ = pidfd.send_signal(i32::try_from(signal).unwrap_or(0));
        }
        Ok(())
    }

    /// Freezes or thaws everything.
    pub(crate) fn freeze(&mut self, frozen: bool) -> Result<(), Refusal> {
        let event = if frozen { Event::Pause } else { Event::Resume };
        self.init.state.after(event, &self.init.name)?;
        if frozen {
            self.cgroup.freeze()?
        } else {
            self.cgroup.thaw()?
        }
        self.frozen(frozen);
        Ok(())
    }

    /// Everything is frozen or thawed now.
    pub(crate) fn frozen(&mut self, frozen: bool) {
        let event = if frozen { Event::Pause } else { Event::Resume };
        for process in std::iter::once(&mut self.init).chain(self.execs.values_mut()) {
            // An exec that has not started or has ended stays as it is.
            if let Ok(state) = process.state.after(event, &process.name) {
                process.state = state;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_without_resources_gets_no_devices_of_the_host() {
        let hierarchies = Hierarchies::detect().unwrap();
        let name = format!("/orlop-test-shim-devices-{}", std::process::id());
        let text = format!(r#"{{"ociVersion":"1.2.0","linux":{{"cgroupsPath":"{name}"}}}}"#);
        let spec: Spec = serde_json::from_str(&text).unwrap();
        let cgroup = make_cgroup(&hierarchies, &spec, "x").unwrap();
        // On v1 the rules can be read back.
        let devices = cgroup.views().into_iter().find(|(view, _, _)| view == "devices");
        let list = devices.map(|(_, _, dir)| std::fs::read_to_string(dir.join("devices.list")));
        cgroup.delete().unwrap();
        if let Some(list) = list {
            let list = list.unwrap();
            assert!(list.contains("c 1:3 rwm") && !list.contains("a *:*"), "{list}");
        }
    }
}
