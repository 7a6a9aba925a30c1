//! Descriptors that the shim prepared and handed over by number.

use std::os::fd::OwnedFd;

/// The first number of those handed over.
pub(super) const FIRST: i32 = 5;

/// What was handed over.
#[derive(Debug, Default)]
pub(super) struct Made(Vec<Option<OwnedFd>>);

impl Made {
    /// Takes over `count` descriptors from [`FIRST`] on.
    pub(super) fn inherited(count: usize) -> Self {
        let numbers = FIRST..FIRST.saturating_add_unsigned(u32::try_from(count).unwrap_or(0));
        Self(numbers.map(|number| orlop_sys::process::inherited(number).ok()).collect())
    }

    /// Takes one out.
    pub(super) fn take(&mut self, number: i32) -> Option<OwnedFd> {
        usize::try_from(number - FIRST)
            .ok()
            .and_then(|index| self.0.get_mut(index))
            .and_then(Option::take)
    }
}
