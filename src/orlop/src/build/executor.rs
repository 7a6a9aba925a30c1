//! Steps of a build as containers of ours: the same shim, the same security as a pod's container,
//! without a pod.

use super::step::{add_mounts, container, overlay, rlimits, sandbox};
use anyhow::Context;
use orlop_build::exec::{Ended, ExecError, Executor, NetworkMode, SecurityMode, Step};
use orlop_network::{AttachRequest, DetachRequest, DnsSettings, Network};
use orlop_spec::{
    CgroupLayout, HostFeatures, Inputs, Namespace, Namespaces, ResolvedUser, SandboxFiles,
};
use orlop_task::protocol::shim::CreateOptions;
use orlop_task::{CreateRequest, Launcher};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::unix::pipe;

/// Runs steps.
pub(crate) struct StepExecutor {
    run_dir: PathBuf,
    shim: PathBuf,
    /// Made with the first step: many builds have nothing to run.
    launcher: OnceLock<Launcher>,
    network: Network,
    features: HostFeatures,
    runtime: tokio::runtime::Handle,
}

impl StepExecutor {
    /// For steps on the runtime that this is called on.
    pub(crate) fn new(shim: PathBuf, run_dir: &Path, network: Network) -> anyhow::Result<Self> {
        let features = orlop_lifecycle::host_features().context("this host")?;
        let (launcher, runtime) = (OnceLock::new(), tokio::runtime::Handle::current());
        Ok(Self { run_dir: run_dir.to_owned(), shim, launcher, network, features, runtime })
    }

    fn launcher(&self) -> Result<&Launcher, ExecError> {
        if let Some(launcher) = self.launcher.get() {
            return Ok(launcher);
        }
        let made = Launcher::new(&self.shim, &self.run_dir).map_err(|error| {
            ExecError::Failed(format!("shim {} cannot be prepared: {error}", self.shim.display()))
        })?;
        Ok(self.launcher.get_or_init(|| made))
    }
}

/// Ends and removes the steps of a process that was killed while it built. The run directory's lock
/// says that no other process builds.
pub(crate) async fn sweep(run_dir: &Path) {
    let Ok(found) = std::fs::read_dir(run_dir.join("build")) else { return };
    for entry in found.flatten() {
        let path = entry.path();
        if let Ok(shim) = orlop_task::Shim::connect(&path).await {
            let _ = shim.client.kill("", 9, true).await;
            let _ = shim.client.wait("").await;
            let _ = shim.client.delete("").await;
            let _ = shim.client.shutdown(true).await;
            shim.client.closed().await;
        }
        let removed = detach_below(&path).and_then(|()| match path.is_dir() {
            true => std::fs::remove_dir_all(&path),
            false => std::fs::remove_file(&path),
        });
        if let Err(error) = removed {
            tracing::warn!(path = %path.display(), %error, "what a build left cannot be removed");
        }
    }
}

impl Executor for StepExecutor {
    fn run(&self, step: &Step, output: &mut dyn FnMut(&[u8])) -> Result<Ended, ExecError> {
        self.runtime.block_on(self.run_step(step, output))
    }

    fn scratch(&self) -> PathBuf {
        self.run_dir.join("build")
    }
}

/// Takes away what is mounted below a path, the innermost first.
fn detach_below(path: &Path) -> std::io::Result<()> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    let below: Vec<&Path> = points.filter(|point| point.starts_with(path)).collect();
    for point in below.into_iter().rev() {
        orlop_sys::mount::detach(point)
            .map_err(|error| std::io::Error::other(error.to_string()))?;
    }
    Ok(())
}

/// A step's directory and network; both go with it.
struct Place {
    id: String,
    bundle: PathBuf,
    slot: Option<orlop_network::Namespaces>,
    hosts: String,
}

fn failed(what: &str) -> impl FnOnce(std::io::Error) -> ExecError {
    move |error| ExecError::Failed(format!("{what}: {error}"))
}

fn said(error: impl std::fmt::Display) -> ExecError {
    ExecError::Failed(error.to_string())
}

