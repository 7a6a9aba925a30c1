//! The device rules of cgroup v2: a program that the kernel asks at every open and mknod.
#![expect(unsafe_code, reason = "bpf has no wrapper")]

use super::devices::{Kind, Rule};
use crate::error::{Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One instruction: code, destination and source register, offset, immediate.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbf;
const MOVE_IMMEDIATE: u8 = 0xb7;
const AND_IMMEDIATE: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_EQUAL: u8 = 0x15;
const JUMP_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

/// Registers: the kernel's argument, then ours.
const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: source << 4 | destination, offset, immediate }
}

/// Translates the rules. The last that matches decides, so they are asked from the last to the first.
pub(super) fn program(rules: &[Rule]) -> Vec<Instruction> {
    let mut code = vec![
        // struct bpf_cgroup_dev_ctx: access in the upper half and type in the lower, major, minor.
        instruction(LOAD_WORD, TYPE, CONTEXT, 0, 0),
        instruction(AND_IMMEDIATE, TYPE, 0, 0, 0xffff),
        instruction(LOAD_WORD, ACCESS, CONTEXT, 0, 0),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let mut tests = Vec::new();
        if let Some(kind) = rule.kind {
            tests.push(vec![(TYPE, if kind == Kind::Block { 1 } else { 2 })]);
        }
        for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
            if let Some(number) = number {
                tests.push(vec![(register, number.cast_signed())]);
            }
        }
        let tests = tests.concat();
        block(&mut code, rule, &tests);
        if tests.is_empty() && rule.access == super::devices::ALL {
            // It decides everything: the kernel refuses code that cannot be reached.
            return code;
        }
    }
    code.extend([instruction(MOVE_IMMEDIATE, 0, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
    code
}

/// Code of one rule: each test that fails jumps behind it.
fn block(code: &mut Vec<Instruction>, rule: &Rule, tests: &[(u8, i32)]) {
    let access = rule.access != super::devices::ALL;
    let mut body = Vec::new();
    if access {
        // To allow, everything that is asked must be in the rule; to deny, something of it.
        body.push(instruction(MOVE, SCRATCH, ACCESS, 0, 0));
        let mask = if rule.allow { !rule.access & super::devices::ALL } else { rule.access };
        body.push(instruction(AND_IMMEDIATE, SCRATCH, 0, 0, mask.cast_signed()));
    }
    let length = tests.len() + body.len() + usize::from(access) + 2;
    let mut at = 0;
    let behind = |at: &mut usize| {
        *at += 1;
        i16::try_from(length - *at).unwrap_or(i16::MAX)
    };
    for (register, value) in tests {
        code.push(instruction(JUMP_NOT_EQUAL, *register, 0, behind(&mut at), *value));
    }
    for line in body {
        code.push(line);
        at += 1;
    }
    if access {
        let code_of = if rule.allow { JUMP_NOT_EQUAL } else { JUMP_EQUAL };
        code.push(instruction(code_of, SCRATCH, 0, behind(&mut at), 0));
    }
    code.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, i32::from(rule.allow)));
    code.push(instruction(EXIT, 0, 0, 0, 0));
}

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_DETACH: libc::c_long = 9;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const PROG_QUERY: libc::c_long = 16;
const TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log: [u32; 2],
    log_buffer: u64,
    rest: [u64; 4],
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replace: u32,
    rest: [u32; 3],
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    rest: [u32; 5],
}

/// Puts the program on the group, in place of what was there. Programs of groups above stay in force.
pub(super) fn attach(group: BorrowedFd<'_>, code: &[Instruction]) -> Result<()> {
    let load = Load {
        kind: TYPE_CGROUP_DEVICE,
        count: u32::try_from(code.len()).unwrap_or(u32::MAX),
        instructions: code.as_ptr().expose_provenance() as u64,
        license: c"Apache-2.0".as_ptr().expose_provenance() as u64,
        ..Load::default()
    };
    let program = bpf(PROG_LOAD, &load)
        .map_err(|errno| Error::new("bpf", "load the device program", errno))?;
    // SAFETY: the call above made this descriptor for us.
    let program = unsafe { OwnedFd::from_raw_fd(program as i32) };
    let old = attached(group);
    let target = group.as_raw_fd().cast_unsigned();
    let number = |fd: &OwnedFd| fd.as_raw_fd().cast_unsigned();
    let attach = Attach {
        target,
        program: number(&program),
        kind: CGROUP_DEVICE,
        flags: ALLOW_MULTI,
        ..Attach::default()
    };
    bpf(PROG_ATTACH, &attach)
        .map_err(|errno| Error::new("bpf", "attach the device program", errno))?;
    // All attached programs must agree, so the old ones stayed in force until the new one was there.
    for program in old {
        let detach =
            Attach { target, program: number(&program), kind: CGROUP_DEVICE, ..Attach::default() };
        bpf(PROG_DETACH, &detach)
            .map_err(|errno| Error::new("bpf", "detach the old device program", errno))?;
    }
    Ok(())
}

fn attached(group: BorrowedFd<'_>) -> Vec<OwnedFd> {
    let mut ids = [0_u32; 64];
    let mut query = Query {
        target: group.as_raw_fd().cast_unsigned(),
        kind: CGROUP_DEVICE,
        ids: ids.as_mut_ptr().expose_provenance() as u64,
        count: 64,
        ..Query::default()
    };
    if bpf_mut(PROG_QUERY, &mut query).is_err() {
        return Vec::new();
    }
    let listed = ids.iter().take(query.count as usize);
    let open = |id: &u32| {
        let request = [*id, 0, 0];
        let fd = bpf(PROG_GET_FD_BY_ID, &request).ok()?;
        // SAFETY: the call above made this descriptor for us.
        Some(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    };
    listed.filter_map(open).collect()
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> std::result::Result<libc::c_long, i32> {
    let address = std::ptr::from_ref(attributes);
    // SAFETY: the kernel reads `size_of::<T>()` bytes of a plain struct.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, address, size_of::<T>()) };
    if result < 0 { Err(errno()) } else { Ok(result) }
}

fn bpf_mut<T>(command: libc::c_long, attributes: &mut T) -> std::result::Result<libc::c_long, i32> {
    let address = std::ptr::from_mut(attributes);
    // SAFETY: as above, and what it writes stays inside.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, address, size_of::<T>()) };
    if result < 0 { Err(errno()) } else { Ok(result) }
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}
