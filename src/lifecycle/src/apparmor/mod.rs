//! AppArmor's default profile: ours, compiled and loaded by Debian's own `apparmor_parser` when the
//! daemon starts (docs/decisions/0016-apparmor-profile.md).

use orlop_sys::process::{Child, Command, Exit, Program};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};
use rustix::pipe::{PipeFlags, pipe_with};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

/// Name of the profile that RuntimeDefault stands for.
pub(crate) const DEFAULT_PROFILE: &str = "orlop-default";
const TEXT: &str = include_str!("orlop-default");
const PARSERS: [&str; 2] = ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"];
/// It takes a fraction of a second, unless something is very wrong.
const PATIENCE: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };
const KILL: i32 = 9;

/// Whether the kernel confines processes by AppArmor.
pub(crate) fn enabled() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.trim() == "Y")
}

/// Loads the default profile, in place of an older text of it. The reason why it could not is given
/// in words; an older text that is there then stays in force.
pub(crate) fn load_default() -> Result<(), String> {
    let parser = PARSERS.iter().map(Path::new).find(|path| path.exists());
    let parser = parser.ok_or("apparmor_parser is not installed (Debian: package apparmor)")?;
    let failed = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let text = profile_file().map_err(failed("make a file in memory"))?;
    let (errors, errors_end) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed("make a pipe")(errno.into()))?;
    let mut command = Command::new(Program::Path(parser));
    // Nothing is read from or written to a cache: the text is ours and small.
    command
        .args(["apparmor_parser", "--replace", "--skip-cache", "--quiet"])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .fd(0, text.as_fd())
        .fd(2, errors_end.as_fd());
    let child = command.spawn().map_err(|error| error.to_string())?;
    drop(errors_end);
    match end(&child)? {
        Exit::Code(0) => Ok(()),
        exit => {
            let mut said = String::new();
            // What it says is for people; that it cannot be read changes nothing.
            let _ = std::fs::File::from(errors).take(4096).read_to_string(&mut said);
            let said = said.trim().replace('\n', "; ");
            Err(format!("apparmor_parser ended with status {}: {said}", exit.status()))
        }
    }
}

/// Whether the kernel has a profile of the default's name.
pub(crate) fn default_is_loaded() -> bool {
    std::fs::read_to_string("/sys/kernel/security/apparmor/profiles")
        .is_ok_and(|text| names(&text).any(|name| name == DEFAULT_PROFILE))
}

/// The names in the kernel's list: `name (mode)` a line.
fn names(list: &str) -> impl Iterator<Item = &str> {
    list.lines().filter_map(|line| Some(line.rsplit_once(" (")?.0))
}

fn profile_file() -> std::io::Result<OwnedFd> {
    let mut file = std::fs::File::from(memfd_create("apparmor", MemfdFlags::CLOEXEC)?);
    file.write_all(TEXT.as_bytes())?;
    let file = OwnedFd::from(file);
    seek(&file, SeekFrom::Start(0))?;
    Ok(file)
}

fn end(child: &Child) -> Result<Exit, String> {
    let ready = poll(&mut [PollFd::new(&child.pidfd, PollFlags::IN)], Some(&PATIENCE));
    if !matches!(ready, Ok(1)) {
        // It has ended meanwhile where this fails.
        let _ = child.pidfd.send_signal(KILL);
        let _ = child.pidfd.wait();
        return Err("apparmor_parser did not end and was stopped".into());
    }
    child.pidfd.wait().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_of_the_profile_that_is_named() {
        assert!(TEXT.contains(&format!("\nprofile {DEFAULT_PROFILE} ")));
    }

    #[test]
    fn names_may_hold_spaces_and_parentheses() {
        let list = "orlop-default (enforce)\na (b) c (complain)\n";
        assert_eq!(names(list).collect::<Vec<_>>(), ["orlop-default", "a (b) c"]);
    }

    #[test]
    fn the_profile_loads_where_the_kernel_has_apparmor() {
        if !enabled() {
            // Nothing to load into; the guest's run of these tests has it.
            return;
        }
        load_default().unwrap();
        assert!(default_is_loaded());
    }
}
