//! Called as `containerd`, in the image of a node: its version, its configuration as far as tools read it,
//! and the daemon, on the socket where they look for it.

use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(
    name = "containerd",
    about = "Orlop under the name of containerd",
    disable_version_flag = true
)]
struct Cli {
    /// Print the version.
    #[arg(short, long)]
    version: bool,
    #[command(flatten)]
    daemon: Daemon,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct Daemon {
    /// containerd's own configuration, which says nothing to Orlop.
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Unix socket of the daemon.
    #[arg(short, long, global = true, value_name = "SOCKET", default_value = super::SOCKET)]
    address: String,
    /// Directory of durable state.
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<String>,
    /// Directory of live state.
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<String>,
    /// What is logged.
    #[arg(short, long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a configuration in containerd's form.
    Config {
        #[command(subcommand)]
        call: ConfigCall,
    },
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum ConfigCall {
    /// What is in force.
    Dump,
    /// The defaults.
    Default,
}

/// What tools look for: how layers are stacked, under the names of both versions of the file.
const CONFIG: &str = r#"version = 3
root = "/var/lib/orlop"
state = "/run/orlop"

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins]

  [plugins."io.containerd.grpc.v1.cri"]

    [plugins."io.containerd.grpc.v1.cri".containerd]
      snapshotter = "overlayfs"
      default_runtime_name = "orlop"

  [plugins."io.containerd.cri.v1.images"]
    snapshotter = "overlayfs"

  [plugins."io.containerd.cri.v1.runtime"]

    [plugins."io.containerd.cri.v1.runtime".containerd]
      default_runtime_name = "orlop"
"#;

pub(super) fn run(line: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let cli = Cli::parse_from(line);
    let mut out = std::io::stdout().lock();
    if cli.version {
        let own = env!("CARGO_PKG_VERSION");
        writeln!(out, "containerd orlop v2.0.0+orlop-{own} {own}")?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(Command::Config { .. }) = cli.command {
        write!(out, "{CONFIG}")?;
        return Ok(ExitCode::SUCCESS);
    }
    drop(out);
    let Daemon { config: _, address, root, state, log_level } = cli.daemon;
    if let Some(dir) = std::path::Path::new(&address).parent() {
        std::fs::create_dir_all(dir)?;
    }
    let settings = crate::cli::SettingArgs {
        root,
        run: state,
        listen: Some(address),
        log_level,
        ..Default::default()
    };
    crate::serve::run(&settings)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn configuration_is_what_kind_reads() {
        Cli::command().debug_assert();
        let read: toml::Table = CONFIG.parse().unwrap();
        let plugins = &read["plugins"];
        assert_eq!(
            plugins["io.containerd.grpc.v1.cri"]["containerd"]["snapshotter"].as_str(),
            Some("overlayfs")
        );
        assert_eq!(
            plugins["io.containerd.cri.v1.images"]["snapshotter"].as_str(),
            Some("overlayfs")
        );
    }
}
