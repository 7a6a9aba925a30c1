//! What is there without a record, and goes.

use crate::Result;
use crate::context::Context;
use crate::error::{below, io};
use crate::host::{self, Host, remove_tree};
use crate::kept::blocking;
use crate::{ErrorKind, sandbox};
use oci_spec::runtime::Spec;
use orlop_model::{ContainerId, SandboxId};
use orlop_task::Bundle;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Removes bundles (with their shims, processes and cgroups), writable layers and sandbox
/// directories that no record names. How many there were.
pub(super) async fn remove_all(context: &Arc<Context>) -> Result<usize> {
    let context = Arc::clone(context);
    blocking(move || {
        let containers: HashSet<String> = context
            .index
            .all_containers()
            .iter()
            .map(|container| container.id.to_string())
            .collect();
        let sandboxes: HashSet<String> =
            context.index.all_sandboxes().iter().map(|sandbox| sandbox.id.to_string()).collect();
        let mut removed = 0;
        for (name, path) in entries(&context.options.run.join("bundles"))? {
            if !containers.contains(&name) && !sandboxes.contains(&name) {
                removed += report("bundle", &name, remove_bundle(&context.host, &path));
            }
        }
        for key in context.images.rootfs_keys() {
            // Other users of the store have keys of other forms.
            // An image volume's has its container's with a number behind it.
            let owner = key.split('.').next().unwrap_or_default();
            if ContainerId::parse(owner).is_ok() && owner.len() == 64 && !containers.contains(owner)
            {
                let result = context.images.remove_rootfs(&key);
                let result =
                    result.map_err(|error| below("removing", &key, ErrorKind::Internal, error));
                removed += report("writable layer", &key, result);
            }
        }
        for (name, path) in entries(&context.options.run.join("sandboxes"))? {
            if !sandboxes.contains(&name) && SandboxId::parse(&name).is_ok() {
                removed +=
                    report("sandbox directory", &name, remove_sandbox_dir(&context, &name, &path));
            }
        }
        remove_sockets(&context.options.run)?;
        Ok(removed)
    })
    .await
}

/// One orphan that cannot be removed does not keep the daemon from starting.
fn report(what: &str, name: &str, result: Result<()>) -> usize {
    match result {
        Ok(()) => tracing::info!(what, name, "orphan removed"),
        Err(error) => tracing::warn!(what, name, error = error.report(), "orphan not removed"),
    }
    1
}

fn entries(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io("listing", dir)(error)),
    };
    let named =
        |entry: std::fs::DirEntry| Some((entry.file_name().into_string().ok()?, entry.path()));
    Ok(entries.flatten().filter_map(named).collect())
}

fn remove_bundle(host: &Host, path: &Path) -> Result<()> {
    force_out_bundle(path);
    if let Some(cgroup) = cgroup_of(path) {
        host.end_cgroup(&cgroup)?;
    }
    remove_tree(path)
}

fn remove_sandbox_dir(context: &Context, name: &str, path: &Path) -> Result<()> {
    // Only cgroups of our own making are named like this.
    let cgroup = crate::container::pod_cgroup(&context.options.default_cgroup_parent, name);
    context.host.end_cgroup(&cgroup)?;
    context.host.prune_cgroups(&sandbox::noted_cgroups(path));
    sandbox::release_files(path)
}

/// Kills the shim of a bundle, if it has one, and removes its socket.
pub(crate) fn force_out_bundle(path: &Path) {
    let bundle = Bundle::new(path);
    match bundle.shim() {
        Ok(Some(shim)) => host::kill_process(shim.pid, shim.start_time),
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "cannot tell the shim of a bundle"),
    }
    if let Err(error) = orlop_task::clear_foreign(&bundle) {
        tracing::warn!(bundle = %path.display(), %error, "foreign shim not cleared away");
    }
    if let Ok(address) = bundle.address() {
        // Gone already where the shim ended in order.
        let _ = std::fs::remove_file(address);
    }
}

/// Sockets that no bundle speaks of: their shims were killed with the bundle already gone.
fn remove_sockets(run: &Path) -> Result<()> {
    let bundles = entries(&run.join("bundles"))?;
    let named: HashSet<PathBuf> =
        bundles.iter().filter_map(|(_, path)| Bundle::new(path).address().ok()).collect();
    for (_, socket) in entries(&run.join("s"))? {
        if !named.contains(&socket) {
            let _ = std::fs::remove_file(socket);
        }
    }
    Ok(())
}

/// The cgroup that the bundle's container is or was in.
fn cgroup_of(bundle: &Path) -> Option<String> {
    let bytes = std::fs::read(bundle.join("config.json")).ok()?;
    let spec: Spec = serde_json::from_slice(&bytes).ok()?;
    let path = spec.linux().as_ref()?.cgroups_path().as_ref()?;
    Some(path.to_string_lossy().into_owned())
}
