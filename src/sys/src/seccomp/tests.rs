use super::*;
use oci_spec::runtime::LinuxSeccomp;
use proptest::prelude::*;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0x8000_0000;

const fn errno(number: i32) -> u32 {
    0x0005_0000 | number.cast_unsigned()
}

/// Runs a program as the kernel would, on one call.
fn run(program: &Program, arch: u32, number: u32, args: &[u64]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_le_bytes());
    data.extend(arch.to_le_bytes());
    data.extend(0_u64.to_le_bytes());
    for index in 0..6 {
        data.extend(args.get(index).copied().unwrap_or(0).to_le_bytes());
    }
    let word = |at: u32| u32::from_le_bytes(data[at as usize..at as usize + 4].try_into().unwrap());
    let code: Vec<(u16, u8, u8, u32)> = program
        .code
        .chunks_exact(8)
        .map(|b| {
            (
                u16::from_ne_bytes([b[0], b[1]]),
                b[2],
                b[3],
                u32::from_ne_bytes(b[4..].try_into().unwrap()),
            )
        })
        .collect();
    let (mut at, mut a) = (0_usize, 0_u32);
    loop {
        let (op, yes, no, k) = code[at];
        at += 1;
        let jump = |condition: bool| usize::from(if condition { yes } else { no });
        match op {
            0x20 => a = word(k),
            0x54 => a &= k,
            0x05 => at += k as usize,
            0x15 => at += jump(a == k),
            0x25 => at += jump(a > k),
            0x35 => at += jump(a >= k),
            0x06 => return k,
            other => panic!("opcode {other:#x}"),
        }
    }
}

fn number(name: &str, column: usize) -> u32 {
    let (_, numbers) = table::SYSCALLS.iter().find(|(known, _)| *known == name).unwrap();
    u32::try_from(numbers[column]).unwrap()
}

fn section(json: &str) -> LinuxSeccomp {
    serde_json::from_str(json).unwrap()
}

