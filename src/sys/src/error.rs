//! One error for every system call: which call, on what, and why.

use std::fmt;
use std::io;

/// A system call that failed, printed as `mount /proc: operation not permitted (EPERM)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The call, or the step when several calls make one.
    pub call: &'static str,
    /// What it was done to: a path, a name, a number.
    pub object: String,
    /// The kernel's error number.
    pub errno: i32,
}

/// Result of the wrappers in this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `call` on `object`.
    pub fn new(call: &'static str, object: impl Into<String>, errno: i32) -> Self {
        Self { call, object: object.into(), errno }
    }

    /// The error that the last raw call left in `errno`.
    pub(crate) fn last(call: &'static str, object: impl Into<String>) -> Self {
        Self::new(call, object, io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }

    /// The kernel's text for the number, in lower case.
    pub fn reason(&self) -> String {
        reason(self.errno)
    }
}

/// The kernel's text for an error number, as `no such file or directory`.
pub fn reason(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default().to_owned();
    let mut chars = text.chars();
    match chars.next() {
        // An abbreviation keeps its capitals ("RPC struct is bad").
        Some(first) if !chars.as_str().starts_with(|c: char| c.is_ascii_uppercase()) => {
            first.to_lowercase().collect::<String>() + chars.as_str()
        }
        _ => text,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.call, self.object, self.reason())
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = io::Error::from_raw_os_error(error.errno).kind();
        io::Error::new(kind, error)
    }
}

/// Names the call and its object on a `Result` of another crate's wrapper.
pub trait Context<T> {
    /// `call` on `object` failed; `object` is made only then.
    fn context<S: Into<String>>(self, call: &'static str, object: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Context<T> for std::result::Result<T, rustix::io::Errno> {
    fn context<S: Into<String>>(self, call: &'static str, object: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| Error::new(call, object(), errno.raw_os_error()))
    }
}

impl<T> Context<T> for io::Result<T> {
    fn context<S: Into<String>>(self, call: &'static str, object: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| Error::new(call, object(), error.raw_os_error().unwrap_or(libc::EIO)))
    }
}
