//! The two doors: a daemon's socket, or what is behind it opened by this process, behind one client.
//!
//! Without a daemon a command takes the same locks that a daemon would, for as long as it works, and
//! serves itself over a pipe in memory. So there is one way through the code, and the locks decide
//! which door is open. Commands that meet wait for each other for a short while.

mod open;
mod turn;

pub(crate) use open::{Opened, Stay, open_engine};
pub(crate) use turn::Turn;

use crate::config::Config;
use crate::lock::{RunLock, own_dir};
use anyhow::{Context, bail};
use hyper_util::rt::TokioIo;
use orlop_api::builds_v1::builds_client::BuildsClient;
use orlop_api::engine_v1::engine_client::EngineClient;
use orlop_api::images_v1::images_client::ImagesClient;
use orlop_api::{EngineCalls, ImageCalls};
use orlop_image::{ImageStore, StoreError};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint, Uri};

/// The client of the image service.
pub(crate) type Images = ImagesClient<Channel>;
/// The client of the service for containers, networks and volumes.
pub(crate) type Engine = EngineClient<Channel>;

/// The client of the service for builds.
pub(crate) type Builds = BuildsClient<Channel>;

/// Bytes on their way between client and service in one process.
const PIPE: usize = 1 << 20;
/// How long what works in the background may take to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest reply.
const MAX_REPLY: usize = 64 << 20;

/// An open way to the services.
pub(crate) struct Door {
    channel: Channel,
    /// What is in this process, where no daemon listens.
    own: Option<Own>,
}

struct Own {
    server: JoinHandle<()>,
    what: What,
}

/// Dropped in the order of the fields; the lock last.
enum What {
    Images(ImageStore),
    /// What works in the background has a runtime of its own and ends with it: the next door of this
    /// process must find nothing of it.
    Engine(Box<Opened>, Runtime, RunLock),
    Builds(Box<crate::build::Opened>, RunLock),
}

impl Door {
    /// A door to images only, which needs no runtime: the daemon's, else the store under its lock.
    pub(crate) async fn to_images(config: &Config) -> anyhow::Result<Self> {
        let mut turn = Turn::new();
        loop {
            if let Some(door) = Self::of_daemon(config).await? {
                return Ok(door);
            }
            if let Some(store) = open_images(config, &mut turn).await? {
                return Self::over(What::Images(store)).await;
            }
        }
    }