impl StepExecutor {
    async fn run_step(
        &self,
        step: &Step,
        output: &mut dyn FnMut(&[u8]),
    ) -> Result<Ended, ExecError> {
        let mut place = self.place()?;
        let done = self.run_in(step, &mut place, output).await;
        self.leave(place).await;
        done
    }

    fn place(&self) -> Result<Place, ExecError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("build-{}-{count}", std::process::id());
        let bundle = self.run_dir.join("build").join(&id);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&bundle)
            .map_err(failed("making the bundle"))?;
        Ok(Place { id, bundle, slot: None, hosts: String::new() })
    }

    async fn leave(&self, place: Place) {
        if let Some(slot) = &place.slot {
            let request = DetachRequest {
                sandbox_id: place.id.clone(),
                netns: Some(slot.net.clone()),
                name: place.id.clone(),
                namespace: "build".into(),
                uid: place.id.clone(),
                everywhere: false,
            };
            if let Err(error) = self.network.detach(request).await {
                tracing::warn!(step = place.id, %error, "the network of a step cannot be taken away");
            }
            if let Err(error) = self.network.release(&slot.slot).await {
                tracing::warn!(step = place.id, %error, "the namespaces of a step stay behind");
            }
        }
        if let Err(error) = std::fs::remove_dir_all(&place.bundle) {
            tracing::warn!(bundle = %place.bundle.display(), %error, "cannot be removed");
        }
    }

    async fn run_in(
        &self,
        step: &Step,
        place: &mut Place,
        output: &mut dyn FnMut(&[u8]),
    ) -> Result<Ended, ExecError> {
        let namespaces = self.namespaces(step, place).await?;
        let files = write_files(step, place).map_err(failed("writing the step's files"))?;
        let spec = self.spec(step, place, &namespaces, &files)?;
        let bytes = serde_json::to_vec(&spec).map_err(said)?;
        std::fs::write(place.bundle.join("config.json"), bytes)
            .map_err(failed("writing the spec"))?;
        let fifo = place.bundle.join("output");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, mode, 0)
            .map_err(|error| failed("making the FIFO")(error.into()))?;
        let mut pipe =
            pipe::OpenOptions::new().open_receiver(&fifo).map_err(failed("opening the FIFO"))?;
        let shim = self.launcher()?.launch(&place.id, &place.bundle, None).await.map_err(said)?;
        let client = &shim.client;
        let name = fifo.display().to_string();
        let request = CreateRequest {
            rootfs: vec![overlay(step)],
            terminal: false,
            stdin: String::new(),
            stdout: name.clone(),
            stderr: name,
            options: CreateOptions { exit_on_delete: true, ..CreateOptions::default() },
        };
        let made = async {
            client.create(&place.bundle, request).await?;
            client.start("").await
        };
        if let Err(error) = made.await {
            // It leaves on its own with its container, but there may be none.
            let _ = client.shutdown(true).await;
            return Err(said(error));
        }
        let ended = attend(client, step, &mut pipe, output).await;
        let record = orlop_task::Bundle::new(&place.bundle).exit_record();
        let oom = record.is_ok_and(|record| record.is_some_and(|record| record.oom_killed));
        let deleted = client.delete("").await;
        client.closed().await;
        let status = ended?;
        if let Err(error) = deleted {
            tracing::warn!(step = place.id, %error, "a step's container cannot be deleted");
        }
        Ok(Ended { oom, ..status })
    }

    async fn namespaces(&self, step: &Step, place: &mut Place) -> Result<Namespaces, ExecError> {
        let network = match step.network {
            NetworkMode::None => Namespace::New,
            NetworkMode::Host => Namespace::Host,
            NetworkMode::Default => {
                let set = self.network.namespaces().await.map_err(said)?;
                let net = set.net.clone();
                place.slot = Some(set);
                let request = AttachRequest {
                    sandbox_id: place.id.clone(),
                    netns: net.clone(),
                    name: place.id.clone(),
                    namespace: "build".into(),
                    uid: place.id.clone(),
                    ports: Vec::new(),
                    annotations: std::collections::BTreeMap::new(),
                    dns: DnsSettings::default(),
                    cgroup: None,
                    places: None,
                };
                let attached = self.network.attach(request).await.map_err(said)?;
                for ip in attached.ips {
                    place.hosts += &format!("{ip}\t{}\n", step.hostname);
                }
                Namespace::Path(net)
            }
        };
        let unified = self.features.cgroup == CgroupLayout::V2;
        Ok(Namespaces {
            network,
            ipc: Namespace::New,
            uts: Namespace::New,
            pid: Namespace::New,
            cgroup: if unified { Namespace::New } else { Namespace::Host },
            user: Namespace::Host,
        })
    }

    fn spec(
        &self,
        step: &Step,
        place: &Place,
        namespaces: &Namespaces,
        files: &SandboxFiles,
    ) -> Result<oci_spec::runtime::Spec, ExecError> {
        let insecure = step.security == SecurityMode::Insecure;
        let (sandbox, container) = (sandbox(step, &place.id, insecure), container(step, insecure));
        let user = ResolvedUser {
            uid: step.user.uid,
            gid: step.user.gid,
            additional_gids: step.user.groups.clone(),
            home: step.user.home.clone(),
        };
        let mut spec = orlop_spec::container_spec(&Inputs {
            sandbox: &sandbox,
            container: &container,
            image: None,
            user: &user,
            namespaces,
            files,
            hostname: &step.hostname,
            cgroups_path: &format!("/orlop-{}", place.id),
            host: &self.features,
            seccomp: Some(&oci_spec::runtime::LinuxSeccomp::default()),
            apparmor_default: None,
            selinux: None,
            image_volumes: &std::collections::BTreeMap::new(),
            devices: &[],
            rlimits: &rlimits(step)?,
        })
        .map_err(said)?;
        orlop_lifecycle::set_default_seccomp(&mut spec);
        if let Some(process) = spec.process_mut() {
            // Exactly the build's own: nothing of the runtime's may get into a result.
            process.set_env(Some(step.env.clone()));
        }
        add_mounts(step, &mut spec);
        Ok(spec)
    }
}

