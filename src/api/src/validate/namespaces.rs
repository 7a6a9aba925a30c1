//! Namespaces and id mappings.

use super::{Abilities, Result, bad, enumeration, missing, unsupported};
use crate::v1;
use orlop_spec::request::{IdMapping, NamespaceMode, NamespaceOptions, UserNamespace};

/// Whose options these are: a container may also join another's PID namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Sandbox,
    Container,
}

/// Absent options are CRI's zero values: everything shared in the pod.
pub(super) fn namespaces(
    field: &str,
    raw: Option<&v1::NamespaceOption>,
    of: Of,
    able: Abilities,
) -> Result<NamespaceOptions> {
    let default = v1::NamespaceOption::default();
    let raw = raw.unwrap_or(&default);
    let options = NamespaceOptions {
        network: pod_or_node(&format!("{field}.network"), raw.network)?,
        pid: pid(field, raw, of)?,
        ipc: pod_or_node(&format!("{field}.ipc"), raw.ipc)?,
        user: user(&format!("{field}.userns_options"), raw.userns_options.as_ref(), able)?,
    };
    owned(field, &options, able)?;
    Ok(options)
}

/// What a user namespace does not own its root cannot mount: the host's processes and queues.
fn owned(field: &str, options: &NamespaceOptions, able: Abilities) -> Result<()> {
    if options.user.is_none() {
        return Ok(());
    }
    let remedy = "a pod with a user namespace needs its own: use POD, or set hostUsers to true";
    if options.pid == NamespaceMode::Node {
        return Err(bad(format!("{field}.pid"), "NODE", remedy));
    }
    if options.ipc == NamespaceMode::Node {
        return Err(bad(format!("{field}.ipc"), "NODE", remedy));
    }
    if options.network == NamespaceMode::Node && !able.user_namespaces_host_network {
        return Err(unsupported(format!("{field}.network"), "NODE", remedy));
    }
    Ok(())
}

fn pod_or_node(field: &str, value: i32) -> Result<NamespaceMode> {
    match enumeration(field, value)? {
        v1::NamespaceMode::Pod => Ok(NamespaceMode::Pod),
        v1::NamespaceMode::Node => Ok(NamespaceMode::Node),
        other => Err(bad(field, other.as_str_name(), "use POD or NODE")),
    }
}

fn pid(field: &str, raw: &v1::NamespaceOption, of: Of) -> Result<NamespaceMode> {
    let name = format!("{field}.pid");
    match enumeration(&name, raw.pid)? {
        v1::NamespaceMode::Pod => Ok(NamespaceMode::Pod),
        v1::NamespaceMode::Container => Ok(NamespaceMode::Container),
        v1::NamespaceMode::Node => Ok(NamespaceMode::Node),
        v1::NamespaceMode::Target if of == Of::Sandbox => {
            Err(bad(name, "TARGET", "use POD, CONTAINER or NODE for a sandbox"))
        }
        v1::NamespaceMode::Target if raw.target_id.is_empty() => Err(missing(
            format!("{field}.target_id"),
            "TARGET needs the id of a running container of the pod",
        )),
        v1::NamespaceMode::Target => Ok(NamespaceMode::Target(raw.target_id.clone())),
    }
}

fn user(
    field: &str,
    raw: Option<&v1::UserNamespace>,
    able: Abilities,
) -> Result<Option<UserNamespace>> {
    let Some(raw) = raw else { return Ok(None) };
    let mode = format!("{field}.mode");
    match enumeration(&mode, raw.mode)? {
        v1::NamespaceMode::Node if raw.uids.is_empty() && raw.gids.is_empty() => return Ok(None),
        v1::NamespaceMode::Node => {
            return Err(bad(mode, "NODE", "remove the mappings, or use POD"));
        }
        v1::NamespaceMode::Pod => {}
        other => return Err(bad(mode, other.as_str_name(), "use POD or NODE")),
    }
    let uids = one_mapping(&format!("{field}.uids"), &raw.uids)?;
    let gids = one_mapping(&format!("{field}.gids"), &raw.gids)?;
    if !able.user_namespaces {
        return Err(unsupported(
            mode,
            "POD",
            "this node has no user namespaces for pods: set hostUsers to true",
        ));
    }
    Ok(Some(UserNamespace { uids, gids }))
}

fn one_mapping(field: &str, raw: &[v1::IdMapping]) -> Result<IdMapping> {
    let mappings = id_mappings(field, raw)?;
    match mappings.as_slice() {
        [one] if one.container_id == 0 => Ok(*one),
        [one] => {
            Err(bad(format!("{field}[0].container_id"), one.container_id, "id 0 must be mapped"))
        }
        _ => Err(bad(field, format!("{} mappings", raw.len()), "give exactly one mapping")),
    }
}

/// Runs of at least one id that neither overflow nor overlap on either side.
pub(super) fn id_mappings(field: &str, raw: &[v1::IdMapping]) -> Result<Vec<IdMapping>> {
    let mut mappings: Vec<IdMapping> = Vec::with_capacity(raw.len());
    for (at, mapping) in raw.iter().enumerate() {
        let field = format!("{field}[{at}]");
        if mapping.length == 0 {
            return Err(bad(format!("{field}.length"), 0, "map at least one id"));
        }
        let fits = |start: u32| start.checked_add(mapping.length).is_some();
        if !fits(mapping.container_id) || !fits(mapping.host_id) {
            return Err(bad(
                format!("{field}.length"),
                mapping.length,
                "the run must end at 4294967294 or below",
            ));
        }
        let overlap = |a: u32, b: u32, length: u32| a < b + length && b < a + mapping.length;
        let clash = mappings.iter().any(|other| {
            overlap(mapping.container_id, other.container_id, other.length)
                || overlap(mapping.host_id, other.host_id, other.length)
        });
        if clash {
            return Err(bad(field, mapping.container_id, "mappings must not overlap"));
        }
        mappings.push(IdMapping {
            container_id: mapping.container_id,
            host_id: mapping.host_id,
            length: mapping.length,
        });
    }
    Ok(mappings)
}
