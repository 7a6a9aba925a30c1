//! Users, groups, profiles, capabilities, hidden paths.

use super::namespaces::{Of, namespaces};
use super::text::{absolute_path, has_control, id, name};
use super::{Abilities, Result, bad, enumeration, missing};
use crate::v1;
use orlop_spec::request::{
    CapabilityRequest, ContainerSecurity, GroupsPolicy, RunAsUser, SandboxSecurity,
    SecurityProfile, SelinuxOptions,
};
use orlop_spec::{DEFAULT_MASKED_PATHS, DEFAULT_READONLY_PATHS, KNOWN_CAPABILITIES};

const CONTEXT: &str = "linux.security_context";
const MAX_GROUPS: usize = 65_536;

/// Security of a sandbox.
pub(super) fn sandbox(
    raw: Option<&v1::LinuxSandboxSecurityContext>,
    able: Abilities,
) -> Result<SandboxSecurity> {
    let default = v1::LinuxSandboxSecurityContext::default();
    let raw = raw.unwrap_or(&default);
    let run_as_user = optional_id("run_as_user", raw.run_as_user)?;
    let run_as_group = optional_id("run_as_group", raw.run_as_group)?;
    if let (Some(group), None) = (run_as_group, run_as_user) {
        return Err(bad(at("run_as_group"), group, "set run_as_user too"));
    }
    Ok(SandboxSecurity {
        namespaces: namespaces(
            &at("namespace_options"),
            raw.namespace_options.as_ref(),
            Of::Sandbox,
            able,
        )?,
        selinux: selinux(raw.selinux_options.as_ref())?,
        run_as_user,
        run_as_group,
        readonly_rootfs: raw.readonly_rootfs,
        supplemental_groups: groups(&raw.supplemental_groups)?,
        groups_policy: policy(raw.supplemental_groups_policy)?,
        privileged: raw.privileged,
        seccomp: seccomp(raw.seccomp.as_ref(), &raw.seccomp_profile_path)?,
        apparmor: apparmor(raw.apparmor.as_ref(), "")?,
    })
}

/// Security of a container. Without any context the field's default paths are hidden; a context
/// without paths hides none, which is how the kubelet asks for `procMount: Unmasked`.
pub(super) fn container(
    raw: Option<&v1::LinuxContainerSecurityContext>,
    able: Abilities,
) -> Result<ContainerSecurity> {
    let default = v1::LinuxContainerSecurityContext {
        masked_paths: DEFAULT_MASKED_PATHS.map(str::to_owned).to_vec(),
        readonly_paths: DEFAULT_READONLY_PATHS.map(str::to_owned).to_vec(),
        ..Default::default()
    };
    let raw = raw.unwrap_or(&default);
    let run_as_user = run_as(raw)?;
    let run_as_group = optional_id("run_as_group", raw.run_as_group)?;
    if let (Some(group), None) = (run_as_group, &run_as_user) {
        return Err(bad(at("run_as_group"), group, "set run_as_user or run_as_username too"));
    }
    Ok(ContainerSecurity {
        namespaces: namespaces(
            &at("namespace_options"),
            raw.namespace_options.as_ref(),
            Of::Container,
            able,
        )?,
        privileged: raw.privileged,
        capabilities: capabilities(raw.capabilities.as_ref())?,
        selinux: selinux(raw.selinux_options.as_ref())?,
        run_as_user,
        run_as_group,
        readonly_rootfs: raw.readonly_rootfs,
        supplemental_groups: groups(&raw.supplemental_groups)?,
        groups_policy: policy(raw.supplemental_groups_policy)?,
        no_new_privs: raw.no_new_privs,
        masked_paths: paths("masked_paths", &raw.masked_paths)?,
        readonly_paths: paths("readonly_paths", &raw.readonly_paths)?,
        seccomp: seccomp(raw.seccomp.as_ref(), &raw.seccomp_profile_path)?,
        apparmor: apparmor(raw.apparmor.as_ref(), &raw.apparmor_profile)?,
    })
}

fn at(field: &str) -> String {
    format!("{CONTEXT}.{field}")
}

fn optional_id(field: &str, raw: Option<v1::Int64Value>) -> Result<Option<u32>> {
    raw.map(|value| id(&format!("{}.value", at(field)), value.value)).transpose()
}

fn run_as(raw: &v1::LinuxContainerSecurityContext) -> Result<Option<RunAsUser>> {
    match (optional_id("run_as_user", raw.run_as_user)?, raw.run_as_username.as_str()) {
        (user, "") => Ok(user.map(RunAsUser::Id)),
        (None, user) => Ok(Some(RunAsUser::Name(name(&at("run_as_username"), user, 256)?))),
        (Some(_), user) => {
            Err(bad(at("run_as_username"), user, "set either run_as_user or run_as_username"))
        }
    }
}

fn groups(raw: &[i64]) -> Result<Vec<u32>> {
    if raw.len() > MAX_GROUPS {
        let value = format!("{} groups", raw.len());
        return Err(bad(at("supplemental_groups"), value, "use at most 65536, the kernel's limit"));
    }
    raw.iter()
        .enumerate()
        .map(|(i, &group)| id(&format!("{}[{i}]", at("supplemental_groups")), group))
        .collect()
}

fn policy(raw: i32) -> Result<GroupsPolicy> {
    Ok(match enumeration(&at("supplemental_groups_policy"), raw)? {
        v1::SupplementalGroupsPolicy::Merge => GroupsPolicy::Merge,
        v1::SupplementalGroupsPolicy::Strict => GroupsPolicy::Strict,
    })
}

