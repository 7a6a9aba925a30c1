//! From the OCI section to a program: rules per system call, then ranges of numbers, then a search tree.

use super::assemble::{Assembler, Label, Test};
use super::table::SYSCALLS;
use super::{Program, SeccompError};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSeccompOperator,
};

const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The kernel's limit (BPF_MAXINSNS).
const LONGEST: usize = 4096;
/// The bit that marks a call of the x32 interface.
const X32: u32 = 0x4000_0000;

/// An architecture that we have numbers for: its audit number and its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Machine {
    audit: u32,
    column: usize,
    wide: bool,
}

const X86_64: Machine = Machine { audit: 0xc000_003e, column: 0, wide: true };
const X32_MACHINE: Machine = Machine { audit: 0xc000_003e, column: 1, wide: true };
const I386: Machine = Machine { audit: 0x4000_0003, column: 2, wide: false };
const AARCH64: Machine = Machine { audit: 0xc000_00b7, column: 3, wide: true };
const NATIVE: Machine = if cfg!(target_arch = "aarch64") { AARCH64 } else { X86_64 };

/// What happens to one system call: conditions in order, then a last word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Verdict<'a> {
    conditions: Vec<(&'a [LinuxSeccompArg], u32)>,
    otherwise: u32,
    /// Whether an entry without conditions has spoken.
    decided: bool,
}

impl Verdict<'_> {
    fn plain(otherwise: u32) -> Self {
        Self { otherwise, ..Self::default() }
    }

    fn same(&self, other: &Self) -> bool {
        self.otherwise == other.otherwise && self.conditions == other.conditions
    }
}

/// What the section says about each call of the table that it names.
type Verdicts<'a> = Vec<Option<Verdict<'a>>>;

/// Compiles a section for this machine.
///
/// The first entry without conditions that names a call decides; entries with conditions come before it, in
/// their order, and all conditions of an entry must hold. A call that did not exist when this program was
/// written gives ENOSYS where the default is an error, so that newer programs fall back instead of failing.
/// An architecture that the section does not list is killed, as is one that we have no numbers for.
pub fn compile(section: &LinuxSeccomp) -> Result<Program, SeccompError> {
    let default = action(section.default_action(), section.default_errno_ret())?;
    let verdicts = verdicts(section, default)?;
    let mut assembler = Assembler::default();
    let mut entry = assembler.give(KILL_PROCESS);
    let machines = machines(section);
    for machine in machines.iter().filter(|machine| **machine != X32_MACHINE) {
        let mut tree = tree(&mut assembler, *machine, &verdicts, default);
        if *machine == X86_64 {
            // The two share their audit number and differ in one bit of the call's number.
            let x32 = if machines.contains(&X32_MACHINE) {
                self::tree(&mut assembler, X32_MACHINE, &verdicts, default)
            } else {
                assembler.give(KILL_PROCESS)
            };
            tree = assembler.branch(Test::GreaterEqual(X32), x32, tree);
        }
        let load = assembler.load(NUMBER, tree);
        entry = assembler.branch(Test::Equal(machine.audit), load, entry);
    }
    let start = assembler.load(ARCHITECTURE, entry);
    let code = assembler.finish(start);
    if code.len() > LONGEST {
        return Err(SeccompError::TooLarge(code.len()));
    }
    let mut bytes = Vec::with_capacity(code.len() * 8);
    for instruction in code {
        bytes.extend_from_slice(&instruction.code.to_ne_bytes());
        bytes.extend_from_slice(&[instruction.yes, instruction.no]);
        bytes.extend_from_slice(&instruction.value.to_ne_bytes());
    }
    Ok(Program { code: bytes, flags: flags(section) })
}

fn flags(section: &LinuxSeccomp) -> u32 {
    let bit = |flag: &LinuxSeccompFilterFlag| match flag {
        // One thread installs for itself, so there is nobody to synchronize with.
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => 2,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => 4,
        // It goes with a listener.
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
    };
    section.flags().iter().flatten().map(bit).fold(0, |all, bit| all | bit)
}

