//! CreateContainer: everything up to an init that only waits to be let go.

use super::exec::process_only;
use super::process::{self, ImageFacts};
use super::{Container, Link, ask_to_leave, mounts, remove_layers, supervise, volumes};
use crate::cdi;
use crate::context::{Context, START_PATIENCE};
use crate::error::{below, io};
use crate::handler::{self, Role, annotations};
use crate::host::remove_tree;
use crate::kept::{Kept, blocking};
use crate::neighbours::task_failed;
use crate::sandbox::Sandbox;
use crate::state::ContainerRecord;
use crate::{Error, ErrorKind, EventKind, Result, selinux, spans};
use oci_spec::runtime::Spec;
use orlop_image::{Image, Rootfs, StoreError};
use orlop_model::{ContainerId, Signal, Timestamp};
use orlop_spec::request::{self, ContainerConfig, Supervise};
use orlop_spec::{Inputs, Namespace, Namespaces, SelinuxLabels};
use orlop_task::protocol::{Mount, shim::CreateOptions};
use orlop_task::{Bundle, CreateRequest, HealthCheck, Restart, Shim, Supervision};
use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::time::timeout;
use tracing::Instrument;

/// Makes a container, or leaves nothing of it.
pub(crate) async fn create(
    context: Arc<Context>,
    sandbox: Arc<Sandbox>,
    id: ContainerId,
    config: Arc<ContainerConfig>,
) -> Result<()> {
    let _shared = sandbox.gate.read().await;
    sandbox.check_ready(&context)?;
    process::check_user_namespace(&sandbox, &config)?;
    // It may have been taken out of the configuration since the pod was made.
    context.check_handler(&sandbox.facts.get().config.runtime_handler)?;
    let image = context
        .images
        .get(&config.image.image)
        .ok_or_else(|| Error::ImageMissing { image: config.image.image.clone() })?;
    let namespaces = process::namespaces(&context, &sandbox, &config).await?;
    let job = Job {
        context: Arc::clone(&context),
        sandbox: Arc::clone(&sandbox),
        id: id.clone(),
        config,
        image,
        namespaces,
    };
    match job.make().await {
        Ok(container) => {
            let container = Arc::new(container);
            context.index.insert_container(Arc::clone(&container));
            context.tell(EventKind::Created, &container.sandbox, Some(&id));
            let span = spans::of_container(&container);
            tokio::spawn(supervise(context, container).instrument(span));
            Ok(())
        }
        Err(error) => {
            undo(&context, &id, &job.config, &job.cgroup()).await;
            Err(error)
        }
    }
}

/// One container being made.
struct Job {
    context: Arc<Context>,
    sandbox: Arc<Sandbox>,
    id: ContainerId,
    config: Arc<ContainerConfig>,
    image: Arc<Image>,
    namespaces: Namespaces,
}

/// What the blocking part of the work yields.
struct Prepared {
    spec: Spec,
    rootfs: Rootfs,
    record: ContainerRecord,
    stdin: String,
    /// For the files of its root, where SELinux is in force.
    mount_label: Option<String>,
}

impl Job {
    fn cgroup(&self) -> String {
        process::cgroup_path(&self.sandbox.facts.get().cgroup_parent, self.id.as_str())
    }

    async fn make(&self) -> Result<Container> {
        let bundle = self.context.bundle(self.id.as_str());
        let preparation = Preparation {
            context: Arc::clone(&self.context),
            sandbox: Arc::clone(&self.sandbox),
            id: self.id.clone(),
            config: Arc::clone(&self.config),
            image: Arc::clone(&self.image),
            namespaces: self.namespaces.clone(),
            cgroup: self.cgroup(),
            bundle: bundle.clone(),
        };
        make_bundle(&bundle)?;
        let handler = &self.sandbox.facts.get().config.runtime_handler;
        let foreign = self.context.foreign_runtime(handler, Role::Container(&self.config));
        // The shim reads the spec when it is told to create, so that it can start meanwhile.
        let (prepared, shim) = tokio::join!(
            blocking(move || preparation.run()),
            self.context.launcher.launch(self.id.as_str(), &bundle, foreign.as_ref()),
        );
        let shim =
            shim.map_err(|error| task_failed("starting the shim", self.id.as_str(), error))?;
        let made = match prepared {
            Ok(prepared) => self.make_with(&shim, &bundle, prepared).await,
            Err(error) => Err(error),
        };
        if made.is_err() {
            ask_to_leave(&shim.client).await;
        }
        made
    }

