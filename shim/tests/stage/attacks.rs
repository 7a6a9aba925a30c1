//! Images and volumes that try to lead us astray (the rows of the attack list that concern a start).

use crate::stage::Step;
use crate::world::{SELF, World, process};
use serde_json::json;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::Path;

/// A directory outside that must stay empty.
fn canary() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().next().is_none()
}

#[test]
fn a_root_whose_kernel_directories_are_links_is_refused() {
    let canary = canary();
    for name in ["proc", "sys", "dev"] {
        for target in
            [canary.path().display().to_string(), "../../../tmp".to_owned(), "/bin".to_owned()]
        {
            let world = World::new("true");
            std::fs::remove_dir(world.lower().join(name)).unwrap();
            symlink(&target, world.lower().join(name)).unwrap();
            let error = world.run().unwrap_err();
            assert!(
                error.message.contains(&format!("/{name}"))
                    && error.message.contains("symbolic link"),
                "{error}"
            );
        }
        let world = World::new("true");
        std::fs::remove_dir(world.lower().join(name)).unwrap();
        std::fs::write(world.lower().join(name), "").unwrap();
        let error = world.run().unwrap_err();
        assert!(error.message.contains(&format!("/{name}")), "{error}");
    }
    assert!(is_empty(canary.path()));
}

#[test]
fn mount_targets_follow_links_inside_the_root_only() {
    let (canary, volume) = (canary(), canary());
    std::fs::write(volume.path().join("seen"), "").unwrap();
    let world = World::with("ls /data", |spec| {
        spec["mounts"].as_array_mut().unwrap().push(
            json!({ "destination": "/data/deep/place", "type": "bind", "source": volume.path(), "options": ["rbind"] }),
        );
    });
    symlink(canary.path(), world.lower().join("data")).unwrap();
    let outcome = world.run().unwrap();
    // The link's target was made inside the root.
    assert!(outcome.output.contains("deep"), "{}", outcome.output);
    assert!(is_empty(canary.path()));
    assert!(world.upper().join(canary.path().strip_prefix("/").unwrap()).is_dir());
}

#[test]
fn a_null_device_of_the_image_masks_nothing() {
    // The host's /dev as it would be bound, with a link where the null device should be.
    let (canary, dev) = (canary(), canary());
    symlink(canary.path().join("written"), dev.path().join("null")).unwrap();
    let world = World::with("stat -c %t:%T /proc/keys; (echo x >/proc/keys); echo end", |spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        mounts.push(json!({ "destination": "/dev", "type": "bind", "source": dev.path(), "options": ["rbind"] }));
    });
    assert_eq!(world.output(), "1:3\nend\n");
    assert!(is_empty(canary.path()));
}

#[test]
fn no_descriptor_of_ours_is_a_working_directory() {
    for number in [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16] {
        for prefix in [
            "/proc/self/fd",
            "/proc/1/fd",
            "/../../../proc/self/fd",
            "/proc/self/task/1/fd",
            "/proc/thread-self/fd",
        ] {
            let cwd = format!("{prefix}/{number}");
            let world = World::with("pwd", |spec| spec["process"]["cwd"] = json!(cwd));
            match world.run() {
                Err(error) => assert_eq!(error.step, Step::Cwd, "{cwd}: {error}"),
                Ok(outcome) => panic!("{cwd}: {outcome:?}"),
            }
        }
    }
    let world = World::new("read x");
    let (init, hold) = world.hold();
    for cwd in
        ["/proc/self/fd/3", "/proc/self/fd/4", "/proc/self/cwd", "/proc/1/root", "/proc/self/root"]
    {
        let mut process = process(&world, "pwd");
        process["cwd"] = json!(cwd);
        let error = world.exec(&init, &process).unwrap_err();
        assert_eq!(error.step, Step::Cwd, "{cwd}: {error}");
    }
    drop(hold);
    init.child.pidfd.wait().unwrap();
}

#[test]
fn a_working_directory_behind_a_link_is_made_inside() {
    let canary = canary();
    let world = World::with("pwd", |spec| spec["process"]["cwd"] = json!("/a/b"));
    symlink(canary.path(), world.lower().join("a")).unwrap();
    world.output();
    assert!(is_empty(canary.path()));
}

