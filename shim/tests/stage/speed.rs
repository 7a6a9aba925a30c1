//! How long a start takes. Run alone: `cargo test --release -p orlop-shim --test stage -- --ignored --nocapture speed`.

use crate::stage::Stdio;
use crate::world::{World, process};
use orlop_sys::cgroup::{Cgroup, Hierarchies};
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::json;
use std::io::Read;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

fn report(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    println!(
        "{name}: min {:.2} p50 {:.2} p90 {:.2} p99 {:.2} ms (n={})",
        at(0),
        at(50),
        at(90),
        at(99),
        times.len()
    );
}

/// From the call to the first byte that the workload writes to a pipe of the host.
#[test]
#[ignore = "measures"]
fn init_to_first_instruction() {
    let mut world = World::new("");
    world.spec["process"]["args"] = json!(["busybox", "echo", "-n", "x"]);
    // The network namespace comes from a pool in a pod.
    world.spec["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .retain(|namespace| namespace["type"] != "network");
    world.spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/sys");
    let hierarchies = Hierarchies::detect().unwrap();
    let resources = serde_json::from_value(json!({
        "devices": [{ "allow": false, "access": "rwm" }],
        "cpu": { "shares": 100 }, "memory": { "limit": 67_108_864, "swap": 67_108_864 }, "pids": { "limit": 100 },
    })).unwrap();
    let (mut whole, mut bare, mut group) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..330 {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let begin = Instant::now();
        let path = format!("{}-{number}", world.cgroup.path().display());
        let cgroup = Cgroup::create(&hierarchies, &path, Some(&resources)).unwrap();
        let made = Instant::now();
        let old = std::mem::replace(&mut world.cgroup, cgroup);
        let _ = std::fs::remove_dir_all(world.dir.path().join("work"));
        std::fs::create_dir(world.dir.path().join("work")).unwrap();
        let made_anew = Instant::now();
        let staged = world.start(Stdio::Fds([None, Some(write.as_fd()), None])).unwrap();
        drop(write);
        let mut byte = [0];
        std::fs::File::from(read).read_exact(&mut byte).unwrap();
        let end = Instant::now();
        staged.child.pidfd.wait().unwrap();
        let cgroup = std::mem::replace(&mut world.cgroup, old);
        cgroup.delete().unwrap();
        if number >= 30 {
            whole.push(end - made_anew + (made - begin));
            bare.push(end - made_anew);
            group.push(made - begin);
        }
    }
    report("cgroup", group);
    report("start", bare);
    report("both", whole);
}

#[test]
#[ignore = "measures"]
fn exec_to_first_instruction() {
    let world = World::new("read x");
    let (init, hold) = world.hold();
    let mut process = process(&world, "");
    process["args"] = json!(["busybox", "true"]);
    let mut times = Vec::new();
    for number in 0..330 {
        let begin = Instant::now();
        world.exec(&init, &process).unwrap();
        if number >= 30 {
            times.push(begin.elapsed());
        }
    }
    report("exec (to its end)", times);
    drop(hold);
    init.child.pidfd.wait().unwrap();
}

/// The parts that the shim does before the clone, and the price of a fresh exec of ourselves.
#[test]
#[ignore = "measures"]
fn parts() {
    use orlop_sys::process::{Command, Program};
    let world = World::new("");
    let spec = world.oci();
    let section = spec.linux().as_ref().unwrap().seccomp().as_ref().unwrap();
    let (mut compile, mut parse, mut fork) = (Vec::new(), Vec::new(), Vec::new());
    let text = serde_json::to_vec(&world.spec).unwrap();
    for _ in 0..200 {
        let begin = Instant::now();
        orlop_sys::seccomp::compile(section).unwrap();
        compile.push(begin.elapsed());
        let begin = Instant::now();
        let _: oci_spec::runtime::Spec = serde_json::from_slice(&text).unwrap();
        parse.push(begin.elapsed());
        let begin = Instant::now();
        let mut command = Command::new(Program::Fd(crate::world::SELF.as_fd()));
        let child = command.args(["orlop-shim", "stage"]).spawn().unwrap();
        child.pidfd.wait().unwrap();
        fork.push(begin.elapsed());
    }
    report("seccomp compile", compile);
    report("spec parse", parse);
    report("spawn of a stage that ends at once", fork);
}