fn selinux(raw: Option<&v1::SeLinuxOption>) -> Result<Option<SelinuxOptions>> {
    let Some(raw) = raw else { return Ok(None) };
    let part = |field: &str, value: &str, extra: &[u8]| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || extra.contains(&byte);
        if value.bytes().all(fits) && value.len() <= 255 {
            Ok(value.to_owned())
        } else {
            Err(bad(
                at(&format!("selinux_options.{field}")),
                value,
                "use a part of an SELinux label",
            ))
        }
    };
    let options = SelinuxOptions {
        user: part("user", &raw.user, b"-.")?,
        role: part("role", &raw.role, b"-.")?,
        kind: part("type", &raw.r#type, b"-.")?,
        level: part("level", &raw.level, b":,.-")?,
    };
    Ok((options != SelinuxOptions::default()).then_some(options))
}

/// The profile field wins over the deprecated text.
fn seccomp(raw: Option<&v1::SecurityProfile>, deprecated: &str) -> Result<Option<SecurityProfile>> {
    let (field, profile) = match raw {
        Some(raw) => (at("seccomp.localhost_ref"), profile(&at("seccomp"), raw)?),
        None => {
            let field = at("seccomp_profile_path");
            let Some(found) = deprecated_profile(&field, deprecated)? else { return Ok(None) };
            (field, found)
        }
    };
    match profile {
        SecurityProfile::Localhost(path) => {
            let path = absolute_path(&field, &path)?;
            Ok(Some(SecurityProfile::Localhost(path.display().to_string())))
        }
        other => Ok(Some(other)),
    }
}

fn apparmor(
    raw: Option<&v1::SecurityProfile>,
    deprecated: &str,
) -> Result<Option<SecurityProfile>> {
    let (field, found) = match raw {
        Some(raw) => (at("apparmor.localhost_ref"), Some(profile(&at("apparmor"), raw)?)),
        None => {
            let field = at("apparmor_profile");
            let found = deprecated_profile(&field, deprecated)?;
            (field, found)
        }
    };
    let Some(SecurityProfile::Localhost(reference)) = found else { return Ok(found) };
    // Clients write the prefix of the deprecated field here, too; critest does.
    let name = reference.strip_prefix("localhost/").unwrap_or(&reference);
    if name.is_empty() || has_control(name) || name.len() > 4096 {
        return Err(bad(field, &reference, "use the name of a loaded profile"));
    }
    Ok(Some(SecurityProfile::Localhost(name.to_owned())))
}

fn profile(field: &str, raw: &v1::SecurityProfile) -> Result<SecurityProfile> {
    use v1::security_profile::ProfileType;
    let reference = format!("{field}.localhost_ref");
    match enumeration(&format!("{field}.profile_type"), raw.profile_type)? {
        ProfileType::RuntimeDefault => Ok(SecurityProfile::RuntimeDefault),
        ProfileType::Unconfined => Ok(SecurityProfile::Unconfined),
        ProfileType::Localhost if raw.localhost_ref.is_empty() => Err(missing(
            reference,
            "Localhost needs a profile; use RuntimeDefault for the default one",
        )),
        ProfileType::Localhost => Ok(SecurityProfile::Localhost(raw.localhost_ref.clone())),
    }
}

fn deprecated_profile(field: &str, text: &str) -> Result<Option<SecurityProfile>> {
    match text {
        "" => Ok(None),
        "runtime/default" | "docker/default" => Ok(Some(SecurityProfile::RuntimeDefault)),
        "unconfined" => Ok(Some(SecurityProfile::Unconfined)),
        _ => match text.strip_prefix("localhost/") {
            Some(reference) if !reference.is_empty() => {
                Ok(Some(SecurityProfile::Localhost(reference.to_owned())))
            }
            _ => Err(bad(field, text, "use runtime/default, unconfined or localhost/PROFILE")),
        },
    }
}

fn capabilities(raw: Option<&v1::Capability>) -> Result<CapabilityRequest> {
    let Some(raw) = raw else { return Ok(CapabilityRequest::default()) };
    let list = |field: &str, names: &[String]| {
        let field = at(&format!("capabilities.{field}"));
        names
            .iter()
            .enumerate()
            .map(|(i, name)| capability(&format!("{field}[{i}]"), name))
            .collect::<Result<Vec<_>>>()
    };
    Ok(CapabilityRequest {
        add: list("add_capabilities", &raw.add_capabilities)?,
        drop: list("drop_capabilities", &raw.drop_capabilities)?,
        add_ambient: list("add_ambient_capabilities", &raw.add_ambient_capabilities)?,
    })
}

/// With or without `CAP_`, in any case, as Kubernetes users write them.
fn capability(field: &str, raw: &str) -> Result<String> {
    let upper = raw.to_ascii_uppercase();
    if upper == "ALL" || upper == "CAP_ALL" {
        return Ok("ALL".to_owned());
    }
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    if KNOWN_CAPABILITIES.contains(&full.as_str()) {
        Ok(full)
    } else {
        Err(bad(field, raw, "use a capability of Linux such as NET_ADMIN, or ALL"))
    }
}

fn paths(field: &str, raw: &[String]) -> Result<Vec<String>> {
    let each = |(i, path): (usize, &String)| {
        absolute_path(&format!("{}[{i}]", at(field)), path).map(|path| path.display().to_string())
    };
    raw.iter().enumerate().map(each).collect()
}