    /// A door to everything: the daemon's, else the engine in this process under the daemon's lock.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        let mut turn = Turn::new();
        loop {
            if let Some(door) = Self::of_daemon(config).await? {
                return Ok(door);
            }
            if !rustix::process::geteuid().is_root() {
                bail!(
                    "no daemon listens on {}, and without one this needs the rights of root: run it with sudo, or start the daemon",
                    config.socket().display()
                );
            }
            prepare(config)?;
            match RunLock::attempt(&config.run)? {
                Err(holder) => turn.wait_for(&holder, &config.run).await?,
                Ok(lock) => match open_images(config, &mut turn).await? {
                    Some(images) => {
                        let (opened, runtime) = opened_apart(config, images).await?;
                        return Self::over(What::Engine(Box::new(opened), runtime, lock)).await;
                    }
                    None => drop(lock),
                },
            }
        }
    }

    /// A door to images and builds: the daemon's, else the builder in this process under the
    /// daemon's lock.
    pub(crate) async fn to_builds(config: &Config) -> anyhow::Result<Self> {
        let mut turn = Turn::new();
        loop {
            if let Some(door) = Self::of_daemon(config).await? {
                return Ok(door);
            }
            if !rustix::process::geteuid().is_root() {
                bail!("orlop build needs the rights of root: run it with sudo");
            }
            prepare(config)?;
            match RunLock::attempt(&config.run)? {
                Err(holder) => turn.wait_for(&holder, &config.run).await?,
                Ok(lock) => match open_images(config, &mut turn).await? {
                    Some(images) => {
                        let opened = crate::build::open(config, images).await?;
                        return Self::over(What::Builds(Box::new(opened), lock)).await;
                    }
                    None => drop(lock),
                },
            }
        }
    }

    /// `None`: no daemon listens.
    async fn of_daemon(config: &Config) -> anyhow::Result<Option<Self>> {
        let path = config.socket();
        match UnixStream::connect(&path).await {
            Ok(stream) => Ok(Some(Self { channel: channel(stream).await?, own: None })),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
            {
                Ok(None)
            }
            Err(error) => {
                Err(error).with_context(|| format!("socket {} cannot be used", path.display()))
            }
        }
    }

    async fn over(what: What) -> anyhow::Result<Self> {
        let (near, far) = tokio::io::duplex(PIPE);
        let (images, engine, builds) = match &what {
            What::Images(store) => (ImageCalls::over(store.clone()), None, None),
            What::Builds(opened, _) => {
                (ImageCalls::over(opened.images.clone()), None, Some(opened.calls.clone()))
            }
            What::Engine(opened, ..) => {
                let engine = &opened.engine;
                let calls = EngineCalls::over(engine.clone());
                (ImageCalls::over(engine.images().clone()), Some(calls), None)
            }
        };
        let handle = match &what {
            What::Engine(_, runtime, _) => runtime.handle().clone(),
            What::Images(_) | What::Builds(..) => Handle::current(),
        };
        let server = handle.spawn(async move {
            // It ends with the client; there is nobody to tell.
            let _ = orlop_api::serve_own(images, engine, builds, far).await;
        });
        Ok(Self { channel: channel(near).await?, own: Some(Own { server, what }) })
    }

    /// Whether it is a daemon's.
    pub(crate) fn is_a_daemons(&self) -> bool {
        self.own.is_none()
    }

    /// A client of the image service.
    pub(crate) fn images(&self) -> Images {
        ImagesClient::new(self.channel.clone()).max_decoding_message_size(MAX_REPLY)
    }

    /// A client of the service for containers, networks and volumes.
    pub(crate) fn engine(&self) -> Engine {
        EngineClient::new(self.channel.clone()).max_decoding_message_size(MAX_REPLY)
    }

    /// A client of the service for builds.
    pub(crate) fn builds(&self) -> Builds {
        BuildsClient::new(self.channel.clone()).max_decoding_message_size(MAX_REPLY)
    }

    /// Lets go of everything in order, so that the next command, or a daemon, can have it.
    pub(crate) async fn close(self) {
        drop(self.channel);
        let Some(Own { server, what }) = self.own else { return };
        server.abort();
        let _ = server.await;
        match what {
            What::Images(store) => {
                let _ = tokio::task::spawn_blocking(move || drop(store)).await;
            }
            What::Engine(opened, runtime, lock) => {
                let _ = runtime.spawn(opened.close()).await;
                let end = move || runtime.shutdown_timeout(PATIENCE);
                let _ = tokio::task::spawn_blocking(end).await;
                drop(lock);
            }
            What::Builds(opened, lock) => {
                opened.close().await;
                drop(lock);
            }
        }
    }
}

/// Opens the engine in a runtime of its own.
async fn opened_apart(config: &Config, images: ImageStore) -> anyhow::Result<(Opened, Runtime)> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("worker threads cannot be started")?;
    let config = config.clone();
    let opened = runtime.spawn(async move { open_engine(&config, images, Stay::Short).await });
    match opened.await {
        Ok(Ok(opened)) => Ok((opened, runtime)),
        failed => {
            // One cannot wait for that here; nothing of it is needed any more.
            runtime.shutdown_background();
            match failed {
                Ok(Err(error)) => Err(error),
                _ => bail!("opening was cut off"),
            }
        }
    }
}

/// The directories, as the daemon has them.
fn prepare(config: &Config) -> anyhow::Result<()> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    own_dir(&config.root)?;
    own_dir(&config.run)
}

/// `None`: another process has it, and has been waited for; look again whether a daemon listens.
pub(crate) async fn open_images(
    config: &Config,
    turn: &mut Turn,
) -> anyhow::Result<Option<ImageStore>> {
    let options = config.image_options()?;
    let opened = tokio::task::spawn_blocking(move || ImageStore::open(options)).await?;
    match opened {
        Ok(store) => {
            // An image that was built here may be pushed or exported by any of the services.
            store.set_layer_writer(std::sync::Arc::new(orlop_build::write_layer));
            Ok(Some(store))
        }
        Err(StoreError::Locked { pid, .. }) => {
            turn.wait_for(&pid, &config.root).await?;
            Ok(None)
        }
        Err(error) => Err(error).context("the image store cannot be opened"),
    }
}

async fn channel<S>(stream: S) -> anyhow::Result<Channel>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut stream = Some(stream);
    let connect = tower::service_fn(move |_: Uri| {
        // One connection is all that there is.
        let stream = stream.take().ok_or_else(|| std::io::Error::other("the connection is gone"));
        std::future::ready(stream.map(TokioIo::new))
    });
    let channel = Endpoint::from_static("http://orlop").connect_with_connector(connect).await;
    channel.context("the daemon does not answer")
}