/// The architectures of the section; none listed means our own.
fn machines(section: &LinuxSeccomp) -> Vec<Machine> {
    let listed = section.architectures().as_deref().unwrap_or_default();
    let mut machines = vec![NATIVE];
    for architecture in listed {
        let machine = match architecture {
            Arch::ScmpArchX86_64 if NATIVE == X86_64 => X86_64,
            Arch::ScmpArchX32 if NATIVE == X86_64 => X32_MACHINE,
            Arch::ScmpArchX86 if NATIVE == X86_64 => I386,
            // Of another machine, or without numbers here (32-bit ARM): its calls are killed.
            _ => continue,
        };
        if !machines.contains(&machine) {
            machines.push(machine);
        }
    }
    machines
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, SeccompError> {
    const EPERM: u32 = 1;
    let errno = errno.unwrap_or(EPERM);
    if errno > 4095 {
        return Err(SeccompError::Unsupported(format!("errnoRet {errno} is above 4095")));
    }
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => KILL_THREAD,
        LinuxSeccompAction::ScmpActKillProcess => KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => TRAP,
        LinuxSeccompAction::ScmpActErrno => ERRNO | errno,
        LinuxSeccompAction::ScmpActTrace => TRACE | errno,
        LinuxSeccompAction::ScmpActLog => LOG,
        LinuxSeccompAction::ScmpActAllow => ALLOW,
        LinuxSeccompAction::ScmpActNotify => {
            return Err(SeccompError::Unsupported(
                "SCMP_ACT_NOTIFY needs a listener, which is not supported yet".to_owned(),
            ));
        }
    })
}

fn verdicts(section: &LinuxSeccomp, default: u32) -> Result<Verdicts<'_>, SeccompError> {
    let mut verdicts = vec![None; SYSCALLS.len()];
    for entry in section.syscalls().iter().flatten() {
        let action = action(entry.action(), entry.errno_ret())?;
        let args = entry.args().as_deref().unwrap_or_default();
        if args.iter().any(|arg| arg.index() > 5) {
            return Err(SeccompError::Unsupported(format!(
                "{:?}: an argument index above 5",
                entry.names()
            )));
        }
        for name in entry.names() {
            // A name that we do not know is of another architecture, or newer than we are.
            let known = SYSCALLS.binary_search_by_key(&name.as_str(), |(name, _)| name).ok();
            let Some(slot) = known.and_then(|index| verdicts.get_mut(index)) else { continue };
            let verdict = slot.get_or_insert_with(|| Verdict::plain(default));
            if !args.is_empty() {
                verdict.conditions.push((args, action));
            } else if !verdict.decided {
                verdict.otherwise = action;
                verdict.decided = true;
            }
        }
    }
    Ok(verdicts)
}

