//! `version`.

use crate::args::FormatFlag;
use crate::show;
use serde_json::{Value, json};
use std::io::Write;

/// The version of Docker whose commands and output these are, for scripts that ask.
pub(crate) const DOCKER: &str = "28.0.0";
/// That of its interface, which is not served.
const API: &str = "1.48";

/// Prints it; called as `docker` in that one's form.
pub(crate) fn version(flag: &FormatFlag, as_docker: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let own = env!("CARGO_PKG_VERSION");
    let whole = whole(if as_docker { DOCKER } else { own });
    if show::object(&mut out, &whole, flag.format.as_deref())? {
        return Ok(());
    }
    if !as_docker {
        writeln!(out, "orlop {own}")?;
        return Ok(());
    }
    for (title, part) in [("Client", &whole["Client"]), ("Server", &whole["Server"])] {
        let text = |key: &str| part[key].as_str().unwrap_or_default();
        writeln!(out, "{title}: Orlop {own}")?;
        writeln!(out, " Version:           {}", text("Version"))?;
        writeln!(out, " API version:       {}", text("ApiVersion"))?;
        writeln!(out, " OS/Arch:           {}/{}", text("Os"), text("Arch"))?;
        if title == "Client" {
            writeln!(out, " Context:           default\n")?;
        }
    }
    Ok(())
}

fn whole(version: &str) -> Value {
    let host = orlop_model::Platform::host();
    let name = format!("Orlop {}", env!("CARGO_PKG_VERSION"));
    let system = rustix::system::uname();
    let kernel = system.release().to_string_lossy();
    json!({
        "Client": {
            "Platform": {"Name": name}, "Version": version, "ApiVersion": API, "DefaultAPIVersion": API,
            "GitCommit": "", "GoVersion": "", "Os": host.os, "Arch": host.architecture, "BuildTime": "",
            "Context": "default", "Experimental": false,
        },
        "Server": {
            "Platform": {"Name": name}, "Version": version, "ApiVersion": API, "MinAPIVersion": API,
            "GitCommit": "", "GoVersion": "", "Os": host.os, "Arch": host.architecture,
            "KernelVersion": kernel, "BuildTime": "", "Experimental": false,
            "Components": [{"Name": "Engine", "Version": version, "Details": {}}],
        },
    })
}
