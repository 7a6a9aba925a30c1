//! A container's configuration.

use super::text::{absolute_path, name, relative_path};
use super::{
    Abilities, Result, bad, enumeration, missing, mounts, resources, security, unsupported,
};
use crate::v1;
use orlop_model::Signal;
use orlop_spec::request::{
    ContainerConfig, ContainerExtras, ContainerMetadata, ImageSpec, Resources,
};

const MAX_NAME: usize = 253;
const MAX_IMAGE: usize = 512;

/// Checks a container's configuration.
pub(crate) fn container(
    raw: Option<&v1::ContainerConfig>,
    able: Abilities,
) -> Result<ContainerConfig> {
    let raw = raw.ok_or_else(|| missing("config", "describe the container"))?;
    super::no_windows("config.windows", raw.windows.is_some())?;
    let default = v1::LinuxContainerConfig::default();
    let linux = raw.linux.as_ref().unwrap_or(&default);
    Ok(ContainerConfig {
        metadata: metadata(raw.metadata.as_ref())?,
        image: image("image", raw.image.as_ref())?,
        command: words("command", &raw.command)?,
        args: words("args", &raw.args)?,
        working_dir: match raw.working_dir.as_str() {
            "" => String::new(),
            dir => absolute_path_kept("working_dir", dir)?,
        },
        envs: envs(&raw.envs)?,
        mounts: mounts::mounts(&raw.mounts, able)?,
        devices: mounts::devices(&raw.devices)?,
        cdi_devices: cdi_devices(&raw.cdi_devices)?,
        labels: raw.labels.clone(),
        annotations: raw.annotations.clone(),
        log_path: match raw.log_path.as_str() {
            "" => None,
            path => Some(relative_path("log_path", path)?),
        },
        stdin: raw.stdin,
        stdin_once: raw.stdin_once,
        tty: raw.tty,
        resources: match &linux.resources {
            Some(raw) => resources::resources("linux.resources", raw)?,
            None => Resources::default(),
        },
        security: security::container(linux.security_context.as_ref(), able)?,
        stop_signal: stop_signal(raw.stop_signal)?,
        extras: ContainerExtras::default(),
    })
}

fn metadata(raw: Option<&v1::ContainerMetadata>) -> Result<ContainerMetadata> {
    let raw = raw.ok_or_else(|| missing("metadata", "give the container a name"))?;
    Ok(ContainerMetadata {
        name: name("metadata.name", &raw.name, MAX_NAME)?,
        attempt: raw.attempt,
    })
}

pub(super) fn image(field: &str, raw: Option<&v1::ImageSpec>) -> Result<ImageSpec> {
    let raw = raw.ok_or_else(|| missing(field, "name the container's image"))?;
    Ok(ImageSpec {
        image: name(&format!("{field}.image"), &raw.image, MAX_IMAGE)?,
        user_specified: raw.user_specified_image.clone(),
        annotations: raw.annotations.clone(),
        runtime_handler: raw.runtime_handler.clone(),
    })
}

fn words(field: &str, raw: &[String]) -> Result<Vec<String>> {
    match raw.iter().position(|word| word.contains('\0')) {
        None => Ok(raw.to_vec()),
        Some(i) => Err(bad(format!("{field}[{i}]"), &raw[i], "remove the NUL byte")),
    }
}

/// Checked, but as it was written: `..` is resolved in the container's own root.
fn absolute_path_kept(field: &str, raw: &str) -> Result<String> {
    if raw.split('/').any(|part| part == "..") {
        absolute_path(field, &raw.replace("..", "x")).map(|_| raw.to_owned())
    } else {
        absolute_path(field, raw).map(|_| raw.to_owned())
    }
}

fn envs(raw: &[v1::KeyValue]) -> Result<Vec<(String, Vec<u8>)>> {
    raw.iter()
        .enumerate()
        .map(|(i, env)| {
            let field = format!("envs[{i}]");
            if env.key.is_empty() {
                return Err(missing(format!("{field}.key"), "give the variable a name"));
            }
            if env.key.contains(['=', '\0']) {
                return Err(bad(
                    format!("{field}.key"),
                    &env.key,
                    "a variable's name has neither '=' nor NUL bytes",
                ));
            }
            let value = || String::from_utf8_lossy(&env.value).into_owned();
            if env.value.contains(&0) {
                return Err(bad(format!("{field}.value"), value(), "remove the NUL byte"));
            }
            if std::str::from_utf8(&env.value).is_err() {
                return Err(unsupported(
                    format!("{field}.value"),
                    value(),
                    "OCI runtime specs carry UTF-8 only",
                ));
            }
            Ok((env.key.clone(), env.value.clone()))
        })
        .collect()
}

/// Names of devices, which the node's descriptions of devices resolve.
fn cdi_devices(raw: &[v1::CdiDevice]) -> Result<Vec<String>> {
    raw.iter()
        .enumerate()
        .map(|(i, device)| name(&format!("CDI_devices[{i}].name"), &device.name, MAX_IMAGE))
        .collect()
}

/// CRI numbers signals alphabetically; their names are the kernel's.
fn stop_signal(raw: i32) -> Result<Option<Signal>> {
    match enumeration("stop_signal", raw)? {
        v1::Signal::RuntimeDefault => Ok(None),
        signal => {
            let name = signal.as_str_name();
            Signal::parse(name)
                .map(Some)
                .map_err(|_| bad("stop_signal", name, "use a signal of Linux"))
        }
    }
}