/// The search tree over the numbers of one machine.
fn tree(
    assembler: &mut Assembler,
    machine: Machine,
    verdicts: &Verdicts<'_>,
    default: u32,
) -> Label {
    let offset = if machine == X32_MACHINE { X32 } else { 0 };
    // What is newer than our table does not exist, as far as the workload can tell.
    let enosys = ERRNO | libc::ENOSYS.cast_unsigned();
    let newer = Verdict::plain(if default & 0xffff_0000 == ERRNO { enosys } else { default });
    let unnamed = Verdict::plain(default);
    let mut by_number: Vec<(u32, &Verdict<'_>)> = Vec::with_capacity(SYSCALLS.len() + 1);
    for ((_, numbers), verdict) in SYSCALLS.iter().zip(verdicts) {
        let number = numbers.get(machine.column).and_then(|number| u32::try_from(*number).ok());
        if let Some(number) = number {
            by_number.push((number + offset, verdict.as_ref().unwrap_or(&unnamed)));
        }
    }
    by_number.sort_unstable_by_key(|(number, _)| *number);
    let highest = by_number.last().map_or(offset, |(number, _)| *number);
    by_number.push((highest + 1, &newer));
    let mut ranges: Vec<(u32, &Verdict<'_>)> = Vec::new();
    let mut next = offset;
    for (number, verdict) in by_number {
        if number > next {
            // A hole in the numbers.
            push(&mut ranges, next, &unnamed);
        }
        push(&mut ranges, number, verdict);
        next = number + 1;
    }
    search(assembler, machine, &ranges)
}

/// Adds a range that begins at `first`, unless it goes on like the one before.
fn push<'v>(ranges: &mut Vec<(u32, &'v Verdict<'v>)>, first: u32, verdict: &'v Verdict<'v>) {
    if ranges.last().is_none_or(|(_, last)| !last.same(verdict)) {
        ranges.push((first, verdict));
    }
}

fn search(assembler: &mut Assembler, machine: Machine, ranges: &[(u32, &Verdict<'_>)]) -> Label {
    match ranges {
        [] => assembler.give(KILL_PROCESS),
        [(_, verdict)] => decide(assembler, machine, verdict),
        _ => {
            let (left, right) = ranges.split_at(ranges.len() / 2);
            let first = right.first().map_or(0, |(first, _)| *first);
            let right = search(assembler, machine, right);
            let left = search(assembler, machine, left);
            assembler.branch(Test::GreaterEqual(first), right, left)
        }
    }
}

/// The conditions of one call, in order; each leaves the accumulator to the next.
fn decide(assembler: &mut Assembler, machine: Machine, verdict: &Verdict<'_>) -> Label {
    let mut next = assembler.give(verdict.otherwise);
    for (args, action) in verdict.conditions.iter().rev() {
        let mut hit = assembler.give(*action);
        for arg in args.iter().rev() {
            hit = compare(assembler, machine, arg, hit, next);
        }
        next = hit;
    }
    next
}

/// A comparison of 64 bits, in two halves where the machine has them.
fn compare(
    assembler: &mut Assembler,
    machine: Machine,
    arg: &LinuxSeccompArg,
    hit: Label,
    miss: Label,
) -> Label {
    use LinuxSeccompOperator as Op;
    let offset = ARGUMENTS + 8 * u32::try_from(arg.index()).unwrap_or(0);
    let (value, mask, hit, miss) = match arg.op() {
        Op::ScmpCmpNe => (arg.value(), None, miss, hit),
        Op::ScmpCmpMaskedEq => (arg.value_two().unwrap_or(0), Some(arg.value()), hit, miss),
        _ => (arg.value(), None, hit, miss),
    };
    let halves = |number: u64| ((number >> 32) as u32, number as u32);
    let (high, low) = halves(value);
    let (mask_high, mask_low) = mask.map_or((u32::MAX, u32::MAX), halves);
    let half = |assembler: &mut Assembler, offset: u32, mask: u32, next: Label| {
        let next = if mask == u32::MAX { next } else { assembler.and(mask, next) };
        assembler.load(offset, next)
    };
    // Whether the lower halves decide, when the upper ones are equal.
    let last = match arg.op() {
        Op::ScmpCmpEq | Op::ScmpCmpNe | Op::ScmpCmpMaskedEq => {
            assembler.branch(Test::Equal(low), hit, miss)
        }
        Op::ScmpCmpGe => assembler.branch(Test::GreaterEqual(low), hit, miss),
        Op::ScmpCmpGt => assembler.branch(Test::Greater(low), hit, miss),
        Op::ScmpCmpLt => assembler.branch(Test::GreaterEqual(low), miss, hit),
        Op::ScmpCmpLe => assembler.branch(Test::Greater(low), miss, hit),
    };
    let lower = half(assembler, offset, mask_low, last);
    // A 32-bit caller has no upper half. A mask that is empty above asks nothing of it.
    if !machine.wide || mask_high == 0 && high == 0 {
        return lower;
    }
    let equal_or = |assembler: &mut Assembler, unequal: Label| {
        assembler.branch(Test::Equal(high), lower, unequal)
    };
    let upper = match arg.op() {
        Op::ScmpCmpEq | Op::ScmpCmpNe | Op::ScmpCmpMaskedEq => equal_or(assembler, miss),
        Op::ScmpCmpGe | Op::ScmpCmpGt => {
            let smaller = equal_or(assembler, miss);
            assembler.branch(Test::Greater(high), hit, smaller)
        }
        Op::ScmpCmpLt | Op::ScmpCmpLe => {
            let smaller = equal_or(assembler, hit);
            assembler.branch(Test::Greater(high), miss, smaller)
        }
    };
    half(assembler, offset + 4, mask_high, upper)
}
