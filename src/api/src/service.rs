//! Both services: each call in one line, the work in the modules beside.

use crate::batches::Replies;
use crate::error::{ApiError, answer};
use crate::v1::image_service_server::ImageService;
use crate::v1::runtime_service_server::RuntimeService;
use crate::validate::Abilities;
use crate::{
    containers, events, exec, images, metrics, node, resources, sandboxes, stats, streaming, v1,
};
use orlop_image::ImageStore;
use orlop_lifecycle::Runtime;
use orlop_spec::request::Owner;
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

/// What the daemon tells its clients about itself.
#[derive(Debug, Clone)]
pub struct Node {
    /// Version of this build.
    pub version: String,
    /// Runtime handlers beside the empty one, which is the built-in runtime.
    pub handlers: Vec<Handler>,
    /// What requests may ask for.
    pub abilities: Abilities,
    /// Configuration in use, for verbose Status; without secrets.
    pub config: serde_json::Value,
}

/// A runtime handler, and what pods of it may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handler {
    /// The name that a RuntimeClass gives.
    pub name: String,
    /// Read-only mounts that are so all the way down.
    pub recursive_read_only: bool,
    /// User namespaces.
    pub user_namespaces: bool,
}

/// The CRI server. Clones are the same one.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    node: Node,
    engine: OnceLock<Engine>,
    builder: OnceLock<Arc<orlop_build::Engine>>,
    streaming: OnceLock<orlop_streaming::Server>,
    /// True from the moment that no new work is taken.
    closing: watch::Sender<bool>,
}

/// What is behind the calls.
pub(crate) struct Engine {
    pub(crate) runtime: Runtime,
    pub(crate) images: ImageStore,
    pub(crate) people: orlop_engine::Engine,
}

impl Api {
    /// A server that answers Unavailable to everything.
    pub fn new(node: Node) -> Self {
        let closing = watch::Sender::new(false);
        Self(Arc::new(Inner {
            node,
            engine: OnceLock::new(),
            builder: OnceLock::new(),
            streaming: OnceLock::new(),
            closing,
        }))
    }

    /// Recovery is through: calls are served from now on. A second call changes nothing.
    pub fn set_ready(&self, people: orlop_engine::Engine) {
        let (runtime, images) = (people.runtime().of(Owner::Cri), people.images().clone());
        let _ = self.0.engine.set(Engine { runtime, images, people });
    }

    /// Builds are taken from now on. A second call changes nothing.
    pub fn set_builder(&self, builder: Arc<orlop_build::Engine>) {
        let _ = self.0.builder.set(builder);
    }

    pub(crate) fn builder(&self) -> Result<Arc<orlop_build::Engine>, ApiError> {
        self.0.builder.get().cloned().ok_or(ApiError::NotReady)
    }

    /// Where clients of Exec, Attach and PortForward are sent. A second call changes nothing.
    pub fn set_streaming(&self, server: orlop_streaming::Server) {
        let _ = self.0.streaming.set(server);
    }

    pub(crate) fn streaming(&self) -> Result<&orlop_streaming::Server, ApiError> {
        self.0.streaming.get().ok_or(ApiError::NotReady)
    }

    pub(crate) fn node(&self) -> &Node {
        &self.0.node
    }

    /// Tells streams without an end of their own that the server stops.
    pub(crate) fn close(&self) {
        self.0.closing.send_replace(true);
    }

    /// For streams that end with the server.
    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.0.closing.subscribe()
    }

    /// Containers as people know them.
    pub(crate) fn people(&self) -> Result<&orlop_engine::Engine, ApiError> {
        Ok(&self.engine()?.people)
    }

    pub(crate) fn engine(&self) -> Result<&Engine, ApiError> {
        self.0.engine.get().ok_or(ApiError::NotReady)
    }
}

/// The runtime service: calls with one reply, and calls with a stream of replies.
macro_rules! runtime_service {
    (
        unary { $($name:ident: $request:ident => $response:ident, $function:path;)* }
        lists { $($list:ident, $stream:ident: $ask:ident => $batch:ident, $source:path;)* }
    ) => {
        #[tonic::async_trait]
        impl RuntimeService for Api {
            $(async fn $name(&self, request: Request<v1::$request>) -> Result<Response<v1::$response>, Status> {
                answer(stringify!($name), $function(self, request.into_inner()).await)
            })*
            $(type $stream = Replies<v1::$batch>;
            async fn $list(&self, request: Request<v1::$ask>) -> Result<Response<Self::$stream>, Status> {
                answer(stringify!($list), $source(self, request.into_inner()).await)
            })*
        }
    };
}

