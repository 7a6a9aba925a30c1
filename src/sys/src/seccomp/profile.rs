//! The default profile, of our own: what a workload may call, by what it could do with it.
//!
//! An allow list of every call that the kernel had when this was written, without those below.
//! A call belongs here when it reaches kernel code with a history of escapes (io_uring, userfaultfd, bpf,
//! keys), acts on the whole machine (clocks, modules, swap, accounting), or makes namespaces and
//! mounts. Most of them check a capability too: a container that was given it gets the call back.

use super::table::SYSCALLS;
use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

/// Calls that nobody gets.
const NEVER: &[&str] = &[
    "_sysctl",
    "add_key",
    "afs_syscall",
    "bdflush",
    "break",
    "create_module",
    "ftime",
    "get_kernel_syms",
    "getpmsg",
    "gtty",
    "idle",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lock",
    "lookup_dcookie",
    "mpx",
    "nfsservctl",
    "prof",
    "profil",
    "putpmsg",
    "query_module",
    "request_key",
    "security",
    "socketcall",
    "stty",
    "swapoff",
    "swapon",
    "sysfs",
    "tuxcall",
    "ulimit",
    "uselib",
    "userfaultfd",
    "ustat",
    "vm86",
    "vm86old",
    "vserver",
];

/// Calls that come with a capability, any of those named.
const WITH: &[(&[&str], &[&str])] = &[
    (
        &["CAP_SYS_ADMIN"],
        &[
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lsm_set_self_attr",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "open_tree_attr",
            "pivot_root",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    (&["CAP_SYS_ADMIN", "CAP_BPF"], &["bpf"]),
    (&["CAP_SYS_ADMIN", "CAP_PERFMON"], &["perf_event_open"]),
    (&["CAP_SYS_ADMIN", "CAP_SYSLOG"], &["syslog"]),
    (&["CAP_DAC_READ_SEARCH"], &["open_by_handle_at"]),
    (&["CAP_SYS_BOOT"], &["reboot"]),
    (&["CAP_SYS_CHROOT"], &["chroot"]),
    (&["CAP_SYS_MODULE"], &["delete_module", "finit_module", "init_module"]),
    (
        &["CAP_SYS_NICE"],
        &[
            "get_mempolicy",
            "mbind",
            "migrate_pages",
            "move_pages",
            "set_mempolicy",
            "set_mempolicy_home_node",
        ],
    ),
    (&["CAP_SYS_PACCT"], &["acct"]),
    (&["CAP_SYS_PTRACE"], &["kcmp", "pidfd_getfd"]),
    (&["CAP_SYS_RAWIO"], &["ioperm", "iopl"]),
    (&["CAP_SYS_TIME"], &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    (&["CAP_SYS_TTY_CONFIG"], &["vhangup"]),
];

/// Namespace bits of clone's flags. CLONE_NEWTIME shares its bit with the exit signal: clone cannot make one.
const NAMESPACES: u64 = 0x7e02_0000;
/// Personalities that change nothing dangerous: Linux, 32-bit Linux, both with the old uname, and "tell me".
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Our own default profile for a process that may hold `capabilities` (names as in the OCI spec,
/// `CAP_SYS_ADMIN`).
pub fn default_profile(capabilities: &[&str]) -> LinuxSeccomp {
    let has = |names: &[&str]| names.iter().any(|name| capabilities.contains(name));
    let admin = has(&["CAP_SYS_ADMIN"]);
    let conditional = |name: &str| match name {
        "clone" | "clone3" => !admin,
        "socket" | "personality" => true,
        _ => false,
    };
    let denied = |name: &str| {
        NEVER.contains(&name)
            || WITH.iter().any(|(needed, names)| names.contains(&name) && !has(needed))
    };
    let allowed: Vec<&str> = SYSCALLS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !denied(name) && !conditional(name))
        .collect();
    let mut rules = vec![json!({ "names": allowed, "action": "SCMP_ACT_ALLOW" })];
    rules.extend(sockets());
    rules.extend(PERSONALITIES.map(|number| {
        when("personality", json!([{ "index": 0, "value": number, "op": "SCMP_CMP_EQ" }]))
    }));
    if !admin {
        let flags =
            json!([{ "index": 0, "value": NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }]);
        rules.push(when("clone", flags));
        // Its flags are in memory, where a filter cannot look: libraries then use clone.
        rules.push(
            json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS }),
        );
    }
    // On 32-bit x86 its arguments are in memory too; libraries know the separate calls.
    rules.push(
        json!({ "names": ["socketcall"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS }),
    );
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::EPERM,
        "architectures": architectures(),
        "syscalls": rules,
    });
    // The value above is a literal of the right shape, as the tests prove; if ever not, nothing is allowed.
    serde_json::from_value(profile).unwrap_or_else(|_| {
        let mut nothing = LinuxSeccomp::default();
        nothing.set_default_action(oci_spec::runtime::LinuxSeccompAction::ScmpActErrno);
        nothing
    })
}

fn when(name: &str, args: Value) -> Value {
    json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": args })
}

/// Every address family but AF_ALG (38) and AF_VSOCK (40). The kernel reads 32 bits of the argument and the
/// filter 64: families are named, not excluded, so that bits above cannot smuggle one in.
fn sockets() -> Vec<Value> {
    let families = [39_u64, 41, 42, 43, 44, 45];
    let up_to = when("socket", json!([{ "index": 0, "value": 37, "op": "SCMP_CMP_LE" }]));
    let each = families.map(|family| {
        when("socket", json!([{ "index": 0, "value": family, "op": "SCMP_CMP_EQ" }]))
    });
    std::iter::once(up_to).chain(each).collect()
}

fn architectures() -> Vec<&'static str> {
    if cfg!(target_arch = "aarch64") {
        vec!["SCMP_ARCH_AARCH64"]
    } else {
        // x32 is left out: kernels come without it, and its third table would only make every start slower.
        vec!["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    }
}
