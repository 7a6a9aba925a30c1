//! The other way round: a real containerd (Debian's) runs CRI pods in our shim, as `io.containerd.orlop.v2`.

use orlop_e2e::process::{Server, output, run, until};
use orlop_e2e::{World, program, tool};
use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A containerd of the test's own, in the network namespace of a world whose daemon only keeps the registry's images.
struct Containerd {
    world: World,
    server: Option<Server>,
}

impl Containerd {
    fn new() -> Self {
        let mut this = Self { world: World::new(), server: None };
        let world = &mut this.world;
        let layer = orlop_e2e::images::busybox_layer(&world.path("tmp"));
        let pause = world.push(
            "test/pause:1",
            &[&layer],
            r#"{"Entrypoint": ["/bin/sleep", "1000000"]}"#,
            &[],
        );
        world.push("test/busybox:1", &[&layer], r#"{"Cmd": ["sh"], "Env": ["PATH=/bin"]}"#, &[]);
        for sub in ["c", "c/bin", "c/cni", "c/ipam"] {
            std::fs::create_dir(world.path(sub)).expect("directory");
        }
        symlink(program("orlop-shim"), world.path("c/bin/containerd-shim-orlop-v2")).expect("link");
        let conflist = json!({"cniVersion": "1.0.0", "name": "containerd", "plugins": [
            {"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local", "dataDir": world.path("c/ipam"),
             "ranges": [[{"subnet": "10.91.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]});
        std::fs::write(world.path("c/cni/10.conflist"), conflist.to_string()).expect("conflist");
        let config = format!(
            "version = 2\nroot = {root:?}\nstate = {state:?}\n[grpc]\naddress = {socket:?}\n[ttrpc]\naddress = {ttrpc:?}\n\
             [plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = {pause:?}\nstream_server_address = '127.0.0.1'\n\
             [plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir = '/usr/lib/cni'\nconf_dir = {cni:?}\n\
             [plugins.'io.containerd.grpc.v1.cri'.containerd]\ndefault_runtime_name = 'orlop'\n\
             [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.orlop]\nruntime_type = 'io.containerd.orlop.v2'\n\
             [plugins.'io.containerd.internal.v1.opt']\npath = {opt:?}\n",
            root = world.path("c/root"),
            state = world.path("c/state"),
            socket = this.socket(),
            ttrpc = this.world.path("c/c.ttrpc"),
            cni = this.world.path("c/cni"),
            opt = this.world.path("c/opt"),
        );
        std::fs::write(this.world.path("c/config.toml"), config).expect("config.toml");
        this.start();
        this
    }

    fn socket(&self) -> PathBuf {
        self.world.path("c/c.sock")
    }

    fn start(&mut self) {
        let mut command = self.world.inside("containerd");
        command.arg("-c").arg(self.world.path("c/config.toml"));
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.world.path("c/bin").display());
        self.server =
            Some(Server::start(command_with(command, "PATH", &path), self.world.path("c.log")));
        until("containerd to answer", || {
            assert!(
                !self.server.as_mut().expect("started").ended(),
                "containerd ended:\n{}",
                self.log()
            );
            self.try_crictl(&["version"]).status.success()
        });
    }

    fn kill(&mut self) {
        self.server = None;
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.world.path("c.log")).unwrap_or_default()
    }

    /// crictl in the network namespace: containerd's streams are served there.
    fn try_crictl(&self, arguments: &[&str]) -> Output {
        let endpoint = format!("unix://{}", self.socket().display());
        let mut command = self.world.inside(tool("crictl"));
        command.args([
            "--config",
            "/dev/null",
            "-r",
            &endpoint,
            "-i",
            &endpoint,
            "--timeout",
            "60s",
        ]);
        output(command.args(arguments))
    }

    fn crictl(&self, arguments: &[&str]) -> String {
        let output = self.try_crictl(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "crictl {arguments:?}: {}\n{}{}\n--- containerd:\n{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr),
            self.log()
        );
        text(&output.stdout).trim_end().to_owned()
    }

    fn run_pod(&self, name: &str) -> (Value, String) {
        let config = self.world.pod(name, json!({}));
        let pod = self.crictl(&["runp", &self.world.file(&format!("pod-{name}"), &config)]);
        (config, pod)
    }

    fn run_container(
        &self,
        pod: &(Value, String),
        name: &str,
        command: &[&str],
        more: Value,
    ) -> String {
        let image = "127.0.0.1:5000/test/busybox:1";
        let container = self.world.file(name, &self.world.container(name, image, command, more));
        let id = self.crictl(&[
            "create",
            &pod.1,
            &container,
            &self.world.file("pod-of-container", &pod.0),
        ]);
        self.crictl(&["start", &id]);
        id
    }

    fn status(&self, container: &str) -> Value {
        let text = self.crictl(&["inspect", "-o", "json", container]);
        serde_json::from_str::<Value>(&text).expect("crictl prints JSON")["status"].clone()
    }

    fn wait_exited(&self, container: &str) -> Value {
        until("the container to end", || self.status(container)["state"] == "CONTAINER_EXITED");
        self.status(container)
    }

    /// Our shims under this containerd.
    fn shims(&self) -> Vec<u32> {
        let address = self.socket().display().to_string();
        let all = std::fs::read_dir("/proc").expect("/proc").flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                line.starts_with("orlop-shim ") && line.contains(&address)
            })
            .collect()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- containerd:\n{}", self.log());
        }
        if self.server.is_none() {
            self.start();
        }
        let removed = self.try_crictl(&["rmp", "-fa"]);
        if let Some(server) = &mut self.server {
            server.terminate();
        }
        self.server = None;
        // The parent of the pods' groups is the kubelet's to remove, which here is us.
        let parent = self.world.path("").file_name().expect("a name").to_owned();
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten() {
            let _ = std::fs::remove_dir(hierarchy.path().join(&parent));
        }
        if !std::thread::panicking() {
            assert!(removed.status.success(), "{removed:?}");
            assert_eq!(self.shims(), Vec::<u32>::new(), "shims are left");
        }
    }
}

fn command_with(mut command: Command, name: &str, value: &str) -> Command {
    command.env(name, value);
    command
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it lives");
}

#[test]
fn a_pod_lives_in_our_shim() {
    let containerd = Containerd::new();
    containerd.crictl(&["pull", "127.0.0.1:5000/test/busybox:1"]);
    let pod = containerd.run_pod("ours");
    // Its own process namespace: process 1 is its shell.
    let own_pids = json!({"linux": {"security_context": {"namespace_options": {"pid": 1}}}});
    // The sandbox container and the workload: a shim each.
    assert_eq!(containerd.shims().len(), 1);
    let script =
        "trap 'echo bye; exit 7' TERM; echo out; echo err >&2; while true; do usleep 20000; done";
    let main = containerd.run_container(&pod, "main", &["sh", "-c", script], own_pids);
    assert_eq!(containerd.shims().len(), 2);
    until("the log", || containerd.world.log_file("ours", "main").lines().count() == 2);
    let exec = |command: &str| containerd.crictl(&["exec", "--sync", &main, "sh", "-c", command]);
    assert_eq!(exec("echo in the container"), "in the container");
    assert!(exec("ip -4 addr show eth0").contains("10.91.0."));
    // Over the streaming server, without a terminal and with one.
    assert_eq!(containerd.crictl(&["exec", &main, "sh", "-c", "echo streamed; cat"]), "streamed");
    // Python gives crictl the terminal that it wants to have itself.
    let mut terminal = containerd.world.inside("python3");
    let command = format!(
        "stty rows 33 cols 77; exec {} --config /dev/null -r unix://{} exec -it {main} sh -c 'test -t 1 && until stty size | grep 77; do usleep 20000; done && echo a terminal'",
        tool("crictl").display(),
        containerd.socket().display()
    );
    let spawn = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)";
    let said = run(terminal.args(["-c", spawn, "sh", "-c", &command]));
    assert!(said.contains("33 77") && said.contains("a terminal"), "{said}");
    let failed = containerd.try_crictl(&["exec", &main, "sh", "-c", "exit 3"]);
    assert!(String::from_utf8_lossy(&failed.stderr).contains("exit code 3"), "{failed:?}");
    let late = containerd.try_crictl(&["exec", "--sync", "--timeout", "1", &main, "sleep", "1000"]);
    assert!(!late.status.success());

    until("stats", || {
        let stats: Value =
            serde_json::from_str(&containerd.crictl(&["stats", "-o", "json", &main]))
                .expect("JSON");
        let bytes = &stats["stats"][0]["memory"]["workingSetBytes"]["value"];
        bytes.as_str().is_some_and(|bytes| bytes != "0")
    });
    containerd.crictl(&["update", "--memory", "67108864", &main]);
    let limit = exec(
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true",
    );
    assert_eq!(limit, "67108864");

    // Attach hears what comes from now on, until the end.
    let mut attach = containerd.world.inside(tool("crictl"));
    attach.args([
        "--config",
        "/dev/null",
        "-r",
        &format!("unix://{}", containerd.socket().display()),
        "attach",
        &main,
    ]);
    let mut attached = Server::start(attach, containerd.world.path("attach.log"));
    let talker = "usleep 1000; echo attached >/proc/1/fd/1";
    until("attach to hear", || {
        exec(talker);
        attached.log().contains("attached")
    });
    containerd.crictl(&["stop", "--timeout", "10", &main]);
    assert_eq!(containerd.status(&main)["exitCode"], 7);
    until("attach to end", || attached.ended());
    assert!(containerd.world.log_file("ours", "main").ends_with(" stdout F bye\n"));
    containerd.crictl(&["rm", &main]);

    let limit = json!({"linux": {"resources": {"memory_limit_in_bytes": 33_554_432}}});
    let bomb = containerd.run_container(
        &pod,
        "bomb",
        &["sh", "-c", "x=a; while true; do x=$x$x; done"],
        limit,
    );
    let status = containerd.wait_exited(&bomb);
    assert_eq!(
        (status["exitCode"].as_i64(), status["reason"].as_str()),
        (Some(137), Some("OOMKilled")),
        "{status}"
    );
}

#[test]
fn containerd_is_killed_and_comes_back() {
    let mut containerd = Containerd::new();
    containerd.crictl(&["pull", "127.0.0.1:5000/test/busybox:1"]);
    let pod = containerd.run_pod("kept");
    let keeper = containerd.run_container(&pod, "keeper", &["sleep", "1000"], json!({}));
    let script = "while [ ! -e /end ]; do usleep 20000; done; exit 42";
    let ender = containerd.run_container(&pod, "ender", &["sh", "-c", script], json!({}));
    let inspected: Value =
        serde_json::from_str(&containerd.crictl(&["inspect", "-o", "json", &ender])).expect("JSON");
    let pid = inspected["info"]["pid"].as_u64().expect("a pid");
    containerd.kill();
    std::fs::write(format!("/proc/{pid}/root/end"), "").expect("a file in the container");
    until("the ender's end", || !Path::new(&format!("/proc/{pid}")).exists());
    containerd.start();
    assert_eq!(containerd.status(&keeper)["state"], "CONTAINER_RUNNING");
    assert_eq!(containerd.crictl(&["exec", "--sync", &keeper, "echo", "still here"]), "still here");
    assert_eq!(containerd.wait_exited(&ender)["exitCode"], 42);

    // A shim that dies: containerd calls our `delete`, and the container is gone for good.
    let inspected: Value =
        serde_json::from_str(&containerd.crictl(&["inspect", "-o", "json", &keeper]))
            .expect("JSON");
    let pid = inspected["info"]["pid"].as_u64().expect("a pid");
    let shim = containerd.shims().into_iter().find(|shim| {
        let line = std::fs::read(format!("/proc/{shim}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&keeper)
    });
    kill(shim.expect("the keeper's shim"));
    let status = containerd.wait_exited(&keeper);
    // 255 when containerd notices the end of the connection before it has our answer.
    assert!(matches!(status["exitCode"].as_i64(), Some(137 | 255)), "{status}");
    until("the container's end", || !Path::new(&format!("/proc/{pid}")).exists());
    containerd.crictl(&["rmp", "-f", &pod.1]);
    let left = run(Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name", &keeper]));
    assert_eq!(left, "", "cgroups are left");
}

#[test]
fn events_reach_containerd() {
    let containerd = Containerd::new();
    containerd.crictl(&["pull", "127.0.0.1:5000/test/busybox:1"]);
    let mut ctr = Command::new("ctr");
    ctr.arg("-a").arg(containerd.socket()).args(["-n", "k8s.io", "events"]);
    let events = Server::start(ctr, containerd.world.path("events.log"));
    let pod = containerd.run_pod("told");
    until("the subscription", || {
        // What comes before it is not heard: something that can be repeated until it is.
        let id = containerd.run_container(&pod, "probe", &["true"], json!({}));
        containerd.wait_exited(&id);
        containerd.crictl(&["rm", &id]);
        events.log().contains("/tasks/delete")
    });
    let limit = json!({"linux": {"resources": {"memory_limit_in_bytes": 33_554_432}}});
    let id = containerd.run_container(
        &pod,
        "main",
        &[
            "sh",
            "-c",
            "while [ ! -e /go ]; do usleep 20000; done; x=a; while true; do x=$x$x; done",
        ],
        limit,
    );
    containerd.crictl(&["exec", "--sync", &id, "touch", "/go"]);
    containerd.wait_exited(&id);
    containerd.crictl(&["rm", &id]);
    let topics = ["create", "start", "exec-added", "exec-started", "oom", "exit", "delete"];
    let heard = |topic: &str| {
        let topic = format!("/tasks/{topic} ");
        events.log().lines().any(|line| line.contains(&topic) && line.contains(&id))
    };
    until("every event", || topics.iter().all(|topic| heard(topic)));
}
