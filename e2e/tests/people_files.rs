//! Files of containers as people copy, compare and keep them; what containers do, as they look at it.
//! Through both doors.

use orlop_e2e::World;
use orlop_e2e::typed::{IMAGE, both};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

fn text(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path.as_ref()).unwrap_or_else(|error| format!("{error}"))
}

fn container(world: &World, name: &str) {
    world.says(&["run", "-d", "--name", name, IMAGE, "sleep", "1000"]);
}

#[test]
fn copies_follow_the_rules_of_cp() {
    both(|world| {
        container(&world, "files");
        let dir = world.path("tmp/cp");
        std::fs::create_dir_all(dir.join("tree/sub")).unwrap();
        std::fs::write(dir.join("tree/sub/deep"), "deep").unwrap();
        std::fs::write(dir.join("file"), "data").unwrap();
        std::os::unix::fs::symlink("sub/deep", dir.join("tree/link")).unwrap();
        std::os::unix::fs::chown(dir.join("file"), Some(1234), Some(1234)).unwrap();
        let own = |name: &str| dir.join(name).display().to_string();
        let cp = |from: &str, to: &str, flags: &[&str]| {
            world.try_orlop(&[&["cp", "-q"], flags, &[from, to]].concat())
        };
        let copy = |from: &str, to: &str, flags: &[&str]| {
            let output = cp(from, to, flags);
            assert!(
                output.status.success(),
                "{from} {to}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        };
        let cat = |path: &str| world.says(&["exec", "files", "cat", path]);
        // Running, then stopped: each in turn.
        for state in ["running", "stopped"] {
            if state == "stopped" {
                world.says(&["stop", "-t", "0", "files"]);
            }
            copy(&own("file"), "files:/root/renamed", &[]);
            copy(&own("file"), "files:/root", &[]);
            copy(&own("file"), "files:/root/kept", &["-a"]);
            copy(&own("tree"), &format!("files:/{state}"), &[]);
            copy(&own("tree"), "files:/root", &[]);
            copy(&format!("{}/.", own("tree")), "files:/tmp", &[]);
            for (from, to) in [
                (own("file"), "files:/absent/"),
                (own("tree"), "files:/root/renamed"),
                (own("none"), "files:/root"),
                (own("file"), "files:"),
                (own("file"), "none:/root"),
            ] {
                assert!(!cp(&from, to, &[]).status.success(), "{from} {to}");
            }
            // And back.
            copy("files:/root/renamed", &own("back"), &[]);
            assert_eq!(text(dir.join("back")), "data");
            copy("files:/root/tree", &own(state), &[]);
            assert_eq!(text(dir.join(state).join("sub/deep")), "deep");
            assert_eq!(
                std::fs::read_link(dir.join(state).join("link")).unwrap(),
                Path::new("sub/deep")
            );
            std::fs::create_dir(dir.join(format!("into-{state}"))).unwrap();
            copy("files:/root/tree", &own(&format!("into-{state}")), &[]);
            assert_eq!(text(dir.join(format!("into-{state}/tree/sub/deep"))), "deep");
            copy("files:/root/tree/link", &own("followed"), &["-L"]);
            assert_eq!(text(dir.join("followed")), "deep");
            assert!(!cp("files:/root/renamed/", &own("x"), &[]).status.success());
            assert!(!cp("files:/nowhere", &own("x"), &[]).status.success());
        }
        world.says(&["start", "files"]);
        assert_eq!(cat("/root/renamed"), "data");
        assert_eq!(cat("/running/sub/deep"), "deep");
        assert_eq!(cat("/stopped/sub/deep"), "deep");
        assert_eq!(cat("/tmp/sub/deep"), "deep");
        assert_eq!(cat("/root/tree/link"), "deep");
        let owners = ["exec", "files", "stat", "-c", "%u:%g", "/root/file", "/root/kept"];
        assert_eq!(world.says(&owners), "0:0\n1234:1234");
        // Tar streams.
        let (code, archive, error) = world.orlop_with(&["cp", "files:/root/tree", "-"], b"");
        assert_eq!(code, 0, "{error}");
        let names: BTreeSet<String> = tar::Archive::new(archive.as_slice())
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .map(|name| name.trim_end_matches('/').to_owned())
            .collect();
        let expected = ["tree", "tree/link", "tree/sub", "tree/sub/deep"].map(str::to_owned);
        assert_eq!(names, BTreeSet::from(expected));
        world.says(&["exec", "files", "mkdir", "/unpacked"]);
        let (code, _, error) = world.orlop_with(&["cp", "-", "files:/unpacked"], &archive);
        assert_eq!(code, 0, "{error}");
        assert_eq!(cat("/unpacked/tree/sub/deep"), "deep");
        world.says(&["rm", "-f", "files"]);
    });
}

#[test]
fn no_link_leads_out() {
    both(|world| {
        let canary = world.path("tmp/canary");
        std::fs::create_dir_all(&canary).unwrap();
        std::fs::write(canary.join("secret"), "secret").unwrap();
        std::fs::write(world.path("tmp/evil"), "evil").unwrap();
        let (outside, evil) = (canary.display().to_string(), world.path("tmp/evil"));
        let evil = evil.to_str().unwrap();
        container(&world, "hostile");
        let script = format!(
            "ln -s {outside} /abs; ln -s ../../../../../../..{outside} /rel; mkdir /d; \
             ln -s {outside}/secret /d/file; ln -s /proc/self/root /magic; mkfifo /fifo; ln -s /loop /loop; \
             ln -s {outside} /d/sub"
        );
        world.says(&["exec", "hostile", "sh", "-c", &script]);
        for state in ["running", "stopped"] {
            if state == "stopped" {
                world.says(&["stop", "-t", "0", "hostile"]);
            }
            let out = world.path(&format!("tmp/out-{state}"));
            std::fs::create_dir(&out).unwrap();
            let into = out.to_str().unwrap();
            for link in ["abs/secret", "rel/secret", "magic/etc/passwd", "loop", "loop/x", "magic/"]
            {
                let copied = world.try_orlop(&[
                    "cp",
                    "-L",
                    &format!("hostile:/{link}"),
                    &format!("{into}/got"),
                ]);
                assert!(!copied.status.success(), "{link}");
                assert!(!out.join("got").exists(), "{link}");
            }
            // A FIFO is copied as one, and not waited for.
            world.says(&["cp", "hostile:/fifo", into]);
            // Writing through a link stays within the root: the path is made there or refused.
            for link in ["abs", "rel", "d/sub"] {
                let _ = world.try_orlop(&["cp", evil, &format!("hostile:/{link}/planted")]);
            }
            let _ = world.try_orlop(&["cp", evil, "hostile:/d/file"]);
            // A directory with links out of it becomes links, through which nothing is written.
            world.says(&["cp", "hostile:/d", into]);
            world.says(&["cp", "hostile:/d/.", into]);
        }
        // An archive that means harm.
        let mut archive = tar::Builder::new(Vec::new());
        let mut put = |name: &str, kind: tar::EntryType, link: Option<&str>, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o4755);
            header.set_size(content.len() as u64);
            let bytes = header.as_old_mut();
            bytes.name[..name.len()].copy_from_slice(name.as_bytes());
            if let Some(link) = link {
                bytes.linkname[..link.len()].copy_from_slice(link.as_bytes());
            }
            header.set_cksum();
            archive.append(&header, content).unwrap();
        };
        let planted = format!("{}/up", &outside[1..]);
        put(&format!("../../../../../../{planted}"), tar::EntryType::Regular, None, b"x");
        put("way", tar::EntryType::Symlink, Some(&outside), b"");
        put("way/through", tar::EntryType::Regular, None, b"x");
        put("hard", tar::EntryType::Link, Some(&format!("..{outside}/secret")), b"");
        let archive = archive.into_inner().unwrap();
        let _ = world.orlop_with(&["cp", "-", "hostile:/tmp"], &archive);
        world.says(&["start", "hostile"]);
        let _ = world.orlop_with(&["cp", "-", "hostile:/tmp"], &archive);
        let left: Vec<_> =
            std::fs::read_dir(&canary).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["secret"], "nothing was planted");
        assert_eq!(text(canary.join("secret")), "secret");
        // The container's own programs are never run: one that pretends is not asked.
        world.says(&["exec", "hostile", "sh", "-c", "for p in tar ps cat; do rm -f /bin/$p; printf '#!/bin/sh\\ntouch /ran\\n' > /bin/$p; chmod 755 /bin/$p; done"]);
        world.says(&["top", "hostile"]);
        world.says(&["cp", evil, "hostile:/x"]);
        world.orlop_with(&["export", "hostile"], b"");
        assert!(!world.try_orlop(&["exec", "hostile", "test", "-e", "/ran"]).status.success());
        world.says(&["rm", "-f", "hostile"]);
    });
}

