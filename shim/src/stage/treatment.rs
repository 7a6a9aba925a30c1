//! Scheduler, I/O priority, processors and personality: from the spec to the plan, and in the child.

use super::error::{At, Result, StageError, Step};
use super::plan::{Scheduling, Treatment};
use oci_spec::runtime::{
    self as oci, IOPriorityClass, LinuxPersonalityDomain, LinuxSchedulerFlag, LinuxSchedulerPolicy,
    Spec,
};
use orlop_sys::process as kernel;

/// More processors than a kernel can have.
const MAX_CPU: u32 = 1 << 16;

/// What the spec's process asks for.
pub(super) fn of(process: &oci::Process) -> Result<Treatment> {
    let io_priority = process.io_priority().as_ref().map(io_priority).transpose()?;
    let affinity = process.exec_cpu_affinity().as_ref();
    Ok(Treatment {
        personality: None,
        scheduling: process.scheduler().as_ref().map(scheduling).transpose()?,
        io_priority,
        first_cpus: cpus(affinity.and_then(|cpus| cpus.initial().as_deref()))?,
        cpus: cpus(affinity.and_then(|cpus| cpus.cpu_affinity_final().as_deref()))?,
    })
}

/// The personality, which is the container's and so each process's in it.
pub(super) fn personality(spec: &Spec) -> Result<Option<u32>> {
    let Some(personality) = spec.linux().as_ref().and_then(|linux| linux.personality().as_ref())
    else {
        return Ok(None);
    };
    if let Some(flag) = personality.flags().iter().flatten().next() {
        let cause = "no flag is defined for it: remove it";
        return Err(StageError::refuse(Step::Spec, format!("personality flag {flag}"), cause));
    }
    Ok(Some(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    }))
}

/// Refuses what this host's container runtime cannot do for the spec: left out without a word it would be
/// missed later.
pub(super) fn refuse_unsupported(spec: &Spec) -> Result<()> {
    let Some(linux) = spec.linux() else { return Ok(()) };
    let listed = [
        ("intelRdt", linux.intel_rdt().is_some(), "cache and memory bandwidth cannot be assigned"),
        ("memoryPolicy", linux.memory_policy().is_some(), "use cpuset.mems of the resources"),
        (
            "netDevices",
            linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty()),
            "move devices into the network namespace before, and name that",
        ),
        (
            "timeOffsets",
            linux.time_offsets().as_ref().is_some_and(|offsets| !offsets.is_empty()),
            "make a time namespace before, and name that",
        ),
    ];
    match listed.iter().find(|(_, asked, _)| *asked) {
        None => Ok(()),
        Some((name, _, remedy)) => {
            let cause = format!("not supported: remove it from the spec ({remedy})");
            Err(StageError::refuse(Step::Spec, format!("linux.{name}"), cause))
        }
    }
}

fn io_priority(given: &oci::LinuxIOPriority) -> Result<(u32, u32)> {
    let class = match given.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match u32::try_from(given.priority()) {
        Ok(level) if level <= 7 => Ok((class, level)),
        _ => {
            let object = format!("ioPriority {}", given.priority());
            Err(StageError::refuse(Step::Spec, object, "use a level from 0 to 7"))
        }
    }
}

fn scheduling(given: &oci::Scheduler) -> Result<Scheduling> {
    let policy = match given.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
        LinuxSchedulerPolicy::SchedIso => {
            let cause = "no kernel has it: use SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_IDLE or SCHED_DEADLINE";
            return Err(StageError::refuse(Step::Spec, "scheduler SCHED_ISO", cause));
        }
    };
    let flag = |flag: &LinuxSchedulerFlag| match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    };
    Ok(Scheduling {
        policy,
        flags: given.flags().iter().flatten().map(flag).fold(0, |all, bit| all | bit),
        nice: given.nice().unwrap_or(0),
        priority: u32::try_from(given.priority().unwrap_or(0)).map_err(|_| {
            StageError::refuse(Step::Spec, "scheduler", "its priority must not be negative")
        })?,
        runtime: given.runtime().unwrap_or(0),
        deadline: given.deadline().unwrap_or(0),
        period: given.period().unwrap_or(0),
    })
}

/// A list such as `0-3,7`.
fn cpus(list: Option<&str>) -> Result<Vec<u32>> {
    let mut all = Vec::new();
    for part in list.unwrap_or_default().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.parse::<u32>(), last.parse::<u32>()) {
            (Ok(first), Ok(last)) if first <= last && last < MAX_CPU => all.extend(first..=last),
            _ => {
                let object = format!("execCPUAffinity {part:?}");
                return Err(StageError::refuse(Step::Spec, object, "use a list such as 0-3,7"));
            }
        }
    }
    Ok(all)
}

/// First of all in the child of an exec.
pub(super) fn begin(treatment: &Treatment) -> Result<()> {
    bind(&treatment.first_cpus)
}

/// While the child still has its privileges.
pub(super) fn apply(treatment: &Treatment) -> Result<()> {
    if let Some(persona) = treatment.personality {
        kernel::set_personality(persona).at(Step::User, || "personality")?;
    }
    bind(&treatment.cpus)?;
    if let Some(wanted) = &treatment.scheduling {
        let wanted = kernel::Scheduling {
            policy: wanted.policy,
            flags: wanted.flags,
            nice: wanted.nice,
            priority: wanted.priority,
            runtime: wanted.runtime,
            deadline: wanted.deadline,
            period: wanted.period,
        };
        kernel::set_scheduling(&wanted).at(Step::User, || "scheduler")?;
    }
    if let Some((class, level)) = treatment.io_priority {
        kernel::set_io_priority(class, level).at(Step::User, || "ioPriority")?;
    }
    Ok(())
}

fn bind(cpus: &[u32]) -> Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    kernel::set_affinity(cpus).at(Step::User, || "execCPUAffinity")
}
