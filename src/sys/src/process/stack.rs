//! A stack for a child that shares our memory until its exec.
#![expect(unsafe_code, reason = "mmap")]

use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use std::ffi::c_void;
use std::ptr;

/// Memory with a guard page at its lower end.
#[derive(Debug)]
pub(super) struct Stack(*mut c_void);

impl Stack {
    /// Usable bytes.
    pub(super) const SIZE: u64 = 64 * 1024;
    const GUARD: usize = 64 * 1024;
    const TOTAL: usize = Self::SIZE as usize + Self::GUARD;

    pub(super) fn new() -> Result<Self, Errno> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, wherever the kernel likes.
        let memory = unsafe {
            mmap_anonymous(ptr::null_mut(), Self::TOTAL, prot, MapFlags::PRIVATE | MapFlags::STACK)?
        };
        let stack = Self(memory);
        // SAFETY: the guard lies inside the mapping just made.
        unsafe { mprotect(memory, Self::GUARD, MprotectFlags::empty())? };
        Ok(stack)
    }

    /// Its lowest usable address.
    pub(super) fn bottom(&self) -> u64 {
        (self.0.expose_provenance() + Self::GUARD) as u64
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: ours, and the child that used it has executed or ended before we drop it.
        let _ = unsafe { munmap(self.0, Self::TOTAL) };
    }
}
