//! Checkpoints. CRIU of Debian 12 (3.17) cannot work with newer kernels, so the archive is shown with
//! a script in CRIU's place, which takes its options and writes what it writes; what the real one
//! says on this host is asked too, where it is installed.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Daemon, Node, on_a_node, pod, shell};
use orlop_lifecycle::{ContainerState, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A program in CRIU's place; `$images`, `$work` and `$tree` are from its options.
fn stand_in(node: &Node, body: &str) -> PathBuf {
    let path = node.dir.path().join("criu");
    let script = format!(
        "#!/bin/sh\nfor a; do case $a in --images-dir=*) images=${{a#*=}};; --work-dir=*) work=${{a#*=}};; \
         --tree=*) tree=${{a#*=}};; esac; done\n{body}\n"
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn running(node: &Node, criu: PathBuf) -> (Daemon, String, String) {
    let daemon = node.start_with(|options| options.criu = Some(criu));
    daemon.pull(node);
    let sandbox = daemon.sandbox(pod(node, "p"));
    let script = "echo kept >/in-the-layer; exec sleep 1000";
    let id = daemon.container(&sandbox, shell(node, "c", script));
    (daemon, sandbox, id)
}

fn archive(node: &Node) -> PathBuf {
    let dir = node.dir.path().join("checkpoints");
    std::fs::create_dir_all(&dir).unwrap();
    dir.join("one.tar")
}

/// Nothing but what is named is beside the archive.
fn beside(location: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(location.parent().unwrap()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn what_criu_writes_is_packed() {
    on_a_node(|node| {
        let body =
            "test -d /proc/$tree && echo image >$images/core-1.img && echo \"$@\" >$work/dump.log";
        let (daemon, sandbox, id) = running(node, stand_in(node, body));
        let rt = daemon.rt();
        while daemon.sh(&id, "cat /in-the-layer 2>/dev/null || true") != "kept\n" {}
        let location = archive(node);
        daemon.wait(rt.checkpoint(&id, location.clone(), None)).unwrap();
        assert_eq!(beside(&location), ["one.tar"]);
        let mut names = Vec::new();
        let mut layer = Vec::new();
        let mut tar = tar::Archive::new(std::fs::File::open(&location).unwrap());
        for entry in tar.entries().unwrap() {
            let entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            if name == "rootfs-diff.tar" {
                let mut diff = tar::Archive::new(entry);
                let paths = diff
                    .entries()
                    .unwrap()
                    .map(|entry| entry.unwrap().path().unwrap().into_owned());
                layer = paths.collect();
            }
            names.push(name.trim_end_matches('/').to_owned());
        }
        names.sort();
        let expected = [
            "checkpoint",
            "checkpoint/core-1.img",
            "config.dump",
            "dump.log",
            "rootfs-diff.tar",
            "spec.dump",
        ];
        assert_eq!(names, expected);
        assert!(layer.iter().any(|path| path.ends_with("in-the-layer")), "{layer:?}");
        assert_eq!(rt.container(&id).unwrap().state, ContainerState::Running);

        for location in [PathBuf::from("one.tar"), node.dir.path().into(), "/no/such/dir/x".into()]
        {
            let error = daemon.wait(rt.checkpoint(&id, location, None)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        }
        daemon.wait(rt.stop_container(&id, 0)).unwrap();
        let error = daemon.wait(rt.checkpoint(&id, location, None)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
        daemon.wait(rt.remove_sandbox(&sandbox)).unwrap();
    });
}

#[test]
fn a_dump_that_fails_or_hangs_leaves_nothing() {
    on_a_node(|node| {
        let body = "echo '(00.01) Error (criu/x.c:1): no such luck' >$work/dump.log; exit 1";
        let (daemon, sandbox, id) = running(node, stand_in(node, body));
        let rt = daemon.rt();
        let location = archive(node);
        let error = daemon.wait(rt.checkpoint(&id, location.clone(), None)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(error.to_string().contains("no such luck"), "{error}");
        stand_in(node, "exec sleep 1000");
        let limit = Some(Duration::from_millis(100));
        let error = daemon.wait(rt.checkpoint(&id, location.clone(), limit)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
        assert!(beside(&location).is_empty());
        assert_eq!(daemon.sh(&id, "echo alive"), "alive\n");
        daemon.wait(rt.remove_sandbox(&sandbox)).unwrap();
    });
}

#[test]
fn the_real_criu_does_it_or_says_why_not() {
    let criu = PathBuf::from("/usr/sbin/criu");
    if !criu.exists() {
        return;
    }
    on_a_node(move |node| {
        let (daemon, sandbox, id) = running(node, criu);
        let rt = daemon.rt();
        let location = archive(node);
        match daemon.wait(rt.checkpoint(&id, location.clone(), None)) {
            Ok(()) => assert_eq!(beside(&location), ["one.tar"]),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
                assert!(error.to_string().contains("CRIU: "), "{error}");
                assert!(beside(&location).is_empty());
            }
        }
        assert_eq!(daemon.sh(&id, "echo alive"), "alive\n");
        daemon.wait(rt.remove_sandbox(&sandbox)).unwrap();
    });
}
