//! Capabilities, devices, signals and scores of containers.

use orlop_e2e::World;
use orlop_e2e::process::run;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;

struct Pod {
    config: Value,
    id: String,
    image: String,
}

impl Pod {
    fn new(world: &mut World, name: &str) -> Self {
        let image = world.busybox();
        let config = world.pod(name, json!({}));
        let id = world.run_pod(&config);
        Self { config, id, image }
    }

    fn container(&self, world: &World, name: &str, more: Value) -> String {
        let config = world.container(name, &self.image, &["sleep", "100000"], more);
        world.run_container(&self.id, &self.config, &config)
    }

    fn refused(&self, world: &World, more: Value) -> String {
        let config = world.container("refused", &self.image, &["true"], more);
        let files = [world.file("refused", &config), world.file("refused-pod", &self.config)];
        world.crictl_error(&["create", &self.id, &files[0], &files[1]])
    }
}

fn sh(world: &World, container: &str, script: &str) -> String {
    world.crictl(&["exec", "--sync", container, "sh", "-c", script])
}

/// Capabilities of the process's file system view and of an exec, as sets.
fn capabilities(world: &World, container: &str, set: &str) -> Vec<u64> {
    let text = sh(world, container, "cat /proc/1/status /proc/self/status");
    let lines = text.lines().filter_map(|line| line.strip_prefix(set));
    lines
        .map(|hex| u64::from_str_radix(hex.trim_start_matches(':').trim(), 16).expect("hex"))
        .collect()
}

#[test]
fn ambient_capabilities_reach_a_user_without_rights() {
    let mut world = World::new();
    let pod = Pod::new(&mut world, "ambient");
    let context = json!({"run_as_user": {"value": 1000}, "no_new_privs": true, "namespace_options": {"pid": 1},
        "capabilities": {"add_ambient_capabilities": ["NET_BIND_SERVICE", "CAP_NET_RAW"]}});
    let id = pod.container(&world, "c", json!({"linux": {"security_context": context}}));
    let wanted = 1 << 10 | 1 << 13;
    for set in ["CapAmb", "CapEff", "CapPrm", "CapInh"] {
        assert_eq!(capabilities(&world, &id, set), [wanted, wanted], "{set}");
    }
    // Without them the same user has none.
    let context = json!({"run_as_user": {"value": 1000}, "namespace_options": {"pid": 1}});
    let plain = pod.container(&world, "plain", json!({"linux": {"security_context": context}}));
    assert_eq!(capabilities(&world, &plain, "CapEff"), [0, 0]);
    let context = json!({"capabilities": {"add_ambient_capabilities": ["FLY"]}});
    let error = pod.refused(&world, json!({"linux": {"security_context": context}}));
    assert!(error.contains("add_ambient_capabilities[0]") && error.contains("FLY"), "{error}");
}

#[test]
fn devices_by_directory_with_their_permissions() {
    let mut world = World::new();
    let dir = world.path("tmp/devices");
    std::fs::create_dir_all(dir.join("below")).expect("directory");
    // The kernel's log: whom it lets open it depends on the device rules alone.
    for name in ["log", "below/log"] {
        run(Command::new("mknod").args(["-m", "666"]).arg(dir.join(name)).args(["c", "1", "11"]));
    }
    std::fs::write(dir.join("no-device"), "").expect("file");
    let pod = Pod::new(&mut world, "devices");
    let device = |permissions: &str| json!({"devices": [{"container_path": "/dev/mine", "host_path": dir, "permissions": permissions}]});
    let id = pod.container(&world, "w", device("w"));
    let script = "ls /dev/mine /dev/mine/below; (: > /dev/mine/log) 2>/dev/null && echo written || echo refused; \
        (: < /dev/mine/below/log) 2>/dev/null && echo read || echo refused";
    assert_eq!(
        sh(&world, &id, script),
        "/dev/mine:\nbelow\nlog\n\n/dev/mine/below:\nlog\nwritten\nrefused"
    );
    let none = pod.container(&world, "none", json!({}));
    let script =
        "mknod /tmp/log c 1 11; (: > /tmp/log) 2>/dev/null && echo written || echo refused";
    assert_eq!(sh(&world, &none, script), "refused");
    let error = pod.refused(&world, json!({"devices": [{"container_path": "/dev/x", "host_path": "/dev/no-such", "permissions": "r"}]}));
    assert!(error.contains("devices.host_path") && error.contains("/dev/no-such"), "{error}");
}

/// A description of devices of this test alone, where drivers put theirs.
struct Cdi(PathBuf);

impl Cdi {
    fn new(extension: &str, text: &str) -> Self {
        std::fs::create_dir_all("/var/run/cdi").expect("directory");
        let path =
            PathBuf::from(format!("/var/run/cdi/orlop-e2e-{}.{extension}", std::process::id()));
        std::fs::write(&path, text).expect("description");
        Self(path)
    }
}

impl Drop for Cdi {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
        let _ = std::fs::remove_dir("/var/run/cdi");
    }
}

