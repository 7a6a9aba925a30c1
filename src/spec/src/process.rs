//! The process: arguments, environment, working directory, and who it is.

use crate::request::SecurityProfile;
use crate::{Inputs, ResolvedUser, SpecError, capabilities};
use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, Process, User};
use std::collections::BTreeMap;
use std::path::PathBuf;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The container's own process.
pub(crate) fn process(inputs: &Inputs<'_>) -> Result<Process, SpecError> {
    let container = inputs.container;
    let mut process = empty_process();
    process
        .set_terminal(Some(container.tty))
        .set_user(user(inputs.user))
        .set_args(Some(args(inputs)?))
        .set_env(Some(environment(inputs)?))
        .set_cwd(working_dir(inputs)?)
        .set_capabilities(Some(capabilities::sets(inputs)))
        .set_no_new_privileges(Some(container.security.no_new_privs))
        .set_apparmor_profile(apparmor(inputs)?)
        .set_selinux_label(inputs.selinux.map(|labels| labels.process.clone()))
        .set_oom_score_adj(Some(oom_score_adj(inputs)))
        .set_rlimits(rlimits(inputs)?);
    Ok(process)
}

/// Everything unset: oci-spec's own default carries a shell, capabilities and limits.
pub(crate) fn empty_process() -> Process {
    let mut process = Process::default();
    process
        .set_terminal(Some(false))
        .set_args(None)
        .set_env(None)
        .set_cwd(PathBuf::from("/"))
        .set_capabilities(Some(capabilities::none()))
        .set_rlimits(None)
        .set_no_new_privileges(Some(true))
        .set_apparmor_profile(None)
        .set_selinux_label(None)
        .set_oom_score_adj(None)
        .set_user(User::default());
    process
}

fn user(resolved: &ResolvedUser) -> User {
    let mut user = User::default();
    user.set_uid(resolved.uid)
        .set_gid(resolved.gid)
        .set_umask(None)
        .set_additional_gids(Some(resolved.additional_gids.clone()));
    user
}

/// CRI's rule: a command takes the place of entrypoint and command of the image, args alone only
/// that of its command.
fn args(inputs: &Inputs<'_>) -> Result<Vec<String>, SpecError> {
    let container = inputs.container;
    let entrypoint =
        inputs.image.and_then(|image| image.entrypoint().as_deref()).unwrap_or_default();
    let cmd = inputs.image.and_then(|image| image.cmd().as_deref()).unwrap_or_default();
    let (head, tail) = match (container.command.is_empty(), container.args.is_empty()) {
        (false, _) => (container.command.as_slice(), container.args.as_slice()),
        (true, false) => (entrypoint, container.args.as_slice()),
        (true, true) => (entrypoint, cmd),
    };
    let args: Vec<String> = head.iter().chain(tail).cloned().collect();
    match args.first() {
        None => Err(SpecError::NoCommand),
        Some(_) if args.iter().any(|arg| arg.contains('\0')) => {
            Err(SpecError::Nul { what: "the command line" })
        }
        Some(_) => Ok(args),
    }
}