/// Passes on what the process writes, until it has ended and said all.
async fn attend(
    client: &orlop_task::Client,
    step: &Step,
    pipe: &mut pipe::Receiver,
    output: &mut dyn FnMut(&[u8]),
) -> Result<Ended, ExecError> {
    let mut buffer = vec![0; 32 << 10];
    let mut status = None;
    let mut open = true;
    let wait = client.wait("");
    tokio::pin!(wait);
    let mut killed = false;
    // The shim closes its end when all of the container's processes have; a process that lives on
    // in a container whose first one has ended is none.
    while status.is_none() || open {
        tokio::select! {
            biased;
            ready = pipe.readable(), if open => {
                ready.map_err(failed("reading the output"))?;
                match pipe.try_read(&mut buffer) {
                    Ok(0) => open = false,
                    Ok(count) => output(&buffer[..count]),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(failed("reading the output")(error)),
                }
            }
            ended = &mut wait, if status.is_none() => status = Some(ended.map_err(said)?),
            () = step.cancel.cancelled(), if !killed => {
                killed = true;
                client.kill("", 9, true).await.map_err(said)?;
            }
        }
    }
    match status {
        _ if killed => Err(ExecError::Cancelled),
        Some(status) => Ok(Ended { code: status.code, oom: false }),
        None => Err(ExecError::Failed("the step's end is not known".into())),
    }
}

fn write_files(step: &Step, place: &Place) -> std::io::Result<SandboxFiles> {
    let write = |name: &str, text: &[u8]| {
        let path = place.bundle.join(name);
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644))?;
        std::io::Result::Ok(Some(path))
    };
    let mut hosts = match step.network {
        NetworkMode::Host => std::fs::read_to_string("/etc/hosts").unwrap_or_default(),
        _ => "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned(),
    };
    hosts += &place.hosts;
    for (name, address) in &step.extra_hosts {
        hosts += &format!("{address}\t{name}\n");
    }
    Ok(SandboxFiles {
        hosts: write("hosts", hosts.as_bytes())?,
        hostname: write("hostname", format!("{}\n", step.hostname).as_bytes())?,
        resolv_conf: write("resolv.conf", &std::fs::read("/etc/resolv.conf").unwrap_or_default())?,
        shm: None,
    })
}
