//! What a build is for: the machine's own platform, or one that its kernel runs through an
//! interpreter.

use orlop_model::Platform;
use std::path::Path;

/// Where the kernel shows its interpreters.
const BINFMT: &str = "/proc/sys/fs/binfmt_misc";

/// Reads a platform such as `linux/arm64` that steps can run on here.
///
/// # Errors
///
/// In words: a platform that is none, or that this machine cannot run.
pub fn platform(text: &str) -> Result<Platform, String> {
    let wanted = parse(text).ok_or_else(|| {
        format!("platform {text:?}: expected OS/ARCHITECTURE[/VARIANT], such as linux/arm64")
    })?;
    let host = Platform::host();
    if wanted.runs_on(&host) {
        return Ok(host);
    }
    if wanted.os != host.os {
        return Err(format!("this machine builds for {}, not for {text}", host.os));
    }
    match interpreter(&wanted.architecture, Path::new(BINFMT)) {
        true => Ok(wanted),
        false => Err(format!(
            "this machine is {host} and has no interpreter for {}: set one up in {BINFMT} (Debian: qemu-user-static), or build for {host}",
            wanted.architecture
        )),
    }
}

fn parse(text: &str) -> Option<Platform> {
    let mut parts = text.split('/').map(str::to_owned);
    let (os, architecture, variant) = (parts.next()?, parts.next()?, parts.next());
    let good = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
    let whole = parts.next().is_none()
        && good(&os)
        && good(&architecture)
        && variant.as_deref().is_none_or(good);
    let architecture = match architecture.as_str() {
        "x86_64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        _ => architecture,
    };
    whole.then_some(Platform { os, architecture, variant })
}

/// Whether an interpreter for this architecture (in Go's words) is registered and stays open in the
/// kernel (`F`): a path alone leads nowhere in a step's root.
fn interpreter(architecture: &str, dir: &Path) -> bool {
    let name = match architecture {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "386" => "i386",
        other => other,
    };
    std::fs::read_to_string(dir.join(format!("qemu-{name}"))).is_ok_and(|text| {
        text.starts_with("enabled")
            && text.lines().any(|line| line.strip_prefix("flags:").is_some_and(|f| f.contains('F')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms() {
        assert_eq!(platform(&Platform::host().to_string()).unwrap(), Platform::host());
        for wrong in ["", "linux", "linux/", "linux/a/b/c", "linux/../x"] {
            assert!(platform(wrong).unwrap_err().contains("expected"), "{wrong}");
        }
        assert!(platform("windows/amd64").unwrap_err().contains("not for windows"));
    }

    #[test]
    fn interpreters() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!interpreter("arm64", dir.path()));
        let file = dir.path().join("qemu-aarch64");
        for (text, expected) in [
            ("enabled\ninterpreter /usr/bin/qemu\nflags: OCF\noffset 0\n", true),
            ("enabled\ninterpreter /usr/bin/qemu\nflags: \noffset 0\n", false),
            ("disabled\nflags: F\n", false),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(interpreter("arm64", dir.path()), expected, "{text}");
        }
    }
}
