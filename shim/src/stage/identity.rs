//! Who the workload is and what it may do: limits, user, groups, capabilities, labels, filter.

use super::cwd;
use super::error::{At, Result, StageError, Step};
use super::plan::{Capabilities, Process};
use super::procfs::Procfs;
use orlop_sys::seccomp;
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Gid, Resource, Rlimit, Uid, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use std::os::fd::OwnedFd;

/// What could not be done and is not needed, and the filter that is yet to be installed.
pub(super) type Assumed = (Vec<String>, Option<seccomp::Program>);

/// Does all of it, in the order in which each step still has the privilege that it needs. With
/// no_new_privileges the filter needs none and is left for the very last: the fewer calls come after
/// it, the fewer a profile must allow for our sake.
pub(super) fn assume(process: &Process, filter: &[u8], directory: &OwnedFd) -> Result<Assumed> {
    let mut warnings = Vec::new();
    for (name, soft, hard) in &process.rlimits {
        warnings.extend(limit(name, *soft, *hard)?);
    }
    super::treatment::apply(&process.treatment)?;
    labels(process)?;
    let mut filter = process.seccomp.map(|flags| seccomp::Program { code: filter.to_vec(), flags });
    if process.no_new_privileges {
        set_no_new_privs(true).at(Step::Security, || "no_new_privs")?;
    } else if let Some(filter) = filter.take() {
        // Without no_new_privs a filter needs CAP_SYS_ADMIN, which goes below.
        install(&filter)?;
    }
    drop_bounding(process.capabilities.bounding)?;
    // As root first: images have directories that their own user cannot enter. A network file system
    // may have no trust in root, then the user goes.
    let entered = cwd::enter(directory, &process.cwd);
    become_user(process)?;
    match entered {
        Err(error) if error.errno == Errno::ACCESS.raw_os_error() => {
            cwd::enter(directory, &process.cwd)?
        }
        other => other?,
    }
    take_capabilities(process.capabilities)?;
    // Changing the user made us open to ptrace again; what we still hold is not the container's.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .at(Step::Security, || "dumpable")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(process.umask));
    Ok((warnings, filter))
}

/// Installs the filter.
pub(super) fn install(filter: &seccomp::Program) -> Result<()> {
    seccomp::install(filter).at(Step::Security, || "seccomp filter")
}

/// Sets a limit; one that we may not raise is raised as far as we may.
fn limit(name: &str, soft: u64, hard: u64) -> Result<Option<String>> {
    let resource = resource(name).ok_or_else(|| {
        StageError::refuse(Step::Rlimit, name, "no such limit: use names such as RLIMIT_NOFILE")
    })?;
    let value = |number: u64| (number != u64::MAX).then_some(number);
    let wanted = Rlimit { current: value(soft), maximum: value(hard) };
    match setrlimit(resource, wanted) {
        Ok(()) => Ok(None),
        Err(Errno::PERM) => {
            let ours = getrlimit(resource);
            let highest = ours.maximum.unwrap_or(u64::MAX);
            let capped =
                Rlimit { current: value(soft.min(highest)), maximum: value(hard.min(highest)) };
            setrlimit(resource, capped).at(Step::Rlimit, || name)?;
            let highest = ours.maximum.map_or("unlimited".to_owned(), |number| number.to_string());
            Ok(Some(format!(
                "limit {name}: {hard} is above our own {highest} and we lack CAP_SYS_RESOURCE: kept ours"
            )))
        }
        Err(errno) => Err(StageError::kernel(Step::Rlimit, name, errno.raw_os_error())),
    }
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "RLIMIT_AS" => Resource::As,
        "RLIMIT_CORE" => Resource::Core,
        "RLIMIT_CPU" => Resource::Cpu,
        "RLIMIT_DATA" => Resource::Data,
        "RLIMIT_FSIZE" => Resource::Fsize,
        "RLIMIT_LOCKS" => Resource::Locks,
        "RLIMIT_MEMLOCK" => Resource::Memlock,
        "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
        "RLIMIT_NICE" => Resource::Nice,
        "RLIMIT_NOFILE" => Resource::Nofile,
        "RLIMIT_NPROC" => Resource::Nproc,
        "RLIMIT_RSS" => Resource::Rss,
        "RLIMIT_RTPRIO" => Resource::Rtprio,
        "RLIMIT_RTTIME" => Resource::Rttime,
        "RLIMIT_SIGPENDING" => Resource::Sigpending,
        "RLIMIT_STACK" => Resource::Stack,
        _ => return None,
    })
}

/// Labels for the exec, through a procfs that nobody else can touch.
fn labels(process: &Process) -> Result<()> {
    let exists = |path: &str| std::fs::exists(path).unwrap_or(false);
    if let Some(profile) = process.apparmor.as_deref().filter(|profile| !profile.is_empty()) {
        let procfs = Procfs::new()?;
        let value = format!("exec {profile}");
        let own = procfs.write_own("attr/apparmor/exec", &value, Step::Security);
        let missing = Errno::NOENT.raw_os_error();
        match own {
            // Before Linux 5.8 there was one file for all security modules.
            Err(error) if error.errno == missing => {
                procfs.write_own("attr/exec", &value, Step::Security)
            }
            other => other,
        }
        .map_err(|error| {
            let cause = format!("{}: is the profile loaded?", error.message);
            StageError {
                errno: error.errno,
                ..StageError::refuse(Step::Security, format!("apparmor profile {profile}"), cause)
            }
        })?;
    }
    if let Some(label) =
        process.selinux.as_deref().filter(|label| !label.is_empty() && exists("/sys/fs/selinux"))
    {
        Procfs::new()?.write_own("attr/exec", label, Step::Security)?;
    }
    Ok(())
}

fn drop_bounding(keep: u64) -> Result<()> {
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if keep & (1 << number) != 0 {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The kernel knows no more.
            Err(Errno::INVAL) => break,
            Err(errno) => {
                return Err(errno).at(Step::User, || format!("bounding capability {number}"));
            }
        }
    }
    Ok(())
}

fn become_user(process: &Process) -> Result<()> {
    set_keep_capabilities(true).at(Step::User, || "keep capabilities")?;
    let gid = Gid::from_raw(process.gid);
    let uid = Uid::from_raw(process.uid);
    let groups: Vec<Gid> = process.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    match set_thread_groups(&groups) {
        Ok(()) => {}
        // A user namespace without the right to set groups, and none asked for.
        Err(Errno::PERM) if groups.is_empty() => {}
        Err(errno) => return Err(errno).at(Step::User, || format!("groups {:?}", process.groups)),
    }
    set_thread_res_gid(gid, gid, gid).at(Step::User, || format!("group {}", process.gid))?;
    set_thread_res_uid(uid, uid, uid).at(Step::User, || format!("uid {}", process.uid))
}

fn take_capabilities(capabilities: Capabilities) -> Result<()> {
    let Capabilities { permitted, effective, inheritable, ambient, .. } = capabilities;
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(effective),
        permitted: CapabilitySet::from_bits_retain(permitted),
        inheritable: CapabilitySet::from_bits_retain(inheritable),
    };
    set_capabilities(None, sets).at(Step::User, || "capabilities")?;
    rustix::thread::clear_ambient_capability_set().at(Step::User, || "ambient capabilities")?;
    for number in (0..64).filter(|number| ambient & (1 << number) != 0) {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        rustix::thread::configure_capability_in_ambient_set(capability, true)
            .at(Step::User, || format!("ambient capability {number}"))?;
    }
    Ok(())
}
