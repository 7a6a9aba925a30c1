//! OCI hooks: programs of the node's administrator that run at fixed points of a container's life.
//!
//! | kind | when | where |
//! |---|---|---|
//! | prestart, createRuntime | the namespaces exist, the root is not entered | the host's namespaces, by the shim |
//! | createContainer | right after | the container's namespaces, with the host's files, by the stage |
//! | startContainer | Start was asked for | inside the container, confined like an exec |
//! | poststart | the program runs | the host's namespaces, by the shim |
//! | poststop | the container is deleted | the host's namespaces, by the shim |
//!
//! A hook gets the container's state as JSON on its standard input. One that fails, or takes longer than
//! its timeout, ends the creation or the start; after the start it is noted and no more.

use oci_spec::runtime::{Hook as OciHook, Process, Spec};
use orlop_sys::process::{Child, Command, Pidfd, Program};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What a hook says is quoted up to this many bytes.
const QUOTED: u64 = 1024;

/// One program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hook {
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    /// `None`: it may take as long as it likes.
    pub(crate) timeout: Option<Duration>,
}

/// All of a container's hooks, each kind in the order of the spec.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hooks {
    pub(crate) create_runtime: Vec<Hook>,
    pub(crate) create_container: Vec<Hook>,
    pub(crate) start_container: Vec<Hook>,
    pub(crate) poststart: Vec<Hook>,
    pub(crate) poststop: Vec<Hook>,
}

/// What a hook is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerState {
    pub(crate) oci_version: String,
    pub(crate) id: String,
    /// `creating`, `created`, `running` or `stopped`.
    pub(crate) status: String,
    /// As the host numbers processes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) pid: Option<i32>,
    pub(crate) bundle: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) annotations: Option<HashMap<String, String>>,
}

impl Hooks {
    /// Those of a spec, or which of them cannot be run and why.
    pub(crate) fn of(spec: &Spec) -> Result<Self, String> {
        let Some(hooks) = spec.hooks() else { return Ok(Self::default()) };
        let all = |list: &Option<Vec<OciHook>>| -> Result<Vec<Hook>, String> {
            list.iter().flatten().map(Hook::of).collect()
        };
        let mut create_runtime = all(hooks.prestart())?;
        create_runtime.extend(all(hooks.create_runtime())?);
        Ok(Self {
            create_runtime,
            create_container: all(hooks.create_container())?,
            start_container: all(hooks.start_container())?,
            poststart: all(hooks.poststart())?,
            poststop: all(hooks.poststop())?,
        })
    }
}

impl Hooks {
    /// Those of the container's namespaces before its root is entered; `None`: neither they nor ours are
    /// run then.
    pub(crate) fn before_entry(&self) -> Option<&[Hook]> {
        let none = self.create_runtime.is_empty() && self.create_container.is_empty();
        (!none).then_some(self.create_container.as_slice())
    }
}

impl Hook {
    fn of(hook: &OciHook) -> Result<Self, String> {
        let path = hook.path();
        if !path.is_absolute() {
            return Err(format!("hook {}: its path must be absolute", path.display()));
        }
        let timeout = match hook.timeout() {
            None => None,
            Some(seconds) => match u64::try_from(seconds) {
                Ok(seconds) if seconds > 0 => Some(Duration::from_secs(seconds)),
                _ => {
                    let path = path.display();
                    return Err(format!("hook {path}: its timeout must be greater than zero"));
                }
            },
        };
        Ok(Self {
            path: path.clone(),
            args: hook.args().clone().unwrap_or_default(),
            env: hook.env().clone().unwrap_or_default(),
            timeout,
        })
    }

    /// Its arguments, with its name where none are given.
    pub(crate) fn arguments(&self) -> Vec<String> {
        match self.args.is_empty() {
            true => vec![self.path.to_string_lossy().into_owned()],
            false => self.args.clone(),
        }
    }

    /// Runs it where we are, and waits for its end.
    fn run(&self, state: &[u8]) -> Result<(), String> {
        let name = |why: String| format!("hook {}: {why}", self.path.display());
        let failed = |error: std::io::Error| name(error.to_string());
        let mut said = memory_file().map_err(failed)?;
        let input = state_file(state).map_err(failed)?;
        let mut command = Command::new(Program::Path(&self.path));
        command.args(self.arguments()).fd(0, input.as_fd());
        command.fd(1, said.as_fd()).fd(2, said.as_fd()).new_session();
        for (key, value) in self.env.iter().filter_map(|entry| entry.split_once('=')) {
            command.env(key, value);
        }
        let child: Child = command.spawn().map_err(|error| name(error.to_string()))?;
        let end = await_end(&child.pidfd, self.timeout).map_err(name)?;
        if end == 0 {
            return Ok(());
        }
        let mut text = Vec::new();
        // Its words are a help, no more.
        let _ = said.rewind().and_then(|()| (&said).take(QUOTED).read_to_end(&mut text));
        Err(name(format!("it ended with status {end}: {}", String::from_utf8_lossy(&text).trim())))
    }
}

/// Runs hooks one after the other; the first that fails ends it.
pub(crate) fn run_all(hooks: &[Hook], state: &ContainerState) -> Result<(), String> {
    let state = serde_json::to_vec(state).map_err(|error| error.to_string())?;
    run_with(hooks, &state)
}

/// The same with a state that is encoded already.
pub(crate) fn run_with(hooks: &[Hook], state: &[u8]) -> Result<(), String> {
    hooks.iter().try_for_each(|hook| hook.run(state))
}

