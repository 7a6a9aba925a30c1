//! The calls for stats.

use super::source::{Job, Source};
use super::{
    ContainerStats, LayerFs, Pod, SandboxDetail, SandboxStats, container_stats, counts, layer_fs,
    pods, sandbox_detail, sandbox_stats,
};
use crate::context::Context;
use crate::kept::blocking;
use crate::{ContainerFilter, Error, Result, Runtime, SandboxFilter, SandboxView};
use std::sync::Arc;

impl Runtime {
    /// CRI ContainerStats.
    pub async fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        let (context, container) = (Arc::clone(&self.0), self.existing(id)?);
        blocking(move || Ok(container_stats(&context, &container))).await
    }

    /// CRI ListContainerStats: of containers that have not ended.
    pub fn containers_stats(&self, filter: &ContainerFilter) -> Result<Source<ContainerStats>> {
        let found = self.containers(filter)?;
        // One that has been removed since is left out.
        let alive = found
            .iter()
            .filter_map(|view| self.0.index.find_container(view.id.as_str()).ok().flatten())
            .filter(|container| counts(container));
        let jobs = alive.map(|container| {
            let context = Arc::clone(&self.0);
            Box::new(move || container_stats(&context, &container)) as Job<ContainerStats>
        });
        Ok(Source::new(jobs, &self.0.readers))
    }

    /// CRI PodSandboxStats.
    pub async fn sandbox_stats(&self, id: &str) -> Result<SandboxStats> {
        let (context, sandbox) = (Arc::clone(&self.0), self.existing_sandbox(id)?);
        let gone = Error::NotFound { what: "sandbox", id: sandbox.id.to_string() };
        blocking(move || {
            let pod = pods(&context, vec![sandbox]).pop().ok_or(gone)?;
            Ok(sandbox_stats(&context, &pod))
        })
        .await
    }

    /// CRI ListPodSandboxStats.
    pub fn sandboxes_stats(&self, filter: &SandboxFilter) -> Result<Source<SandboxStats>> {
        self.pods(filter, sandbox_stats)
    }

    /// What the metrics of one pod are made from.
    pub async fn sandbox_detail(&self, id: &str) -> Result<SandboxDetail> {
        self.0.check_recovered()?;
        let (context, sandbox) = (Arc::clone(&self.0), self.0.index.sandbox(id)?);
        let gone = Error::NotFound { what: "sandbox", id: sandbox.id.to_string() };
        blocking(move || {
            let pod = pods(&context, vec![sandbox]).pop().ok_or(gone)?;
            Ok(sandbox_detail(&context, &pod))
        })
        .await
    }

    /// What CRI's ListPodSandboxMetrics is made from.
    pub fn sandboxes_detail(&self) -> Result<Source<SandboxDetail>> {
        self.pods(&SandboxFilter::default(), sandbox_detail)
    }

    /// The file system that writable layers are on.
    pub async fn layer_fs(&self) -> Result<Option<LayerFs>> {
        let context = Arc::clone(&self.0);
        blocking(move || Ok(layer_fs(&context))).await
    }

    fn pods<T: Send + 'static>(
        &self,
        filter: &SandboxFilter,
        read: fn(&Context, &Pod) -> T,
    ) -> Result<Source<T>> {
        let found = self.sandboxes(filter)?;
        let there = |view: &Arc<SandboxView>| self.0.index.find_sandbox(view.id.as_str()).ok()?;
        let sandboxes = found.iter().filter_map(there).collect();
        let jobs = pods(&self.0, sandboxes).into_iter().map(|pod| {
            let context = Arc::clone(&self.0);
            Box::new(move || read(&context, &pod)) as Job<T>
        });
        Ok(Source::new(jobs, &self.0.readers))
    }
}
