//! `ADD`, and the way to the caller's SSH agent.

use super::BuildError;
use super::stage::Evaluation;
use crate::instruction::{Source, Transfer};
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

impl Evaluation<'_, '_> {
    /// Local files and archives, or what is fetched from elsewhere.
    pub(crate) fn add(&mut self, transfer: &Transfer) -> Result<(), BuildError> {
        let mut paths = Vec::new();
        for source in &transfer.sources {
            if let Source::Path(word) = source {
                paths.push(self.word(word)?);
            }
        }
        if paths.iter().any(|path| is_remote(path)) {
            return self.add_remote(transfer, &paths);
        }
        if transfer.checksum.is_some() {
            let message = "checksum can't be specified for sources that are not HTTP(S) or Git";
            return Err(BuildError::at(self.lines, message));
        }
        self.copy(transfer, "ADD")
    }
}

/// Whether a source is an address: of a file by HTTP, or of a git repository.
pub fn is_remote(source: &str) -> bool {
    let schemes = ["http://", "https://", "git://", "ssh://", "git@"];
    schemes.iter().any(|scheme| source.starts_with(scheme))
}

/// An address without the user and password in it.
pub(crate) fn without_secrets(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    match host.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{host}/{path}"),
        None => address.to_owned(),
    }
}

/// A socket that leads to the caller's agent as long as a step runs.
pub(crate) struct Agent {
    path: PathBuf,
    ended: Arc<AtomicBool>,
}

impl Agent {
    /// Listens at `path` and passes on what comes to the socket `agent`.
    pub(crate) fn start(agent: PathBuf, path: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        let ended = Arc::new(AtomicBool::new(false));
        let flag = ended.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                if flag.load(Ordering::Acquire) {
                    return;
                }
                let Ok(inside) = connection else { return };
                let Ok(outside) = UnixStream::connect(&agent) else { continue };
                pass(inside, outside);
            }
        });
        Ok(Self { path: path.to_owned(), ended })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // Wakes the thread that listens, which then sees the flag.
        drop(UnixStream::connect(&self.path));
    }
}

/// Copies both ways until both sides have said all.
fn pass(inside: UnixStream, outside: UnixStream) {
    let (Ok(mut from_inside), Ok(mut from_outside)) = (inside.try_clone(), outside.try_clone())
    else {
        return;
    };
    let (mut to_inside, mut to_outside) = (inside, outside);
    std::thread::spawn(move || {
        // An end of either side is the end of the conversation.
        let _ = io::copy(&mut from_inside, &mut to_outside);
        let _ = to_outside.shutdown(std::net::Shutdown::Write);
    });
    std::thread::spawn(move || {
        let _ = io::copy(&mut from_outside, &mut to_inside);
        let _ = to_inside.shutdown(std::net::Shutdown::Write);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_secrets() {
        for (address, expected) in [
            ("https://me:token@host/x", "https://host/x"),
            ("https://host/a@b", "https://host/a@b"),
            ("file", "file"),
        ] {
            assert_eq!(without_secrets(address), expected);
        }
        assert!(is_remote("git@host:x") && !is_remote("httpdocs"));
    }
}
