//! How the kernel treats a process, set by the process itself before its exec.
#![expect(unsafe_code, reason = "personality, ioprio_set and sched_setattr have no safe wrapper")]

use crate::error::{Context, Error, Result};

/// Attributes for the kernel's scheduler, as sched_setattr(2) has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// SCHED_OTHER is 0, SCHED_FIFO 1, SCHED_RR 2, SCHED_BATCH 3, SCHED_IDLE 5, SCHED_DEADLINE 6.
    pub policy: u32,
    /// `SCHED_FLAG_*` bits.
    pub flags: u64,
    /// -20 to 19, for SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// 1 to 99, for SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// Nanoseconds in each period, for SCHED_DEADLINE.
    pub runtime: u64,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub deadline: u64,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub period: u64,
}

/// The kernel's `struct sched_attr`, in its first form.
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Sets the calling thread's scheduling.
pub fn set_scheduling(wanted: &Scheduling) -> Result<()> {
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: wanted.policy,
        flags: wanted.flags,
        nice: wanted.nice,
        priority: wanted.priority,
        runtime: wanted.runtime,
        deadline: wanted.deadline,
        period: wanted.period,
    };
    // SAFETY: the kernel reads `size` bytes of a structure that is as long as it says.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    if result < 0 {
        Err(Error::last("sched_setattr", format!("policy {}", wanted.policy)))
    } else {
        Ok(())
    }
}

/// Sets the calling thread's I/O class (1 real-time, 2 best effort, 3 idle) and level (0 to 7).
pub fn set_io_priority(class: u32, level: u32) -> Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_SHIFT: u32 = 13;
    // SAFETY: no memory is involved.
    let result = unsafe {
        libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, class << CLASS_SHIFT | level)
    };
    if result < 0 {
        Err(Error::last("ioprio_set", format!("class {class}, level {level}")))
    } else {
        Ok(())
    }
}

/// Sets the personality: 0 is Linux, 8 is Linux on a 32-bit machine.
pub fn set_personality(persona: u32) -> Result<()> {
    // SAFETY: no memory is involved.
    let result = unsafe { libc::personality(libc::c_ulong::from(persona)) };
    if result < 0 { Err(Error::last("personality", persona.to_string())) } else { Ok(()) }
}

/// Binds the calling thread to these processors.
pub fn set_affinity(cpus: &[u32]) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    let name = || format!("processors {cpus:?}");
    for cpu in cpus {
        let cpu = usize::try_from(*cpu).unwrap_or(usize::MAX);
        if cpu >= rustix::thread::CpuSet::MAX_CPU {
            return Err(Error::new("sched_setaffinity", name(), libc::EINVAL));
        }
        set.set(cpu);
    }
    rustix::thread::sched_setaffinity(None, &set).context("sched_setaffinity", name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_changes_itself() {
        // In a thread of its own: other tests shall not run under what this one sets.
        std::thread::spawn(|| {
            set_scheduling(&Scheduling { policy: 3, nice: 5, ..Scheduling::default() }).unwrap();
            let tid = rustix::thread::gettid().as_raw_nonzero();
            let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat")).unwrap();
            let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
            // nice is field 19 of the file and policy field 41; what follows the name begins with field 3.
            assert_eq!((fields[16], fields[38]), ("5", "3"));
            set_io_priority(3, 0).unwrap();
            assert!(set_io_priority(7, 0).is_err());
            set_affinity(&[0]).unwrap();
            assert!(set_affinity(&[1_000_000]).is_err());
            set_personality(8).unwrap();
        })
        .join()
        .unwrap();
    }
}
