//! `orlop build`: a client of the service for builds, in a daemon or in this process.

mod args;
mod call;
mod client;
mod executor;
mod open;
mod output;
mod progress;
mod prune;
mod request;
mod source;
mod step;

pub(crate) use args::BuildArgs;
pub(crate) use executor::sweep;
pub(crate) use open::{Opened, engine, open};
pub(crate) use prune::{BuilderCall, builder};

use crate::cli::{Place, SettingArgs};
use crate::config::{Config, Sources};
use crate::door::Door;
use crate::serve;
use anyhow::Context;
use output::Output;
use source::Source;

/// Builds, checks or lists.
pub(crate) fn run(place: &Place, arguments: &BuildArgs) -> anyhow::Result<()> {
    crate::logging::start_quiet();
    let config = config(place, arguments)?;
    let source = Source::find(arguments)?;
    let call = if arguments.check { "check" } else { &arguments.call };
    if call != "build" {
        return call::run(call, &source, &request::build_args(arguments)?, arguments);
    }
    let outputs: Vec<Output> =
        arguments.output.iter().map(|text| Output::parse(text)).collect::<Result<_, _>>()?;
    let request = request::request(arguments, &source, &outputs)?;
    // What is ours alone is closed to others; what the caller asked for is made as they have it.
    let umask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(umask);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("orlop-build")
        .enable_all()
        .build()
        .context("worker threads cannot be started")?;
    let done = runtime.block_on(async {
        let stop = serve::stop_signal()?;
        let door = Door::to_builds(&config).await?;
        rustix::process::umask(umask);
        let done = client::build(&door, arguments, request, &outputs, stop).await;
        door.close().await;
        done
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}

fn config(place: &Place, arguments: &BuildArgs) -> anyhow::Result<Config> {
    let shim = arguments.shim.as_ref().map(|path| path.display().to_string());
    let settings = place.with(SettingArgs { shim, ..SettingArgs::default() });
    Ok(Sources::new(&settings).load()?.config)
}
