use super::*;
use crate::process::Exit;
use rustix::pipe::{PipeFlags, pipe_with};
use std::io::Read;

const SHELL: &str = "/bin/busybox";

fn shell<'a>(script: &str) -> Command<'a> {
    let mut command = Command::new(Program::Path(Path::new(SHELL)));
    command.args(["sh", "-c", script]);
    command
}

/// Standard output of a script, and how it ended.
fn output(command: &mut Command<'_>) -> (String, Exit) {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    // The command keeps only the number; the descriptor lives to the end of the spawn.
    let write_fd = write.as_fd();
    let mut own = Command::new(command.program);
    std::mem::swap(&mut own.args, &mut command.args);
    own.env = std::mem::take(&mut command.env);
    own.directory = command.directory.take();
    own.session = command.session;
    own.create = command.create;
    own.maps = command.maps.take();
    for (fd, bits) in &command.joins {
        own.joins.push((*fd, *bits));
    }
    own.fd(1, write_fd);
    let child = own.spawn().unwrap();
    drop(own);
    drop(write);
    let mut text = String::new();
    std::fs::File::from(read).read_to_string(&mut text).unwrap();
    (text, child.pidfd.wait().unwrap())
}

#[test]
fn runs_with_a_clean_environment_and_three_descriptors() {
    let (text, exit) =
        output(shell("busybox env; busybox ls /proc/self/fd; exit 3").env("A", "b c"));
    assert_eq!(exit, Exit::Code(3));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.contains(&"A=b c"), "{text}");
    // ls itself holds the directory as 3.
    assert!(text.ends_with("0\n1\n2\n3\n"), "{text}");
    assert!(!text.contains("HOME="), "{text}");
}

#[test]
fn reports_why_exec_failed() {
    let error = Command::new(Program::Path(Path::new("/no/such/program"))).spawn().unwrap_err();
    assert_eq!((error.step, error.errno), (SpawnStep::Exec, libc::ENOENT));
    assert_eq!(error.to_string(), "start /no/such/program: exec: no such file or directory");
}

#[test]
fn gives_descriptors_their_numbers_whatever_they_were() {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let mut command = shell("echo seven >&7; busybox ls /proc/self/fd");
    let (out_read, out_write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    command.fd(7, write.as_fd()).fd(1, out_write.as_fd());
    let child = command.spawn().unwrap();
    drop(command);
    drop((write, out_write));
    let mut text = String::new();
    std::fs::File::from(read).read_to_string(&mut text).unwrap();
    assert_eq!(text, "seven\n");
    let mut listing = String::new();
    std::fs::File::from(out_read).read_to_string(&mut listing).unwrap();
    assert_eq!(listing, "0\n1\n2\n3\n7\n");
    assert_eq!(child.pidfd.wait().unwrap(), Exit::Code(0));
}

#[test]
fn signals_start_at_their_defaults() {
    let (text, _) = output(Command::new(Program::Path(Path::new(SHELL))).args([
        "grep",
        "-E",
        "Sig(Blk|Ign)",
        "/proc/self/status",
    ]));
    for line in text.lines() {
        assert!(line.ends_with("0000000000000000"), "{text}");
    }
    assert_eq!(text.lines().count(), 2);
}

#[test]
fn is_born_in_namespaces() {
    let mut command = shell("echo $$; busybox readlink /proc/self/ns/uts");
    command.namespaces(Namespaces::PID.with(Namespaces::UTS));
    let (text, _) = output(&mut command);
    let ours = std::fs::read_link("/proc/self/ns/uts").unwrap().display().to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.first(), Some(&"1"));
    assert_eq!(lines.len(), 2);
    assert_ne!(lines.get(1), Some(&ours.as_str()));
}

#[test]
fn is_root_of_a_mapped_user_namespace() {
    let mut command = shell(
        "busybox id -u; busybox id -g; busybox cat /proc/self/uid_map; busybox grep CapEff /proc/self/status",
    );
    let map = [IdMap { inside: 0, outside: 100_000, count: 65536 }];
    command.namespaces(Namespaces::USER).id_maps(&map, &map);
    let (text, _) = output(&mut command);
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    assert_eq!(words.get(..5), Some(["0", "0", "0", "100000", "65536"].as_slice()), "{text}");
    assert!(
        words.last().is_some_and(|caps| u64::from_str_radix(caps, 16).unwrap() & 1 << 21 != 0),
        "{text}"
    );
}

#[test]
fn a_map_that_the_kernel_refuses_is_an_error() {
    let map =
        [IdMap { inside: 0, outside: 1, count: 1 }, IdMap { inside: 0, outside: 5, count: 1 }];
    let mut command = shell("exit 0");
    command.namespaces(Namespaces::USER).id_maps(&map, &map);
    assert_eq!(command.spawn().unwrap_err().step, SpawnStep::Ids);
}

#[test]
fn joins_the_pid_namespace_of_another() {
    let mut first = shell("read x");
    let (hold_read, hold) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    first.fd(0, hold_read.as_fd()).namespaces(Namespaces::PID.with(Namespaces::MOUNT));
    let first = first.spawn().unwrap();
    let mut second = shell("echo $$");
    second.join(first.pidfd.as_fd(), Namespaces::PID.with(Namespaces::MOUNT));
    let (text, exit) = output(&mut second);
    assert_eq!(exit, Exit::Code(0));
    assert!(text.trim().parse::<i32>().unwrap() < 10, "{text}");
    let mut bad = Command::new(Program::Path(Path::new("/no/such")));
    bad.join(first.pidfd.as_fd(), Namespaces::PID);
    assert_eq!(bad.spawn().unwrap_err().step, SpawnStep::Exec);
    let mut bad = shell("exit 0");
    bad.join(hold_read.as_fd(), Namespaces::PID);
    assert_eq!(bad.spawn().unwrap_err().step, SpawnStep::Join);
    drop(hold);
    first.pidfd.wait().unwrap();
}

#[test]
fn many_threads_spawn_at_once() {
    let threads: Vec<_> = (0..4)
        .map(|n| {
            std::thread::spawn(move || {
                for _ in 0..20 {
                    let child = shell(&format!("exit {n}")).spawn().unwrap();
                    assert_eq!(child.pidfd.wait().unwrap(), Exit::Code(n));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}
