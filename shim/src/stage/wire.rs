//! The plan on its way to the child: a memory file with two lengths, the plan, the filter.

use super::error::{At, Result, StageError, Step};
use super::plan::Plan;
use rustix::fs::MemfdFlags;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;

/// Writes plan and filter into a memory file, ready to be read from its start.
pub(super) fn write(plan: &Plan, filter: &[u8]) -> Result<OwnedFd> {
    let plan = serde_json::to_vec(plan)
        .map_err(|error| StageError::refuse(Step::Spec, "plan", error.to_string()))?;
    let mut bytes = Vec::with_capacity(16 + plan.len() + filter.len());
    bytes.extend_from_slice(&(plan.len() as u64).to_ne_bytes());
    bytes.extend_from_slice(&(filter.len() as u64).to_ne_bytes());
    bytes.extend_from_slice(&plan);
    bytes.extend_from_slice(filter);
    let memfd =
        rustix::fs::memfd_create("orlop-plan", MemfdFlags::CLOEXEC).at(Step::Spawn, || "plan")?;
    let mut file = File::from(memfd);
    file.write_all(&bytes).at(Step::Spawn, || "plan")?;
    file.rewind().at(Step::Spawn, || "plan")?;
    Ok(file.into())
}

/// Reads them back.
pub(super) fn read(fd: OwnedFd) -> Result<(Plan, Vec<u8>)> {
    let mut file = File::from(fd);
    let size = file.metadata().at(Step::Spawn, || "plan")?.len();
    let mut bytes = Vec::with_capacity(size as usize);
    file.read_to_end(&mut bytes).at(Step::Spawn, || "plan")?;
    split(&bytes).ok_or_else(|| StageError::refuse(Step::Spawn, "plan", "cut off"))
}

fn split(bytes: &[u8]) -> Option<(Plan, Vec<u8>)> {
    let length = |at: usize| -> Option<usize> {
        let bytes = bytes.get(at..at + 8)?.try_into().ok()?;
        usize::try_from(u64::from_ne_bytes(bytes)).ok()
    };
    let plan_end = 16_usize.checked_add(length(0)?)?;
    let filter_end = plan_end.checked_add(length(8)?)?;
    let plan = serde_json::from_slice(bytes.get(16..plan_end)?).ok()?;
    Some((plan, bytes.get(plan_end..filter_end)?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::super::plan::Process;
    use super::*;

    #[test]
    fn plans_cross_whole_however_long() {
        let args = (0..4000).map(|n| format!("{n}{}", "x".repeat(250))).collect::<Vec<_>>();
        let plan = Plan {
            process: Process { args: args.clone(), ..Process::default() },
            ..Plan::default()
        };
        let (read, filter) = read(write(&plan, &[1, 2, 3]).unwrap()).unwrap();
        assert_eq!(read.process.args, args);
        assert_eq!(filter, [1, 2, 3]);
        assert!(split(&[0; 15]).is_none());
        assert!(split(&[0xff; 64]).is_none());
    }
}
