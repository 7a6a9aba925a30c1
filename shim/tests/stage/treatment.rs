//! How the kernel treats the process, by the runtime spec's newer fields: done, or refused by name.

use crate::stage::{StageError, Step};
use crate::world::World;
use serde_json::{Value, json};

fn process(script: &str, key: &str, value: Value) -> String {
    World::with(script, |spec| spec["process"][key] = value).output()
}

#[test]
fn scheduler() {
    let wanted = json!({"policy": "SCHED_BATCH", "nice": 7});
    let stat = process("cat /proc/self/stat", "scheduler", wanted);
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // nice is field 19 of the file and policy field 41; what follows the name begins with field 3.
    assert_eq!((fields[16], fields[38]), ("7", "3"), "{stat}");
    let wanted = json!({"policy": "SCHED_FIFO", "priority": 4, "flags": ["SCHED_RESET_ON_FORK"]});
    let stat =
        World::with("exec cat /proc/self/stat", |spec| spec["process"]["scheduler"] = wanted);
    // A host may grant no real-time to a group: then it says so.
    match stat.run() {
        Ok(outcome) => {
            let text = outcome.output;
            let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
            assert_eq!((fields[37], fields[38]), ("4", "1"), "{text}");
        }
        Err(error) => assert!(error.message.contains("scheduler"), "{error}"),
    }
}

#[test]
fn io_priority() {
    let wanted = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0});
    assert_eq!(process("busybox ionice -p $$", "ioPriority", wanted), "idle\n");
    let wanted = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    assert_eq!(process("busybox ionice -p $$", "ioPriority", wanted), "best-effort: prio 6\n");
}

#[test]
fn personality() {
    let world = World::with("busybox uname -m", |spec| {
        spec["linux"]["personality"] = json!({"domain": "LINUX32"})
    });
    let machine = world.output();
    assert_eq!(machine.trim(), if cfg!(target_arch = "aarch64") { "armv8l" } else { "i686" });
}

#[test]
fn processors_of_an_exec() {
    let world = World::new("read x");
    let (init, hold) = world.hold();
    let mut process = world.spec["process"].clone();
    process["args"] = json!(["sh", "-c", "grep Cpus_allowed_list /proc/self/status"]);
    process["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
    let outcome = world.exec(&init, &process).unwrap();
    assert_eq!(outcome.output.split_whitespace().last(), Some("0"), "{}", outcome.output);
    process["execCPUAffinity"] = json!({"final": "9000"});
    let error = world.exec(&init, &process).unwrap_err();
    assert!(error.message.contains("execCPUAffinity"), "{error}");
    drop(hold);
    init.child.pidfd.wait().unwrap();
}

#[test]
fn domain_name() {
    let world = World::with("cat /proc/sys/kernel/domainname", |spec| {
        spec["domainname"] = json!("inside.example")
    });
    assert_eq!(world.output(), "inside.example\n");
}

fn refused(change: impl FnOnce(&mut Value)) -> StageError {
    World::with("true", change).run().unwrap_err()
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    for (key, value) in [
        ("intelRdt", json!({"closID": "x"})),
        ("memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0"})),
        ("netDevices", json!({"eth0": {"name": "eth0"}})),
        ("timeOffsets", json!({"monotonic": {"secs": 1, "nanosecs": 0}})),
    ] {
        let error = refused(|spec| spec["linux"][key] = value);
        assert!(error.step == Step::Spec && error.message.contains(key), "{key}: {error}");
    }
    let error = refused(|spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
    });
    assert!(error.message.contains("time"), "{error}");
    let error =
        refused(|spec| spec["linux"]["personality"] = json!({"domain": "LINUX", "flags": ["X"]}));
    assert!(error.message.contains("personality flag X"), "{error}");
    for (key, value) in [
        ("ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 8})),
        ("scheduler", json!({"policy": "SCHED_ISO"})),
    ] {
        let error = refused(|spec| spec["process"][key] = value);
        assert!(error.step == Step::Spec && error.message.contains(key), "{key}: {error}");
    }
}
