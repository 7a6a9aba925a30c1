//! System call filters: from the OCI section of a spec to a program for the kernel.

mod assemble;
mod compile;
mod profile;
mod table;

pub use compile::compile;
pub use profile::default_profile;

use crate::error::{Error, Result};

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
    #[error(
        "seccomp filter has {0} instructions, the kernel allows 4096: name fewer system calls or conditions"
    )]
    TooLarge(usize),
    /// Something that the section asks for does not exist here.
    #[error("seccomp: {0}")]
    Unsupported(String),
}

/// Installs a filter on this thread, for good.
#[expect(unsafe_code, reason = "seccomp has no wrapper")]
pub fn install(program: &Program) -> Result<()> {
    const SET_MODE_FILTER: libc::c_long = 1;
    let object = || format!("{} instructions", program.code.len() / 8);
    let length = u16::try_from(program.code.len() / 8)
        .map_err(|_| Error::new("seccomp", object(), libc::E2BIG))?;
    let filter = program
        .code
        .chunks_exact(8)
        .map(|bytes| libc::sock_filter {
            code: u16::from_ne_bytes([byte(bytes, 0), byte(bytes, 1)]),
            jt: byte(bytes, 2),
            jf: byte(bytes, 3),
            k: u32::from_ne_bytes([byte(bytes, 4), byte(bytes, 5), byte(bytes, 6), byte(bytes, 7)]),
        })
        .collect::<Vec<_>>();
    let header = libc::sock_fprog { len: length, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the header names `length` instructions, which the kernel copies and verifies.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, program.flags, &raw const header)
    };
    if result < 0 { Err(Error::last("seccomp", object())) } else { Ok(()) }
}

fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