#[test]
fn the_table_is_sorted_and_right_where_libc_knows_better() {
    assert!(table::SYSCALLS.is_sorted_by(|a, b| a.0 < b.0));
    let column = if cfg!(target_arch = "aarch64") { 3 } else { 0 };
    for (name, value) in [
        ("read", libc::SYS_read),
        ("clone3", libc::SYS_clone3),
        ("mount_setattr", libc::SYS_mount_setattr),
        ("seccomp", libc::SYS_seccomp),
        ("execve", libc::SYS_execve),
        ("openat2", libc::SYS_openat2),
    ] {
        assert_eq!(i64::from(number(name, column)), value, "{name}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_default_profile_decides_as_written() {
    let program = compile(&default_profile(&["CAP_CHOWN"])).unwrap();
    let call = |name: &str, args: &[u64]| run(&program, X86_64, number(name, 0), args);
    for name in
        ["read", "write", "execve", "openat2", "ptrace", "futex", "uretprobe", "statx", "fork"]
    {
        assert_eq!(call(name, &[]), ALLOW, "{name}");
    }
    for name in [
        "mount",
        "bpf",
        "keyctl",
        "io_uring_setup",
        "userfaultfd",
        "unshare",
        "setns",
        "kexec_load",
        "chroot",
    ] {
        assert_eq!(call(name, &[]), errno(1), "{name}");
    }
    assert_eq!(call("clone3", &[]), errno(libc::ENOSYS));
    assert_eq!(call("clone", &[0x11]), ALLOW);
    for bit in
        [0x2_0000_u64, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000]
    {
        assert_eq!(call("clone", &[bit | 0x11]), errno(1), "{bit:#x}");
    }
    for (family, allowed) in [
        (1_u64, true),
        (2, true),
        (10, true),
        (16, true),
        (38, false),
        (39, true),
        (40, false),
        (44, true),
    ] {
        assert_eq!(call("socket", &[family]) == ALLOW, allowed, "{family}");
        // The kernel ignores the upper half: it must not turn a refusal into a grant.
        let smuggled = call("socket", &[family | 1 << 32]);
        assert_eq!(smuggled, errno(1), "{family}");
    }
    assert_eq!(run(&program, I386, number("socketcall", 2), &[]), errno(libc::ENOSYS));
    assert_eq!(run(&program, I386, number("socket", 2), &[38]), errno(1));
    assert_eq!(run(&program, I386, number("read", 2), &[]), ALLOW);
    assert_eq!(run(&program, I386, number("mount", 2), &[]), errno(1));
    assert_eq!(run(&program, X86_64, 0x4000_0000 | number("read", 1), &[]), KILL);
    assert_eq!(run(&program, X86_64, 100_000, &[]), errno(libc::ENOSYS));
    assert_eq!(run(&program, 0xc000_00b7, 0, &[]), KILL);
    let length = program.code.len() / 8;
    assert!(length < 320, "{length} instructions");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn capabilities_give_calls_back() {
    let program = compile(&default_profile(&["CAP_SYS_ADMIN", "CAP_SYS_CHROOT"])).unwrap();
    for name in ["mount", "unshare", "clone3", "chroot", "bpf", "setns"] {
        assert_eq!(run(&program, X86_64, number(name, 0), &[]), ALLOW, "{name}");
    }
    for name in ["keyctl", "io_uring_setup", "init_module", "settimeofday"] {
        assert_eq!(run(&program, X86_64, number(name, 0), &[]), errno(1), "{name}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_x32_interface_has_its_own_numbers() {
    let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X32"],
        "syscalls":[{"names":["read","ptrace"],"action":"SCMP_ACT_ALLOW"}]}"#;
    let program = compile(&section(json)).unwrap();
    let x32 = |name: &str| run(&program, X86_64, 0x4000_0000 | number(name, 1), &[]);
    assert_eq!((x32("read"), x32("ptrace"), x32("write")), (ALLOW, ALLOW, errno(1)));
    assert_eq!(run(&program, X86_64, 0x4000_0000 | number("ptrace", 0), &[]), errno(1));
    assert_eq!(run(&program, I386, number("read", 2), &[]), KILL);
}

#[test]
fn what_cannot_be_compiled_is_an_error() {
    let notify = r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#;
    assert!(matches!(compile(&section(notify)), Err(SeccompError::Unsupported(_))));
    let index = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO",
        "args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#;
    assert!(matches!(compile(&section(index)), Err(SeccompError::Unsupported(_))));
    let many: Vec<String> = (0..2000)
        .map(|n| format!(r#"{{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{{"index":0,"value":{n},"op":"SCMP_CMP_EQ"}}]}}"#))
        .collect();
    let large = format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{}]}}"#, many.join(","));
    assert!(matches!(compile(&section(&large)), Err(SeccompError::TooLarge(_))));
}

#[test]
fn long_filters_keep_their_jumps_right() {
    // Every second call denied, each with a condition: nothing can be merged, and jumps get long.
    let names: Vec<&str> = table::SYSCALLS
        .iter()
        .filter(|(_, n)| n[0] >= 0 && n[0] % 2 == 0)
        .map(|(name, _)| *name)
        .collect();
    let rules: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(n, name)| {
            format!(r#"{{"names":["{name}"],"action":"SCMP_ACT_ERRNO","errnoRet":{},"args":[{{"index":1,"value":{n},"op":"SCMP_CMP_EQ"}}]}}"#, n + 2)
        })
        .collect();
    let json = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{}]}}"#, rules.join(","));
    let program = compile(&section(&json)).unwrap();
    assert!(program.code.len() / 8 > 700);
    if cfg!(target_arch = "x86_64") {
        for (n, name) in names.iter().enumerate() {
            let hit = run(&program, X86_64, number(name, 0), &[0, n as u64]);
            assert_eq!(hit, errno(i32::try_from(n).unwrap() + 2), "{name}");
            assert_eq!(run(&program, X86_64, number(name, 0), &[0, n as u64 + 1]), ALLOW, "{name}");
        }
        assert_eq!(run(&program, X86_64, number("write", 0), &[0, 0]), ALLOW);
    }
}

proptest! {
    /// Each operator on 64 bits agrees with Rust's.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn comparisons(op in 0..7_usize, value: u64, other: u64, near in -2_i64..3, use_near: bool) {
        let arg = if use_near { value.wrapping_add_signed(near) } else { other };
        let (name, expected) = match op {
            0 => ("SCMP_CMP_NE", arg != value),
            1 => ("SCMP_CMP_LT", arg < value),
            2 => ("SCMP_CMP_LE", arg <= value),
            3 => ("SCMP_CMP_EQ", arg == value),
            4 => ("SCMP_CMP_GE", arg >= value),
            5 => ("SCMP_CMP_GT", arg > value),
            _ => ("SCMP_CMP_MASKED_EQ", arg & value == other & value),
        };
        let json = format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["read"],"action":"SCMP_ACT_ALLOW",
                "args":[{{"index":2,"value":{value},"valueTwo":{},"op":"{name}"}}]}}]}}"#,
            other & value
        );
        let program = compile(&section(&json)).unwrap();
        prop_assert_eq!(run(&program, X86_64, 0, &[0, 0, arg]) == ALLOW, expected);
    }
}
