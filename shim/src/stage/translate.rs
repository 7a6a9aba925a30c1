//! From the OCI spec to the plan: checking and translating, no system call.

use super::error::{Result, StageError, Step};
use super::plan::{Capabilities, Device, Process, Propagation};
use oci_spec::runtime::{
    self as oci, Capability, LinuxDeviceType, LinuxNamespace, LinuxNamespaceType, PosixRlimitType,
    Spec,
};
use orlop_sys::process::{IdMap, Namespaces};
use std::path::{Path, PathBuf};

/// What the spec says about namespaces.
#[derive(Debug, Default)]
pub(super) struct NamespacePlan {
    /// To create with the process.
    pub(super) create: Namespaces,
    /// To join by path.
    pub(super) join: Vec<(PathBuf, Namespaces)>,
    /// All that differ from the host's, for a later exec.
    pub(super) all: Namespaces,
}

/// Reads the namespaces, each at most once.
pub(super) fn namespaces(spec: &Spec) -> Result<NamespacePlan> {
    let mut plan = NamespacePlan::default();
    let listed =
        spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    for namespace in listed {
        let bit = namespace_bit(namespace)?;
        if plan.all.contains(bit) {
            return Err(StageError::refuse(
                Step::Namespace,
                namespace.typ().to_string(),
                "it is listed twice",
            ));
        }
        plan.all = plan.all.with(bit);
        match namespace.path() {
            Some(path) if !path.as_os_str().is_empty() => plan.join.push((path.clone(), bit)),
            _ => plan.create = plan.create.with(bit),
        }
    }
    // The owner of the others comes first.
    plan.join.sort_by_key(|(_, bit)| *bit != Namespaces::USER);
    Ok(plan)
}

fn namespace_bit(namespace: &LinuxNamespace) -> Result<Namespaces> {
    Ok(match namespace.typ() {
        LinuxNamespaceType::Mount => Namespaces::MOUNT,
        LinuxNamespaceType::Cgroup => Namespaces::CGROUP,
        LinuxNamespaceType::Uts => Namespaces::UTS,
        LinuxNamespaceType::Ipc => Namespaces::IPC,
        LinuxNamespaceType::User => Namespaces::USER,
        LinuxNamespaceType::Pid => Namespaces::PID,
        LinuxNamespaceType::Network => Namespaces::NET,
        LinuxNamespaceType::Time => {
            return Err(StageError::refuse(
                Step::Namespace,
                "time",
                "not supported: remove it from the spec",
            ));
        }
    })
}

/// The process of the spec, or of an exec.
pub(super) fn process(process: &oci::Process) -> Result<Process> {
    let user = process.user();
    let capabilities = match process.capabilities() {
        Some(sets) => Capabilities {
            bounding: bits(sets.bounding().as_ref())?,
            permitted: bits(sets.permitted().as_ref())?,
            effective: bits(sets.effective().as_ref())?,
            inheritable: bits(sets.inheritable().as_ref())?,
            ambient: bits(sets.ambient().as_ref())?,
        },
        None => Capabilities::default(),
    };
    let limit = |limit: &oci::PosixRlimit| (limit_name(limit.typ()), limit.soft(), limit.hard());
    Ok(Process {
        args: process.args().clone().unwrap_or_default(),
        env: process.env().clone().unwrap_or_default(),
        cwd: process.cwd().clone(),
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask().unwrap_or(0o022),
        capabilities,
        rlimits: process.rlimits().iter().flatten().map(limit).collect(),
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        apparmor: process.apparmor_profile().clone(),
        selinux: process.selinux_label().clone(),
        seccomp: None,
        treatment: super::treatment::of(process)?,
    })
}

fn limit_name(kind: PosixRlimitType) -> String {
    let name = match kind {
        PosixRlimitType::RlimitCpu => "RLIMIT_CPU",
        PosixRlimitType::RlimitFsize => "RLIMIT_FSIZE",
        PosixRlimitType::RlimitData => "RLIMIT_DATA",
        PosixRlimitType::RlimitStack => "RLIMIT_STACK",
        PosixRlimitType::RlimitCore => "RLIMIT_CORE",
        PosixRlimitType::RlimitRss => "RLIMIT_RSS",
        PosixRlimitType::RlimitNproc => "RLIMIT_NPROC",
        PosixRlimitType::RlimitNofile => "RLIMIT_NOFILE",
        PosixRlimitType::RlimitMemlock => "RLIMIT_MEMLOCK",
        PosixRlimitType::RlimitAs => "RLIMIT_AS",
        PosixRlimitType::RlimitLocks => "RLIMIT_LOCKS",
        PosixRlimitType::RlimitSigpending => "RLIMIT_SIGPENDING",
        PosixRlimitType::RlimitMsgqueue => "RLIMIT_MSGQUEUE",
        PosixRlimitType::RlimitNice => "RLIMIT_NICE",
        PosixRlimitType::RlimitRtprio => "RLIMIT_RTPRIO",
        PosixRlimitType::RlimitRttime => "RLIMIT_RTTIME",
    };
    name.to_owned()
}

