//! What lists are asked for: filters, in the plain lists and in the streams alike; and what a container's
//! status says of its image.

use k8s_cri::v1::{
    Container, ContainerFilter, ContainerState, ContainerStateValue, Image, ImageFilter, ImageSpec,
    PodSandbox, PodSandboxFilter, PodSandboxState, PodSandboxStateValue,
};
use orlop_e2e::World;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The six streams' requests and replies have one field each.
#[derive(Clone, PartialEq, prost::Message)]
struct Containers {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Container>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Pods {
    #[prost(message, repeated, tag = "1")]
    items: Vec<PodSandbox>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Images {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Image>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OfContainers {
    #[prost(message, optional, tag = "1")]
    filter: Option<ContainerFilter>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OfPods {
    #[prost(message, optional, tag = "1")]
    filter: Option<PodSandboxFilter>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OfImages {
    #[prost(message, optional, tag = "1")]
    filter: Option<ImageFilter>,
}

fn ids(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

async fn containers(world: &World, filter: ContainerFilter) -> Vec<String> {
    let replies: Vec<Containers> =
        world.stream("StreamContainers", OfContainers { filter: Some(filter) }).await;
    replies.into_iter().flat_map(|reply| reply.items).map(|item| item.id).collect()
}

async fn pods(world: &World, filter: PodSandboxFilter) -> Vec<String> {
    let replies: Vec<Pods> =
        world.stream("StreamPodSandboxes", OfPods { filter: Some(filter) }).await;
    replies.into_iter().flat_map(|reply| reply.items).map(|item| item.id).collect()
}

async fn images(world: &World, name: &str) -> usize {
    let image = Some(ImageSpec { image: name.to_owned(), ..Default::default() });
    let filter = Some(ImageFilter { image });
    let replies: Vec<Images> = world.stream("StreamImages", OfImages { filter }).await;
    replies.iter().map(|reply| reply.items.len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_of_lists_and_streams() {
    let mut world = tokio::task::block_in_place(World::new);
    let (image, red, blue, running, ended) = tokio::task::block_in_place(|| {
        let image = world.busybox();
        let red_config = world.pod("red", json!({"labels": {"colour": "red", "shape": "round"}}));
        let blue_config =
            world.pod("blue", json!({"labels": {"colour": "blue", "shape": "round"}}));
        let (red, blue) = (world.run_pod(&red_config), world.run_pod(&blue_config));
        let container = |name: &str, command: &[&str]| {
            world.container(name, &image, command, json!({"labels": {"name": name}}))
        };
        let running =
            world.run_container(&red, &red_config, &container("running", &["sleep", "1000"]));
        let ended = world.run_container(&red, &red_config, &container("ended", &["true"]));
        world.wait_exited(&ended);
        world.crictl(&["stopp", &blue]);
        let one = |id: &String| BTreeSet::from([id.clone()]);
        for (arguments, expected) in [
            (&["--label", "colour=red"][..], one(&red)),
            (&["--label", "shape=round"], BTreeSet::from([red.clone(), blue.clone()])),
            (&["--label", "shape=round", "--label", "colour=blue"], one(&blue)),
            (&["--label", "colour=green"], BTreeSet::new()),
            (&["--state", "Ready"], one(&red)),
            (&["--state", "NotReady"], one(&blue)),
            (&["--state", "Ready", "--label", "colour=blue"], BTreeSet::new()),
        ] {
            let all = [&["pods", "-q", "--no-trunc"], arguments].concat();
            assert_eq!(ids(&world.crictl(&all)), expected, "{arguments:?}");
        }
        (image, red, blue, running, ended)
    });

    let labels = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    let state = |state| Some(ContainerStateValue { state });
    let exited = ContainerState::ContainerExited as i32;
    for (filter, expected) in [
        (ContainerFilter { id: running.clone(), ..Default::default() }, vec![&running]),
        (ContainerFilter { state: state(exited), ..Default::default() }, vec![&ended]),
        (
            ContainerFilter { label_selector: labels("name", "running"), ..Default::default() },
            vec![&running],
        ),
        (ContainerFilter { pod_sandbox_id: blue.clone(), ..Default::default() }, vec![]),
        (
            ContainerFilter {
                state: state(exited),
                pod_sandbox_id: red.clone(),
                label_selector: labels("name", "ended"),
                ..Default::default()
            },
            vec![&ended],
        ),
    ] {
        let found = containers(&world, filter.clone()).await;
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{filter:?}");
    }

    let ready = Some(PodSandboxStateValue { state: PodSandboxState::SandboxReady as i32 });
    for (filter, expected) in [
        (PodSandboxFilter { id: blue.clone(), ..Default::default() }, &blue),
        (PodSandboxFilter { state: ready, ..Default::default() }, &red),
        (
            PodSandboxFilter { label_selector: labels("colour", "blue"), ..Default::default() },
            &blue,
        ),
    ] {
        assert_eq!(
            pods(&world, filter.clone()).await,
            std::slice::from_ref(expected),
            "{filter:?}"
        );
    }

    assert_eq!(images(&world, &image).await, 1);
    assert_eq!(images(&world, "no.example/such:1").await, 0);
    tokio::task::block_in_place(|| drop(world));
}

#[test]
fn what_a_status_says_of_the_image() {
    let mut world = World::new();
    let image = world.busybox();
    let inspected: Value =
        serde_json::from_str(&world.crictl(&["inspecti", &image])).expect("JSON");
    let digest = inspected["status"]["repoDigests"][0].as_str().expect("a digest").to_owned();
    let id = inspected["status"]["id"].as_str().expect("an id").to_owned();
    // By its digest alone it has no tag, so that only what the user wrote can name it.
    world.crictl(&["rmi", &image]);
    world.crictl(&["pull", &digest]);
    let config = world.pod("named", json!({}));
    let pod = world.run_pod(&config);
    let spec = json!({"image": {
        "image": id, "user_specified_image": "as/typed:1", "annotations": {"of": "the image"},
    }});
    let container = world.container("c", &id, &["sleep", "1000"], spec);
    let running = world.run_container(&pod, &config, &container);
    let status = world.status(&running);
    assert_eq!(status["image"]["image"], "as/typed:1", "{status}");
    assert_eq!(status["image"]["userSpecifiedImage"], "as/typed:1", "{status}");
    assert_eq!(status["image"]["annotations"], json!({"of": "the image"}), "{status}");
    assert_eq!(status["imageRef"], digest.as_str(), "{status}");
    // The list names the image as it was asked for.
    let listed: Value = serde_json::from_str(&world.crictl(&["ps", "-o", "json"])).expect("JSON");
    let listed = &listed["containers"][0]["image"];
    assert_eq!(listed["annotations"], json!({"of": "the image"}), "{listed}");
    assert_eq!(listed["userSpecifiedImage"], "as/typed:1", "{listed}");
}
