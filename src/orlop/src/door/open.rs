//! The engine with everything below it, opened for a daemon or for one command.

use crate::config::Config;
use anyhow::Context;
use orlop_engine::{Engine, Options};
use orlop_image::ImageStore;
use orlop_lifecycle::{Recovered, Runtime};
use orlop_network::Network;
use orlop_task::Launcher;

/// What was opened, and what was found.
pub(crate) struct Opened {
    pub(crate) engine: Engine,
    pub(crate) network: Network,
    pub(crate) found: Recovered,
}

/// For how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stay {
    /// A daemon's life.
    Long,
    /// One command: nothing is prepared for later.
    Short,
}

/// Opens what is behind the calls and recovers. The caller has the run directory's lock.
pub(crate) async fn open_engine(
    config: &Config,
    images: ImageStore,
    stay: Stay,
) -> anyhow::Result<Opened> {
    // Before recovery, which takes away the sockets of shims that it does not know.
    crate::build::sweep(&config.run).await;
    let shim = crate::serve::shim(config)?;
    let mut network = config.network_config();
    if stay == Stay::Short {
        network.pool_size = 0;
    }
    let options = config.runtime_options();
    let (run, store) = (config.run.clone(), images.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let network = Network::open(network).context("network cannot be opened")?;
        let launcher = Launcher::new(&shim, &run)
            .with_context(|| format!("shim {} cannot be prepared", shim.display()))?;
        let runtime = Runtime::open(options, store, network.clone(), launcher)
            .context("runtime cannot be opened")?;
        anyhow::Ok((runtime, network))
    });
    let (runtime, network) = opened.await.context("opening was cut off")??;
    let found = runtime.recover().await.context("recovery failed")?;
    let options = Options { root: config.root.clone(), run: config.run.clone() };
    let engine = Engine::open(options, runtime, images, network.clone())
        .await
        .context("containers cannot be opened")?;
    Ok(Opened { engine, network, found })
}

impl Opened {
    /// Lets go of it. Containers live on.
    pub(crate) async fn close(self) {
        let Self { engine, network, .. } = self;
        engine.close().await;
        if let Err(error) = network.close().await {
            tracing::warn!("prepared namespaces stay behind: {error}");
        }
        let _ = tokio::task::spawn_blocking(move || drop((engine, network))).await;
    }
}
