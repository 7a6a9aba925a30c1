//! The log: on standard error, for people or as JSON.

use crate::cli::LogFormat;
use crate::config::Log;
use anyhow::Context;
use tracing_subscriber::EnvFilter;

/// Starts logging. The flag or file wins over RUST_LOG, which wins over `info`.
pub(crate) fn start(log: &Log) -> anyhow::Result<()> {
    let from_environment = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let text = log.level.clone().or(from_environment).unwrap_or_else(|| "info".to_owned());
    let filter =
        EnvFilter::try_new(&text).with_context(|| format!("log level {text:?} is not valid"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("log cannot be started: {error}"))
}

/// For commands that end soon: warnings only, unless RUST_LOG says otherwise.
pub(crate) fn start_quiet() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Without a log the command works all the same.
    let _ = builder.with_ansi(false).without_time().with_target(false).try_init();
}