    async fn make_with(&self, shim: &Shim, bundle: &Path, prepared: Prepared) -> Result<Container> {
        let mut record = prepared.record;
        let mut root = overlay(
            &prepared.rootfs,
            self.namespaces.user != Namespace::Host,
            self.config.extras.layer.as_ref().is_none_or(|layer| layer.volatile),
        );
        root.options.extend(prepared.mount_label.map(|label| format!("context={label}")));
        let request = self.request(root, record.log_path.as_deref(), prepared.stdin);
        let made = timeout(START_PATIENCE, shim.client.create(bundle, request)).await;
        record.pid = match made {
            Ok(Ok(pid)) => pid,
            Ok(Err(error)) => return Err(task_failed("creating", self.id.as_str(), error)),
            Err(_) => {
                let why = format!("no answer to create within {START_PATIENCE:?}");
                return Err(Error::ShimSilent { id: self.id.to_string(), why });
            }
        };
        let pid = i32::try_from(record.pid).unwrap_or(0);
        record.pid_start = orlop_sys::process::start_time(pid).unwrap_or(0);
        // Where a virtual machine holds the pod, the number is that of a process of the host's.
        let handler = &self.sandbox.facts.get().config.runtime_handler;
        let held = self.context.foreign(handler).is_some_and(|foreign| foreign.sandbox);
        if !held && matches!(self.namespaces.pid, Namespace::Path(_)) && !apart_from_us(pid) {
            let why = "the process whose PID namespace was to be shared has ended";
            return Err(Error::SandboxNotReady { id: self.sandbox.id.clone(), why });
        }
        let dir = Arc::clone(&self.context.container_records);
        let facts = Kept::create(dir, self.id.as_str(), record).await?;
        let container = Container::new(facts, bundle.to_owned(), Link::Up(shim.client.clone()));
        container.remember_process(process_only(prepared.spec));
        Ok(container)
    }

    fn request(&self, root: Mount, log: Option<&Path>, stdin: String) -> CreateRequest {
        let log = log.map_or_else(String::new, |path| format!("cri://{}", path.display()));
        CreateRequest {
            rootfs: vec![root],
            terminal: self.config.tty,
            stdin,
            stderr: if self.config.tty { String::new() } else { log.clone() },
            stdout: log,
            options: CreateOptions {
                exit_on_delete: true,
                attachable: true,
                stdin_once: self.config.stdin_once,
                reaper: self.config.extras.init,
                ..CreateOptions::default()
            },
        }
    }
}

/// Whether `pid` is in another PID namespace than we are. The process that was to be joined may have
/// ended while the shim was on its way, and its number may by then have named one of the host's own.
fn apart_from_us(pid: i32) -> bool {
    let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/pid")).ok();
    let (theirs, ours) = (of(&pid.to_string()), of("self"));
    theirs.is_some() && ours.is_some() && theirs != ours
}

