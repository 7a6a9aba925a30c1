//! UpdatePodSandboxResources.

use super::Sandbox;
use crate::Result;
use crate::context::Context;
use crate::kept::blocking;
use orlop_spec::request::Resources;
use std::sync::Arc;

/// Notes a pod's new limits. The kubelet calls it after it has resized the pod's cgroup, which is its
/// own; only where the cgroup is ours are the limits set by us, as far as the kernel takes them.
pub(crate) async fn update(
    context: Arc<Context>,
    sandbox: Arc<Sandbox>,
    overhead: Option<Resources>,
    resources: Option<Resources>,
) -> Result<()> {
    let _shared = sandbox.gate.read().await;
    sandbox.check_ready(&context)?;
    let limits = resources.as_ref().map(|asked| orlop_spec::limits(asked, &context.host.features));
    sandbox
        .observe(|facts| {
            facts.overhead = overhead.or(facts.overhead.take());
            facts.resources = resources.or(facts.resources.take());
        })
        .await;
    let facts = sandbox.facts.get();
    let (true, Some(limits)) = (facts.own_cgroup, limits) else { return Ok(()) };
    let host = Arc::clone(&context.host);
    let set = blocking(move || host.limit_cgroup(&facts.cgroup_parent, &limits)).await;
    if let Err(error) = set {
        tracing::warn!(sandbox = %sandbox.id, error = error.report(), "pod's cgroup not resized");
    }
    Ok(())
}