runtime_service! {
    unary {
        version: VersionRequest => VersionResponse, node::version;
        status: StatusRequest => StatusResponse, node::status;
        runtime_config: RuntimeConfigRequest => RuntimeConfigResponse, node::runtime_config;
        update_runtime_config: UpdateRuntimeConfigRequest => UpdateRuntimeConfigResponse, node::update_runtime_config;
        run_pod_sandbox: RunPodSandboxRequest => RunPodSandboxResponse, sandboxes::run;
        stop_pod_sandbox: StopPodSandboxRequest => StopPodSandboxResponse, sandboxes::stop;
        remove_pod_sandbox: RemovePodSandboxRequest => RemovePodSandboxResponse, sandboxes::remove;
        pod_sandbox_status: PodSandboxStatusRequest => PodSandboxStatusResponse, sandboxes::status;
        list_pod_sandbox: ListPodSandboxRequest => ListPodSandboxResponse, sandboxes::list;
        create_container: CreateContainerRequest => CreateContainerResponse, containers::create;
        start_container: StartContainerRequest => StartContainerResponse, containers::start;
        stop_container: StopContainerRequest => StopContainerResponse, containers::stop;
        remove_container: RemoveContainerRequest => RemoveContainerResponse, containers::remove;
        list_containers: ListContainersRequest => ListContainersResponse, containers::list;
        container_status: ContainerStatusRequest => ContainerStatusResponse, containers::status;
        reopen_container_log: ReopenContainerLogRequest => ReopenContainerLogResponse, containers::reopen_log;
        exec_sync: ExecSyncRequest => ExecSyncResponse, exec::sync;
        exec: ExecRequest => ExecResponse, streaming::exec;
        attach: AttachRequest => AttachResponse, streaming::attach;
        port_forward: PortForwardRequest => PortForwardResponse, streaming::port_forward;
        update_container_resources: UpdateContainerResourcesRequest => UpdateContainerResourcesResponse, resources::update_container;
        update_pod_sandbox_resources:
            UpdatePodSandboxResourcesRequest => UpdatePodSandboxResourcesResponse, resources::update_sandbox;
        checkpoint_container: CheckpointContainerRequest => CheckpointContainerResponse, containers::checkpoint;
        container_stats: ContainerStatsRequest => ContainerStatsResponse, stats::container;
        list_container_stats: ListContainerStatsRequest => ListContainerStatsResponse, stats::containers;
        pod_sandbox_stats: PodSandboxStatsRequest => PodSandboxStatsResponse, stats::sandbox;
        list_pod_sandbox_stats: ListPodSandboxStatsRequest => ListPodSandboxStatsResponse, stats::sandboxes;
        list_metric_descriptors: ListMetricDescriptorsRequest => ListMetricDescriptorsResponse, metrics::descriptors;
        list_pod_sandbox_metrics: ListPodSandboxMetricsRequest => ListPodSandboxMetricsResponse, metrics::list;
    }
    lists {
        stream_pod_sandboxes, StreamPodSandboxesStream:
            StreamPodSandboxesRequest => StreamPodSandboxesResponse, sandboxes::stream;
        stream_containers, StreamContainersStream:
            StreamContainersRequest => StreamContainersResponse, containers::stream;
        get_container_events, GetContainerEventsStream: GetEventsRequest => ContainerEventResponse, events::stream;
        stream_container_stats, StreamContainerStatsStream:
            StreamContainerStatsRequest => StreamContainerStatsResponse, stats::stream_containers;
        stream_pod_sandbox_stats, StreamPodSandboxStatsStream:
            StreamPodSandboxStatsRequest => StreamPodSandboxStatsResponse, stats::stream_sandboxes;
        stream_pod_sandbox_metrics, StreamPodSandboxMetricsStream:
            StreamPodSandboxMetricsRequest => StreamPodSandboxMetricsResponse, metrics::stream;
    }
}

#[tonic::async_trait]
impl ImageService for Api {
    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        answer("list_images", images::list(self, request.into_inner()).await)
    }

    type StreamImagesStream = Replies<v1::StreamImagesResponse>;

    async fn stream_images(
        &self,
        request: Request<v1::StreamImagesRequest>,
    ) -> Result<Response<Self::StreamImagesStream>, Status> {
        answer("stream_images", images::stream(self, request.into_inner()).await)
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Result<Response<v1::ImageStatusResponse>, Status> {
        answer("image_status", images::status(self, request.into_inner()).await)
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Result<Response<v1::PullImageResponse>, Status> {
        answer("pull_image", images::pull(self, request.into_inner()).await)
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Result<Response<v1::RemoveImageResponse>, Status> {
        answer("remove_image", images::remove(self, request.into_inner()).await)
    }

    async fn image_fs_info(
        &self,
        request: Request<v1::ImageFsInfoRequest>,
    ) -> Result<Response<v1::ImageFsInfoResponse>, Status> {
        answer("image_fs_info", images::fs_info(self, request.into_inner()).await)
    }
}
