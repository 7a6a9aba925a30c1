//! The rows of the table.

use crate::client::{Client, Pod};
use crate::stats::{Figures, Row};
use crate::{Stage, lists, memory};
use anyhow::Result;
use futures::future::try_join_all;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::time::{Duration, Instant};

/// One measurement.
pub struct Measurement {
    pub name: String,
    kind: Kind,
}

enum Kind {
    Start { host_network: bool },
    Remove,
    Exec,
    Together { pods: usize, at_once: usize },
    Memory,
    Lists { containers: usize },
    Pull { image: String, again: bool },
}

/// Everything that is measured on this stage.
pub fn all(stage: &Stage, containers: usize) -> Vec<Measurement> {
    let mut rows = vec![
        ("pod start, bridge", Kind::Start { host_network: false }),
        ("pod start, host network", Kind::Start { host_network: true }),
        ("ExecSync", Kind::Exec),
        ("stop and remove a pod, bridge", Kind::Remove),
        ("50 pods at once", Kind::Together { pods: 50, at_once: 50 }),
        ("100 pods, 10 at once", Kind::Together { pods: 100, at_once: 10 }),
        ("memory", Kind::Memory),
        ("lists of a full node", Kind::Lists { containers }),
    ]
    .into_iter()
    .map(|(name, kind)| Measurement { name: name.to_owned(), kind })
    .collect::<Vec<_>>();
    for (name, image) in &stage.pulls {
        rows.push(Measurement {
            name: format!("pull, {name}"),
            kind: Kind::Pull { image: image.clone(), again: false },
        });
    }
    if let Some((_, image)) = stage.pulls.first() {
        rows.push(Measurement {
            name: "pull, already there".to_owned(),
            kind: Kind::Pull { image: image.clone(), again: true },
        });
    }
    rows
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl Measurement {
    /// Runs it over all peers, in turn within every round; the order turns round by round.
    pub async fn run(
        &self,
        clients: &mut [Client],
        rounds: usize,
        warmup: usize,
    ) -> Result<Vec<Row>> {
        let (rounds, warmup) = match self.kind {
            Kind::Memory => return memory_rows(clients).await,
            Kind::Lists { containers } => return lists::rows(clients, rounds, containers).await,
            Kind::Together { .. } => (rounds.div_ceil(8), 1),
            Kind::Pull { again: false, .. } => (rounds.div_ceil(10), 1),
            _ => (rounds, warmup),
        };
        let mut readings: Vec<Vec<f64>> = vec![vec![]; clients.len()];
        for round in 0..warmup + rounds {
            for turn in 0..clients.len() {
                let at = if round % 2 == 0 { turn } else { clients.len() - 1 - turn };
                let time = self
                    .once(&mut clients[at])
                    .await
                    .map_err(|error| error.context(clients[at].peer.name.clone()))?;
                if round >= warmup {
                    readings[at].push(time);
                }
            }
        }
        let figures = clients
            .iter()
            .zip(readings)
            .map(|(client, all)| Figures::new(&client.peer.name, all))
            .collect();
        Ok(vec![Row::new(&self.name, "ms", figures)])
    }

    async fn once(&self, client: &mut Client) -> Result<f64> {
        Ok(milliseconds(match &self.kind {
            Kind::Start { host_network } => {
                let (pod, time) = client.start_pod(*host_network).await?;
                client.remove_pod(&pod).await?;
                time
            }
            Kind::Remove => {
                let (pod, _) = client.start_pod(false).await?;
                client.remove_pod(&pod).await?
            }
            Kind::Exec => {
                let (pod, _) = client.start_pod(true).await?;
                let mut times = vec![];
                for _ in 0..5 {
                    times.push(client.exec(&pod).await?);
                }
                client.remove_pod(&pod).await?;
                times.sort();
                times[2]
            }
            Kind::Together { pods, at_once } => {
                let began = Instant::now();
                let pods = start_many(client, *pods, *at_once).await?;
                let time = began.elapsed();
                remove_many(client, pods).await?;
                time
            }
            Kind::Pull { image, again } => {
                let time = client.pull(image).await?;
                if !again {
                    client.remove_image(image).await?;
                }
                time
            }
            Kind::Memory | Kind::Lists { .. } => Duration::ZERO,
        }))
    }
}

async fn start_many(client: &Client, pods: usize, at_once: usize) -> Result<Vec<Pod>> {
    let start = |_| {
        let mut client = client.clone();
        async move { client.start_pod(false).await.map(|(pod, _)| pod) }
    };
    stream::iter(0..pods).map(start).buffer_unordered(at_once).try_collect().await
}

async fn remove_many(client: &Client, pods: Vec<Pod>) -> Result<()> {
    let remove = |pod: Pod| {
        let mut client = client.clone();
        async move { client.remove_pod(&pod).await }
    };
    for some in pods.into_iter().fold(vec![vec![]], |mut groups: Vec<Vec<Pod>>, pod| {
        if groups.last().is_some_and(|group| group.len() == 10) {
            groups.push(vec![]);
        }
        groups.last_mut().expect("never empty").push(pod);
        groups
    }) {
        try_join_all(some.into_iter().map(remove)).await?;
    }
    Ok(())
}

/// Memory at 0, 1, 10 and 100 pods, idle processor time with 100; one peer after another, since the readings are of
/// resting systems.
async fn memory_rows(clients: &mut [Client]) -> Result<Vec<Row>> {
    let counts = [0, 1, 10, 100];
    let mut rss = vec![];
    let mut pss: Vec<Vec<Figures>> = vec![vec![]; counts.len()];
    let mut per_pod = vec![];
    let mut idle = vec![];
    for client in clients.iter_mut() {
        let name = client.peer.name.clone();
        rss.push(Figures::new(&name, vec![memory::daemon_rss(&client.peer)]));
        let mut pods = vec![];
        let mut totals = vec![];
        for (at, count) in counts.into_iter().enumerate() {
            pods.extend(start_many(client, count - pods.len(), 10).await?);
            tokio::time::sleep(Duration::from_secs(3)).await;
            let (daemon, helpers) = memory::pss(&client.peer);
            totals.push(daemon + helpers);
            pss[at].push(Figures::new(&name, vec![daemon + helpers]));
        }
        per_pod.push(Figures::new(&name, vec![(totals[3] - totals[0]) / 100.0]));
        let before = memory::cpu(&client.peer);
        tokio::time::sleep(Duration::from_secs(20)).await;
        idle.push(Figures::new(&name, vec![memory::cpu(&client.peer) - before]));
        remove_many(client, pods).await?;
    }
    let mut rows = vec![Row::new("daemon RSS, idle", "MiB", rss)];
    rows.extend(counts.iter().zip(pss).map(|(count, figures)| {
        Row::new(&format!("PSS of all but the workload, {count} pods"), "MiB", figures)
    }));
    rows.push(Row::new("PSS per pod", "MiB", per_pod));
    rows.push(Row::new("processor time of 20 idle seconds, 100 pods", "s", idle));
    Ok(rows)
}
