//! SIGHUP: the configuration is read again and applied whole, or not at all.

use crate::config::{Config, Loaded, Sources};
use crate::logging::Logging;
use crate::metrics::{Listener, Metrics};

/// What is in force, and the way to the parts that can be changed.
pub(crate) struct Reloader {
    sources: Sources,
    config: Config,
    logging: Logging,
    metrics: Metrics,
    listener: Option<Listener>,
}

impl Reloader {
    /// Starts what can be changed later. Needs a tokio runtime.
    pub(crate) fn new(
        sources: Sources,
        config: Config,
        logging: Logging,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        let address = config.metrics.address;
        let listener = address.map(|at| Listener::bind(at, metrics.clone())).transpose()?;
        Ok(Self { sources, config, logging, metrics, listener })
    }

    /// Reads everything again. Whatever is wrong is logged, and then nothing has changed.
    pub(crate) fn reload(&mut self) {
        match self.apply() {
            Ok(changed) if changed.is_empty() => {
                tracing::info!("reload: the configuration is the same");
            }
            Ok(changed) => tracing::info!("reload: changed {}", changed.join(", ")),
            Err(error) => tracing::error!("reload: nothing was changed: {error:#}"),
        }
    }

    /// First everything that can fail, then everything that cannot. The keys that changed.
    fn apply(&mut self) -> anyhow::Result<Vec<String>> {
        let Loaded { config, .. } = self.sources.load()?;
        let changed = self.config.changed(&config);
        let fixed: Vec<&str> =
            changed.iter().filter(|(_, reload)| !reload).map(|(key, _)| key.as_str()).collect();
        if !fixed.is_empty() {
            anyhow::bail!("a restart is needed to change {}", fixed.join(", "));
        }
        let moved = config.metrics.address != self.config.metrics.address;
        let bind = |address| Listener::bind(address, self.metrics.clone());
        let listener = match config.metrics.address {
            Some(address) if moved => Some(bind(address)?),
            _ => None,
        };
        self.logging.set_level(&config.log.level)?;
        if moved {
            self.listener = listener;
        }
        self.config = config;
        Ok(changed.into_iter().map(|(key, _)| key).collect())
    }
}
