//! The terminal of whoever typed the command.

use anyhow::{Context, bail};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};

/// What the terminal was before, while it is raw: for the ways out on which nothing is dropped.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Standard input, as a descriptor.
pub(crate) fn stdin() -> BorrowedFd<'static> {
    rustix::stdio::stdin()
}

/// The terminal on standard input without line editing, echo and signals of its own, so that every key
/// is the container's. As it was when dropped, also by a panic.
#[derive(Debug)]
pub(crate) struct Raw(());

impl Raw {
    pub(crate) fn enter() -> anyhow::Result<Self> {
        let before = tcgetattr(stdin()).context("the terminal cannot be read")?;
        let mut raw = before.clone();
        raw.make_raw();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        let guard = Self(());
        tcsetattr(stdin(), OptionalActions::Drain, &raw).context("the terminal cannot be set")?;
        Ok(guard)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back; nothing where it is not raw.
pub(crate) fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        // The terminal may have gone.
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &before);
    }
}

/// Refuses a terminal for the container where there is none to type on.
pub(crate) fn check(tty: bool, stdin_attached: bool) -> anyhow::Result<()> {
    if tty && stdin_attached && !isatty(stdin()) {
        bail!(
            "the input device is not a TTY: leave -t out where input comes from a pipe or a file"
        );
    }
    Ok(())
}

/// Width and height, of whichever of the three standard streams is a terminal.
pub(crate) fn size() -> Option<(u16, u16)> {
    let streams = [stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let size = streams.into_iter().find_map(|fd| tcgetwinsize(fd).ok())?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}
