//! UpdateContainerResources, UpdatePodSandboxResources.

use crate::Api;
use crate::containers::required_id;
use crate::error::ApiError;
use crate::v1;
use crate::validate::{self, Invalid};
use orlop_spec::request::Resources;

pub(crate) async fn update_container(
    api: &Api,
    request: v1::UpdateContainerResourcesRequest,
) -> Result<v1::UpdateContainerResourcesResponse, ApiError> {
    let runtime = &api.engine()?.runtime;
    let id = required_id("container_id", &request.container_id)?;
    validate::no_windows("windows", request.windows.is_some())?;
    let raw = request.linux.unwrap_or_default();
    let asked = validate::changed_resources("linux", &raw)?;
    // Annotations speak to plugins, and there are none.
    runtime.update_container(id, asked).await?;
    Ok(v1::UpdateContainerResourcesResponse {})
}

pub(crate) async fn update_sandbox(
    api: &Api,
    request: v1::UpdatePodSandboxResourcesRequest,
) -> Result<v1::UpdatePodSandboxResourcesResponse, ApiError> {
    let runtime = &api.engine()?.runtime;
    let id = required_id("pod_sandbox_id", &request.pod_sandbox_id)?;
    let of = |field: &str, raw: Option<&v1::LinuxContainerResources>| -> Result<_, Invalid> {
        raw.map(|raw| validate::changed_resources(field, raw)).transpose()
    };
    let overhead: Option<Resources> = of("overhead", request.overhead.as_ref())?;
    let resources = of("resources", request.resources.as_ref())?;
    runtime.update_sandbox(id, overhead, resources).await?;
    Ok(v1::UpdatePodSandboxResourcesResponse {})
}
