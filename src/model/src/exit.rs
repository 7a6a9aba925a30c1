//! How a process ended.

use crate::Timestamp;
use serde::{Deserialize, Serialize};

/// The end of a process: what CRI calls exit code and finished-at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// 0 to 255; 128 + N for a process that signal N ended, as shells report it.
    pub code: u32,
    /// When the process ended.
    pub at: Timestamp,
}

impl ExitStatus {
    /// The code for a process that a signal ended.
    pub fn code_for_signal(signal: u32) -> u32 {
        128 + signal
    }
}
