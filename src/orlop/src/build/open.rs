//! The builder with what is below it, opened for a daemon or for one command.

use super::executor::{StepExecutor, sweep};
use crate::config::Config;
use crate::serve;
use anyhow::Context;
use orlop_api::BuildCalls;
use orlop_build::Engine;
use orlop_image::ImageStore;
use orlop_network::Network;
use std::sync::Arc;

/// The builder in a process without a daemon.
pub(crate) struct Opened {
    pub(crate) calls: BuildCalls,
    pub(crate) images: ImageStore,
    network: Network,
}

/// The builder over a store and a network that are open. The caller has the run directory's lock.
/// Runs on the runtime that steps are to run on.
pub(crate) async fn engine(
    config: &Config,
    images: ImageStore,
    network: Network,
) -> anyhow::Result<Arc<Engine>> {
    let executor = StepExecutor::new(serve::shim(config)?, &config.run, network)?;
    let (dir, handle) = (config.root.join("build"), tokio::runtime::Handle::current());
    let limit = config.build.cache_size.0;
    let opened = tokio::task::spawn_blocking(move || {
        Engine::new(images, Arc::new(executor), handle, &dir, limit)
            .with_context(|| format!("directory {}", dir.display()))
    });
    Ok(Arc::new(opened.await.context("opening was cut off")??))
}

/// Opens the builder for one command.
pub(crate) async fn open(config: &Config, images: ImageStore) -> anyhow::Result<Opened> {
    sweep(&config.run).await;
    let mut settings = config.network_config();
    // Nothing is prepared for later.
    settings.pool_size = 0;
    let network = tokio::task::spawn_blocking(move || Network::open(settings))
        .await
        .context("opening was cut off")?
        .context("network cannot be opened")?;
    let engine = engine(config, images.clone(), network.clone()).await?;
    Ok(Opened { calls: BuildCalls::over(engine), images, network })
}

impl Opened {
    /// Waits for the builds and lets go of everything.
    pub(crate) async fn close(self) {
        let Self { calls, images, network } = self;
        calls.ended().await;
        if let Err(error) = network.close().await {
            tracing::warn!("prepared namespaces stay behind: {error}");
        }
        let _ = tokio::task::spawn_blocking(move || drop((calls, images, network))).await;
    }
}
