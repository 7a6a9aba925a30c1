//! What a shim may cost.

mod common;

use common::{Container, process_json};
use orlop_task::exec_sync;

/// PSS in kB that a shim may have (design: 0.5 MiB). A debug build is larger: no promise there.
const PSS_KB: u64 = if cfg!(debug_assertions) { 4096 } else { 512 };

#[tokio::test]
async fn memory_threads_and_descriptors() {
    let container = Container::run(&["sleep", "1000"]).await;
    let client = &container.shim.client;
    let exec = async |n: usize| {
        let output = exec_sync(client, &format!("e{n}"), &process_json(&["true"]), None, 1 << 20).await.unwrap();
        assert_eq!(output.exit_code, 0);
    };
    exec(0).await;
    while !client.details().await.unwrap().exec_ids.is_empty() {}
    let fds = container.shim_fds();
    let pss = |container: &Container| -> u64 {
        let text = container.shim_proc("smaps_rollup", "Pss:").unwrap();
        text.split_whitespace().next().unwrap().parse().unwrap()
    };
    let before = pss(&container);
    for n in 1..=200 {
        exec(n).await;
    }
    while !client.details().await.unwrap().exec_ids.is_empty() {}
    let after = pss(&container);
    println!("PSS {before} kB, after 200 execs {after} kB, {fds} descriptors");
    assert_eq!(container.shim_fds(), fds);
    assert_eq!(container.shim_proc("status", "Threads:").unwrap(), "1");
    assert!(after <= PSS_KB, "PSS {after} kB");
    container.finish().await;
}
