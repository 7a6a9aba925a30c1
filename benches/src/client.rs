//! One persistent connection to an endpoint, and what the measurements ask of it.

use crate::lists::Call;
use crate::{Peer, Stage};
use anyhow::{Context, Result};
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::*;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::sync::{Mutex, oneshot};
use tonic::transport::{Channel, Endpoint, Uri};

/// A peer with its connection.
#[derive(Clone)]
pub struct Client {
    pub peer: Peer,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    image: String,
    pipes: PathBuf,
    witnesses: Witnesses,
}

/// A running pod.
pub struct Pod {
    pub sandbox: String,
    pub container: String,
}

/// A running pod with several containers.
pub struct Crowd {
    sandbox: String,
    containers: Vec<String>,
}

type Waiting = Arc<Mutex<std::collections::HashMap<String, oneshot::Sender<Instant>>>>;

/// Who waits for which witness.
#[derive(Clone)]
struct Witnesses(Waiting);

static NEXT: AtomicU64 = AtomicU64::new(1);

impl Witnesses {
    /// Reads the pipe that every workload of this peer writes to: 16 bytes a witness.
    fn listen(pipe: PathBuf) -> Result<Self> {
        let _ = std::fs::remove_file(&pipe);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o666),
            0,
        )?;
        let mut pipe =
            tokio::net::unix::pipe::OpenOptions::new().read_write(true).open_receiver(&pipe)?;
        let waiting = Waiting::default();
        let told = waiting.clone();
        tokio::spawn(async move {
            let mut word = [0; 16];
            while pipe.read_exact(&mut word).await.is_ok() {
                let now = Instant::now();
                if let Some(sender) =
                    told.lock().await.remove(String::from_utf8_lossy(&word).as_ref())
                {
                    let _ = sender.send(now);
                }
            }
        });
        Ok(Self(waiting))
    }

    async fn expect(&self, word: &str) -> oneshot::Receiver<Instant> {
        let (sender, receiver) = oneshot::channel();
        self.0.lock().await.insert(word.to_owned(), sender);
        receiver
    }
}