#[test]
fn what_changed_becomes_an_image() {
    both(|world| {
        container(&world, "made");
        assert_eq!(world.says(&["diff", "made"]), "");
        let script = "echo new > /root/new; rm /etc/group; mkdir -p /deep/er; rm -r /home; mkdir /home; ln /root/new /deep/hard";
        world.says(&["exec", "made", "sh", "-c", script]);
        let diff = world.says(&["diff", "made"]);
        let lines: Vec<&str> = diff.lines().collect();
        assert_eq!(
            lines,
            [
                "A /deep",
                "A /deep/er",
                "A /deep/hard",
                "C /etc",
                "D /etc/group",
                "C /root",
                "A /root/new"
            ],
        );
        let id = world.says(&[
            "commit",
            "-m",
            "why",
            "-a",
            "who",
            "--change",
            "CMD [\"cat\", \"/root/new\"]",
            "--change",
            "ENV COLOUR=red",
            "made",
            "people/made:1",
        ]);
        assert!(id.starts_with("sha256:"), "{id}");
        assert_eq!(world.says(&["run", "--rm", "people/made:1"]), "new");
        let check = "test ! -e /etc/group && test -d /home && test \"$COLOUR\" = red && stat -c %h /root/new";
        assert_eq!(world.says(&["run", "--rm", "people/made:1", "sh", "-c", check]), "2");
        // Of the committed one again, and of one that does not run.
        world.says(&["stop", "-t", "0", "made"]);
        let plain = world.says(&["commit", "made"]);
        assert_eq!(world.says(&["run", "--rm", &plain, "cat", "/deep/hard"]), "new");
        let wrong = world.try_orlop(&["commit", "--change", "RUN true", "made"]);
        assert!(String::from_utf8_lossy(&wrong.stderr).contains("RUN"));
        for running in [false, true] {
            if running {
                world.says(&["start", "made"]);
            }
            let (code, archive, error) = world.orlop_with(&["export", "made"], b"");
            assert_eq!(code, 0, "{error}");
            let names: BTreeSet<String> = tar::Archive::new(archive.as_slice())
                .entries()
                .unwrap()
                .map(|entry| entry.unwrap().path().unwrap().display().to_string())
                .map(|name| name.trim_start_matches("./").trim_end_matches('/').to_owned())
                .collect();
            for name in ["root/new", "bin/busybox", "proc", "deep/hard", "etc/passwd"] {
                assert!(names.contains(name), "{name} (running: {running})");
            }
            assert!(!names.contains("etc/group"));
            assert!(
                !names.iter().any(|name| name.starts_with("proc/")),
                "nothing of what is mounted"
            );
        }
        world.says(&["rm", "-f", "made"]);
        world.says(&["rmi", "people/made:1"]);
        world.says(&["rmi", &plain]);
    });
}

