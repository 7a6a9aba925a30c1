//! Called as `docker`: the same commands, with Docker's flags before them and its version.

use crate::system::DOCKER;
use anyhow::bail;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// Flags before the command that have no meaning here, with whether a value follows.
const IGNORED: [(&str, bool); 10] = [
    ("-D", false),
    ("--debug", false),
    ("--tls", false),
    ("--tlsverify", false),
    ("-c", true),
    ("--context", true),
    ("-l", true),
    ("--log-level", true),
    ("--tlscacert", true),
    ("--tlscert", true),
];

pub(super) fn run(line: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let mut words = before_command(line);
    let at = command_at(&words);
    let is = |at: usize, text: &str| words.get(at).is_some_and(|word| word == text);
    let mut out = std::io::stdout().lock();
    if words[1..at.min(words.len())].iter().any(|word| word == "-v" || word == "--version") {
        writeln!(out, "Docker version {DOCKER}, build orlop-{}", env!("CARGO_PKG_VERSION"))?;
        return Ok(ExitCode::SUCCESS);
    }
    drop(out);
    match words.get(at).and_then(|word| word.to_str()) {
        // A builder of its own is what Docker has for what `build` does here.
        Some("buildx" | "builder") if is(at + 1, "build") => {
            words.remove(at);
            words.retain(|word| word != "--load");
        }
        Some("buildx") if is(at + 1, "version") => {
            writeln!(std::io::stdout(), "orlop {} build", env!("CARGO_PKG_VERSION"))?;
            return Ok(ExitCode::SUCCESS);
        }
        Some("context") if is(at + 1, "show") => {
            writeln!(std::io::stdout(), "default")?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(what @ ("buildx" | "context" | "plugin" | "trust" | "manifest" | "checkpoint")) => {
            bail!("docker {what} is not among the commands that Orlop has: see docker --help")
        }
        Some("compose") => bail!("docker compose is a program of its own, and Orlop has none"),
        Some(what @ ("swarm" | "service" | "stack" | "node" | "secret" | "config")) => {
            bail!("docker {what}: Orlop forms no swarm; a cluster of it is one of Kubernetes")
        }
        _ => {}
    }
    crate::dispatch::line(words, true)
}

/// Takes out what has no meaning here.
fn before_command(line: Vec<OsString>) -> Vec<OsString> {
    let mut words = line.into_iter();
    let mut out: Vec<OsString> = words.next().into_iter().collect();
    while let Some(word) = words.next() {
        let text = word.to_str().unwrap_or_default();
        let (flag, inline) = text.split_once('=').map_or((text, false), |(flag, _)| (flag, true));
        match IGNORED.iter().find(|(known, _)| *known == flag) {
            Some((_, true)) if !inline => drop(words.next()),
            Some(_) => {}
            None if matches!(text, "-H" | "--host" | "--config" | "--root" | "--run") => {
                out.push(word);
                out.extend(words.next());
            }
            None => {
                let option = text.starts_with('-');
                out.push(word);
                if !option {
                    break;
                }
            }
        }
    }
    out.extend(words);
    out
}

/// Where the command stands.
fn command_at(words: &[OsString]) -> usize {
    let mut at = 1;
    while let Some(word) = words.get(at).and_then(|word| word.to_str()) {
        match word {
            "-H" | "--host" | "--config" | "--root" | "--run" => at += 2,
            flag if flag.starts_with('-') => at += 1,
            _ => break,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_before_the_command() {
        for (line, want, at) in [
            ("docker -D --log-level debug ps -l", "docker ps -l", 1),
            (
                "docker --context default -H unix:///s run -c 512 x",
                "docker -H unix:///s run -c 512 x",
                3,
            ),
            ("docker --tlscacert=/x --config /d ps", "docker --config /d ps", 3),
            ("docker -v", "docker -v", 2),
        ] {
            let words = before_command(line.split(' ').map(OsString::from).collect());
            assert_eq!(words.join(std::ffi::OsStr::new(" ")), want, "{line}");
            assert_eq!(command_at(&words), at, "{line}");
        }
    }
}
