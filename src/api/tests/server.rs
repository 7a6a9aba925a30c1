//! The server over a real socket, before there is anything behind it: readiness and limits.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use orlop_api::v1::image_service_client::ImageServiceClient;
use orlop_api::v1::runtime_service_client::RuntimeServiceClient;
use orlop_api::{Abilities, Api, Handler, MAX_REQUEST, Node, v1};
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

struct Server {
    _dir: tempfile::TempDir,
    channel: Channel,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

async fn start() -> Server {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let api = Api::new(Node {
        version: "1".into(),
        handlers: vec![Handler {
            name: "orlop".into(),
            recursive_read_only: false,
            user_namespaces: false,
        }],
        abilities: Abilities::default(),
        config: serde_json::json!({}),
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move {
        let _ = stopped.await;
    };
    let task = tokio::spawn(orlop_api::serve(
        api,
        Arc::new(()),
        UnixListenerStream::new(listener),
        shutdown,
    ));
    let channel =
        Endpoint::try_from(format!("unix://{}", path.display())).unwrap().connect().await.unwrap();
    Server { _dir: dir, channel, stop, task }
}

impl Server {
    async fn end(self) {
        drop(self.channel);
        drop(self.stop);
        self.task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn nothing_is_served_before_recovery() {
    let server = start().await;
    let mut runtime = RuntimeServiceClient::new(server.channel.clone());
    let mut images = ImageServiceClient::new(server.channel.clone());
    for status in [
        runtime.version(v1::VersionRequest::default()).await.unwrap_err(),
        runtime.status(v1::StatusRequest::default()).await.unwrap_err(),
        runtime.list_containers(v1::ListContainersRequest::default()).await.unwrap_err(),
        runtime.run_pod_sandbox(v1::RunPodSandboxRequest::default()).await.unwrap_err(),
        runtime.get_container_events(v1::GetEventsRequest::default()).await.unwrap_err(),
        images.list_images(v1::ListImagesRequest::default()).await.unwrap_err(),
        images.pull_image(v1::PullImageRequest::default()).await.unwrap_err(),
    ] {
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unavailable, "server is not initialized yet")
        );
    }
    drop((runtime, images));
    server.end().await;
}

#[tokio::test]
async fn requests_over_the_limit_are_refused_and_the_connection_lives() {
    let server = start().await;
    let mut runtime = RuntimeServiceClient::new(server.channel.clone());
    let with =
        |bytes: usize| v1::StopContainerRequest { container_id: "x".repeat(bytes), timeout: 0 };
    let status = runtime.stop_container(with(64 << 20)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let status = runtime.stop_container(with(MAX_REQUEST - 64)).await.unwrap_err();
    assert_eq!(
        status.code(),
        Code::Unavailable,
        "just below the limit it is read: {}",
        status.code()
    );
    drop(runtime);
    server.end().await;
}
