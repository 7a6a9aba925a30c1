//! CRI through `k8s-cri`, a client that we did not write, and configurations for crictl.

use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tonic::transport::{Channel, Endpoint, Uri};

/// A channel to the daemon's socket.
pub async fn channel(socket: PathBuf) -> Channel {
    let connect = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move {
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(
                tokio::net::UnixStream::connect(socket).await?,
            ))
        }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(connect).await.expect("the daemon's socket answers")
}

/// Where a call is: those of images are a service of their own.
fn path(call: &str) -> tonic::codegen::http::uri::PathAndQuery {
    let service = if call.contains("Image") { "ImageService" } else { "RuntimeService" };
    format!("/runtime.v1.{service}/{call}").parse().expect("a path")
}

/// Whether the daemon's cgroup driver, by default, is systemd's.
pub fn systemd_driver() -> bool {
    std::path::Path::new("/run/systemd/system").is_dir()
        && std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

impl crate::World {
    /// Both services through `k8s-cri`.
    pub async fn services(&self) -> (RuntimeServiceClient<Channel>, ImageServiceClient<Channel>) {
        let channel = channel(self.socket()).await;
        (RuntimeServiceClient::new(channel.clone()), ImageServiceClient::new(channel))
    }

    /// A call by name, for what `k8s-cri` does not have yet.
    pub async fn unary<Q, R>(&self, call: &str, request: Q) -> Result<R, tonic::Status>
    where
        Q: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        let mut client = tonic::client::Grpc::new(channel(self.socket()).await);
        client.ready().await.expect("the daemon answers");
        let path = path(call);
        let codec = tonic_prost::ProstCodec::<Q, R>::default();
        client
            .unary(tonic::Request::new(request), path, codec)
            .await
            .map(tonic::Response::into_inner)
    }

    /// All replies of a server stream by name.
    pub async fn stream<Q, R>(&self, call: &str, request: Q) -> Vec<R>
    where
        Q: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        let mut client = tonic::client::Grpc::new(channel(self.socket()).await);
        client.ready().await.expect("the daemon answers");
        let path = path(call);
        let codec = tonic_prost::ProstCodec::<Q, R>::default();
        let answer = client.server_streaming(tonic::Request::new(request), path, codec).await;
        let mut stream = answer.unwrap_or_else(|error| panic!("{call}: {error}")).into_inner();
        let mut replies = Vec::new();
        while let Some(reply) =
            stream.message().await.unwrap_or_else(|error| panic!("{call}: {error}"))
        {
            replies.push(reply);
        }
        replies
    }

    /// A pod configuration for crictl; `more` is merged over it.
    pub fn pod(&self, name: &str, more: Value) -> Value {
        let dir = self.path("");
        let world = dir.file_name().and_then(|name| name.to_str()).unwrap_or("orlop-e2e");
        // The daemon takes systemd's driver where systemd can serve it.
        let parent = if systemd_driver() { format!("{world}.slice") } else { format!("/{world}") };
        let mut config = json!({
            "metadata": {"name": name, "uid": format!("uid-{name}"), "namespace": "e2e", "attempt": 0},
            "hostname": name,
            "log_directory": self.path("logs").join(name),
            "linux": {"cgroup_parent": parent},
        });
        merge(&mut config, more);
        config
    }

    /// Writes a configuration where crictl can read it.
    pub fn file(&self, name: &str, value: &Value) -> String {
        let path = self.path("tmp").join(format!("{name}.json"));
        std::fs::write(&path, value.to_string()).expect("configuration file");
        path.to_str().expect("a plain path").to_owned()
    }

    /// A container configuration for crictl; `more` is merged over it.
    pub fn container(&self, name: &str, image: &str, command: &[&str], more: Value) -> Value {
        let mut config = json!({
            "metadata": {"name": name, "attempt": 0},
            "image": {"image": image},
            "command": command,
            "log_path": format!("{name}.log"),
            "linux": {},
        });
        merge(&mut config, more);
        config
    }

    /// Runs a pod; its id.
    pub fn run_pod(&self, config: &Value) -> String {
        let name = config["metadata"]["name"].as_str().expect("a pod has a name");
        self.crictl(&["runp", &self.file(&format!("pod-{name}"), config)])
    }

    /// Runs a pod of a runtime handler; its id.
    pub fn run_pod_with(&self, handler: &str, config: &Value) -> String {
        let name = config["metadata"]["name"].as_str().expect("a pod has a name");
        self.crictl(&["runp", "--runtime", handler, &self.file(&format!("pod-{name}"), config)])
    }

    /// Creates and starts a container in a pod; its id.
    pub fn run_container(&self, pod: &str, pod_config: &Value, config: &Value) -> String {
        let id = self.create_container(pod, pod_config, config);
        self.crictl(&["start", &id]);
        id
    }

    /// Creates a container in a pod; its id.
    pub fn create_container(&self, pod: &str, pod_config: &Value, config: &Value) -> String {
        let container = self.file(
            &format!(
                "container-{}",
                config["metadata"]["name"].as_str().expect("a container has a name")
            ),
            config,
        );
        self.crictl(&["create", pod, &container, &self.file("pod-of-container", pod_config)])
    }

    /// `status` of a container.
    pub fn status(&self, container: &str) -> Value {
        let text = self.crictl(&["inspect", "-o", "json", container]);
        serde_json::from_str::<Value>(&text).expect("crictl prints JSON")["status"].clone()
    }

    /// Waits until the container has ended; its status.
    pub fn wait_exited(&self, container: &str) -> Value {
        crate::process::until("the container to end", || {
            self.status(container)["state"] == "CONTAINER_EXITED"
        });
        self.status(container)
    }

    /// The container's log file.
    pub fn log_file(&self, pod: &str, container: &str) -> String {
        std::fs::read_to_string(
            Path::new(&self.path("logs")).join(pod).join(format!("{container}.log")),
        )
        .unwrap_or_default()
    }
}

/// Objects are merged, anything else is replaced.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, Value::Null) if into.is_object() => {}
        (into, from) => *into = from,
    }
}