/// Capability sets as bits.
fn bits(set: Option<&std::collections::HashSet<Capability>>) -> Result<u64> {
    let mut bits = 0;
    for capability in set.into_iter().flatten() {
        bits |= 1 << capability_number(*capability);
    }
    Ok(bits)
}

fn capability_number(capability: Capability) -> u32 {
    use Capability as C;
    match capability {
        C::Chown => 0,
        C::DacOverride => 1,
        C::DacReadSearch => 2,
        C::Fowner => 3,
        C::Fsetid => 4,
        C::Kill => 5,
        C::Setgid => 6,
        C::Setuid => 7,
        C::Setpcap => 8,
        C::LinuxImmutable => 9,
        C::NetBindService => 10,
        C::NetBroadcast => 11,
        C::NetAdmin => 12,
        C::NetRaw => 13,
        C::IpcLock => 14,
        C::IpcOwner => 15,
        C::SysModule => 16,
        C::SysRawio => 17,
        C::SysChroot => 18,
        C::SysPtrace => 19,
        C::SysPacct => 20,
        C::SysAdmin => 21,
        C::SysBoot => 22,
        C::SysNice => 23,
        C::SysResource => 24,
        C::SysTime => 25,
        C::SysTtyConfig => 26,
        C::Mknod => 27,
        C::Lease => 28,
        C::AuditWrite => 29,
        C::AuditControl => 30,
        C::Setfcap => 31,
        C::MacOverride => 32,
        C::MacAdmin => 33,
        C::Syslog => 34,
        C::WakeAlarm => 35,
        C::BlockSuspend => 36,
        C::AuditRead => 37,
        C::Perfmon => 38,
        C::Bpf => 39,
        C::CheckpointRestore => 40,
    }
}

/// Maps of the spec.
pub(super) fn id_maps(mappings: Option<&[oci::LinuxIdMapping]>) -> Vec<IdMap> {
    let mappings = mappings.unwrap_or_default().iter();
    mappings
        .map(|map| IdMap { inside: map.container_id(), outside: map.host_id(), count: map.size() })
        .collect()
}

/// A device of the spec.
pub(super) fn device(device: &oci::LinuxDevice) -> Result<Device> {
    let object = || device.path().display().to_string();
    let kind = match device.typ() {
        LinuxDeviceType::B => 'b',
        LinuxDeviceType::P => 'p',
        LinuxDeviceType::C | LinuxDeviceType::U => 'c',
        LinuxDeviceType::A => {
            return Err(StageError::refuse(Step::Device, object(), "its type must be b, c or p"));
        }
    };
    let number = |number: i64| {
        u32::try_from(number)
            .map_err(|_| StageError::refuse(Step::Device, object(), "its number is out of range"))
    };
    Ok(Device {
        path: device.path().clone(),
        kind,
        major: number(device.major())?,
        minor: number(device.minor())?,
        mode: device.file_mode().unwrap_or(0o666),
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    })
}

/// `rootfsPropagation`.
pub(super) fn propagation(word: &str) -> Result<Propagation> {
    match word.strip_prefix('r').filter(|rest| !rest.is_empty()).unwrap_or(word) {
        "private" => Ok(Propagation::Private),
        "slave" => Ok(Propagation::Slave),
        "shared" => Ok(Propagation::Shared),
        "unbindable" => Ok(Propagation::Unbindable),
        _ => Err(StageError::refuse(
            Step::Spec,
            word,
            "no such propagation: private, slave, shared or unbindable",
        )),
    }
}

/// A path of the spec: relative ones start at the bundle.
pub(super) fn in_bundle(bundle: &Path, path: &Path) -> PathBuf {
    bundle.join(path)
}
