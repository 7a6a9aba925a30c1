//! The names that this program answers to. What a link to it is called says whose command line it speaks.

mod containerd;
mod ctr;
mod docker;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

/// Whose command line it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Orlop,
    Docker,
    Ctr,
    Containerd,
}

/// By the first word of the command line.
pub(crate) fn name(program: Option<&OsStr>) -> Name {
    let file = program.and_then(|program| Path::new(program).file_name());
    match file.and_then(OsStr::to_str) {
        Some("docker") => Name::Docker,
        Some("ctr") => Name::Ctr,
        Some("containerd") => Name::Containerd,
        _ => Name::Orlop,
    }
}

/// Carries out a command line under the name it was called by.
pub(crate) fn run(line: Vec<OsString>) -> anyhow::Result<ExitCode> {
    match name(line.first().map(OsString::as_os_str)) {
        Name::Orlop => crate::dispatch::line(line, false),
        Name::Docker => docker::run(line),
        Name::Ctr => ctr::run(line),
        Name::Containerd => containerd::run(line),
    }
}

/// Where a kind node and the tools in it look for the daemon.
const SOCKET: &str = "/run/containerd/containerd.sock";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (program, want) in [
            ("orlop", Name::Orlop),
            ("/usr/local/bin/docker", Name::Docker),
            ("./ctr", Name::Ctr),
            ("containerd", Name::Containerd),
            ("docker-proxy", Name::Orlop),
            ("", Name::Orlop),
        ] {
            assert_eq!(name(Some(OsStr::new(program))), want, "{program}");
        }
    }
}
