//! What a node's operator sees: metrics that Prometheus' own tool accepts, traces that arrive over the wire, and a log
//! that names the pod and the container in every line about one.

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::trace::v1::Span;
use orlop_e2e::process::{run, until};
use orlop_e2e::{World, root};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

const ADDRESS: &str = "127.0.0.1:9400";

/// The page of metrics.
fn scrape(world: &World) -> String {
    run(world.inside("curl").args(["-fsS", &format!("http://{ADDRESS}/metrics")]))
}

/// The value of one series.
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is not in:\n{page}")).parse().expect("a number")
}

/// A program with this input; panics when it fails.
fn feed(command: &mut Command, input: &str) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("program");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("input");
    let output = child.wait_with_output().expect("output");
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{command:?}: {said:?}");
}

#[test]
fn metrics_count_what_happened_and_promtool_takes_them() {
    let mut world = World::configured(|_| format!("[metrics]\naddress = '{ADDRESS}'\n"));
    let image = world.busybox();
    let config = world.pod("measured", json!({}));
    let pod = world.run_pod(&config);
    let id = world.run_container(
        &pod,
        &config,
        &world.container("c", &image, &["sleep", "1000"], json!({})),
    );
    world.crictl_error(&["pull", "127.0.0.1:5000/no/such:image"]);
    world.crictl_error(&["inspect", "nobody"]);

    let page = scrape(&world);
    // The page ends with a line break, which the look at a program's output takes away.
    feed(Command::new("promtool").args(["check", "metrics"]), &format!("{page}\n"));
    for (series, least) in [
        (r#"orlop_cri_calls_total{method="RunPodSandbox",code="OK"}"#, 1.0),
        (r#"orlop_cri_calls_total{method="ContainerStatus",code="NotFound"}"#, 1.0),
        (r#"orlop_cri_call_duration_seconds_count{method="StartContainer"}"#, 1.0),
        (r#"orlop_pods{state="ready"}"#, 1.0),
        (r#"orlop_containers{state="running"}"#, 1.0),
        (r#"orlop_operation_duration_seconds_count{operation="network.add",outcome="ok"}"#, 1.0),
        (r#"orlop_operation_duration_seconds_count{operation="shim.start",outcome="ok"}"#, 1.0),
        (r#"orlop_operation_duration_seconds_count{operation="task.Start",outcome="ok"}"#, 1.0),
        (r#"orlop_operation_duration_seconds_count{operation="image.pull",outcome="ok"}"#, 1.0),
        (
            r#"orlop_operation_duration_seconds_count{operation="image.pull",outcome="NotFound"}"#,
            1.0,
        ),
        (r#"orlop_operation_duration_seconds_count{operation="recovery",outcome="ok"}"#, 1.0),
        ("orlop_image_pulled_bytes_total", 100_000.0),
        ("orlop_image_store_bytes", 100_000.0),
        ("orlop_images", 1.0),
        ("orlop_ready", 1.0),
        ("orlop_network_ready", 1.0),
        ("process_open_fds", 5.0),
        ("process_resident_memory_bytes", 1_000_000.0),
    ] {
        assert!(value(&page, series) >= least, "{series}: {}", value(&page, series));
    }
    // Nothing that a client or a pod names is a label.
    for name in [pod.as_str(), &id, "measured", "busybox", "no/such", "nobody"] {
        assert!(!page.contains(name), "{name} is in the page");
    }
    world.crictl(&["rmp", "-f", &pod]);
    let page = scrape(&world);
    assert_eq!(value(&page, r#"orlop_pods{state="ready"}"#), 0.0);
    let removed = r#"orlop_operation_duration_seconds_count{operation="network.del",outcome="ok"}"#;
    assert!(value(&page, removed) >= 1.0);
    // Everything has ended but what asks.
    let busy = page.lines().filter(|line| line.starts_with("orlop_cri_calls_in_flight{"));
    assert!(busy.clone().count() > 5 && busy.clone().all(|line| line.ends_with(" 0")), "{page}");
    let before = page.lines().count();
    for round in 0..20 {
        world.crictl_error(&["inspect", &format!("stranger{round}")]);
    }
    assert_eq!(scrape(&world).lines().count(), before, "the page grew");
    dashboard_and_alerts_ask_for_what_is_there(&page);
}

/// Every metric that a query names is on the page.
fn dashboard_and_alerts_ask_for_what_is_there(page: &str) {
    let families: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let manifests = root().join("manifests");
    for file in ["grafana-dashboard.json", "prometheus-rules.yaml"] {
        let text = std::fs::read_to_string(manifests.join(file)).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let asked: BTreeSet<&str> = words
            .filter(|word| word.starts_with("orlop_") || word.starts_with("process_"))
            .collect();
        assert!(asked.len() > 5, "{file} asks for {asked:?}");
        for name in asked {
            let family = ["_bucket", "_count", "_sum"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap_or(name);
            assert!(families.contains(family), "{file} asks for {name}, which no page has");
        }
    }
    let dashboard = std::fs::read_to_string(manifests.join("grafana-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().expect("targets") {
            // Grafana puts these in; promtool reads the query that Prometheus would get.
            let query = target["expr"].as_str().expect("a query");
            let query = query.replace("$__rate_interval", "5m").replace("$instance", ".+");
            let rule =
                json!({"groups": [{"name": "g", "rules": [{"record": "x:y", "expr": query}]}]});
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("rule.json");
            std::fs::write(&file, rule.to_string()).unwrap();
            run(Command::new("promtool").args(["check", "rules"]).arg(&file));
        }
    }
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    let manifests = root().join("manifests");
    run(Command::new("promtool")
        .args(["check", "rules"])
        .arg(manifests.join("prometheus-rules.yaml")));
    run(Command::new("promtool")
        .args(["test", "rules"])
        .arg(manifests.join("prometheus-rules.test.yaml")));
    // Each alert has a test.
    let rules = std::fs::read_to_string(manifests.join("prometheus-rules.yaml")).unwrap();
    let tests = std::fs::read_to_string(manifests.join("prometheus-rules.test.yaml")).unwrap();
    let alerts: Vec<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 5);
    for alert in alerts {
        assert!(tests.contains(&format!("alertname: {alert}")), "{alert} has no test");
    }
}

#[test]
fn metrics_are_off_unless_asked_for() {
    let world = World::new();
    let listening = run(world.inside("ss").args(["-Hltn"]));
    let ours = listening.lines().filter(|line| line.contains(":9400"));
    assert_eq!(ours.count(), 0, "{listening}");
}

/// A collector of traces: a gRPC server like the real one, in the world's network namespace.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        for resource in request.into_inner().resource_spans {
            for scope in resource.scope_spans {
                self.0.lock().unwrap().extend(scope.spans);
            }
        }
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Listens on a port of the world's loopback; the address.
    async fn start(&self, world: &World) -> String {
        let path = world.netns_path();
        // A socket stays in the namespace that it was made in; the thread ends.
        let listener = std::thread::spawn(move || {
            let namespace = std::fs::File::open(path).expect("network namespace");
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), kind)
                .expect("setns");
            std::net::TcpListener::bind("127.0.0.1:0").expect("a free port")
        });
        let listener = listener.join().expect("a listener");
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let server =
            tonic::transport::Server::builder().add_service(TraceServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(incoming));
        format!("http://{address}")
    }

    fn spans(&self) -> Vec<Span> {
        self.0.lock().unwrap().clone()
    }

    /// The first span of that name.
    fn find(&self, name: &str) -> Option<Span> {
        self.spans().into_iter().find(|span| span.name == name)
    }
}

fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.clone()?.value) {
        Some(Attribute::StringValue(text)) => text,
        Some(Attribute::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_one_trace_down_to_the_shim() {
    let mut world = World::prepared();
    let collector = Collector::default();
    let endpoint = collector.start(&world).await;
    std::fs::write(world.path("orlop.toml"), format!("[traces]\nendpoint = '{endpoint}'\n"))
        .unwrap();
    world.start();
    let image = world.busybox();
    let (mut runtime, _) = world.services().await;

    // A client that traces itself.
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let linux = k8s_cri::v1::LinuxPodSandboxConfig {
        cgroup_parent: world.pod("x", json!({}))["linux"]["cgroup_parent"]
            .as_str()
            .unwrap()
            .to_owned(),
        ..Default::default()
    };
    let metadata = k8s_cri::v1::PodSandboxMetadata {
        name: "traced".into(),
        uid: "uid".into(),
        namespace: "e2e".into(),
        attempt: 0,
    };
    let pod_config = k8s_cri::v1::PodSandboxConfig {
        metadata: Some(metadata),
        linux: Some(linux),
        ..Default::default()
    };
    let request =
        k8s_cri::v1::RunPodSandboxRequest { config: Some(pod_config), ..Default::default() };
    let mut request = tonic::Request::new(request);
    request
        .metadata_mut()
        .insert("traceparent", format!("00-{trace}-{parent}-01").parse().unwrap());
    let pod = runtime.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id;

    let config = world.pod("traced", json!({"metadata": {"uid": "uid"}}));
    let id = world.run_container(
        &pod,
        &config,
        &world.container("c", &image, &["sleep", "1000"], json!({})),
    );
    world.crictl_error(&["inspect", "nobody"]);
    world.crictl(&["rmp", "-f", &pod]);
    // Stopping sends what was not sent yet.
    world.stop();

    let call = collector.find("RunPodSandbox").expect("a span of RunPodSandbox");
    assert_eq!((hex(&call.trace_id).as_str(), hex(&call.parent_span_id).as_str()), (trace, parent));
    assert_eq!(call.kind, 2, "a server's span");
    assert_eq!(attribute(&call, "sandbox"), pod);
    assert_eq!(attribute(&call, "rpc.grpc.status_code"), "0");
    let spans = collector.spans();
    let below = |parent: &Span, name: &str| {
        let found =
            spans.iter().find(|span| span.name == name && span.parent_span_id == parent.span_id);
        let found = found.unwrap_or_else(|| panic!("no {name} below {}: {spans:#?}", parent.name));
        assert_eq!(found.trace_id, parent.trace_id);
        assert!(found.start_time_unix_nano >= parent.start_time_unix_nano, "{name}");
        assert!(found.end_time_unix_nano <= parent.end_time_unix_nano, "{name}");
        found.clone()
    };
    assert_eq!(attribute(&below(&call, "network.add"), "outcome"), "ok");
    let create = collector.find("CreateContainer").expect("a span of CreateContainer");
    assert_eq!((attribute(&create, "sandbox"), attribute(&create, "container")), (pod, id.clone()));
    below(&create, "shim.start");
    below(&create, "task.Create");
    let start = collector.find("StartContainer").expect("a span of StartContainer");
    assert_eq!(attribute(&start, "container"), id);
    below(&start, "task.Start");
    let pull = collector.find("PullImage").expect("a span of PullImage");
    below(&pull, "image.pull");
    let failed = collector.find("ContainerStatus").expect("a span of ContainerStatus");
    let status = spans
        .iter()
        .filter(|span| span.name == "ContainerStatus")
        .filter_map(|span| span.status.clone());
    assert!(
        status.clone().any(|status| status.code == 2 && status.message == "NotFound"),
        "{failed:?}"
    );
}

#[test]
fn a_collector_that_is_away_stops_nothing() {
    let mut world = World::configured(|_| "[traces]\nendpoint = 'http://127.0.0.1:9'\n".to_owned());
    let config = world.pod("untraced", json!({}));
    let pod = world.run_pod(&config);
    world.crictl(&["rmp", "-f", &pod]);
    world.check_clean();
}

#[test]
fn every_line_about_a_pod_or_container_names_it() {
    let mut world = World::configured(|_| "[log]\nlevel = 'debug'\nformat = 'json'\n".to_owned());
    let image = world.busybox();
    let config = world.pod("logged", json!({}));
    let pod = world.run_pod(&config);
    let id = world.run_container(
        &pod,
        &config,
        &world.container("c", &image, &["sh", "-c", "exit 3"], json!({})),
    );
    world.wait_exited(&id);
    let broken = world.create_container(
        &pod,
        &config,
        &world.container("broken", &image, &["/no/such"], json!({})),
    );
    world.crictl_error(&["start", &broken]);
    world.crictl(&["rmp", "-f", &pod]);
    until("the pod's last line", || {
        world.log().contains("\"kind\":\"Deleted\"") || world.log().contains("Deleted")
    });
    let log = world.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    let mut about = [0, 0];
    for line in &lines {
        for field in ["timestamp", "level", "target"] {
            assert!(line[field].is_string(), "{line}");
        }
        // The ids of an object are its fields, in the line itself or in the span around it.
        let has = |name: &str, id: &str| {
            let spans = line["spans"].as_array().into_iter().flatten().chain([&line["fields"]]);
            spans.clone().any(|fields| fields[name] == id)
        };
        let text = line.to_string();
        for container in [&id, &broken] {
            if text.contains(container.as_str()) {
                assert!(has("container", container) && has("sandbox", &pod), "{line:#}");
                about[0] += 1;
            }
        }
        if text.contains(&pod) {
            assert!(has("sandbox", &pod), "{line:#}");
            about[1] += 1;
        }
    }
    assert!(about[0] >= 5 && about[1] >= 8, "too few lines to tell: {about:?}\n{log}");
}