#[test]
fn devices_by_their_cdi_names() {
    let mut world = World::new();
    let lib = world.path("tmp/lib");
    std::fs::create_dir_all(&lib).expect("directory");
    std::fs::write(lib.join("driver"), "driver\n").expect("file");
    let state = world.path("tmp/hook-state");
    let kind = format!("e2e{}.orlop/log", std::process::id());
    let _cdi = Cdi::new(
        "yaml",
        &format!(
            "cdiVersion: 0.6.0\nkind: {kind}\ncontainerEdits:\n  env: [DRIVER=1]\n  mounts:\n  - {{hostPath: {}, containerPath: /opt/driver, options: [ro]}}\n\
         devices:\n- name: \"0\"\n  containerEdits:\n    env: [LOG=zero]\n    deviceNodes: [{{path: /dev/cdi-log, type: c, major: 1, minor: 11, permissions: w}}]\n\
         - name: hooked\n  containerEdits:\n    hooks: [{{hookName: createRuntime, path: /bin/sh, args: [sh, -c, 'cat > {}']}}]\n",
            lib.display(),
            state.display()
        ),
    );
    let pod = Pod::new(&mut world, "cdi");
    // In the field and in an annotation: once.
    let named = json!({"CDI_devices": [{"name": format!("{kind}=0")}], "annotations": {"cdi.k8s.io/e2e": format!("{kind}=0")}});
    let id = pod.container(&world, "c", named);
    let script = "echo $LOG $DRIVER; cat /opt/driver/driver; (: > /dev/cdi-log) && echo written; touch /opt/driver/x 2>/dev/null || echo read-only; grep -c /opt/driver /proc/self/mountinfo";
    assert_eq!(sh(&world, &id, script), "zero 1\ndriver\nwritten\nread-only\n1");
    let annotated = pod.container(
        &world,
        "annotated",
        json!({"annotations": {"cdi.k8s.io/e2e": format!("{kind}=0")}}),
    );
    assert_eq!(sh(&world, &annotated, "echo $LOG"), "zero");
    // A vendor's program runs, and is told of which container.
    let hooked = pod.container(
        &world,
        "hooked",
        json!({"CDI_devices": [{"name": format!("{kind}=hooked")}]}),
    );
    assert!(std::fs::read_to_string(&state).expect("the hook's input").contains(&hooked));
    for (name, word) in [
        (format!("{kind}=none"), "is its driver installed"),
        ("nonsense".to_owned(), "no CDI name"),
    ] {
        let error = pod.refused(&world, json!({"CDI_devices": [{"name": name}]}));
        assert!(error.contains(word) && error.contains(&name), "{error}");
    }
}

#[test]
fn the_stop_signal_is_the_requests_then_the_images_then_term() {
    let mut world = World::new();
    let layer = orlop_e2e::images::busybox_layer(&world.path("tmp"));
    let image = world.push(
        "test/signal:1",
        &[&layer],
        r#"{"Cmd": ["sh"], "Env": ["PATH=/bin"], "StopSignal": "SIGUSR1"}"#,
        &[],
    );
    world.crictl(&["pull", &image]);
    let pod = Pod::new(&mut world, "signals");
    let script = "trap 'exit 10' USR1; trap 'exit 15' TERM; trap 'exit 37' 37; echo up; while :; do usleep 10000; done";
    // CRI numbers its signals by their names: 57 is SIGRTMIN+3.
    for (name, image, signal, code, told) in [
        ("request", &image, json!({"stop_signal": rt(3)}), 37, "SIGRTMINPLUS3"),
        ("image", &image, json!({}), 10, "SIGUSR1"),
        ("neither", &pod.image.clone(), json!({}), 15, "SIGTERM"),
    ] {
        let config = world.container(name, image, &["sh", "-c", script], signal);
        let id = world.run_container(&pod.id, &pod.config, &config);
        orlop_e2e::process::until("the traps", || world.log_file("signals", name).contains("up"));
        assert_eq!(world.status(&id)["stopSignal"], told, "{name}");
        world.crictl(&["stop", "--timeout", "60", &id]);
        assert_eq!(world.status(&id)["exitCode"], code, "{name}");
    }
    let error = pod.refused(&world, json!({"stop_signal": 66}));
    assert!(error.contains("stop_signal"), "{error}");
}

/// CRI's number of SIGRTMIN+n, from the contract.
fn rt(n: u32) -> i64 {
    let table =
        std::fs::read_to_string(orlop_e2e::root().join("proto/cri/v1/api.proto")).expect("proto");
    let name = format!("SIGRTMINPLUS{n} = ");
    let line = table.lines().find_map(|line| line.trim().strip_prefix(&name)).expect("the signal");
    line.trim_end_matches(';').parse().expect("a number")
}

#[test]
fn an_oom_score_is_set_or_its_limit_is_told() {
    let mut world = World::new();
    let pod = Pod::new(&mut world, "score");
    let own = json!({"namespace_options": {"pid": 1}});
    let score =
        |adj: i64| json!({"linux": {"resources": {"oom_score_adj": adj}, "security_context": own}});
    let id = pod.container(&world, "high", score(500));
    assert_eq!(
        sh(&world, &id, "cat /proc/1/oom_score_adj /proc/self/oom_score_adj | sort -u"),
        "500"
    );
    let low = pod.container(&world, "low", score(-900));
    let got: i64 = sh(&world, &low, "cat /proc/1/oom_score_adj").parse().expect("a number");
    // Without CAP_SYS_RESOURCE nobody goes below his own.
    assert!(got == -900 || world.log().contains("oom_score_adj"), "{got}\n{}", world.log());
    let error = pod.refused(&world, score(2000));
    assert!(error.contains("oom_score_adj"), "{error}");
}
