//! What an attachment costs, beside executing the reference. Run by hand:
//! `cargo test --release -p orlop-network speed -- --ignored --nocapture`.

#![expect(clippy::print_stdout, reason = "a measurement is printed")]

use super::harness::{list, on_host, reference_installed, request};
use crate::engine::Engine;
use serde_json::json;
use std::time::{Duration, Instant};

fn row(name: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    println!(
        "{name:40} min {:7.2}  p50 {:7.2}  p90 {:7.2}  p99 {:7.2} ms",
        at(0),
        at(50),
        at(90),
        at(99)
    );
}

fn measure(name: &str, rounds: usize, masquerade: bool, executed: bool, hold: bool) {
    on_host(|host| {
        let ipam = json!({"type": "host-local", "dataDir": host.data_dir(), "ranges": [[{"subnet": "10.95.0.0/16"}]]});
        let plugin = json!({"type": "bridge", "bridge": "cni-sp0", "isDefaultGateway": true, "ipMasq": masquerade, "ipam": ipam});
        let list = list(&json!({"cniVersion": "1.0.0", "name": "speed", "plugins": [plugin]}));
        let engine: Engine = if executed { host.reference() } else { host.ours() };
        let pool = host.pool(8);
        let (mut attach, mut detach, mut take, mut release) = (vec![], vec![], vec![], vec![]);
        let mut held = vec![];
        for round in 0..rounds {
            let begin = Instant::now();
            let set = pool.take().unwrap_or_else(|| pool.make().unwrap());
            take.push(begin.elapsed());
            let id = format!("pod-{round}");
            let begin = Instant::now();
            engine.attach(&list, &request(&id, &set), None).unwrap();
            attach.push(begin.elapsed());
            if hold {
                held.push((id, set));
                continue;
            }
            let begin = Instant::now();
            engine.detach(Some("speed"), &id, Some(&set.net), true).unwrap();
            detach.push(begin.elapsed());
            let begin = Instant::now();
            pool.release(&set.slot).unwrap();
            release.push(begin.elapsed());
        }
        for (id, set) in held {
            let begin = Instant::now();
            engine.detach(Some("speed"), &id, Some(&set.net), true).unwrap();
            detach.push(begin.elapsed());
            let begin = Instant::now();
            pool.release(&set.slot).unwrap();
            release.push(begin.elapsed());
        }
        row(&format!("{name}: namespaces"), &mut take);
        row(&format!("{name}: ADD"), &mut attach);
        row(&format!("{name}: DEL"), &mut detach);
        row(&format!("{name}: release"), &mut release);
    });
}

#[test]
#[ignore = "a measurement"]
fn speed_of_bridge() {
    measure("in process, pods stay", 200, false, false, true);
    measure("in process, ipMasq, pods stay", 200, true, false, true);
    measure("in process", 200, false, false, false);
    if reference_installed() {
        measure("Debian's, executed", 40, false, true, false);
    }
    measure("in process, ipMasq", 200, true, false, false);
    if reference_installed() {
        measure("Debian's, executed, ipMasq", 40, true, true, false);
    }
}

#[test]
#[ignore = "a measurement"]
fn speed_of_masquerade() {
    on_host(|_| {
        let (mut add, mut remove) = (vec![], vec![]);
        for round in 0..200u8 {
            let id = format!("pod-{round}");
            let address: ipnet::IpNet = format!("10.95.1.{round}/16").parse().unwrap();
            let begin = Instant::now();
            crate::masquerade::add("speed", &id, "eth0", &[address]).unwrap();
            add.push(begin.elapsed());
            let begin = Instant::now();
            crate::masquerade::remove("speed", &id, "eth0").unwrap();
            remove.push(begin.elapsed());
        }
        row("masquerade: add", &mut add);
        row("masquerade: remove", &mut remove);
    });
}
