//! Exec, Attach and PortForward with the real crictl, over both transports, and with clients that do
//! what no proper client does.

use k8s_cri::v1::ExecSyncRequest;
use orlop_e2e::World;
use orlop_e2e::process::{output, until};
use orlop_e2e::streams::{SPDY, TRANSPORTS, Talk, Zlib, control, data};
use serde_json::json;
use std::io::{Read, Write};
use std::process::Stdio;

/// A world with a pod and a container that runs `script` with an open standard input.
fn container(script: &str) -> (World, String, String) {
    let mut world = World::new();
    let image = world.busybox();
    let pod_config = world.pod("talk", json!({}));
    let pod = world.run_pod(&pod_config);
    let config = world.container("c", &image, &["sh", "-c", script], json!({"stdin": true}));
    let id = world.run_container(&pod, &pod_config, &config);
    (world, pod, id)
}

const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";

/// Processes of the container, by a word of their command line.
fn processes(world: &World, id: &str, word: &str) -> usize {
    let listed = world.crictl(&["exec", "--sync", id, "ps", "-o", "args"]);
    listed.lines().filter(|line| line.contains(word)).count()
}

#[test]
fn commands_over_both_transports() {
    let (world, _, id) = container(IDLE);
    for transport in TRANSPORTS {
        let exec = |flags: &[&str], command: &[&str]| {
            let mut arguments = vec!["exec", "--transport", transport];
            arguments.extend(flags);
            arguments.push(&id);
            arguments.extend(command);
            world.crictl_inside(&arguments)
        };
        let done = output(&mut exec(&[], &["sh", "-c", "echo out; echo err >&2"]));
        assert!(done.status.success(), "{transport}: {done:?}");
        assert_eq!((done.stdout, done.stderr), (b"out\n".to_vec(), b"err\n".to_vec()));

        let failed = output(&mut exec(&[], &["sh", "-c", "exit 42"]));
        let text = String::from_utf8_lossy(&failed.stderr);
        assert!(!failed.status.success() && text.contains("42"), "{transport}: {text}");
        let absent = output(&mut exec(&[], &["no-such-program"]));
        let text = String::from_utf8_lossy(&absent.stderr);
        assert!(
            !absent.status.success() && text.contains("no-such-program"),
            "{transport}: {text}"
        );

        // More than every window and buffer on the way, there and back, with an end of input.
        let sent: Vec<u8> = (0..3_000_000_u32).flat_map(|n| n.to_le_bytes()).collect();
        let mut cat = exec(&["-i"], &["cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("crictl");
        let mut stdin = cat.stdin.take().expect("stdin");
        let all = sent.clone();
        let writer = std::thread::spawn(move || stdin.write_all(&all));
        let mut got = Vec::new();
        cat.stdout.take().expect("stdout").read_to_end(&mut got).expect("read");
        writer.join().expect("no panic").expect("written");
        assert!(cat.wait().expect("waited").success(), "{transport}");
        assert!(got == sent, "{transport}: {} of {} bytes came back", got.len(), sent.len());
    }
}

#[test]
fn a_terminal_is_typed_at_and_resized() {
    let (world, _, id) = container(IDLE);
    for transport in TRANSPORTS {
        let command = world.crictl_inside(&["exec", "-it", "--transport", transport, &id, "sh"]);
        let mut talk = Talk::on_terminal(&command);
        talk.write("echo $((40+2))$(tty)\n");
        talk.expect("42/dev/pts/");
        until("the first size", || {
            talk.write("stty size\n");
            talk.said().contains("24 80")
        });
        talk.resize(101, 33);
        until("the new size", || {
            talk.write("stty size\n");
            talk.said().contains("33 101")
        });
        talk.write("exit 0\n");
        assert_eq!(talk.ended(), 0, "{transport}: {}", talk.said());
    }
}

#[test]
fn attachments_before_and_after_a_kill_of_the_daemon() {
    let script = "while read line; do echo got $line; echo err $line >&2; done; echo input ended; sleep 1000";
    let (mut world, _, id) = container(script);
    for round in ["before", "after"] {
        for transport in TRANSPORTS {
            let attach = || {
                Talk::on_pipes(world.crictl_inside(&[
                    "attach",
                    "-i",
                    "--transport",
                    transport,
                    &id,
                ]))
            };
            let (mut one, mut two) = (attach(), attach());
            let word = format!("{round}-{transport}");
            // An attachment shows nothing of what was before it: each has to be there first.
            for talk in [&mut one, &mut two] {
                until("the attachment", || {
                    talk.write(&format!("hello-{word}\n"));
                    talk.said().contains(&format!("got hello-{word}"))
                });
            }
            one.write(&format!("{word}\n"));
            for talk in [&one, &two] {
                talk.expect(&format!("got {word}"));
                talk.expect(&format!("err {word}"));
            }
            // One leaves in order, the other does not: the container goes on.
            one.close();
            two.kill();
            assert_eq!(world.status(&id)["state"], "CONTAINER_RUNNING");
        }
        assert!(world.log_file("talk", "c").contains(&format!("stdout F got {round}-spdy")));
        if round == "before" {
            let mut cut = Talk::on_pipes(world.crictl_inside(&["attach", "-i", &id]));
            until("the attachment", || {
                cut.write("still\n");
                cut.said().contains("got still")
            });
            world.kill();
            cut.ended();
            world.start();
        }
    }
    assert!(!world.log_file("talk", "c").contains("input ended"));
}

#[test]
fn stdin_once_ends_with_the_first_attachment() {
    let mut world = World::new();
    let image = world.busybox();
    let pod_config = world.pod("once", json!({}));
    let pod = world.run_pod(&pod_config);
    let config = world.container(
        "c",
        &image,
        &["sh", "-c", "cat; echo input ended"],
        json!({"stdin": true, "stdin_once": true, "log_path": ""}),
    );
    let id = world.run_container(&pod, &pod_config, &config);
    let mut talk = Talk::on_pipes(world.crictl_inside(&["attach", "-i", &id]));
    talk.write("once\n");
    talk.expect("once");
    talk.close();
    talk.expect("input ended");
    assert_eq!(talk.ended(), 0, "{}", talk.said());
    assert_eq!(world.wait_exited(&id)["exitCode"], 0);
}

#[test]
fn ports_are_forwarded() {
    let mut world = World::new();
    let image = world.busybox();
    // In the pod's own network, and in the host's.
    for (name, mode, port) in [("own", 0, 8080), ("host", 2, 8081)] {
        let network =
            json!({"linux": {"security_context": {"namespace_options": {"network": mode}}}});
        let pod_config = world.pod(name, network.clone());
        let pod = world.run_pod(&pod_config);
        let server = format!(
            "mkdir /www && echo page of {name} >/www/index.html && exec httpd -f -p 127.0.0.1:{port} -h /www"
        );
        let config = world.container("c", &image, &["sh", "-c", &server], network);
        world.run_container(&pod, &pod_config, &config);
        for (number, transport) in TRANSPORTS.iter().enumerate() {
            let local = 9000 + 10 * mode + number as i32;
            let ports = format!("{local}:{port}");
            let forward =
                world.crictl_inside(&["port-forward", "--transport", transport, &pod, &ports]);
            let talk = Talk::on_pipes(forward);
            let mut page = String::new();
            until("the page", || {
                let url = format!("http://127.0.0.1:{local}/");
                let got = output(world.inside("curl").args(["-sS", "--max-time", "20", &url]));
                page = String::from_utf8_lossy(&got.stdout).into_owned();
                page.contains("page of")
            });
            assert_eq!(page, format!("page of {name}\n"), "{transport}: {}", talk.said());
        }
        // Nobody listens on another port: that is said, and harms nothing.
        let closed = Talk::on_pipes(world.crictl_inside(&["port-forward", &pod, "9100:9"]));
        until("the refusal", || {
            output(world.inside("curl").args([
                "-sS",
                "--max-time",
                "20",
                "http://127.0.0.1:9100/",
            ]));
            closed.said().contains("onnection refused")
        });
    }
}

#[test]
fn a_client_that_vanishes_leaves_no_command() {
    let (world, _, id) = container(IDLE);
    let before = processes(&world, &id, "sleep");
    for command in ["sleep 4711", "trap '' HUP; sleep 4711; sleep 4711"] {
        for flags in [&["-i"][..], &["-it"]] {
            let mut arguments = vec!["exec"];
            arguments.extend(flags);
            arguments.extend([&*id, "sh", "-c", command]);
            let client = world.crictl_inside(&arguments);
            let mut talk = if flags.contains(&"-it") {
                Talk::on_terminal(&client)
            } else {
                Talk::on_pipes(client)
            };
            until("the command", || processes(&world, &id, "sleep 4711") > 0);
            talk.kill();
            // crictl is a child of nsenter, or of setsid: the terminal's end reaches it.
            drop(talk);
            until("the command's end", || processes(&world, &id, "sleep 4711") == 0);
        }
    }
    assert_eq!(processes(&world, &id, "sleep"), before);
}

#[test]
fn commands_of_a_killed_daemon_end_with_the_next() {
    let (mut world, _, id) = container(IDLE);
    let _talk = Talk::on_pipes(world.crictl_inside(&["exec", "-i", &id, "sleep", "4711"]));
    until("the command", || processes(&world, &id, "sleep 4711") > 0);
    world.kill();
    world.start();
    until("the command's end", || processes(&world, &id, "sleep 4711") == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_good_once_and_only_for_what_they_say() {
    let (world, pod, id) = tokio::task::block_in_place(|| container(IDLE));
    let url = world.exec_url(&id, &["cat"]).await;
    let token = url.rsplit('/').next().expect("a token").to_owned();
    assert!(token.len() >= 22, "128 bits: {url}");
    let mut first = world.spdy(&url);
    let head = |url: &str, headers: &str| world.ask(url, headers).head();
    assert!(head(&url, SPDY).starts_with("HTTP/1.1 404"), "a second use");
    first.open_streams(&["error", "stdin", "stdout", "stderr"]);
    let forward = world.forward_url(&pod).await;
    let other = forward.replace("/portforward/", "/exec/");
    assert!(head(&other, SPDY).starts_with("HTTP/1.1 404"), "for something else");
    assert!(head(&forward, SPDY).starts_with("HTTP/1.1 404"), "and the guess has used it up");
    let base = url.strip_suffix(&token).expect("the token is last").to_owned();
    for guess in ["", "AAAAAAAAAAAAAAAAAAAAAA", "..%2f..", "a/b/c"] {
        let answer = head(&format!("{base}{guess}"), SPDY);
        assert!(answer.starts_with("HTTP/1.1 404"), "{guess}: {answer}");
    }
    let none = world.exec_url(&id, &["cat"]).await;
    assert!(head(&none, "").starts_with("HTTP/1.1 400"), "no upgrade");
    let strange = world.exec_url(&id, &["cat"]).await;
    let version = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v9\r\n";
    let answer = head(&strange, version).to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 403") && answer.contains("v4.channel.k8s.io"), "{answer}");
    let long = world.exec_url(&id, &["cat"]).await;
    let answer = world.ask(&long, &format!("{SPDY}X: {}\r\n", "x".repeat(100_000))).rest();
    assert!(!answer.starts_with(b"HTTP/1.1 1"), "{}", String::from_utf8_lossy(&answer));
    // As many as may wait, and no more: the call says so, and room comes back with use.
    let mut refused = false;
    for _ in 0..1100 {
        let (mut runtime, _) = world.services().await;
        let request = k8s_cri::v1::PortForwardRequest { pod_sandbox_id: pod.clone(), port: vec![] };
        if let Err(status) = runtime.port_forward(request).await {
            assert_eq!(status.code(), tonic::Code::ResourceExhausted);
            refused = true;
            break;
        }
    }
    assert!(refused);
    tokio::task::block_in_place(|| drop((first, world)));
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_frames_end_their_own_connection_only() {
    let (world, _, id) = tokio::task::block_in_place(|| container(IDLE));
    let streams = ["error", "stdin", "stdout", "stderr"];
    let syns = |count: u32| {
        let mut zlib = Zlib::default();
        (0..count).flat_map(|n| zlib.syn_stream(2 * n + 1, &[("streamtype", "x")])).collect()
    };
    let attacks: [(&str, Vec<u8>); 7] = [
        ("no frame", b"GET / HTTP/1.1\r\n\r\n".repeat(3)),
        ("another version", vec![0x80, 2, 0, 1, 0, 0, 0, 10]),
        ("a control frame of 16 MiB", vec![0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]),
        ("headers that do not inflate", control(1, &[0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4])),
        ("data on no stream", data(4711, b"x")),
        ("a window that overflows", {
            let update = control(9, &[0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]);
            [update.clone(), update].concat()
        }),
        ("more than the window, with flow control", {
            let mut bytes = control(4, &[0, 0, 0, 0]);
            // The command reads, but nobody has opened the window for the rest.
            bytes.extend(data(3, &vec![0; 4 << 20]));
            bytes
        }),
    ];
    for (name, bytes) in attacks {
        let url = world.exec_url(&id, &["sleep", "4711"]).await;
        let mut raw = world.spdy(&url);
        raw.open_streams(&streams);
        raw.say(&bytes);
        raw.rest();
        tokio::task::block_in_place(|| {
            until(name, || processes(&world, &id, "sleep 4711") == 0);
        });
    }
    // Streams without end, from a client that reads no answer: held in bounds, and gone with it.
    let url = world.exec_url(&id, &["sleep", "4711"]).await;
    let mut raw = world.spdy(&url);
    raw.0.set_write_timeout(Some(std::time::Duration::from_secs(2))).expect("set");
    let flood: Vec<u8> = syns(100_000);
    let before = resident(world.pid());
    raw.say(&flood);
    assert!(resident(world.pid()) < before + (32 << 20), "memory does not grow with the flood");
    drop(raw);
    tokio::task::block_in_place(|| {
        assert_eq!(world.crictl(&["exec", "--sync", &id, "echo", "fine"]), "fine");
        drop(world);
    });
}

/// Bytes that are a process's own.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_holds_up_nobody() {
    let script = "n=0; while [ $n -lt 3000 ]; do echo $n 0123456789012345678901234567890123456789012345678901234567890123456789 $(head -c 4000 /dev/zero | tr '\\0' x); n=$((n+1)); done; echo all said; sleep 1000";
    let (world, _, id) = tokio::task::block_in_place(|| container(script));
    let url = world.attach_url(&id).await;
    let mut raw = world.spdy(&url);
    raw.open_streams(&["error", "stdout", "stderr"]);
    tokio::task::block_in_place(|| {
        until("the container to have said all", || {
            world.log_file("talk", "c").contains("all said")
        });
    });
    let said = raw.rest();
    let text = String::from_utf8_lossy(&said);
    assert!(text.contains("fell behind"), "it is told why it was cut off: {} bytes", said.len());
    assert!(said.len() < 12_000_000);
    tokio::task::block_in_place(|| drop(world));
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_sync_ends_what_it_started() {
    let (world, _, id) = tokio::task::block_in_place(|| container(IDLE));
    let (runtime, _) = world.services().await;
    let mut runtime = runtime.max_decoding_message_size(64 << 20);
    let mut sync = async |script: &str, timeout: i64| {
        let cmd = ["sh", "-c", script].map(str::to_owned).to_vec();
        runtime.exec_sync(ExecSyncRequest { container_id: id.clone(), cmd, timeout }).await
    };
    let late = sync("sleep 4711 & sleep 4711", 1).await.unwrap_err();
    assert_eq!(late.code(), tonic::Code::DeadlineExceeded);
    tokio::task::block_in_place(|| {
        until("the group's end", || processes(&world, &id, "sleep 4711") == 0);
    });
    let daemonised = sync("sleep 4712 & echo started", 0).await.unwrap().into_inner();
    assert_eq!(daemonised.stdout, b"started\n");
    let much = sync("head -c 20000000 /dev/zero; head -c 20000000 /dev/zero >&2; exit 5", 0).await;
    let much = much.unwrap().into_inner();
    assert_eq!((much.stdout.len(), much.stderr.len(), much.exit_code), (16 << 20, 16 << 20, 5));
    let cut = sync("kill -9 $$", 0).await.unwrap().into_inner();
    assert_eq!(cut.exit_code, 137);
    // Stopping the container ends its commands.
    let last = sync("sleep 4713", 0);
    let (ended, ()) = tokio::join!(last, async {
        tokio::task::block_in_place(|| {
            until("the command", || processes(&world, &id, "sleep 4713") > 0);
            world.crictl(&["stop", "--timeout", "0", &id]);
        });
    });
    assert!(ended.map_or(true, |answer| answer.into_inner().exit_code == 137));
    tokio::task::block_in_place(|| drop(world));
}
