//! Pods on the real parts: image store, network, shim, kernel. Needs root, and the shim built.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{on_a_node, pod, shell, volume};
use orlop_lifecycle::{ContainerFilter, ContainerState, ErrorKind, SandboxFilter, SandboxState};
use orlop_spec::request::{NamespaceMode, RunAsUser};
use std::time::Duration;

#[test]
fn a_pod_runs_and_leaves_nothing() {
    on_a_node(|node| {
        let daemon = node.start();
        let rt = daemon.rt();
        daemon.pull(node);
        let sandbox = daemon.sandbox(pod(node, "web"));
        assert_eq!(rt.sandbox(&sandbox).unwrap().state, SandboxState::Ready);

        let job = daemon.container(&sandbox, shell(node, "job", "echo out; echo err >&2; exit 3"));
        let view = daemon.ended(&job);
        assert_eq!((view.exit_code, view.reason.as_str()), (3, "Error"));
        assert!(view.started_at >= view.created_at && view.finished_at >= view.started_at);
        let log = std::fs::read_to_string(view.log_path.as_ref().unwrap()).unwrap();
        assert!(log.contains(" stdout F out\n") && log.contains(" stderr F err\n"), "{log}");

        let server = daemon
            .container(&sandbox, shell(node, "server", "trap 'exit 9' USR1; sleep 1000 & wait"));
        assert_eq!(daemon.sh(&server, "echo $((6 * 7)); id -u"), "42\n0\n");
        let view = rt.container(&server).unwrap();
        assert_eq!(
            (view.state, view.exit_code, view.reason.as_str()),
            (ContainerState::Running, 0, "")
        );
        assert_eq!(view.stop_signal.to_string(), "SIGUSR1", "the image's");
        assert!(view.image_name.ends_with("/box:1") && view.image_ref.contains("@sha256:"));

        let running =
            ContainerFilter { state: Some(ContainerState::Running), ..ContainerFilter::default() };
        assert_eq!(rt.containers(&running).unwrap().len(), 1);
        let by_prefix = ContainerFilter {
            id: Some(job[..12].into()),
            sandbox: Some(sandbox[..12].into()),
            ..ContainerFilter::default()
        };
        assert_eq!(rt.containers(&by_prefix).unwrap()[0].id.as_str(), job);
        let nothing = SandboxFilter { id: Some("zzz".into()), ..SandboxFilter::default() };
        assert!(rt.sandboxes(&nothing).unwrap().is_empty());

        daemon.wait(rt.stop_container(&server, 10)).unwrap();
        let view = rt.container(&server).unwrap();
        assert_eq!((view.state, view.exit_code), (ContainerState::Exited, 9), "it obeyed SIGUSR1");
        daemon.wait(rt.stop_container(&server, 10)).unwrap();
        daemon.wait(rt.stop_sandbox(&sandbox)).unwrap();
        daemon.wait(rt.stop_sandbox(&sandbox)).unwrap();
        assert_eq!(rt.sandbox(&sandbox).unwrap().state, SandboxState::NotReady);
        daemon.wait(rt.remove_sandbox(&sandbox)).unwrap();
        daemon.wait(rt.remove_sandbox(&sandbox)).unwrap();
        assert_eq!(rt.container(&server).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn stopping() {
    on_a_node(|node| {
        let daemon = node.start();
        let rt = daemon.rt();
        daemon.pull(node);
        let sandbox = daemon.sandbox(pod(node, "p"));
        // Deaf to everything that can be ignored.
        let deaf = "trap '' USR1 TERM INT HUP; echo ready; while :; do sleep 1000; done";
        let first = daemon.container(&sandbox, shell(node, "first", deaf));
        daemon.wait(rt.stop_container(&first, 0)).unwrap();
        assert_eq!(rt.container(&first).unwrap().exit_code, 137);

        let second = daemon.container(&sandbox, shell(node, "second", deaf));
        daemon.wait(async {
            let patient = tokio::spawn({
                let (rt, id) = (rt.clone(), second.clone());
                async move { rt.stop_container(&id, 10_000).await }
            });
            rt.stop_container(&second, 0).await.unwrap();
            patient.await.unwrap().unwrap();
        });
        assert_eq!(rt.container(&second).unwrap().exit_code, 137, "the shorter time won");

        let third = daemon.container(&sandbox, shell(node, "third", deaf));
        daemon.wait(rt.remove_container(&third)).unwrap();
        assert_eq!(rt.container(&third).unwrap_err().kind(), ErrorKind::NotFound);

        // A created container is no obstacle.
        daemon.wait(rt.create_container(&sandbox, shell(node, "created", deaf))).unwrap();
        daemon.container(&sandbox, shell(node, "running", deaf));
        daemon.wait(rt.remove_sandbox(&sandbox)).unwrap();
    });
}

#[test]
fn bad_days() {
    on_a_node(|node| {
        let daemon = node.start();
        let rt = daemon.rt();
        daemon.pull(node);
        let mut config = pod(node, "p");
        config.runtime_handler = "kata".into();
        let error = daemon.wait(rt.run_sandbox(config)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(
            error.to_string().contains("kata") && error.to_string().contains("orlop"),
            "{error}"
        );

        let both =
            async { tokio::join!(rt.run_sandbox(pod(node, "p")), rt.run_sandbox(pod(node, "p"))) };
        let (one, other) = daemon.wait(both);
        assert_eq!(one.as_ref().unwrap(), &other.unwrap(), "the second call joins the first");
        let sandbox = one.unwrap().to_string();
        let error = daemon.wait(rt.run_sandbox(pod(node, "p"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(error.to_string().contains(&sandbox), "{error}");

        let mut absent = shell(node, "a", "true");
        absent.image.image = "127.0.0.1:1/none:1".into();
        let error = daemon.wait(rt.create_container(&sandbox, absent)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("pull it first"), "{error}");

        let mut nobody = shell(node, "a", "true");
        nobody.security.run_as_user = Some(RunAsUser::Name("captain".into()));
        let error = daemon.wait(rt.create_container(&sandbox, nobody)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.report().contains("captain"), "{}", error.report());

        let messages: Vec<String> = [("absent", "/bin/nothing"), ("text", "/etc/passwd")]
            .iter()
            .map(|(name, program)| {
                let mut config = shell(node, name, "");
                config.command = vec![(*program).into()];
                let id = daemon.wait(rt.create_container(&sandbox, config)).unwrap();
                let error = daemon.wait(rt.start_container(id.as_str())).unwrap_err();
                assert!(error.to_string().contains(program), "{error}");
                let view = rt.container(id.as_str()).unwrap();
                assert_eq!((view.state, view.exit_code), (ContainerState::Exited, 128));
                assert_eq!(view.reason, "StartError");
                let error = daemon.wait(rt.start_container(id.as_str())).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
                view.message.clone()
            })
            .collect();
        assert_ne!(messages[0], messages[1]);

        let id = daemon.container(&sandbox, shell(node, "ok", "exec sleep 1000"));
        let error =
            daemon.wait(rt.create_container(&sandbox, shell(node, "ok", "other"))).unwrap_err();
        assert!(
            error.kind() == ErrorKind::AlreadyExists && error.to_string().contains(&id),
            "{error}"
        );
        let error = daemon.wait(rt.start_container(&id)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        let command = vec!["/bin/none".to_owned()];
        let error = daemon.wait(rt.exec_sync(&id, command, None)).unwrap_err();
        assert!(error.to_string().contains("/bin/none"), "{error}");
        let command = ["sleep", "1000"].map(str::to_owned).to_vec();
        let error =
            daemon.wait(rt.exec_sync(&id, command, Some(Duration::from_millis(100)))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);

        daemon.wait(rt.stop_sandbox(&sandbox)).unwrap();
        let error =
            daemon.wait(rt.create_container(&sandbox, shell(node, "late", "true"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        let command = vec!["true".to_owned()];
        let error = daemon.wait(rt.exec_sync(&id, command, None)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        let error = daemon.wait(rt.reopen_log(&id)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        daemon.wait(rt.remove_sandbox(&sandbox)).unwrap();
    });
}

#[test]
fn volumes_users_and_shared_memory() {
    on_a_node(|node| {
        let daemon = node.start();
        let rt = daemon.rt();
        daemon.pull(node);
        let sandbox = daemon.sandbox(pod(node, "p"));
        let missing = node.dir.path().join("made/for/it");
        let mut config =
            shell(node, "a", "echo salt > /data/x; echo shared > /dev/shm/y; exec sleep 1000");
        config.mounts = vec![volume(&missing, "/data")];
        config.working_dir = "/not/there/yet".into();
        let a = daemon.container(&sandbox, config);
        assert_eq!(daemon.sh(&a, "echo $PWD"), "/not/there/yet\n");
        let mut config = shell(node, "b", "exec sleep 1000");
        config.security.run_as_user = Some(RunAsUser::Name("sailor".into()));
        let b = daemon.container(&sandbox, config);
        assert_eq!(daemon.sh(&b, "id -u; id -G; echo $HOME"), "1000\n1000 2000\n/home/sailor\n");
        // `a` has said it all once its exec works: its shell runs sleep by then or soon.
        assert_eq!(daemon.sh(&a, "while ! test -e /dev/shm/y; do :; done; cat /data/x"), "salt\n");
        assert_eq!(daemon.sh(&b, "cat /dev/shm/y"), "shared\n");
        assert_eq!(std::fs::read_to_string(missing.join("x")).unwrap(), "salt\n");
        daemon.wait(rt.remove_sandbox(&sandbox)).unwrap();
    });
}

#[test]
fn a_shared_pid_namespace_and_a_network_of_its_own() {
    on_a_node(|node| {
        let daemon = node.start();
        let rt = daemon.rt();
        daemon.pull(node);
        let mut config = pod(node, "own");
        config.hostname = "flagship".into();
        config.security.namespaces.network = NamespaceMode::Pod;
        config.security.namespaces.pid = NamespaceMode::Pod;
        let sandbox = daemon.sandbox(config);
        let view = rt.sandbox(&sandbox).unwrap();
        assert!(!view.ips.is_empty() && view.netns.is_some() && view.init_pid.is_some());
        let container = |name: &str| {
            let mut config = shell(node, name, "exec sleep 1000");
            config.security.namespaces.network = NamespaceMode::Pod;
            config.security.namespaces.pid = NamespaceMode::Pod;
            daemon.container(&sandbox, config)
        };
        let (a, _b) = (container("a"), container("b"));
        assert_eq!(daemon.sh(&a, "hostname; cat /etc/hostname"), "flagship\nflagship\n");
        let processes = daemon.sh(&a, "ps -o comm");
        assert_eq!(processes.matches("sleep").count(), 2, "{processes}");
        let hosts = daemon.sh(&a, "cat /etc/hosts");
        assert!(hosts.contains(&format!("{}\tflagship", view.ips[0])), "{hosts}");
        daemon.wait(rt.remove_sandbox(&sandbox)).unwrap();
    });
}
