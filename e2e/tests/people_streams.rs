//! What people type and see: terminals, pipes, exit codes, signals, logs. Through both doors.

use orlop_e2e::process::until;
use orlop_e2e::typed::{IMAGE, both, world};
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

#[test]
fn a_terminal_is_typed_on() {
    both(|world| {
        let mut shell = world.terminal(&["run", "-it", "--name", "typed", IMAGE, "sh"], (30, 100));
        shell.expect("# ");
        assert!(shell.shell("stty size").contains("30 100"), "the first size is there at once");
        shell.resize(40, 120);
        // It takes its way through the shim.
        let script = "until [ \"$(stty size)\" = '40 120' ]; do usleep 10000; done; stty size";
        assert!(shell.shell(script).contains("40 120"));
        // An interpreter that answers.
        shell.send("dc\r");
        shell.send("2 40 + p\r");
        shell.expect("\n42");
        // Ctrl-C is the container's.
        shell.send("\u{3}");
        shell.expect("# ");
        // Another command beside it, of another size.
        let mut beside = world.terminal(&["exec", "-it", "typed", "sh"], (11, 22));
        beside.expect("# ");
        assert!(beside.shell("stty size").contains("11 22"));
        beside.send("exit 9\r");
        assert_eq!(beside.end(), 9);
        // Ctrl-P, Ctrl-Q leave it running, and one can come back.
        shell.send("\u{10}\u{11}");
        assert_eq!(shell.end(), 0);
        assert!(world.says(&["ps"]).contains("typed"));
        let mut again = world.terminal(&["attach", "--detach-keys", "ctrl-x,y", "typed"], (24, 80));
        again.send("\r");
        again.expect("# ");
        assert!(again.shell("stty size").contains("24 80"));
        again.send("\u{18}y");
        assert_eq!(again.end(), 0);
        let mut last = world.terminal(&["attach", "typed"], (24, 80));
        last.send("exit 4\r");
        assert_eq!(last.end(), 4);
        let mut restarted = world.terminal(&["start", "-ai", "typed"], (24, 80));
        restarted.expect("# ");
        restarted.send("exit 3\r");
        assert_eq!(restarted.end(), 3);
        world.says(&["rm", "typed"]);
    });
}

#[test]
fn the_end_of_a_daemon_cuts_nobody_off() {
    let mut world = world(true);
    let mut shell = world.terminal(&["run", "-it", "--name", "kept", IMAGE, "sh"], (24, 80));
    shell.expect("# ");
    let mut command = world.terminal(&["exec", "-it", "kept", "sh"], (24, 80));
    command.expect("# ");
    world.kill();
    assert!(shell.shell("echo with''out").contains("without"));
    assert!(command.shell("echo with''out").contains("without"));
    // A command that opens the engine itself lets both be.
    assert!(world.says(&["ps"]).contains("kept"));
    assert!(shell.shell("echo be''side").contains("beside"));
    assert!(command.shell("echo be''side").contains("beside"));
    world.start();
    assert!(shell.shell("echo a''gain").contains("again"));
    assert!(command.shell("echo a''gain").contains("again"));
    command.send("exit 2\r");
    assert_eq!(command.end(), 2);
    shell.send("exit 5\r");
    assert_eq!(shell.end(), 5);
    world.says(&["rm", "kept"]);
}

