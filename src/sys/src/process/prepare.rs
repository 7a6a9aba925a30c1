//! What a spawn prepares before the clone: strings, and descriptors by number.

use super::child::Plan;
use super::raw::CloneArgs;
use super::spawn::{Command, Namespaces, Program, SpawnStep};
use libc::{c_char, c_int};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicIsize};

/// A result that names the step and the kernel's number.
pub(super) type Step<T> = Result<T, (SpawnStep, i32)>;

pub(super) fn prepare(errno: Errno) -> (SpawnStep, i32) {
    (SpawnStep::Prepare, errno.raw_os_error())
}

/// Arguments, environment and paths, as the kernel wants them.
pub(super) struct Strings {
    _owned: Vec<CString>,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    path: Option<CString>,
    directory: Option<CString>,
}

impl Strings {
    pub(super) fn new(command: &Command<'_>) -> Step<Self> {
        let c_string =
            |bytes: &[u8]| CString::new(bytes).map_err(|_| (SpawnStep::Prepare, libc::EINVAL));
        let mut owned = Vec::with_capacity(command.args.len() + command.env.len());
        let mut list = |strings: &[Vec<u8>]| -> Step<Vec<*const c_char>> {
            let mut pointers = Vec::with_capacity(strings.len() + 1);
            for string in strings {
                let string = c_string(string)?;
                pointers.push(string.as_ptr());
                owned.push(string);
            }
            pointers.push(ptr::null());
            Ok(pointers)
        };
        let argv = list(&command.args)?;
        let envp = list(&command.env)?;
        let path = match command.program {
            Program::Path(path) => Some(c_string(path.as_os_str().as_bytes())?),
            Program::Fd(_) => None,
        };
        let directory = command.directory.as_deref().map(c_string).transpose()?;
        Ok(Self { _owned: owned, argv, envp, path, directory })
    }

    pub(super) fn plan<'p>(
        &'p self,
        descriptors: &'p Descriptors,
        pipes: &Pipes,
        command: &Command<'_>,
    ) -> Plan<'p> {
        Plan {
            path: self.path.as_ref().map_or(ptr::null(), |path| path.as_ptr()),
            exec_fd: descriptors.exec,
            argv: self.argv.as_ptr(),
            envp: self.envp.as_ptr(),
            dups: &descriptors.dups,
            holes: &descriptors.holes,
            above: descriptors.above,
            report: pipes.report.1.as_raw_fd(),
            mapped: pipes.mapped.as_ref().map_or(-1, |(read, _)| read.as_raw_fd()),
            tasks: &descriptors.tasks,
            joins: &descriptors.joins,
            directory: self.directory.as_ref().map_or(ptr::null(), |directory| directory.as_ptr()),
            session: command.session,
            death_signal: command.death_signal,
            inner: CloneArgs::default(),
            pid: AtomicIsize::new(0),
            pidfd: AtomicI32::new(-1),
        }
    }
}

/// Descriptors by number, all of them above the highest target, so that no dup can hit another.
pub(super) struct Descriptors {
    _owned: Vec<OwnedFd>,
    exec: c_int,
    dups: Vec<(c_int, c_int)>,
    holes: Vec<c_int>,
    above: c_int,
    tasks: Vec<c_int>,
    joins: Vec<(c_int, c_int)>,
}

/// The pipes between parent and child: reading end, writing end.
pub(super) struct Pipes {
    /// Why it failed; closed by the exec.
    pub(super) report: (OwnedFd, OwnedFd),
    /// That the id maps are written.
    pub(super) mapped: Option<(OwnedFd, OwnedFd)>,
}

impl Descriptors {
    pub(super) fn new(command: &Command<'_>) -> Step<(Self, Pipes)> {
        let mut raised = Raised { above: 3, owned: Vec::new() };
        raised.above = command.fds.iter().map(|(target, _)| target + 1).fold(3, i32::max);
        let mut dups = Vec::with_capacity(command.fds.len() + 3);
        for (target, fd) in &command.fds {
            dups.push((raised.number(*fd)?, *target));
        }
        let missing: Vec<c_int> =
            (0..3).filter(|n| !dups.iter().any(|(_, target)| target == n)).collect();
        if !missing.is_empty() {
            use rustix::fs::{Mode, OFlags};
            let null =
                rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
                    .map_err(prepare)?;
            let null = raised.raise(null)?;
            dups.extend(missing.iter().map(|target| (null.as_raw_fd(), *target)));
            raised.owned.push(null);
        }
        let exec = match command.program {
            Program::Fd(fd) => raised.number(fd)?,
            Program::Path(_) => -1,
        };
        let tasks = command.tasks.iter().map(|fd| raised.number(*fd)).collect::<Step<Vec<_>>>()?;
        let join =
            |(fd, bits): &(BorrowedFd<'_>, Namespaces)| Ok((raised.number(*fd)?, bits.0 as c_int));
        let joins = command.joins.iter().map(join).collect::<Step<Vec<_>>>()?;
        let report = raised.pipe()?;
        let mapped = if command.maps.is_some() { Some(raised.pipe()?) } else { None };
        let holes =
            (0..raised.above).filter(|n| !dups.iter().any(|(_, target)| target == n)).collect();
        let Raised { above, owned } = raised;
        let descriptors = Self { _owned: owned, exec, dups, holes, above, tasks, joins };
        Ok((descriptors, Pipes { report, mapped }))
    }
}

/// Copies of descriptors with numbers from `above` on.
struct Raised {
    above: c_int,
    owned: Vec<OwnedFd>,
}

impl Raised {
    fn number(&mut self, fd: BorrowedFd<'_>) -> Step<c_int> {
        if fd.as_raw_fd() >= self.above {
            return Ok(fd.as_raw_fd());
        }
        let copy = rustix::io::fcntl_dupfd_cloexec(fd, self.above).map_err(prepare)?;
        let number = copy.as_raw_fd();
        self.owned.push(copy);
        Ok(number)
    }

    fn raise(&self, fd: OwnedFd) -> Step<OwnedFd> {
        if fd.as_raw_fd() >= self.above {
            return Ok(fd);
        }
        rustix::io::fcntl_dupfd_cloexec(&fd, self.above).map_err(prepare)
    }

    fn pipe(&self) -> Step<(OwnedFd, OwnedFd)> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(prepare)?;
        Ok((self.raise(read)?, self.raise(write)?))
    }
}
