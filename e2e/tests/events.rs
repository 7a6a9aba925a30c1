//! GetContainerEvents: every subscriber sees every step, with the pod as it is right after it.

use k8s_cri::v1::*;
use orlop_e2e::World;
use orlop_e2e::process::{Server, until};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::process::Command;

async fn next(events: &mut tonic::Streaming<ContainerEventResponse>) -> ContainerEventResponse {
    let event = tokio::time::timeout(std::time::Duration::from_secs(60), events.message()).await;
    event.expect("an event").expect("no error").expect("the stream goes on")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_subscriber_sees_every_step() {
    let mut world = tokio::task::block_in_place(World::new);
    let image = tokio::task::block_in_place(|| world.busybox());
    let (mut runtime, _) = world.services().await;
    let (mut other, _) = world.services().await;
    let mut first = runtime.get_container_events(GetEventsRequest {}).await.unwrap().into_inner();
    let mut second = other.get_container_events(GetEventsRequest {}).await.unwrap().into_inner();

    let (pod, id) = tokio::task::block_in_place(|| {
        let config = world.pod("told", json!({}));
        let pod = world.run_pod(&config);
        let container = world.container("c", &image, &["sh", "-c", "exit 7"], json!({}));
        let id = world.run_container(&pod, &config, &container);
        world.wait_exited(&id);
        world.crictl(&["rm", &id]);
        world.crictl(&["stopp", &pod]);
        world.crictl(&["rmp", &pod]);
        (pod, id)
    });
    use ContainerEventType::*;
    let steps = [
        (&pod, ContainerCreatedEvent, 0),
        (&pod, ContainerStartedEvent, 0),
        (&id, ContainerCreatedEvent, 1),
        (&id, ContainerStartedEvent, 1),
        (&id, ContainerStoppedEvent, 1),
        (&id, ContainerDeletedEvent, 0),
        (&pod, ContainerStoppedEvent, 0),
        (&pod, ContainerDeletedEvent, 0),
    ];
    for events in [&mut first, &mut second] {
        let mut at = 0;
        for (who, kind, containers) in steps {
            let event = next(events).await;
            let told = (event.container_id.as_str(), event.container_event_type());
            assert_eq!(told, (who.as_str(), kind), "{event:?}");
            assert!(event.created_at >= at, "{event:?}");
            at = event.created_at;
            let status = event.pod_sandbox_status.as_ref().expect("the pod's status");
            assert_eq!(
                (status.id.as_str(), status.metadata.as_ref().unwrap().name.as_str()),
                (pod.as_str(), "told")
            );
            assert_eq!(event.containers_statuses.len(), containers, "{event:?}");
            if kind == ContainerStoppedEvent && *who == id {
                let container = &event.containers_statuses[0];
                assert_eq!(
                    (container.exit_code, container.state()),
                    (7, ContainerState::ContainerExited)
                );
            }
            if kind == ContainerStoppedEvent && *who == pod {
                assert_eq!(status.state(), PodSandboxState::SandboxNotready);
            }
        }
    }
    // A subscriber that has gone keeps nobody, and one that stays does not hold up the daemon's end.
    drop(first);
    tokio::task::block_in_place(|| {
        world.stop();
        assert!(!world.log().contains("cut off after"), "{}", world.log());
    });
    assert!(matches!(second.message().await, Ok(None) | Err(_)));
    tokio::task::block_in_place(|| drop(world));
}

#[test]
fn crictl_prints_them() {
    let mut world = World::new();
    let image = world.busybox();
    let endpoint = format!("unix://{}", world.socket().display());
    let mut command = Command::new(orlop_e2e::tool("crictl"));
    command.args(["--config", "/dev/null", "-r", &endpoint, "events", "-o", "json"]);
    let mut events = Server::start(command, world.path("tmp/events"));
    // crictl does not say when it listens: pods come until one of them is told of.
    let mut pods = HashMap::new();
    until("crictl to listen", || {
        let config = world.pod(&format!("heard-{}", pods.len()), json!({}));
        pods.insert(world.run_pod(&config), config);
        !events.log().is_empty()
    });
    let (pod, config) = pods.iter().next().expect("a pod");
    let container = world.container("c", &image, &["true"], json!({}));
    let id = world.run_container(pod, config, &container);
    let kinds = || -> Vec<String> {
        let log = events.log();
        let all = serde_json::Deserializer::from_str(&log).into_iter::<Value>().flatten();
        all.filter(|event| event["containerId"] == id.as_str())
            .map(|event| event["containerEventType"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    until("the container's end to be told", || kinds().len() == 3);
    let expected =
        ["CONTAINER_CREATED_EVENT", "CONTAINER_STARTED_EVENT", "CONTAINER_STOPPED_EVENT"];
    assert_eq!(kinds(), expected);
    events.kill();
}
