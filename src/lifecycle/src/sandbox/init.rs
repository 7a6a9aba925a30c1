//! The init of a pod that shares its PID namespace: the shim's own, a few kilobytes.

use super::Sandbox;
use crate::container::{ask_to_leave, cgroup_path, make_bundle, write_spec};
use crate::context::{Context, SHIM_PATIENCE, START_PATIENCE};
use crate::handler::{self, Role, annotations};
use crate::host::remove_tree;
use crate::kept::blocking;
use crate::neighbours::task_failed;
use crate::recover::force_out_bundle;
use crate::state::SandboxRecord;
use crate::{Error, Result, spans};
use orlop_model::{Signal, Timestamp};
use orlop_spec::request::NamespaceMode;
use orlop_spec::{Namespace, Namespaces};
use orlop_task::protocol::{Mount, shim::CreateOptions};
use orlop_task::{Client, CreateRequest, ForeignRuntime};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use tokio::time::timeout;
use tracing::Instrument;

/// What an init is made from.
pub(super) struct InitRequest {
    pub(super) id: String,
    pub(super) hostname: String,
    pub(super) namespaces: Namespaces,
    pub(super) cgroup: String,
    /// The pod's handler, where that is one of another maker that wants to hold the pod itself.
    pub(super) foreign: Option<ForeignInit>,
}

/// A sandbox container in a shim of another maker.
pub(super) struct ForeignInit {
    runtime: ForeignRuntime,
    annotations: HashMap<String, String>,
    /// The pod's processes are the host's.
    host_pids: bool,
}

/// What the pod's handler needs beside our own; `None`: nothing.
pub(super) fn foreign_init(context: &Context, facts: &SandboxRecord) -> Option<ForeignInit> {
    let name = &facts.config.runtime_handler;
    let handler = context.foreign(name).filter(|handler| handler.sandbox)?;
    Some(ForeignInit {
        runtime: context.foreign_runtime(name, Role::Sandbox)?,
        annotations: annotations(handler, facts, Role::Sandbox),
        host_pids: facts.config.security.namespaces.pid == NamespaceMode::Node,
    })
}

impl Sandbox {
    /// The init's pid; makes the init where there is none yet.
    pub(crate) async fn ensure_init(self: &Arc<Self>, context: &Arc<Context>) -> Result<u32> {
        let mut init = self.init.lock().await;
        let facts = self.facts.get();
        if let (Some(pid), None) = (facts.init_pid, facts.init_ended_at) {
            return Ok(pid);
        }
        self.check_ready(context)?;
        let request = InitRequest {
            id: self.id.to_string(),
            hostname: self.hostname(),
            namespaces: self.namespaces(),
            cgroup: cgroup_path(&facts.cgroup_parent, self.id.as_str()),
            foreign: foreign_init(context, &facts),
        };
        let (client, pid) = make_init(context, request).await?;
        *init = Some(client.clone());
        self.observe(|facts| facts.init_pid = Some(pid)).await;
        let watch = watch_init(Arc::clone(self), client);
        tokio::spawn(watch.instrument(spans::of_sandbox(&self.id)));
        Ok(pid)
    }

    /// Takes over the init that an earlier daemon made.
    pub(crate) async fn adopt_init(self: &Arc<Self>, client: Client) {
        *self.init.lock().await = Some(client.clone());
        let watch = watch_init(Arc::clone(self), client);
        tokio::spawn(watch.instrument(spans::of_sandbox(&self.id)));
    }
}

/// Starts an init, or leaves nothing of it.
pub(super) async fn make_init(
    context: &Arc<Context>,
    request: InitRequest,
) -> Result<(Client, u32)> {
    let made = launch_init(context, &request).await;
    if made.is_err() {
        clear_init(context, &request.id, &request.cgroup).await?;
    }
    made
}

