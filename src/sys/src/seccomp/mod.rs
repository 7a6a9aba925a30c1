//! System call filters: from the OCI section of a spec to a program for the kernel.

use oci_spec::runtime::LinuxSeccomp;

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The instructions, as the kernel reads them (`struct sock_filter`, 8 bytes each).
    pub code: Vec<u8>,
    /// Flags of `seccomp(2)`.
    pub flags: u32,
}

/// A section that cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeccompError {
    /// Too large for the kernel.
    #[error("seccomp filter has {0} instructions, the kernel allows 4096: name fewer system calls or conditions")]
    TooLarge(usize),
    /// Something that the section asks for does not exist here.
    #[error("seccomp: {0}")]
    Unsupported(String),
}

/// Compiles a section for this machine.
pub fn compile(_section: &LinuxSeccomp) -> Result<Program, SeccompError> {
    todo!()
}

/// Our own default profile for a process that may hold `capabilities` (names as in the OCI spec, `CAP_SYS_ADMIN`).
pub fn default_profile(_capabilities: &[&str]) -> LinuxSeccomp {
    todo!()
}

/// Installs a filter on this thread.
pub fn install(_program: &Program) -> crate::error::Result<()> {
    todo!()
}