#[test]
fn our_own_program_cannot_be_reached_through_its_process() {
    let before = sealed();
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do (echo x >>/proc/self/exe) 2>&1; (echo x >/proc/1/exe) 2>&1; done; exit 0";
    let world = World::with(script, |_| {});
    world.output();
    // The image's entry point is the process's own file: the kernel runs what it already is, never ours.
    let world =
        World::with("", |spec| spec["process"]["args"] = json!(["/proc/self/exe", "stage"]));
    let ended = world.run();
    assert!(
        ended.is_err()
            || ended.is_ok_and(|outcome| outcome.exit != orlop_sys::process::Exit::Code(0))
    );
    let world = World::with("", |spec| spec["process"]["args"] = json!(["evil"]));
    std::fs::write(world.lower().join("bin/evil"), "#!/proc/self/exe\n").unwrap();
    std::os::unix::fs::chown(world.lower().join("bin/evil"), Some(0), Some(0)).unwrap();
    std::fs::set_permissions(
        world.lower().join("bin/evil"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let _ = world.run();
    assert_eq!(sealed(), before);
}

fn sealed() -> Vec<u8> {
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&SELF.as_fd()));
    let mut bytes = Vec::new();
    std::fs::File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_volume_cannot_take_the_place_of_proc() {
    let volume = canary();
    std::fs::create_dir_all(volume.path().join("self/attr")).unwrap();
    for destination in ["/proc", "/proc/sys", "/proc/self/attr"] {
        let world = World::with("true", |spec| {
            spec["mounts"].as_array_mut().unwrap().push(
                json!({ "destination": destination, "type": "bind", "source": volume.path(), "options": ["rbind"] }),
            );
        });
        let error = world.run().unwrap_err();
        assert_eq!(error.step, Step::Mount, "{destination}: {error}");
    }
}

#[test]
fn hostile_terminal_names_are_not_followed() {
    let canary = canary();
    let world = World::new("true");
    std::fs::create_dir_all(world.lower().join("dev/pts")).unwrap();
    symlink(canary.path().join("x"), world.lower().join("dev/console")).unwrap();
    symlink(canary.path().join("y"), world.lower().join("dev/pts/ptmx")).unwrap();
    let staged = world.start(crate::stage::Stdio::Terminal { size: None }).unwrap();
    staged.child.pidfd.wait().unwrap();
    assert!(is_empty(canary.path()));
}

#[test]
fn thousands_of_mounts_start_or_are_refused_whole() {
    let volume = canary();
    let world = World::with(
        "grep -c long /proc/self/mountinfo; readlink /proc/self/ns/mnt",
        |spec| {
            let mounts = spec["mounts"].as_array_mut().unwrap();
            for number in 0..600 {
                let destination = format!("/long/{number}-{}", "x".repeat(200));
                mounts.push(json!({ "destination": destination, "type": "bind", "source": volume.path(), "options": ["bind"] }));
            }
        },
    );
    let output = world.output();
    assert!(output.starts_with("600\n"), "{output}");
    assert!(
        !output.contains(&std::fs::read_link("/proc/self/ns/mnt").unwrap().display().to_string())
    );
}

#[test]
fn the_null_device_of_the_host_is_out_of_reach() {
    // The same mode as before, so that a host which is not protected stays as it is.
    let script = "grep SigIgn /proc/self/status; stat -Lc %d /proc/self/fd/0; stat -c %d /dev/null; \
        (chmod 666 /proc/keys) 2>/dev/null && echo changed; echo end";
    let world = World::new(script);
    std::os::unix::fs::symlink("busybox", world.lower().join("bin/chmod")).unwrap();
    let output = world.output();
    let lines: Vec<&str> = output.lines().collect();
    // Nothing is ignored, so that a broken pipe ends a workload.
    assert_eq!(lines.first().unwrap().trim_start_matches("SigIgn:").trim(), "0".repeat(16));
    assert_eq!(lines.get(1), lines.get(2), "stdin is not the container's own device");
    assert_eq!(lines.get(3), Some(&"end"), "{output}");
}

#[test]
fn an_exec_does_without_a_null_device() {
    let world = World::new("rm -f /dev/null; ln -s /proc/sysrq-trigger /dev/null; echo; read x");
    for tool in ["rm", "ln"] {
        symlink("busybox", world.lower().join("bin").join(tool)).unwrap();
    }
    let (input, hold) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let (ready, output) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let fds = [Some(input.as_fd()), Some(output.as_fd()), None];
    let init = world.start(crate::stage::Stdio::Fds(fds)).unwrap();
    rustix::io::read(&ready, &mut [0_u8; 8]).unwrap();
    let outcome = world.exec(&init, &process(&world, "cat; echo end")).unwrap();
    assert_eq!(outcome.output, "end\n");
    drop(hold);
    init.child.pidfd.wait().unwrap();
}

#[test]
fn a_profile_need_not_allow_what_only_we_call() {
    let world = World::with("echo end", |spec| {
        spec["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{
                "names": ["sendto", "sendmsg", "close_range", "capset"],
                "action": "SCMP_ACT_KILL_PROCESS",
            }],
        });
        spec["process"]["args"] = json!(["/bin/pwd"]);
    });
    assert_eq!(world.output(), "/\n");
}