/// The container's root as the stage mounts it, in the container's own mount namespace.
fn overlay(rootfs: &Rootfs, mapped: bool, volatile: bool) -> Mount {
    let ids = mapped.then(|| "idmap".to_owned());
    // Without this the end of every container waits until its layer is on the disk. A layer of CRI's
    // is mounted once and never again after a boot, so nobody would read what was saved.
    let volatile = volatile.then(|| "volatile".to_owned());
    let lower: Vec<_> = rootfs.lower.iter().map(|path| path.display().to_string()).collect();
    Mount {
        r#type: "overlay".into(),
        source: "overlay".into(),
        target: String::new(),
        options: vec![
            format!("lowerdir={}", lower.join(":")),
            format!("upperdir={}", rootfs.upper.display()),
            format!("workdir={}", rootfs.work.display()),
        ]
        .into_iter()
        .chain(volatile)
        .chain(ids)
        .collect(),
    }
}

/// A layer that was mounted `volatile` refuses to be mounted again, because a crash of the host could
/// have harmed it. Within one boot none has, and a layer that is to outlive one is never mounted so.
fn mountable_again(work: &Path) -> Result<()> {
    let mark = work.join("work/incompat/volatile");
    match std::fs::remove_dir_all(&mark) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(io("removing", mark)(error))
        }
        _ => Ok(()),
    }
}

/// The part of the work that blocks: files, the image's user database, the spec.
struct Preparation {
    context: Arc<Context>,
    sandbox: Arc<Sandbox>,
    id: ContainerId,
    config: Arc<ContainerConfig>,
    image: Arc<Image>,
    namespaces: Namespaces,
    cgroup: String,
    bundle: PathBuf,
}

impl Preparation {
    fn run(self) -> Result<Prepared> {
        let id = self.id.as_str();
        let image = ImageFacts::of(&self.image);
        let users = self.context.images.user_database(&self.image.id).map_err(|error| {
            below("reading the users", self.image.id.as_str(), ErrorKind::Internal, error)
        })?;
        let table = process::user_table(&users);
        let extras = &self.config.extras;
        let named = extras.user.as_ref().unwrap_or(&image.user);
        let mut user = orlop_spec::resolve_user(&self.config.security, named, &table)?;
        user.additional_gids.extend(orlop_spec::resolve_groups(&extras.groups, &table)?);
        user.additional_gids.sort_unstable();
        user.additional_gids.dedup();
        let log_path = self.log_path()?;
        let volumes = volumes::take(&self.context.images, id, &self.config)?;
        let labels = self.labels()?;
        let spec = self.spec(&user, &volumes.layers, labels.as_ref())?;
        let stdin = self.stdin()?;
        self.tell_score();
        write_spec(&self.bundle, &spec)?;
        let stop_signal = self.config.stop_signal.unwrap_or(image.stop_signal);
        self.supervise(&spec, stop_signal)?;
        let layer = self.config.extras.layer.as_ref();
        let key = layer.map_or(id, |layer| &layer.key);
        let made = self.context.images.create_rootfs(&self.image.id, key);
        let rootfs = made.map_err(|error| match error {
            // Whoever asks looks for the words at the start.
            StoreError::SignatureValidationFailed { .. } => Error::Policy(error.to_string()),
            error => below("making the root file system", id, ErrorKind::Internal, error),
        })?;
        let layer_is_reused = layer.is_some();
        let record = ContainerRecord {
            id: self.id.clone(),
            sandbox: self.sandbox.id.clone(),
            created_at: Timestamp::now(),
            boot_id: self.context.host.boot_id.clone(),
            pid: 0,
            pid_start: 0,
            image_id: self.image.id.clone(),
            image_name: image.name(&self.config.image),
            image_ref: image.reference,
            log_path,
            user,
            stop_signal,
            cgroup: self.cgroup,
            volume_images: volumes.ids,
            resources: None,
            started_at: None,
            end: None,
            config: self.config,
        };
        if layer_is_reused {
            mountable_again(&rootfs.work)?;
        }
        let mount_label = labels.map(|labels| labels.mount);
        Ok(Prepared { spec, rootfs, record, stdin, mount_label })
    }

