//! The exec, and a clear word when it is refused.

use super::error::{StageError, Step};
use super::plan::Process;
use rustix::fs::{FileType, Mode, OFlags, open};
use rustix::io::Errno;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the exec needs, made while allocation is cheap.
#[derive(Debug)]
pub(super) struct Launch {
    name: String,
    candidates: Vec<CString>,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Launch {
    /// Strings with a NUL inside cannot be passed.
    pub(super) fn new(process: &Process) -> Result<Self, StageError> {
        let text = |text: &String| {
            CString::new(text.as_bytes()).map_err(|_| {
                StageError::refuse(Step::Spec, format!("{text:?}"), "it holds a NUL byte")
            })
        };
        let args = process.args.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        let env = process.env.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        let name = process.args.first().cloned().unwrap_or_default();
        if name.is_empty() {
            return Err(StageError::refuse(
                Step::Exec,
                "\"\"",
                "no command: give one, or use an image that has one",
            ));
        }
        let candidates = if name.contains('/') {
            vec![text(&name)?]
        } else {
            let path = process.env.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
            let directories = path.unwrap_or(DEFAULT_PATH).split(':');
            // As shells have it, an empty element is the working directory.
            let join = |directory: &str| {
                if directory.is_empty() {
                    format!("./{name}")
                } else {
                    format!("{directory}/{name}")
                }
            };
            directories.map(|directory| text(&join(directory))).collect::<Result<Vec<_>, _>>()?
        };
        Ok(Self { name, candidates, args, env })
    }

    /// Becomes the workload; returns only why not.
    pub(super) fn exec(&self) -> StageError {
        let mut refusal = (self.candidates.first(), Errno::NOENT);
        for candidate in &self.candidates {
            let errno = Errno::from_raw_os_error(orlop_sys::process::exec(
                candidate, &self.args, &self.env,
            ));
            match errno {
                // What is absent here may be in the next directory; the first real obstacle is remembered.
                Errno::NOENT | Errno::NOTDIR if !exists(candidate) => {}
                Errno::ACCESS => {
                    if refusal.1 == Errno::NOENT {
                        refusal = (Some(candidate), errno);
                    }
                }
                _ => return self.explain(candidate, errno),
            }
        }
        match refusal {
            (Some(candidate), Errno::ACCESS) => self.explain(candidate, Errno::ACCESS),
            _ => self.absent(),
        }
    }

    fn absent(&self) -> StageError {
        let cause = if self.name.contains('/') {
            "no such file in the container's root file system"
        } else {
            "not found in any directory of PATH in the container's root file system"
        };
        failure(&self.name, Errno::NOENT, cause)
    }

    fn explain(&self, path: &CString, errno: Errno) -> StageError {
        let path = path.to_string_lossy().into_owned();
        match errno {
            Errno::ACCESS => match kind(&path) {
                Some(FileType::Directory) => {
                    failure(&path, errno, "it is a directory, not a program")
                }
                _ => failure(
                    &path,
                    errno,
                    "not executable by this user: set its execute permission, and mount it without noexec",
                ),
            },
            Errno::NOENT => match interpreter(&path) {
                Some(name) => failure(
                    &path,
                    errno,
                    &format!(
                        "its interpreter {name} does not exist in the container's root file system"
                    ),
                ),
                None => self.absent(),
            },
            Errno::NOEXEC | Errno::LIBBAD => match machine(&path) {
                Some(number) if number != own_machine() => failure(
                    &path,
                    errno,
                    &format!(
                        "wrong architecture: built for {}, this machine is {}",
                        machine_name(number),
                        machine_name(own_machine())
                    ),
                ),
                Some(_) => failure(&path, errno, "a damaged program: the kernel cannot load it"),
                None => failure(
                    &path,
                    errno,
                    "not a program: neither ELF nor a script that begins with #!",
                ),
            },
            other => failure(&path, other, &orlop_sys::error::reason(other.raw_os_error())),
        }
    }
}

fn failure(object: &str, errno: Errno, cause: &str) -> StageError {
    StageError { errno: errno.raw_os_error(), ..StageError::refuse(Step::Exec, object, cause) }
}

fn exists(path: &CString) -> bool {
    rustix::fs::stat(path.as_c_str()).is_ok()
}

fn kind(path: &str) -> Option<FileType> {
    rustix::fs::stat(path).ok().map(|stat| FileType::from_raw_mode(stat.st_mode))
}

/// The first bytes of a regular file.
fn head(path: &str) -> Option<(File, Vec<u8>)> {
    let fd: OwnedFd =
        open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let file = File::from(fd);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = vec![0; 4096];
    let length = file.read_at(&mut bytes, 0).ok()?;
    bytes.truncate(length);
    Some((file, bytes))
}

/// What the kernel would load to run the file: the path after `#!`, or the program interpreter.
fn interpreter(path: &str) -> Option<String> {
    let (file, bytes) = head(path)?;
    if let Some(line) = bytes.strip_prefix(b"#!") {
        let line = line.split(|&byte| byte == b'\n').next()?;
        let text = String::from_utf8_lossy(line);
        let named = text.split_ascii_whitespace().next()?.to_owned();
        if Path::new(&named).exists() {
            // The script's interpreter is there, so it is the interpreter of that one which is not.
            return head(&named)
                .and_then(|(file, bytes)| elf_interpreter(&file, &bytes))
                .or(Some(named));
        }
        return Some(named);
    }
    elf_interpreter(&file, &bytes)
}

/// PT_INTERP of a 64-bit or 32-bit ELF file in our byte order.
fn elf_interpreter(file: &File, bytes: &[u8]) -> Option<String> {
    bytes.strip_prefix(b"\x7fELF")?;
    let wide = *bytes.get(4)? == 2;
    let number = |at: usize, size: usize| -> Option<u64> {
        let field = bytes.get(at..at.checked_add(size)?)?;
        Some(field.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
    };
    let (table, entry, count) = if wide {
        (number(32, 8)?, number(54, 2)?, number(56, 2)?)
    } else {
        (number(28, 4)?, number(42, 2)?, number(44, 2)?)
    };
    for index in 0..count.min(64) {
        let at = usize::try_from(table.checked_add(index.checked_mul(entry)?)?).ok()?;
        if number(at, 4)? != 3 {
            continue;
        }
        let (offset, size) = if wide {
            (number(at + 8, 8)?, number(at + 32, 8)?)
        } else {
            (number(at + 4, 4)?, number(at + 16, 4)?)
        };
        let mut name = vec![0; usize::try_from(size.min(4096)).ok()?];
        file.read_exact_at(&mut name, offset).ok()?;
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        name.truncate(end);
        return Some(String::from_utf8_lossy(&name).into_owned());
    }
    None
}

/// The machine of an ELF file.
fn machine(path: &str) -> Option<u16> {
    let (_, bytes) = head(path)?;
    bytes.strip_prefix(b"\x7fELF")?;
    let field: [u8; 2] = bytes.get(18..20)?.try_into().ok()?;
    let big = bytes.get(5) == Some(&2);
    Some(if big { u16::from_be_bytes(field) } else { u16::from_le_bytes(field) })
}

fn own_machine() -> u16 {
    if cfg!(target_arch = "aarch64") { 183 } else { 62 }
}

fn machine_name(number: u16) -> String {
    match number {
        3 => "i386".to_owned(),
        8 => "mips".to_owned(),
        20 => "powerpc".to_owned(),
        21 => "ppc64le".to_owned(),
        22 => "s390x".to_owned(),
        40 => "arm".to_owned(),
        62 => "x86_64 (amd64)".to_owned(),
        183 => "aarch64 (arm64)".to_owned(),
        243 => "riscv64".to_owned(),
        258 => "loongarch64".to_owned(),
        other => format!("ELF machine {other}"),
    }
}
