//! The server through the client of the `k8s-cri` crate: wire-compatible with code that we did not write.

use k8s_cri::v1::*;
use orlop_e2e::World;
use orlop_e2e::images::busybox_layer;

#[tokio::test(flavor = "multi_thread")]
async fn the_calls_of_a_kubelet() {
    let mut world = tokio::task::block_in_place(World::new);
    let image = tokio::task::block_in_place(|| {
        let layer = busybox_layer(&world.path("tmp"));
        world.push(
            "test/busybox:1",
            &[&layer],
            r#"{"Cmd": ["sleep", "1000"], "User": "web", "Env": ["PATH=/bin", "A=image"]}"#,
            &["--docker"],
        )
    });
    let (mut runtime, mut images) = world.services().await;

    let version = runtime.version(VersionRequest::default()).await.unwrap().into_inner();
    assert_eq!(
        (version.runtime_name.as_str(), version.runtime_api_version.as_str()),
        ("orlop", "v1")
    );
    assert!(!version.version.is_empty() && !version.runtime_version.is_empty());
    let status = runtime.status(StatusRequest { verbose: true }).await.unwrap().into_inner();
    let conditions = status.status.unwrap().conditions;
    for name in ["RuntimeReady", "NetworkReady"] {
        assert!(
            conditions.iter().any(|condition| condition.r#type == name && condition.status),
            "{conditions:?}"
        );
    }
    assert!(!status.info.is_empty());
    runtime.runtime_config(RuntimeConfigRequest {}).await.unwrap();

    let spec = ImageSpec { image: image.clone(), ..Default::default() };
    let absent = images
        .image_status(ImageStatusRequest { image: Some(spec.clone()), verbose: false })
        .await
        .unwrap()
        .into_inner();
    assert!(absent.image.is_none());
    let pulled = images
        .pull_image(PullImageRequest { image: Some(spec.clone()), ..Default::default() })
        .await
        .unwrap()
        .into_inner()
        .image_ref;
    let known = images
        .image_status(ImageStatusRequest { image: Some(spec.clone()), verbose: true })
        .await
        .unwrap()
        .into_inner()
        .image
        .unwrap();
    assert_eq!(
        (known.id.as_str(), known.username.as_str(), known.repo_tags.as_slice()),
        (pulled.as_str(), "web", [image.clone()].as_slice())
    );
    assert!(
        known.size > 0
            && known.repo_digests.len() == 1
            && known.repo_digests[0].contains("@sha256:")
    );
    let filesystems =
        images.image_fs_info(ImageFsInfoRequest {}).await.unwrap().into_inner().image_filesystems;
    let filesystem = &filesystems[0];
    assert!(
        std::path::Path::new(&filesystem.fs_id.as_ref().unwrap().mountpoint).exists()
            && filesystem.used_bytes.as_ref().unwrap().value > 0
    );

    let metadata =
        PodSandboxMetadata { name: "k".into(), uid: "u".into(), namespace: "n".into(), attempt: 3 };
    let labels: std::collections::HashMap<_, _> = [("app".to_owned(), "k".to_owned())].into();
    let config = PodSandboxConfig {
        metadata: Some(metadata.clone()),
        hostname: "k".into(),
        labels: labels.clone(),
        annotations: [("note".to_owned(), "kept".to_owned())].into(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: world.pod("k", serde_json::json!({}))["linux"]["cgroup_parent"]
                .as_str()
                .unwrap()
                .to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let sandbox = runtime
        .run_pod_sandbox(RunPodSandboxRequest {
            config: Some(config.clone()),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner()
        .pod_sandbox_id;
    let status = runtime
        .pod_sandbox_status(PodSandboxStatusRequest {
            pod_sandbox_id: sandbox.clone(),
            verbose: false,
        })
        .await
        .unwrap()
        .into_inner()
        .status
        .unwrap();
    assert_eq!(
        (
            status.state,
            status.metadata.unwrap(),
            status.labels,
            status.annotations["note"].as_str()
        ),
        (PodSandboxState::SandboxReady as i32, metadata, labels.clone(), "kept")
    );
    assert!(
        status.created_at > 0 && status.network.unwrap().ip.parse::<std::net::IpAddr>().is_ok()
    );

    let container = ContainerConfig {
        metadata: Some(ContainerMetadata { name: "c".into(), attempt: 0 }),
        image: Some(ImageSpec { image: pulled.clone(), ..Default::default() }),
        envs: vec![KeyValue { key: "A".into(), value: "request".into() }],
        labels: labels.clone(),
        ..Default::default()
    };
    let request = CreateContainerRequest {
        pod_sandbox_id: sandbox.clone(),
        config: Some(container),
        sandbox_config: Some(config),
    };
    let id = runtime.create_container(request).await.unwrap().into_inner().container_id;
    let created = runtime
        .container_status(ContainerStatusRequest { container_id: id.clone(), verbose: false })
        .await
        .unwrap()
        .into_inner()
        .status
        .unwrap();
    assert_eq!((created.state, created.started_at), (ContainerState::ContainerCreated as i32, 0));
    runtime.start_container(StartContainerRequest { container_id: id.clone() }).await.unwrap();
    let exec = |cmd: &[&str]| ExecSyncRequest {
        container_id: id.clone(),
        cmd: cmd.iter().map(ToString::to_string).collect(),
        timeout: 10,
    };
    let reply = runtime
        .exec_sync(exec(&["sh", "-c", "echo $A $(id -un); echo oops >&2; exit 5"]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (reply.stdout.as_slice(), reply.stderr.as_slice(), reply.exit_code),
        (b"request web\n".as_slice(), b"oops\n".as_slice(), 5)
    );
    let mut slow = exec(&["sleep", "100"]);
    slow.timeout = 1;
    assert_eq!(runtime.exec_sync(slow).await.unwrap_err().code(), tonic::Code::DeadlineExceeded);

    let filter = ContainerFilter {
        label_selector: labels,
        state: Some(ContainerStateValue { state: ContainerState::ContainerRunning as i32 }),
        ..Default::default()
    };
    let listed = runtime
        .list_containers(ListContainersRequest { filter: Some(filter) })
        .await
        .unwrap()
        .into_inner()
        .containers;
    assert_eq!(
        (listed.len(), listed[0].id.as_str(), listed[0].pod_sandbox_id.as_str()),
        (1, id.as_str(), sandbox.as_str())
    );

    for _ in 0..2 {
        runtime
            .stop_container(StopContainerRequest { container_id: id.clone(), timeout: 0 })
            .await
            .unwrap();
    }
    let ended = runtime
        .container_status(ContainerStatusRequest { container_id: id.clone(), verbose: false })
        .await
        .unwrap()
        .into_inner()
        .status
        .unwrap();
    assert_eq!((ended.state, ended.exit_code), (ContainerState::ContainerExited as i32, 137));
    for _ in 0..2 {
        runtime
            .remove_container(RemoveContainerRequest { container_id: id.clone() })
            .await
            .unwrap();
        runtime
            .stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: sandbox.clone() })
            .await
            .unwrap();
    }
    for _ in 0..2 {
        runtime
            .remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: sandbox.clone() })
            .await
            .unwrap();
        images.remove_image(RemoveImageRequest { image: Some(spec.clone()) }).await.unwrap();
    }
    let gone = runtime
        .container_status(ContainerStatusRequest { container_id: id, verbose: false })
        .await
        .unwrap_err();
    assert_eq!(gone.code(), tonic::Code::NotFound);
    tokio::task::block_in_place(|| drop(world));
}