impl Client {
    pub async fn connect(peer: Peer, stage: &Stage) -> Result<Self> {
        let socket = peer.socket.clone();
        let connect = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move {
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(
                    tokio::net::UnixStream::connect(socket).await?,
                ))
            }
        });
        // Lists of a full node may have more than the 4 MiB that a client takes by default.
        let channel =
            Endpoint::from_static("http://localhost").connect_with_connector(connect).await?;
        let pipes = stage.pipes.join(peer.name.replace(['+', ' '], "-"));
        std::fs::create_dir_all(&pipes)?;
        let witnesses = Witnesses::listen(pipes.join("pipe"))?;
        let (runtime, images) =
            (RuntimeServiceClient::new(channel.clone()), ImageServiceClient::new(channel));
        let runtime = runtime.max_decoding_message_size(64 << 20);
        let mut client =
            Self { peer, runtime, images, image: stage.image.clone(), pipes, witnesses };
        client.pull(&stage.image).await?;
        Ok(client)
    }

    fn sandbox_config(&self, word: &str, host_network: bool) -> PodSandboxConfig {
        let network = if host_network { NamespaceMode::Node } else { NamespaceMode::Pod } as i32;
        let namespaces =
            NamespaceOption { network, pid: NamespaceMode::Container as i32, ..Default::default() };
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: word.into(),
                uid: word.into(),
                namespace: "bench".into(),
                attempt: 0,
            }),
            hostname: if host_network { String::new() } else { "bench".into() },
            log_directory: self.pipes.join("logs").display().to_string(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("/orlop-bench/{word}"),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn container_config(&self, word: &str, host_network: bool) -> ContainerConfig {
        let network = if host_network { NamespaceMode::Node } else { NamespaceMode::Pod } as i32;
        let namespaces =
            NamespaceOption { network, pid: NamespaceMode::Container as i32, ..Default::default() };
        let default_profile = SecurityProfile { profile_type: 0, localhost_ref: String::new() };
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: "witness".into(), attempt: 0 }),
            image: Some(ImageSpec { image: self.image.clone(), ..Default::default() }),
            command: vec!["/witness".into(), "/pipes/pipe".into(), word.into()],
            mounts: vec![Mount {
                container_path: "/pipes".into(),
                host_path: self.pipes.display().to_string(),
                ..Default::default()
            }],
            log_path: format!("{word}.log"),
            linux: Some(LinuxContainerConfig {
                resources: Some(LinuxContainerResources {
                    cpu_shares: 100,
                    memory_limit_in_bytes: 256 << 20,
                    ..Default::default()
                }),
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(namespaces),
                    seccomp: Some(default_profile),
                    masked_paths: [
                        "/proc/asound",
                        "/proc/acpi",
                        "/proc/kcore",
                        "/proc/keys",
                        "/proc/latency_stats",
                        "/proc/timer_list",
                        "/proc/timer_stats",
                        "/proc/sched_debug",
                        "/proc/scsi",
                        "/sys/firmware",
                    ]
                    .map(String::from)
                    .to_vec(),
                    readonly_paths: [
                        "/proc/bus",
                        "/proc/fs",
                        "/proc/irq",
                        "/proc/sys",
                        "/proc/sysrq-trigger",
                    ]
                    .map(String::from)
                    .to_vec(),
                    ..Default::default()
                }),
            }),
            ..Default::default()
        }
    }

    /// Starts a pod; the time until its workload's first act.
    pub async fn start_pod(&mut self, host_network: bool) -> Result<(Pod, Duration)> {
        let word = format!("{:016}", NEXT.fetch_add(1, Ordering::Relaxed));
        let witness = self.witnesses.expect(&word).await;
        let config = self.sandbox_config(&word, host_network);
        let container = self.container_config(&word, host_network);
        let began = Instant::now();
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: self.peer.handler.clone(),
        };
        let sandbox = self
            .runtime
            .run_pod_sandbox(request)
            .await
            .context("RunPodSandbox")?
            .into_inner()
            .pod_sandbox_id;
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.clone(),
            config: Some(container),
            sandbox_config: Some(config),
        };
        let container = self
            .runtime
            .create_container(request)
            .await
            .context("CreateContainer")?
            .into_inner()
            .container_id;
        let request = StartContainerRequest { container_id: container.clone() };
        self.runtime.start_container(request).await.context("StartContainer")?;
        let seen = tokio::time::timeout(Duration::from_secs(60), witness)
            .await
            .context("no witness")??;
        Ok((Pod { sandbox, container }, seen - began))
    }

    /// Stops and removes a pod as a kubelet does.
    pub async fn remove_pod(&mut self, pod: &Pod) -> Result<Duration> {
        let began = Instant::now();
        let stop = StopContainerRequest { container_id: pod.container.clone(), timeout: 0 };
        self.runtime.stop_container(stop).await.context("StopContainer")?;
        let remove = RemoveContainerRequest { container_id: pod.container.clone() };
        self.runtime.remove_container(remove).await.context("RemoveContainer")?;
        let stop = StopPodSandboxRequest { pod_sandbox_id: pod.sandbox.clone() };
        self.runtime.stop_pod_sandbox(stop).await.context("StopPodSandbox")?;
        let remove = RemovePodSandboxRequest { pod_sandbox_id: pod.sandbox.clone() };
        self.runtime.remove_pod_sandbox(remove).await.context("RemovePodSandbox")?;
        Ok(began.elapsed())
    }

    /// Starts a pod with `count` containers that write a witness and wait.
    pub async fn crowd(&mut self, count: usize) -> Result<Crowd> {
        let (first, _) = self.start_pod(false).await?;
        let mut crowd = Crowd { sandbox: first.sandbox, containers: vec![first.container] };
        for _ in 1..count {
            let word = format!("{:016}", NEXT.fetch_add(1, Ordering::Relaxed));
            let witness = self.witnesses.expect(&word).await;
            let mut config = self.container_config(&word, false);
            config.metadata = Some(ContainerMetadata { name: word.clone(), attempt: 0 });
            let request = CreateContainerRequest {
                pod_sandbox_id: crowd.sandbox.clone(),
                config: Some(config),
                // The name of its cgroup is all that a runtime may take from here.
                sandbox_config: Some(self.sandbox_config(&word, false)),
            };
            let created =
                self.runtime.create_container(request).await.context("CreateContainer")?;
            let id = created.into_inner().container_id;
            let request = StartContainerRequest { container_id: id.clone() };
            self.runtime.start_container(request).await.context("StartContainer")?;
            tokio::time::timeout(Duration::from_secs(60), witness)
                .await
                .context("no witness")??;
            crowd.containers.push(id);
        }
        Ok(crowd)
    }

    /// Stops and removes a pod as a kubelet does that is in a hurry.
    pub async fn remove_crowd(&mut self, crowd: &Crowd) -> Result<()> {
        for container in &crowd.containers {
            let stop = StopContainerRequest { container_id: container.clone(), timeout: 0 };
            self.runtime.stop_container(stop).await.context("StopContainer")?;
        }
        let stop = StopPodSandboxRequest { pod_sandbox_id: crowd.sandbox.clone() };
        self.runtime.stop_pod_sandbox(stop).await.context("StopPodSandbox")?;
        let remove = RemovePodSandboxRequest { pod_sandbox_id: crowd.sandbox.clone() };
        self.runtime.remove_pod_sandbox(remove).await.context("RemovePodSandbox")?;
        Ok(())
    }

    /// One list; how long it took, and how many items it had.
    pub async fn list(&mut self, call: Call) -> Result<(Duration, usize)> {
        let began = Instant::now();
        let runtime = &mut self.runtime;
        let items = match call {
            Call::Containers => runtime
                .list_containers(ListContainersRequest::default())
                .await?
                .into_inner()
                .containers
                .len(),
            Call::Sandboxes => runtime
                .list_pod_sandbox(ListPodSandboxRequest::default())
                .await?
                .into_inner()
                .items
                .len(),
            Call::ContainerStats => runtime
                .list_container_stats(ListContainerStatsRequest::default())
                .await?
                .into_inner()
                .stats
                .len(),
            Call::SandboxStats => runtime
                .list_pod_sandbox_stats(ListPodSandboxStatsRequest::default())
                .await?
                .into_inner()
                .stats
                .len(),
        };
        Ok((began.elapsed(), items))
    }

    /// One ExecSync of a program that ends at once.
    pub async fn exec(&mut self, pod: &Pod) -> Result<Duration> {
        let began = Instant::now();
        let request = ExecSyncRequest {
            container_id: pod.container.clone(),
            cmd: vec!["/witness".into()],
            timeout: 30,
        };
        let reply = self.runtime.exec_sync(request).await.context("ExecSync")?.into_inner();
        anyhow::ensure!(reply.exit_code == 0, "exit code {}", reply.exit_code);
        Ok(began.elapsed())
    }

    /// Pulls an image.
    pub async fn pull(&mut self, image: &str) -> Result<Duration> {
        let began = Instant::now();
        let image = ImageSpec { image: image.to_owned(), ..Default::default() };
        self.images
            .pull_image(PullImageRequest { image: Some(image), ..Default::default() })
            .await
            .context("PullImage")?;
        Ok(began.elapsed())
    }

    /// Removes an image.
    pub async fn remove_image(&mut self, image: &str) -> Result<()> {
        let image = ImageSpec { image: image.to_owned(), ..Default::default() };
        self.images.remove_image(RemoveImageRequest { image: Some(image) }).await?;
        Ok(())
    }
}
