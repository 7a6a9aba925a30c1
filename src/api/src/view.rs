//! Views of lifecycle and image store in CRI's words.

use crate::v1;
use orlop_image::Image;
use orlop_lifecycle::{ContainerState, ContainerView, SandboxState, SandboxView};
use orlop_model::Signal;
use orlop_spec::request::{
    IdMapping, ImageSpec, Mount, MountSource, NamespaceMode, NamespaceOptions, Propagation,
    Resources, SandboxMetadata, UserNamespace,
};

pub(crate) fn sandbox_state(state: SandboxState) -> v1::PodSandboxState {
    match state {
        SandboxState::Ready => v1::PodSandboxState::SandboxReady,
        SandboxState::NotReady => v1::PodSandboxState::SandboxNotready,
    }
}

pub(crate) fn container_state(state: ContainerState) -> v1::ContainerState {
    match state {
        ContainerState::Created => v1::ContainerState::ContainerCreated,
        ContainerState::Running => v1::ContainerState::ContainerRunning,
        ContainerState::Exited => v1::ContainerState::ContainerExited,
        ContainerState::Unknown => v1::ContainerState::ContainerUnknown,
    }
}

pub(crate) fn sandbox_metadata(metadata: &SandboxMetadata) -> v1::PodSandboxMetadata {
    v1::PodSandboxMetadata {
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        namespace: metadata.namespace.clone(),
        attempt: metadata.attempt,
    }
}

/// A sandbox in a list.
pub(crate) fn sandbox_item(view: &SandboxView) -> v1::PodSandbox {
    v1::PodSandbox {
        id: view.id.to_string(),
        metadata: Some(sandbox_metadata(&view.config.metadata)),
        state: sandbox_state(view.state).into(),
        created_at: view.created_at.0,
        labels: view.config.labels.clone(),
        annotations: view.config.annotations.clone(),
        runtime_handler: view.config.runtime_handler.clone(),
    }
}

/// A sandbox's status.
pub(crate) fn sandbox_status(view: &SandboxView) -> v1::PodSandboxStatus {
    let mut ips = view.ips.iter().map(ToString::to_string);
    let network = v1::PodSandboxNetworkStatus {
        ip: ips.next().unwrap_or_default(),
        additional_ips: ips.map(|ip| v1::PodIp { ip }).collect(),
    };
    let options = namespace_options(&view.config.security.namespaces);
    v1::PodSandboxStatus {
        id: view.id.to_string(),
        metadata: Some(sandbox_metadata(&view.config.metadata)),
        state: sandbox_state(view.state).into(),
        created_at: view.created_at.0,
        network: Some(network),
        linux: Some(v1::LinuxPodSandboxStatus {
            namespaces: Some(v1::Namespace { options: Some(options) }),
        }),
        labels: view.config.labels.clone(),
        annotations: view.config.annotations.clone(),
        runtime_handler: view.config.runtime_handler.clone(),
    }
}

fn namespace_options(options: &NamespaceOptions) -> v1::NamespaceOption {
    let mode = |mode: &NamespaceMode| {
        i32::from(match mode {
            NamespaceMode::Pod => v1::NamespaceMode::Pod,
            NamespaceMode::Container => v1::NamespaceMode::Container,
            NamespaceMode::Node => v1::NamespaceMode::Node,
            NamespaceMode::Target(_) => v1::NamespaceMode::Target,
        })
    };
    v1::NamespaceOption {
        network: mode(&options.network),
        pid: mode(&options.pid),
        ipc: mode(&options.ipc),
        target_id: match &options.pid {
            NamespaceMode::Target(id) => id.clone(),
            _ => String::new(),
        },
        userns_options: options.user.as_ref().map(user_namespace),
    }
}

fn user_namespace(user: &UserNamespace) -> v1::UserNamespace {
    v1::UserNamespace {
        mode: v1::NamespaceMode::Pod.into(),
        uids: vec![id_mapping(&user.uids)],
        gids: vec![id_mapping(&user.gids)],
    }
}

fn id_mapping(mapping: &IdMapping) -> v1::IdMapping {
    v1::IdMapping {
        host_id: mapping.host_id,
        container_id: mapping.container_id,
        length: mapping.length,
    }
}

fn image_spec(spec: &ImageSpec) -> v1::ImageSpec {
    v1::ImageSpec {
        image: spec.image.clone(),
        annotations: spec.annotations.clone(),
        user_specified_image: spec.user_specified.clone(),
        runtime_handler: spec.runtime_handler.clone(),
        image_ref: String::new(),
    }
}

/// A container in a list.
pub(crate) fn container_item(view: &ContainerView) -> v1::Container {
    v1::Container {
        id: view.id.to_string(),
        pod_sandbox_id: view.sandbox.to_string(),
        metadata: Some(container_metadata(view)),
        image: Some(image_spec(&view.config.image)),
        image_ref: view.image_id.to_string(),
        state: container_state(view.state).into(),
        created_at: view.created_at.0,
        labels: view.config.labels.clone(),
        annotations: view.config.annotations.clone(),
        image_id: view.image_id.to_string(),
    }
}

pub(crate) fn container_metadata(view: &ContainerView) -> v1::ContainerMetadata {
    v1::ContainerMetadata {
        name: view.config.metadata.name.clone(),
        attempt: view.config.metadata.attempt,
    }
}