/// Variables in the order of their first appearance, each with the value that came last.
#[derive(Default)]
struct Environment {
    order: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Environment {
    fn set(&mut self, key: &str, value: &str) {
        if self.values.insert(key.to_owned(), value.to_owned()).is_none() {
            self.order.push(key.to_owned());
        }
    }

    fn set_default(&mut self, key: &str, value: &str) {
        if !self.values.contains_key(key) {
            self.set(key, value);
        }
    }

    fn into_list(self) -> Vec<String> {
        self.order.iter().map(|key| format!("{key}={}", self.values[key])).collect()
    }
}

/// Node's variables, then the image's, then the request's; a later one wins. What the image's list
/// has that is no variable (no name, NUL bytes) is left out: an image may say anything.
fn environment(inputs: &Inputs<'_>) -> Result<Vec<String>, SpecError> {
    let mut env = Environment::default();
    env.set("PATH", DEFAULT_PATH);
    env.set("HOSTNAME", inputs.hostname);
    if inputs.container.tty {
        env.set("TERM", "xterm");
    }
    for entry in inputs.image.and_then(|image| image.env().as_deref()).unwrap_or_default() {
        match entry.split_once('=') {
            Some((key, value)) if !key.is_empty() && !entry.contains('\0') => env.set(key, value),
            _ => {}
        }
    }
    for (key, value) in &inputs.container.envs {
        let value =
            std::str::from_utf8(value).map_err(|_| SpecError::EnvNotUtf8 { key: key.clone() })?;
        if key.contains('\0') || value.contains('\0') {
            return Err(SpecError::Nul { what: "an environment variable" });
        }
        env.set(key, value);
    }
    let home = &inputs.user.home;
    env.set_default("HOME", if home.is_empty() { "/" } else { home });
    Ok(env.into_list())
}

/// The request's, else the image's, else the root. A relative one of the image starts at the root.
fn working_dir(inputs: &Inputs<'_>) -> Result<PathBuf, SpecError> {
    let image = inputs.image.and_then(|image| image.working_dir().as_deref()).unwrap_or_default();
    let dir = match (inputs.container.working_dir.as_str(), image) {
        ("", "") => "/".to_owned(),
        ("", image) if !image.starts_with('/') => format!("/{image}"),
        ("", image) => image.to_owned(),
        (asked, _) => asked.to_owned(),
    };
    if dir.starts_with('/') && !dir.bytes().any(|byte| byte < 0x20) {
        Ok(PathBuf::from(dir))
    } else {
        Err(SpecError::BadWorkingDir { dir })
    }
}

/// A missing profile means the default one, which privileged containers go without.
fn apparmor(inputs: &Inputs<'_>) -> Result<Option<String>, SpecError> {
    let security = &inputs.container.security;
    match &security.apparmor {
        Some(SecurityProfile::Unconfined) => Ok(None),
        Some(SecurityProfile::Localhost(profile)) if !inputs.host.apparmor => {
            Err(SpecError::ApparmorAbsent { profile: profile.clone() })
        }
        Some(SecurityProfile::Localhost(profile)) => Ok(Some(profile.clone())),
        Some(SecurityProfile::RuntimeDefault) | None
            if security.privileged || !inputs.host.apparmor =>
        {
            Ok(None)
        }
        None => Ok(inputs.apparmor_default.map(str::to_owned)),
        // What was asked for is not left out in silence.
        Some(SecurityProfile::RuntimeDefault) => match inputs.apparmor_default {
            Some(profile) => Ok(Some(profile.to_owned())),
            None => Err(SpecError::ApparmorDefaultAbsent),
        },
    }
}

/// 0 where nothing is asked: the shim's own, protected value must not be inherited.
fn oom_score_adj(inputs: &Inputs<'_>) -> i32 {
    let asked = inputs.container.resources.oom_score_adj.unwrap_or(0);
    inputs.host.min_oom_score_adj.map_or(asked, |lowest| asked.max(lowest))
}

fn rlimits(inputs: &Inputs<'_>) -> Result<Option<Vec<PosixRlimit>>, SpecError> {
    let asked = inputs.container.extras.ulimits.iter().map(|(name, soft, hard)| {
        let kind = crate::rlimit(name).ok_or_else(|| SpecError::Ulimit { name: name.clone() })?;
        Ok(crate::Rlimit { kind, soft: *soft, hard: *hard })
    });
    let asked = asked.collect::<Result<Vec<_>, SpecError>>()?;
    // What the container asks for takes the place of the node's.
    let node = inputs.rlimits.iter().filter(|node| asked.iter().all(|own| own.kind != node.kind));
    let limits: Vec<PosixRlimit> = node
        .chain(&asked)
        .map(|limit| {
            PosixRlimitBuilder::default().typ(limit.kind).soft(limit.soft).hard(limit.hard).build()
        })
        .collect::<Result<_, _>>()?;
    Ok((!limits.is_empty()).then_some(limits))
}

/// The process of an exec: the container's own with other arguments.
pub(crate) fn exec(of: &Process, args: &[String], terminal: bool) -> Result<Process, SpecError> {
    if args.first().is_none_or(String::is_empty) {
        return Err(SpecError::NoCommand);
    }
    if args.iter().any(|arg| arg.contains('\0')) {
        return Err(SpecError::Nul { what: "the command line" });
    }
    let mut process = of.clone();
    process.set_args(Some(args.to_vec())).set_terminal(Some(terminal));
    let mut env = process.env().clone().unwrap_or_default();
    if terminal && !env.iter().any(|entry| entry.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    process.set_env(Some(env));
    Ok(process)
}