async fn launch_init(context: &Arc<Context>, request: &InitRequest) -> Result<(Client, u32)> {
    let foreign = request.foreign.as_ref();
    let host_pids = foreign.is_some_and(|foreign| foreign.host_pids);
    let pid = if host_pids { Namespace::Host } else { Namespace::New };
    let namespaces = Namespaces { pid, ..request.namespaces.clone() };
    let mut spec = orlop_spec::sandbox_init_spec(&namespaces, &request.hostname, &request.cgroup)?;
    if let Some(foreign) = foreign {
        orlop_spec::fit_for_other_runtimes(&mut spec, foreign.annotations.clone());
        handler::fit(&mut spec);
    }
    let bundle = context.bundle(&request.id);
    let (dir, pause, owner) = (bundle.clone(), foreign.is_some(), Arc::clone(context));
    let rootfs = blocking(move || {
        make_bundle(&dir)?;
        write_spec(&dir, &spec)?;
        if pause { owner.pause_root().map(|root| vec![bind(&root)]) } else { Ok(Vec::new()) }
    })
    .await?;
    let fail = |what| move |error| task_failed(what, &request.id, error);
    let shim = context
        .launcher
        .launch(&request.id, &bundle, foreign.map(|foreign| &foreign.runtime))
        .await
        .map_err(fail("starting the shim of the init"))?;
    let options = CreateOptions { init: true, exit_on_delete: true, ..CreateOptions::default() };
    let create = CreateRequest { rootfs, options, ..CreateRequest::default() };
    let started = timeout(START_PATIENCE, async {
        shim.client.create(&bundle, create).await.map_err(fail("creating the init"))?;
        shim.client.start("").await.map_err(fail("starting the init"))
    });
    let pid = started.await.map_err(|_| Error::ShimSilent {
        id: request.id.clone(),
        why: format!("its init did not start within {START_PATIENCE:?}"),
    })??;
    Ok((shim.client, pid))
}

/// The root of a sandbox container, which all share.
fn bind(root: &Path) -> Mount {
    Mount {
        r#type: "bind".into(),
        source: root.display().to_string(),
        target: String::new(),
        options: vec!["rbind".into(), "ro".into()],
    }
}

/// Notes when the init ends, which makes the sandbox not ready.
pub(crate) async fn watch_init(sandbox: Arc<Sandbox>, client: Client) {
    // Whatever the answer is: with the init or its shim gone, the pod has no PID namespace to join.
    let _ = client.wait("").await;
    sandbox
        .observe(|facts| {
            facts.init_ended_at.get_or_insert_with(Timestamp::now);
        })
        .await;
}

/// Ends the init of a sandbox, if it has one.
pub(crate) async fn end_init(context: &Arc<Context>, sandbox: &Sandbox) -> Result<()> {
    let mut init = sandbox.init.lock().await;
    if let Some(client) = init.take() {
        finish(&client).await;
    }
    let parent = sandbox.facts.get().cgroup_parent.clone();
    clear_init(context, sandbox.id.as_str(), &cgroup_path(&parent, sandbox.id.as_str())).await
}

/// Ends an init in order, and its shim with it.
pub(super) async fn finish(client: &Client) {
    let ended = async {
        // Process 1 takes all of its namespace with it.
        client.kill("", Signal::KILL.number(), false).await?;
        client.wait("").await
    };
    if let Ok(Ok(_)) = timeout(SHIM_PATIENCE, ended).await {
        // If that fails the caller clears away what is left.
        ask_to_leave(client).await;
    }
}

/// Removes what is left of an init.
pub(super) async fn clear_init(context: &Arc<Context>, id: &str, cgroup: &str) -> Result<()> {
    let (bundle, host, cgroup) = (context.bundle(id), Arc::clone(&context.host), cgroup.to_owned());
    blocking(move || {
        if !bundle.exists() {
            return Ok(());
        }
        force_out_bundle(&bundle);
        host.end_cgroup(&cgroup)?;
        remove_tree(&bundle)
    })
    .await
}