/// Runs all of them, whatever becomes of any: the failures.
pub(crate) fn run_each(hooks: &[Hook], state: &ContainerState) -> Vec<String> {
    let state = serde_json::to_vec(state).unwrap_or_default();
    hooks.iter().filter_map(|hook| hook.run(&state).err()).collect()
}

/// Waits for the end of a hook's process, and kills it at its time limit: its exit status.
pub(crate) fn await_end(pidfd: &Pidfd, limit: Option<Duration>) -> Result<i32, String> {
    let end = limit.map(|limit| Instant::now() + limit);
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let wait = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], wait.as_ref()) {
            Ok(0) => {
                // It may end just now: as good.
                let _ = pidfd.send_signal(9);
                let _ = pidfd.wait();
                return Err(format!(
                    "it took longer than {:?} and was killed",
                    limit.unwrap_or_default()
                ));
            }
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.to_string()),
        }
    }
    pidfd.wait().map(orlop_sys::process::Exit::status).map_err(|error| error.to_string())
}

/// A file in memory that holds the state.
pub(crate) fn state_file(state: &[u8]) -> std::io::Result<File> {
    let mut file = memory_file()?;
    file.write_all(state)?;
    file.rewind()?;
    Ok(file)
}

fn memory_file() -> std::io::Result<File> {
    Ok(memfd_create("orlop-hook", MemfdFlags::CLOEXEC)?.into())
}

/// The hooks of one container, with what they need.
#[derive(Debug)]
pub(crate) struct Hooked {
    pub(crate) hooks: Hooks,
    state: ContainerState,
    /// The container's own process, as which startContainer hooks run.
    process: Option<Process>,
}

impl Hooked {
    /// What `spec` asks for; `None` where it has no hooks.
    pub(crate) fn of(spec: &Spec, id: &str, bundle: &Path) -> Result<Option<Box<Self>>, String> {
        let hooks = Hooks::of(spec)?;
        if hooks == Hooks::default() {
            return Ok(None);
        }
        let process = spec.process().clone().filter(|_| !hooks.start_container.is_empty());
        let state = ContainerState {
            oci_version: spec.version().clone(),
            id: id.to_owned(),
            status: String::new(),
            pid: None,
            bundle: bundle.to_owned(),
            annotations: spec.annotations().clone(),
        };
        Ok(Some(Box::new(Self { hooks, state, process })))
    }

    /// What a hook is told.
    pub(crate) fn state(&self, status: &str, pid: i32) -> ContainerState {
        ContainerState {
            status: status.to_owned(),
            pid: (pid > 0).then_some(pid),
            ..self.state.clone()
        }
    }

    /// The process of a startContainer hook.
    pub(crate) fn process(&self, hook: &Hook) -> Option<Process> {
        let mut process = self.process.clone()?;
        process
            .set_args(Some(hook.arguments()))
            .set_env(Some(hook.env.clone()))
            .set_cwd("/".into())
            .set_terminal(Some(false));
        Some(process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn hooks(value: Value) -> Result<Hooks, String> {
        let spec = json!({"ociVersion": "1.2.0", "hooks": value});
        Hooks::of(&serde_json::from_value(spec).unwrap())
    }

    fn shell(script: &str, timeout: Option<u64>) -> Hook {
        Hook {
            path: "/bin/sh".into(),
            args: vec!["sh".into(), "-c".into(), script.into()],
            env: vec!["GIVEN=yes".into()],
            timeout: timeout.map(Duration::from_secs),
        }
    }

    #[test]
    fn kinds_and_order() {
        let one = |path: &str| json!([{ "path": path }]);
        let found = hooks(json!({
            "prestart": one("/a"), "createRuntime": one("/b"), "createContainer": one("/c"),
            "startContainer": one("/d"), "poststart": one("/e"), "poststop": one("/f"),
        }))
        .unwrap();
        let paths = |list: &[Hook]| {
            list.iter().map(|hook| hook.path.display().to_string()).collect::<String>()
        };
        assert_eq!(paths(&found.create_runtime), "/a/b");
        assert_eq!(paths(&found.create_container), "/c");
        assert_eq!(paths(&found.start_container), "/d");
        assert_eq!((paths(&found.poststart), paths(&found.poststop)), ("/e".into(), "/f".into()));
        assert_eq!(found.poststop[0].arguments(), ["/f"]);
        for (wrong, word) in [
            (json!({ "path": "rel" }), "absolute"),
            (json!({ "path": "/x", "timeout": 0 }), "greater than zero"),
        ] {
            let error = hooks(json!({ "poststop": [wrong] })).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_hook_gets_state_and_environment() {
        let dir = tempfile::tempdir().unwrap();
        let seen = dir.path().join("seen");
        let hook = shell(&format!("cat >{0}; echo $GIVEN >>{0}", seen.display()), None);
        let state = ContainerState { id: "c".into(), pid: Some(7), ..ContainerState::default() };
        run_all(&[hook], &state).unwrap();
        let text = std::fs::read_to_string(seen).unwrap();
        let (state_text, given) = text.rsplit_once('}').unwrap();
        assert_eq!(given, "yes\n");
        assert_eq!(
            serde_json::from_str::<ContainerState>(&format!("{state_text}}}")).unwrap(),
            state
        );
    }

    #[test]
    fn failures_are_told() {
        let state = ContainerState::default();
        let failing = shell("echo no such device; exit 3", None);
        let error = run_all(&[failing.clone(), shell("exit 4", None)], &state).unwrap_err();
        assert!(error.contains("status 3: no such device"), "{error}");
        assert_eq!(run_each(&[failing, shell("exit 4", None)], &state).len(), 2);
        let error = run_all(&[shell("exec sleep 1000", Some(1))], &state).unwrap_err();
        assert!(error.contains("longer than 1s"), "{error}");
    }
}
