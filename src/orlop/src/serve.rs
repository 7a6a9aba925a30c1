//! `orlop serve`: the daemon, put together.

use crate::cli::SettingArgs;
use crate::config::{CgroupDriver, Config, Loaded, Sources};
use crate::door::{Opened, Stay, Turn, open_engine, open_images};
use crate::lock::{RunLock, own_dir};
use crate::metrics::Metrics;
use crate::reload::Reloader;
use crate::telemetry::{CallObserver, Exporter};
use crate::{health, host, incoming, logging, notify, probe};
use anyhow::{Context, bail};
use orlop_api::{Abilities, Api, Handler, Node, Streams};
use orlop_network::Network;
use orlop_spec::request::Owner;
use orlop_task::OciFeatures;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Threads for work that blocks: unpacking, netlink, files.
const BLOCKING_THREADS: usize = 64;
const STACK: usize = 1 << 20;
/// How long calls in flight may take to end once the daemon was told to stop. Containers live on.
const GRACE: Duration = Duration::from_secs(5);

/// Runs the daemon until it is told to stop.
pub(crate) fn run(arguments: &SettingArgs) -> anyhow::Result<()> {
    survive_hangups()?;
    let sources = Sources::new(arguments);
    let Loaded { config, .. } = sources.load()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.workers)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(STACK)
        .thread_keep_alive(Duration::from_secs(2))
        .thread_name("orlop")
        .enable_all()
        .build()
        .context("worker threads cannot be started")?;
    let done = runtime.block_on(prepared(sources, config));
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

/// SIGHUP ends a process that has no handler for it. A handler stays for good once there was a
/// listener, also when its runtime is gone.
fn survive_hangups() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listening = runtime.block_on(async { signal(SignalKind::hangup()) });
    listening.map(drop).context("signals cannot be waited for")
}

/// Everything around the service itself: signals, log, metrics, traces, the lock.
async fn prepared(sources: Sources, config: Config) -> anyhow::Result<()> {
    // First, because a signal that nobody waits for ends the process.
    let signals = Signals::listen()?;
    let metrics = Metrics::new();
    let exporter = Exporter::new(&config.traces)?;
    let logging = logging::start(&config.log, metrics.operations.clone(), exporter.as_ref())?;
    if !rustix::process::geteuid().is_root() {
        bail!("orlop serve needs the rights of root: run it as root");
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    host::protect_from_oom();
    host::warn_of_lacks();
    own_dir(&config.root)?;
    own_dir(&config.run)?;
    let _lock = run_lock(&config).await?;
    let reloader = Reloader::new(sources, config.clone(), logging, metrics.clone())?;
    let observer =
        Arc::new(CallObserver { metrics: metrics.calls.clone(), traced: exporter.is_some() });
    let done = serve(config, metrics, observer, signals.stop(reloader)).await;
    if let Some(exporter) = exporter {
        // Sending waits for the runtime's own threads.
        tokio::task::block_in_place(|| exporter.close());
    }
    done
}

/// A command that works without a daemon is waited for; another daemon is not.
async fn run_lock(config: &Config) -> anyhow::Result<RunLock> {
    let mut turn = Turn::new();
    loop {
        match RunLock::attempt(&config.run)? {
            Ok(lock) => return Ok(lock),
            Err(pid) if std::os::unix::net::UnixStream::connect(config.socket()).is_ok() => bail!(
                "run directory {} is in use by process {pid}: stop that one, or use other directories",
                config.run.display()
            ),
            Err(pid) => turn.wait_for(&pid, &config.run).await?,
        }
    }
}

async fn serve(
    config: Config,
    metrics: Metrics,
    observer: Arc<CallObserver>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut stop = std::pin::pin!(stop);
    let path = config.socket();
    if let Some(dir) = path.parent().filter(|dir| !dir.exists()) {
        own_dir(dir)?;
    }
    let listener = incoming::bind(&path)?;
    let api = Api::new(node(&config));
    let (end, ended) = oneshot::channel::<()>();
    let shutdown = async move {
        let _ = ended.await;
    };
    let connections = incoming::accept(listener);
    let mut server = tokio::spawn(orlop_api::serve(api.clone(), observer, connections, shutdown));
    let (streaming, end_streaming) = stream(&config, &api).await?;
    tracing::info!(socket = %path.display(), streaming = %config.streaming.address, "listening");
    let mut network = None;
    let outcome = tokio::select! {
        () = &mut stop => Ok(()),
        opened = open(&config, &api, &metrics) => match opened {
            Ok(opened) => {
                network = Some(opened);
                let watchdog = tokio::spawn(health::watch(path.clone()));
                let outcome = tokio::select! {
                    () = &mut stop => Ok(()),
                    died = &mut server => Err(anyhow::anyhow!("the server ended: {died:?}")),
                };
                watchdog.abort();
                outcome
            }
            Err(error) => Err(error),
        },
    };
    notify::state("STOPPING=1");
    tracing::info!("stopping; containers live on");
    drop((end, end_streaming));
    if tokio::time::timeout(GRACE, &mut server).await.is_err() {
        tracing::warn!("calls in flight were cut off after {GRACE:?}");
    }
    if tokio::time::timeout(GRACE, streaming).await.is_err() {
        tracing::warn!("streams were cut off after {GRACE:?}");
    }
    // Last: a call that was still in flight may have taken namespaces.
    if let Some(network) = network
        && let Err(error) = network.close().await
    {
        tracing::warn!("prepared namespaces stay behind: {error}");
    }
    let _ = std::fs::remove_file(&path);
    outcome
}

/// Starts the streaming server; it ends when the sender is dropped.
async fn stream(
    config: &Config,
    api: &Api,
) -> anyhow::Result<(tokio::task::JoinHandle<()>, oneshot::Sender<()>)> {
    let address = config.streaming.address;
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("streaming.address {address} cannot be listened on"))?;
    let server = orlop_streaming::Server::new(&listener, Arc::new(Streams::new(api.clone())))?;
    api.set_streaming(server.clone());
    let (end, ended) = oneshot::channel::<()>();
    let shutdown = async move {
        let _ = ended.await;
    };
    Ok((tokio::spawn(server.serve(listener, shutdown)), end))
}