#[test]
fn looking_on() {
    both(|world| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let since = since.as_secs().to_string();
        let mut events = world
            .orlop(&[
                "events",
                "--filter",
                "container=watched",
                "--since",
                &since,
                "--format",
                "{{.Action}}",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        container(&world, "other");
        container(&world, "watched");
        let top = world.says(&["top", "watched"]);
        let mut lines = top.lines();
        assert!(lines.next().unwrap().starts_with("UID"), "{top}");
        assert!(lines.next().unwrap().ends_with("sleep 1000"), "{top}");
        assert_eq!(world.says(&["top", "watched", "-o", "comm"]), "COMMAND\nsleep");
        let stats = world.says(&[
            "stats",
            "--no-stream",
            "--format",
            "{{.Name}} {{.PIDs}} {{.CPUPerc}}",
            "watched",
        ]);
        assert!(stats.starts_with("watched 1 ") && stats.ends_with('%'), "{stats}");
        let all = world.says(&["stats", "--no-stream"]);
        assert!(all.starts_with("CONTAINER ID") && all.lines().count() == 3, "{all}");
        world.says(&["stop", "-t", "0", "watched"]);
        let error = world.try_orlop(&["top", "watched"]);
        assert!(String::from_utf8_lossy(&error.stderr).contains("not running"));
        world.says(&["rm", "watched"]);
        let mut seen = Vec::new();
        for line in BufReader::new(events.stdout.take().unwrap()).lines() {
            seen.push(line.unwrap());
            if seen.last().is_some_and(|action| action == "destroy") {
                break;
            }
        }
        events.kill().unwrap();
        events.wait().unwrap();
        for action in ["create", "start", "die", "stop", "destroy"] {
            assert!(seen.iter().any(|seen| seen == action), "{action}: {seen:?}");
        }
        let until = "0s";
        let past = world.says(&[
            "events",
            "--since",
            &since,
            "--until",
            until,
            "--filter",
            "event=create",
            "--format",
            "{{.Actor.Attributes.name}}",
        ]);
        assert_eq!(past, "other\nwatched");
        world.says(&["rm", "-f", "other"]);
    });
}