    /// Asks the shim for what it is to do by itself.
    fn supervise(&self, spec: &Spec, stop_signal: Signal) -> Result<()> {
        let Some(asked) = &self.config.extras.supervise else { return Ok(()) };
        let health = asked.health.as_ref().map(|health| health_process(spec, health));
        let supervision = supervision(asked, stop_signal);
        Bundle::new(&self.bundle)
            .write_supervision(&supervision, health.transpose()?.as_deref())
            .map_err(|error| task_failed("asking for supervision", self.id.as_str(), error))
    }

    /// What SELinux calls the container, where it is in force.
    fn labels(&self) -> Result<Option<SelinuxLabels>> {
        let Some(policy) = &self.context.host.selinux else { return Ok(None) };
        let pod = self.sandbox.facts.get();
        let own = &self.config.security;
        let level = pod.selinux_level.as_deref().unwrap_or("s0");
        let asked = pod.config.security.selinux.as_ref();
        let labels = policy.labels(asked, own.selinux.as_ref(), level, own.privileged);
        selinux::check(&labels.process)?;
        Ok(Some(labels))
    }

    fn spec(
        &self,
        user: &orlop_spec::ResolvedUser,
        image_volumes: &BTreeMap<PathBuf, Vec<PathBuf>>,
        labels: Option<&SelinuxLabels>,
    ) -> Result<Spec> {
        let facts = self.sandbox.facts.get();
        let resolved = mounts::resolve(&self.config)?;
        if let Some(labels) = labels {
            mounts::relabel(&resolved, &labels.mount)?;
        }
        let devices = process::devices(&self.config)?;
        let seccomp = process::seccomp(&self.context.options.seccomp_dir, &self.config)?;
        let mut files = self.sandbox.files(&self.context);
        if self.config.extras.own_ipc.is_some() {
            files.shm = None;
        }
        let hostname = self.sandbox.hostname();
        let mut spec = orlop_spec::container_spec(&Inputs {
            sandbox: &facts.config,
            container: &resolved,
            image: self.image.config.config().as_ref(),
            user,
            namespaces: &self.namespaces,
            files: &files,
            hostname: &hostname,
            cgroups_path: &self.cgroup,
            host: &self.context.host.features,
            seccomp: seccomp.as_ref(),
            apparmor_default: self.context.host.apparmor_default,
            selinux: labels,
            image_volumes,
            devices: &devices,
            rlimits: &[],
        })?;
        cdi::inject(&self.context.options.cdi_dirs, &self.config, &mut spec)?;
        process::fit_default_seccomp(&self.config, &mut spec);
        if let Some(foreign) = self.context.foreign(&facts.config.runtime_handler) {
            let role = Role::Container(&self.config);
            spec.set_annotations(Some(annotations(foreign, &facts, role)));
            handler::fit(&mut spec);
        }
        Ok(spec)
    }

    /// A score that the host does not let us set is raised to what it does.
    fn tell_score(&self) {
        let asked = self.config.resources.oom_score_adj;
        let lowest = self.context.host.features.min_oom_score_adj;
        if let (Some(asked), Some(lowest)) = (asked, lowest)
            && asked < lowest
        {
            tracing::warn!(
                container = %self.id,
                "oom_score_adj is {lowest} and not {asked} as asked: the daemon lacks CAP_SYS_RESOURCE, without which no score below its own can be set"
            );
        }
    }

    /// The log's path; its directory is made, as both runtimes of the field do.
    fn log_path(&self) -> Result<Option<PathBuf>> {
        let facts = self.sandbox.facts.get();
        let (Some(dir), Some(name)) = (&facts.config.log_directory, &self.config.log_path) else {
            return Ok(None);
        };
        let plain =
            |part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir);
        let controls = name.as_os_str().as_encoded_bytes().iter().any(u8::is_ascii_control);
        if controls || !name.components().all(plain) {
            return Err(Error::Invalid {
                field: "log_path",
                value: name.display().to_string(),
                why: "it must be a relative path without \"..\" and control characters".into(),
            });
        }
        let path = dir.join(name);
        if let Some(parent) = path.parent() {
            mounts::make_dirs(parent).map_err(io("making directory", parent))?;
        }
        Ok(Some(path))
    }

    /// A container that keeps its standard input open gets a FIFO that an attach can write to.
    fn stdin(&self) -> Result<String> {
        if !self.config.stdin {
            return Ok(String::new());
        }
        let path = self.bundle.join("stdin");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0)
            .map_err(|error| io("making the FIFO", &path)(error.into()))?;
        Ok(path.display().to_string())
    }
}

