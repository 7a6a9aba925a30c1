//! Lists and stats of a full node: what a kubelet asks for every few seconds.

use crate::client::{Client, Crowd};
use crate::stats::{Figures, Row};
use anyhow::{Context, Result};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::time::Duration;

/// Containers in a pod; with as many pods as that takes.
const EACH: usize = 10;
const AT_ONCE: usize = 5;

/// The calls that are measured.
#[derive(Debug, Clone, Copy)]
pub enum Call {
    Containers,
    Sandboxes,
    ContainerStats,
    SandboxStats,
}

const CALLS: [(Call, &str); 4] = [
    (Call::Containers, "ListContainers"),
    (Call::Sandboxes, "ListPodSandbox"),
    (Call::ContainerStats, "ListContainerStats"),
    (Call::SandboxStats, "ListPodSandboxStats"),
];

/// One peer after another, since a full node of each would not fit beside the other's.
pub async fn rows(clients: &mut [Client], rounds: usize, containers: usize) -> Result<Vec<Row>> {
    let mut figures: Vec<Vec<Figures>> = vec![vec![]; CALLS.len()];
    for client in clients.iter_mut() {
        let name = client.peer.name.clone();
        let crowds = fill(client, containers).await.with_context(|| name.clone())?;
        for (at, (call, _)) in CALLS.into_iter().enumerate() {
            let mut readings = vec![];
            for round in 0..rounds + 2 {
                let (time, items) = client.list(call).await.with_context(|| name.clone())?;
                let expected = match call {
                    Call::Containers | Call::ContainerStats => containers,
                    _ => crowds.len(),
                };
                anyhow::ensure!(
                    items == expected,
                    "{name}: {call:?} has {items} items, not {expected}"
                );
                if round >= 2 {
                    readings.push(time.as_secs_f64() * 1e3);
                }
            }
            figures[at].push(Figures::new(&name, readings));
        }
        empty(client, crowds).await?;
        // What the removals left to do is not the next peer's to pay for.
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let rows = CALLS.iter().zip(figures);
    Ok(rows
        .map(|((_, name), figures)| {
            Row::new(&format!("{name}, {containers} containers"), "ms", figures)
        })
        .collect())
}

async fn fill(client: &Client, containers: usize) -> Result<Vec<Crowd>> {
    let crowd = |count| {
        let mut client = client.clone();
        async move { client.crowd(count).await }
    };
    let pods = (0..containers.div_ceil(EACH)).map(|pod| EACH.min(containers - pod * EACH));
    stream::iter(pods).map(crowd).buffer_unordered(AT_ONCE).try_collect().await
}

async fn empty(client: &Client, crowds: Vec<Crowd>) -> Result<()> {
    let remove = |crowd: Crowd| {
        let mut client = client.clone();
        async move { client.remove_crowd(&crowd).await }
    };
    stream::iter(crowds).map(remove).buffer_unordered(AT_ONCE).try_collect().await
}
