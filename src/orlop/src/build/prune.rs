//! `orlop builder`: what builds keep for the next ones.

use crate::cli::Place;
use crate::config::{Loaded, Sources};
use crate::door::Door;
use anyhow::Context;
use clap::Subcommand;
use orlop_api::builds_v1 as v1;
use std::io::Write;

/// What can be done with it.
#[derive(Debug, Subcommand)]
pub(crate) enum BuilderCall {
    /// Forget steps and cache mounts, those that were not used for longest first.
    Prune {
        /// How much may stay, such as 10g.
        #[arg(
            long,
            alias = "keep-storage",
            alias = "max-used-space",
            value_name = "SIZE",
            default_value = "0"
        )]
        keep: String,
        /// Done without asking in any case.
        #[arg(short, long, hide = true)]
        force: bool,
        /// All of it in any case.
        #[arg(short, long, hide = true)]
        all: bool,
    },
}

/// Carries it out.
pub(crate) fn builder(place: &Place, call: &BuilderCall) -> anyhow::Result<()> {
    crate::logging::start_quiet();
    let BuilderCall::Prune { keep, .. } = call;
    let keep =
        orlop_build::bytes(keep).with_context(|| format!("--keep {keep}: expected 10g or such"))?;
    let Loaded { config, .. } = Sources::new(&place.settings()).load()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("worker threads cannot be started")?;
    let reply = runtime.block_on(async {
        let door = Door::to_builds(&config).await?;
        let reply = door.builds().prune(v1::PruneRequest { keep }).await;
        door.close().await;
        reply.map_err(|status| anyhow::anyhow!("{}", status.message()))
    })?;
    let v1::PruneReply { steps, caches } = reply.into_inner();
    writeln!(std::io::stdout(), "{steps} steps and {caches} cache mounts forgotten")?;
    Ok(())
}
