//! What people type, carried out.

use super::{Attached, Exec};
use crate::args::containers::{AttachArgs, ExecArgs, RunArgs, StartArgs};
use crate::args::spec::Own;
use crate::cli::Place;
use crate::config::Config;
use crate::container::{self as work, with_config};
use crate::door::Door;
use anyhow::bail;
use orlop_engine::ContainerSpec;
use std::process::ExitCode;

/// `attach`.
pub(crate) fn attach(place: &Place, arguments: &AttachArgs) -> anyhow::Result<ExitCode> {
    let wanted = Attached {
        detach_keys: arguments.detach_keys.clone().unwrap_or_default(),
        sig_proxy: arguments.sig_proxy,
        ..Attached::all(!arguments.no_stdin)
    };
    with_config(place, async |config| {
        super::attach::attach(&config, &arguments.of.container, &wanted).await.map(ExitCode::from)
    })
}

/// `exec`.
pub(crate) fn exec(place: &Place, arguments: &ExecArgs) -> anyhow::Result<ExitCode> {
    let (container, spec) = arguments.spec(&Own)?;
    let detach_keys = arguments.detach_keys.clone().unwrap_or_default();
    let asked = Exec { spec, detach: arguments.detach, detach_keys };
    with_config(place, async |config| {
        super::exec::exec(&config, container, &asked).await.map(ExitCode::from)
    })
}

/// `start`; with `-a` or `-i` in front of the container.
pub(crate) fn start(place: &Place, arguments: &StartArgs) -> anyhow::Result<ExitCode> {
    let names = &arguments.of.containers;
    if !arguments.attach && !arguments.interactive {
        return work::start(place, names);
    }
    let [name] = names.as_slice() else {
        bail!("only one container can be started with -a or -i: leave these out, or give one name");
    };
    let wanted = Attached {
        detach_keys: arguments.detach_keys.clone().unwrap_or_default(),
        ..Attached::all(arguments.interactive)
    };
    with_config(place, async |config| {
        let door = Door::open(&config).await?;
        let started = super::start::start(&config, door, name, &wanted, false).await;
        coded(started)
    })
}

/// `run` in the foreground, once the container is made.
pub(crate) async fn run(
    config: &Config,
    door: Door,
    container: &str,
    spec: &ContainerSpec,
    arguments: &RunArgs,
) -> anyhow::Result<ExitCode> {
    let named =
        |stream: &str| arguments.attach.iter().any(|given| given.eq_ignore_ascii_case(stream));
    let all = arguments.attach.is_empty();
    let wanted = Attached {
        stdin: spec.stdin && (all || named("stdin")),
        stdout: all || named("stdout"),
        stderr: all || named("stderr"),
        detach_keys: arguments.detach_keys.clone().unwrap_or_default(),
        sig_proxy: arguments.sig_proxy,
    };
    let started = super::start::start(config, door, container, &wanted, spec.auto_remove).await;
    started.map(ExitCode::from)
}

/// A start that failed has a status of its own.
fn coded(started: anyhow::Result<u8>) -> anyhow::Result<ExitCode> {
    match started {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(error) => {
            let Some(failed) = error.downcast_ref::<work::NotStarted>() else { return Err(error) };
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "orlop: {error:#}");
            Ok(ExitCode::from(failed.code))
        }
    }
}