/// Makes the directory of a bundle. It is on a tmpfs, where nothing waits for a disk.
pub(crate) fn make_bundle(bundle: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(bundle);
    made.map_err(io("making directory", bundle))
}

/// In the words of the shim.
pub(crate) fn supervision(asked: &Supervise, stop_signal: Signal) -> Supervision {
    Supervision {
        version: 1,
        restart: match asked.restart {
            request::Restart::No => Restart::No,
            request::Restart::Always => Restart::Always,
            request::Restart::OnFailure { max } => Restart::OnFailure { max },
        },
        stop_signal: stop_signal.number(),
        health: asked.health.as_ref().map(|health| HealthCheck {
            interval: health.interval,
            timeout: health.timeout,
            start_period: health.start_period,
            start_interval: health.start_interval,
            retries: health.retries,
        }),
    }
}

/// The container's own process with another command and no terminal.
fn health_process(spec: &Spec, health: &request::HealthCheck) -> Result<Vec<u8>> {
    let mut process = spec.process().clone().unwrap_or_default();
    process.set_args(Some(health.command.clone())).set_terminal(Some(false)).set_console_size(None);
    serde_json::to_vec(&process).map_err(|error| {
        below("writing the health check", spec_name(spec), ErrorKind::Internal, error)
    })
}

fn spec_name(spec: &Spec) -> String {
    spec.hostname().clone().unwrap_or_default()
}

/// Writes `config.json`. The bundle is ours alone until the shim is told about it.
pub(crate) fn write_spec(bundle: &Path, spec: &Spec) -> Result<()> {
    let path = bundle.join("config.json");
    let bytes = serde_json::to_vec(spec).map_err(|error| {
        below("writing the spec", bundle.display().to_string(), ErrorKind::Internal, error)
    })?;
    std::fs::write(&path, bytes).map_err(io("writing", path))
}

/// Leaves nothing of a container that could not be made. What cannot be removed now has no record,
/// so that the next recovery removes it.
async fn undo(
    context: &Arc<Context>,
    id: &ContainerId,
    config: &Arc<ContainerConfig>,
    cgroup: &str,
) {
    let (bundle, images) = (context.bundle(id.as_str()), context.images.clone());
    let (host, key, cgroup) = (Arc::clone(&context.host), id.clone(), cgroup.to_owned());
    let config = Arc::clone(config);
    let undone = blocking(move || {
        crate::recover::force_out_bundle(&bundle);
        host.end_cgroup(&cgroup)?;
        remove_layers(&images, key.as_str(), &config)?;
        remove_tree(&bundle)
    })
    .await;
    if let Err(error) = undone {
        tracing::warn!(container = %id, error = error.report(), "half-made container not removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_the_host_is_told_from_one_of_a_pod() {
        use orlop_sys::process::{Command, Namespaces, Program};
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(!apart_from_us(own));
        assert!(!apart_from_us(i32::MAX), "nobody is not apart");
        let mut command = Command::new(Program::Path(Path::new("/bin/sleep")));
        let child = command.args(["sleep", "1000"]).namespaces(Namespaces::PID).spawn().unwrap();
        let apart = apart_from_us(child.pid);
        child.pidfd.send_signal(9).unwrap();
        child.pidfd.wait().unwrap();
        assert!(apart);
    }
}
