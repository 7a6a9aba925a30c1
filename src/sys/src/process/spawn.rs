//! The prepared spawn.

use super::Pidfd;
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// What to execute.
#[derive(Debug, Clone, Copy)]
pub enum Program<'a> {
    /// A file by path; no search.
    Path(&'a Path),
    /// An open file, such as a sealed copy.
    Fd(BorrowedFd<'a>),
}

/// Namespaces to create, as `CLONE_NEW*` bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Namespaces(pub u64);

/// One line of `uid_map` or `gid_map`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// First id inside.
    pub inside: u32,
    /// First id outside, in the namespace of the parent.
    pub outside: u32,
    /// How many ids.
    pub count: u32,
}

/// A process to create.
#[derive(Debug)]
pub struct Command<'a> {
    program: Program<'a>,
}

/// A process that was created.
#[derive(Debug)]
pub struct Child {
    /// Its number in our pid namespace.
    pub pid: i32,
    /// Its descriptor: poll, wait, signal.
    pub pidfd: Pidfd,
}

/// Where a spawn failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SpawnStep {
    /// Preparing in the parent.
    Prepare = 0,
    /// clone3.
    Clone = 1,
    /// Joining a namespace.
    Join = 2,
    /// Joining a cgroup.
    Cgroup = 3,
    /// Writing the id maps, or taking the ids.
    Ids = 4,
    /// Arranging the descriptors.
    Descriptors = 5,
    /// A new session, the working directory, the death signal.
    Setup = 6,
    /// The exec.
    Exec = 7,
}

/// A process that could not be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpawnError {
    /// Where it failed.
    pub step: SpawnStep,
    /// The program.
    pub program: String,
    /// The kernel's error number.
    pub errno: i32,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "start {}: {:?}: {}", self.program, self.step, crate::error::reason(self.errno))
    }
}

impl std::error::Error for SpawnError {}

impl<'a> Command<'a> {
    /// A process with no arguments (not even its own name), an empty environment, `/dev/null` as
    /// descriptors 0 to 2, and nothing else inherited.
    pub fn new(program: Program<'a>) -> Self {
        Self { program }
    }

    /// Adds an argument; the first is the program's own name.
    pub fn arg(&mut self, _arg: impl AsRef<OsStr>) -> &mut Self {
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = S>) -> &mut Self {
        for arg in args {
            self.arg(arg);
        }
        self
    }

    /// Adds an environment variable. Nothing of our own environment is inherited.
    pub fn env(&mut self, _name: impl AsRef<OsStr>, _value: impl AsRef<OsStr>) -> &mut Self {
        self
    }

    /// Gives the child descriptor `source` as number `target`.
    pub fn fd(&mut self, _target: i32, _source: BorrowedFd<'a>) -> &mut Self {
        self
    }

    /// The working directory; ours when not set.
    pub fn current_dir(&mut self, _dir: &Path) -> &mut Self {
        self
    }

    /// A session of its own.
    pub fn new_session(&mut self) -> &mut Self {
        self
    }

    /// A signal for the child when the thread that spawned it ends. From a thread pool that is
    /// rarely what one wants.
    pub fn death_signal(&mut self, _signal: i32) -> &mut Self {
        self
    }

    /// Creates namespaces for the child.
    pub fn namespaces(&mut self, _namespaces: Namespaces) -> &mut Self {
        self
    }

    /// Joins namespaces first: `fd` of a namespace or a pidfd, with the `CLONE_NEW*` bits to join.
    /// The child is born inside them, the caller stays where it is.
    pub fn join(&mut self, _fd: BorrowedFd<'a>, _namespaces: Namespaces) -> &mut Self {
        self
    }

    /// Is born in this cgroup2 directory (CLONE_INTO_CGROUP).
    pub fn cgroup(&mut self, _dir: BorrowedFd<'a>) -> &mut Self {
        self
    }

    /// Joins a cgroup v1 by writing itself into this open `tasks` file.
    pub fn attach(&mut self, _tasks: BorrowedFd<'a>) -> &mut Self {
        self
    }

    /// Maps of the new user namespace, written by the parent before the exec; the child becomes
    /// root inside.
    pub fn id_maps(&mut self, _uids: &[IdMap], _gids: &[IdMap]) -> &mut Self {
        self
    }

    /// Creates the process; returns when it has executed the program, or why it did not.
    pub fn spawn(&self) -> Result<Child, SpawnError> {
        let _ = self.program;
        todo!()
    }
}