/// Opens what is behind the calls, recovers, and lets calls in.
async fn open(config: &Config, api: &Api, metrics: &Metrics) -> anyhow::Result<Network> {
    let mut turn = Turn::new();
    let images = loop {
        // A command may be at work on images.
        if let Some(images) = open_images(config, &mut turn).await? {
            break images;
        }
    };
    let Opened { engine, network, found } = open_engine(config, images, Stay::Long).await?;
    for record in &found.bad_records {
        tracing::error!("a record could not be read and was moved aside: {record}");
    }
    tracing::info!(
        sandboxes = found.sandboxes,
        containers = found.containers,
        running = found.running,
        unknown = found.unknown,
        orphans = found.orphans,
        "ready"
    );
    metrics.set_ready(engine.runtime().of(Owner::Cri), engine.images().clone());
    let builder = crate::build::engine(config, engine.images().clone(), network.clone()).await?;
    api.set_builder(builder);
    api.set_ready(engine.clone());
    tokio::spawn(async move { engine.start_after_boot().await });
    notify::state("READY=1");
    Ok(network)
}

fn node(config: &Config) -> Node {
    let abilities = probe::abilities(config.cgroup.driver() == CgroupDriver::Systemd, &config.root);
    Node {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        handlers: handlers(config, abilities),
        abilities,
        config: config.values(),
    }
}

/// Further names of the built-in runtime can what that can. A shim that drives an OCI runtime can what
/// that says; of others nothing is known.
fn handlers(config: &Config, abilities: Abilities) -> Vec<Handler> {
    let built_in = config.runtime.handlers.iter().map(|name| Handler {
        name: name.clone(),
        recursive_read_only: abilities.recursive_read_only,
        user_namespaces: abilities.user_namespaces,
    });
    let foreign = config.runtimes.0.iter().map(|(name, runtime)| {
        let features = match runtime.is_runc() {
            true => OciFeatures::of(&runtime.oci_runtime()),
            false => OciFeatures::default(),
        };
        Handler {
            name: name.clone(),
            recursive_read_only: features.recursive_read_only && abilities.recursive_read_only,
            user_namespaces: features.user_namespaces && abilities.user_namespaces,
        }
    });
    built_in.chain(foreign).collect()
}

/// The configured program, else the one beside our own.
pub(crate) fn shim(config: &Config) -> anyhow::Result<PathBuf> {
    let path = match &config.shim {
        Some(path) => path.clone(),
        None => {
            let own = std::env::current_exe().context("own program cannot be found")?;
            own.with_file_name("orlop-shim")
        }
    };
    if path.is_file() {
        Ok(path)
    } else {
        bail!(
            "shim {} does not exist: install orlop-shim beside orlop, or name it with --shim",
            path.display()
        )
    }
}

/// Ready with the first SIGTERM or SIGINT, for a command that a SIGHUP does not end.
pub(crate) fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut signals = Signals::listen()?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => return,
                _ = signals.interrupt.recv() => return,
                _ = signals.hangup.recv() => {}
            }
        }
    })
}

/// The signals that the daemon knows; from [`Signals::listen`] on none of them ends the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be waited for");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Ready with the first SIGTERM or SIGINT; SIGHUP reloads.
    async fn stop(mut self, mut reloader: Reloader) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => tokio::task::block_in_place(|| {
                    notify::reloading();
                    reloader.reload();
                    notify::state("READY=1");
                }),
            }
        }
    }
}
