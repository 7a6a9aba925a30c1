//! One owner for a directory: a lock file that names the process that holds it.

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Takes the lock `path`, made 0600 where it is absent, for as long as the file returned lives; or
/// says which process has it.
///
/// After the holder was killed its lock may outlive it for a moment: a child that it was starting
/// has the file open until its exec. Such a lock is waited for; that of a living process is not.
pub fn lock_file(path: &Path) -> io::Result<Result<File, String>> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?);
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            (&file).take(32).read_to_string(&mut holder)?;
            let holder = holder.trim();
            if lives(holder) {
                return Ok(Err(holder.to_owned()));
            }
            flock(&file, FlockOperation::LockExclusive)?;
        }
        Err(error) => return Err(error.into()),
    }
    file.set_len(0)?;
    io::Seek::rewind(&mut file)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Ok(file))
}

/// Whether the process runs; a number that cannot be read is taken for one that does.
fn lives(pid: &str) -> bool {
    if pid.is_empty() || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
        return true;
    }
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => {
            let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim().chars().next());
            !matches!(state, Some('Z' | 'X'))
        }
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_and_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = lock_file(&path).unwrap().unwrap();
        assert_eq!(lock_file(&path).unwrap().unwrap_err(), std::process::id().to_string());
        drop(first);
        lock_file(&path).unwrap().unwrap();
    }

    #[test]
    fn the_lock_of_a_dead_holder_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = lock_file(&path).unwrap().unwrap();
        // No process has this number: the kernel's largest is 2^22.
        std::fs::write(&path, "4194305\n").unwrap();
        let next = std::thread::spawn(move || lock_file(&path).unwrap().is_ok());
        drop(held);
        assert!(next.join().unwrap());
    }
}
