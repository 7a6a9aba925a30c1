//! The log: on standard error, for people or as JSON; its level can be changed while it runs.
//!
//! The same spans serve three readers, each with a filter of its own: the log shows their fields in
//! every line, metrics measure them, and traces are made of them.

use crate::cli::LogFormat;
use crate::config::Log;
use crate::metrics::{Operations, is_operation};
use crate::telemetry::{Exporter, is_traced};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// The way to the running log.
pub(crate) struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
}

/// What a filter may be, or what to write instead.
pub(crate) fn check_filter(text: &str) -> Result<(), String> {
    EnvFilter::try_new(text).map(|_| ()).map_err(|_| {
        format!(
            "use error, warn, info, debug, trace or a filter such as \"orlop_image=debug,info\", not {text:?}"
        )
    })
}

/// Starts logging, measuring and, where there is an exporter, tracing.
pub(crate) fn start(
    log: &Log,
    operations: Operations,
    exporter: Option<&Exporter>,
) -> anyhow::Result<Logging> {
    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(&log.level)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match log.format {
        LogFormat::Text => lines.with_ansi(false).with_filter(filter).boxed(),
        LogFormat::Json => lines.json().with_filter(filter).boxed(),
    };
    let traces = exporter.map(|exporter| {
        let layer = tracing_opentelemetry::layer().with_tracer(exporter.tracer());
        layer.with_location(false).with_threads(false).with_filter(filter_fn(is_traced))
    });
    tracing_subscriber::registry()
        .with(lines)
        .with(operations.with_filter(filter_fn(is_operation)))
        .with(traces)
        .try_init()?;
    Ok(Logging { filter: handle })
}

impl Logging {
    /// Changes what is logged from now on.
    pub(crate) fn set_level(&self, level: &str) -> anyhow::Result<()> {
        Ok(self.filter.reload(EnvFilter::try_new(level)?)?)
    }
}

/// For commands that end soon: warnings only, unless RUST_LOG says otherwise.
pub(crate) fn start_quiet() {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,orlop_api=off"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Without a log the command works all the same.
    let _ = builder.with_ansi(false).without_time().with_target(false).try_init();
}