#[test]
fn streams_and_statuses() {
    both(|world| {
        let run = |arguments: &[&str], input: &[u8]| {
            let all = [&["run", "--rm"], arguments].concat();
            world.orlop_with(&all, input)
        };
        let (code, out, error) = run(&[IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7"], b"");
        assert_eq!((code, out.as_slice(), error.as_str()), (7, b"out\n".as_slice(), "err\n"));
        // More than every pipe on the way holds, with every byte there is.
        let much: Vec<u8> = (0..6_000_000_u32).map(|n| (n % 251) as u8).collect();
        let (code, out, error) = run(&["-i", IMAGE, "cat"], &much);
        assert_eq!((code, error.as_str()), (0, ""));
        assert!(out == much, "{} bytes of {}", out.len(), much.len());
        for (arguments, status, word) in [
            (&[IMAGE, "nope"][..], 127, "nope"),
            (&[IMAGE, "/etc/passwd"], 126, "not executable"),
            (&["-e", "=", IMAGE, "true"], 125, "-e"),
            (&["127.0.0.1:5000/none", "true"], 125, "none"),
            (&["-t", "-i", IMAGE, "sh"], 125, "not a TTY"),
        ] {
            let (code, _, error) = run(arguments, b"");
            assert_eq!(code, status, "{arguments:?}: {error}");
            assert!(error.contains(word), "{arguments:?}: {error}");
        }
        world.says(&["run", "-d", "--name", "base", IMAGE, "sleep", "1000"]);
        let exec = |arguments: &[&str], input: &[u8]| {
            world.orlop_with(&[&["exec"], arguments].concat(), input)
        };
        let (code, out, _) = exec(
            &[
                "-u",
                "web",
                "-e",
                "X=1 2",
                "-w",
                "/tmp",
                "base",
                "sh",
                "-c",
                "id -u; pwd; echo $X; exit 5",
            ],
            b"",
        );
        assert_eq!((code, String::from_utf8_lossy(&out).as_ref()), (5, "1000\n/tmp\n1 2\n"));
        let (code, out, _) = exec(&["-i", "base", "cat"], &much);
        assert!(code == 0 && out == much);
        assert_eq!(exec(&["base", "nope"], b"").0, 127);
        assert_eq!(exec(&["base", "/etc"], b"").0, 126);
        assert_eq!(exec(&["-d", "base", "touch", "/made"], b"").0, 0);
        until("the detached command to work", || {
            exec(&["base", "test", "-e", "/made"], b"").0 == 0
        });
        let (_, all, _) =
            exec(&["--privileged", "base", "grep", "CapEff", "/proc/self/status"], b"");
        let (_, own, _) = exec(&["base", "grep", "CapEff", "/proc/self/status"], b"");
        assert_ne!(all, own);
        let (code, _, error) = exec(&["-u", "nobody-here", "base", "true"], b"");
        assert!(code != 0 && error.contains("nobody-here"), "{error}");
        world.says(&["rm", "-f", "base"]);
        let (code, _, error) = exec(&["base", "true"], b"");
        assert!(code == 1 && error.contains("base"), "{error}");
        assert_eq!(world.says(&["ps", "-aq"]), "");
    });
}

#[test]
fn a_reader_that_goes_does_not_hold_the_container() {
    both(|world| {
        let mut child = world
            .orlop(&["run", "--name", "talks", IMAGE, "sh", "-c", "yes | head -c 8000000; exit 6"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut first = [0; 2];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        assert_eq!(&first, b"y\n");
        assert_eq!(child.wait().unwrap().code(), Some(141), "as SIGPIPE would have it");
        assert_eq!(world.says(&["wait", "talks"]), "6");
        world.says(&["rm", "talks"]);
    });
}

#[test]
fn signals_reach_the_container() {
    both(|world| {
        let script = "trap 'echo got; exit 42' INT; echo ready; while :; do usleep 10000; done";
        for (proxy, status) in [("--sig-proxy=true", 42), ("--sig-proxy=false", 130)] {
            let mut child = world
                .orlop(&["run", "--name", "traps", proxy, IMAGE, "sh", "-c", script])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            assert_eq!(lines.next().unwrap().unwrap(), "ready");
            let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(status));
            assert_eq!(lines.next().transpose().unwrap(), (status == 42).then(|| "got".to_owned()));
            assert_eq!(world.says(&["ps", "-q"]).is_empty(), status == 42);
            world.says(&["rm", "-f", "traps"]);
        }
    });
}

#[test]
fn logs_go_on_over_runs_and_end_with_them() {
    both(|world| {
        let script = "echo one; echo two >&2; printf part; sleep 0.05; echo ial; read x; echo $x";
        world.says(&["run", "-d", "-i", "--name", "logs", IMAGE, "sh", "-c", script]);
        let mut follow = world
            .orlop(&["logs", "-f", "logs"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "one");
        assert_eq!(lines.next().unwrap().unwrap(), "partial");
        let (code, out, _) = world.orlop_with(&["attach", "logs"], b"typed\n");
        assert_eq!((code, out.as_slice()), (0, b"typed\n".as_slice()));
        assert_eq!(lines.next().unwrap().unwrap(), "typed");
        assert!(lines.next().is_none(), "it ends with the container");
        assert!(follow.wait().unwrap().success());
        let (_, out, error) = world.orlop_with(&["logs", "logs"], b"");
        assert_eq!(String::from_utf8_lossy(&out), "one\npartial\ntyped\n");
        assert_eq!(error, "two\n");
        let (_, _, first) = world.orlop_with(&["logs", "-t", "--tail", "3", "logs"], b"");
        let stamp = first.split(' ').next().unwrap().to_owned();
        assert!(stamp.ends_with('Z') && first.ends_with(" two\n"), "{first}");
        world.says(&["start", "logs"]);
        world.orlop_with(&["attach", "logs"], b"again\n");
        let shown = |arguments: &[&str]| {
            let (_, out, _) = world.orlop_with(&[&["logs"], arguments, &["logs"]].concat(), b"");
            String::from_utf8_lossy(&out).into_owned()
        };
        assert_eq!(shown(&[]), "one\npartial\ntyped\none\npartial\nagain\n");
        assert_eq!(shown(&["--tail", "1"]), "again\n");
        assert_eq!(shown(&["--tail", "0"]), "");
        assert_eq!(shown(&["--until", &stamp]), "one\n");
        assert_eq!(
            shown(&["--since", &stamp, "-n", "all"]),
            "partial\ntyped\none\npartial\nagain\n"
        );
        assert_eq!(shown(&["--since", "0s"]), "");
        let (code, _, error) = world.orlop_with(&["logs", "--since", "yesterday", "logs"], b"");
        assert!(code != 0 && error.contains("yesterday"), "{error}");
        world.says(&["rm", "logs"]);
    });
}