/// A container's status.
pub(crate) fn container_status(view: &ContainerView) -> v1::ContainerStatus {
    let config = &view.config;
    let log_path = view.log_path.as_ref().map(|path| path.display().to_string());
    v1::ContainerStatus {
        id: view.id.to_string(),
        metadata: Some(container_metadata(view)),
        state: container_state(view.state).into(),
        created_at: view.created_at.0,
        started_at: view.started_at.0,
        finished_at: view.finished_at.0,
        exit_code: view.exit_code,
        image: Some(v1::ImageSpec { image: view.image_name.clone(), ..image_spec(&config.image) }),
        image_ref: view.image_ref.clone(),
        reason: view.reason.clone(),
        message: view.message.clone(),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        mounts: config.mounts.iter().map(|given| mount(given, view)).collect(),
        log_path: log_path.unwrap_or_default(),
        resources: Some(v1::ContainerResources {
            linux: Some(resources(&view.resources)),
            windows: None,
        }),
        image_id: view.image_id.to_string(),
        user: Some(user(view)),
        stop_signal: stop_signal(view.stop_signal).into(),
    }
}

fn user(view: &ContainerView) -> v1::ContainerUser {
    v1::ContainerUser {
        linux: Some(v1::LinuxContainerUser {
            uid: view.user.uid.into(),
            gid: view.user.gid.into(),
            supplemental_groups: view
                .user
                .additional_gids
                .iter()
                .map(|gid| i64::from(*gid))
                .collect(),
        }),
    }
}

fn mount(mount: &Mount, view: &ContainerView) -> v1::Mount {
    let (host_path, image, image_sub_path) = match &mount.source {
        MountSource::Host(path) => (path.display().to_string(), None, String::new()),
        // Only the engine makes these, and CRI does not see its containers.
        MountSource::Tmpfs(_) => (String::new(), None, String::new()),
        MountSource::Image { image, sub_path } => {
            let image_ref = view.volume_images.get(&mount.container_path).cloned();
            let image_ref = image_ref.unwrap_or_default();
            let image = v1::ImageSpec { image_ref, ..image_spec(image) };
            (String::new(), Some(image), sub_path.clone())
        }
    };
    let propagation = match mount.propagation {
        Propagation::Private => v1::MountPropagation::PropagationPrivate,
        Propagation::HostToContainer => v1::MountPropagation::PropagationHostToContainer,
        Propagation::Bidirectional => v1::MountPropagation::PropagationBidirectional,
    };
    v1::Mount {
        container_path: mount.container_path.display().to_string(),
        host_path,
        readonly: mount.readonly,
        selinux_relabel: mount.selinux_relabel,
        propagation: propagation.into(),
        uid_mappings: mount.uid_mappings.iter().map(id_mapping).collect(),
        gid_mappings: mount.gid_mappings.iter().map(id_mapping).collect(),
        recursive_read_only: mount.recursive_read_only,
        image,
        image_sub_path,
    }
}

fn resources(limits: &Resources) -> v1::LinuxContainerResources {
    let number =
        |value: Option<u64>| value.and_then(|value| i64::try_from(value).ok()).unwrap_or_default();
    let page = |(page_size, limit): &(String, u64)| v1::HugepageLimit {
        page_size: page_size.clone(),
        limit: *limit,
    };
    v1::LinuxContainerResources {
        cpu_period: number(limits.cpu_period),
        cpu_quota: limits.cpu_quota.unwrap_or_default(),
        cpu_shares: number(limits.cpu_shares),
        memory_limit_in_bytes: limits.memory_limit.unwrap_or_default(),
        oom_score_adj: limits.oom_score_adj.unwrap_or_default().into(),
        cpuset_cpus: limits.cpuset_cpus.clone(),
        cpuset_mems: limits.cpuset_mems.clone(),
        hugepage_limits: limits.hugepage_limits.iter().map(page).collect(),
        unified: limits.unified.clone(),
        memory_swap_limit_in_bytes: limits.memory_swap_limit.unwrap_or_default(),
    }
}

/// CRI's number for a signal; those that CRI has no name for count as the default.
pub(crate) fn stop_signal(signal: Signal) -> v1::Signal {
    let name = signal.to_string().replace('+', "PLUS").replace('-', "MINUS");
    v1::Signal::from_str_name(&name).unwrap_or(v1::Signal::RuntimeDefault)
}

/// An image. A user that is no valid number is reported as a name, so that the kubelet's check for
/// root fails closed.
pub(crate) fn image(image: &Image) -> v1::Image {
    let configured = image
        .config
        .config()
        .as_ref()
        .and_then(|config| config.user().as_deref())
        .unwrap_or_default();
    let user = configured.split(':').next().unwrap_or_default();
    let (uid, username) = match user {
        "" => (Some(0), String::new()),
        text if text.bytes().all(|byte| byte.is_ascii_digit()) => match text.parse::<u32>() {
            Ok(uid) if uid < u32::MAX => (Some(i64::from(uid)), String::new()),
            _ => (None, text.to_owned()),
        },
        text => (None, text.to_owned()),
    };
    v1::Image {
        id: image.id.to_string(),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        size: image.size.max(1),
        uid: uid.map(|value| v1::Int64Value { value }),
        username,
        spec: None,
        pinned: image.pinned,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_survives() {
        for number in (1..=31).chain(34..=64) {
            let signal = Signal::try_from(number).unwrap();
            let raw = stop_signal(signal);
            assert_ne!(raw, v1::Signal::RuntimeDefault, "{signal}");
            assert_eq!(Signal::parse(raw.as_str_name()).unwrap(), signal);
        }
    }
}
