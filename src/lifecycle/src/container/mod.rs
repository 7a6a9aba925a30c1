//! A container: its facts, its shim, and the task that watches over it.

mod checkpoint;
mod create;
mod diff;
mod exec;
mod mounts;
mod process;
mod remove;
mod runs;
mod session;
mod signal;
mod start;
mod stop;
mod supervise;
mod update;
mod volumes;

pub(crate) use checkpoint::checkpoint;
pub(crate) use create::{create, make_bundle, write_spec};
use exec::running_client as process_of;
pub(crate) use exec::{exec_process, exec_sync, reopen_log};
pub(crate) use process::{cgroup_path, lies_in, pod_cgroup};
pub use process::{set_default_seccomp, user_table};
pub(crate) use remove::remove;
pub(crate) use runs::{Watched, set_restart, watch_runs};
pub(crate) use session::{attach_session, check_running, exec_session};
pub(crate) use signal::{pause, resume, signal};
pub(crate) use start::start;
pub(crate) use stop::{end, stop};
pub(crate) use supervise::{ask_to_leave, conclude, force_out, left_behind, retire, supervise};
pub(crate) use update::update;
pub(crate) use volumes::remove_layers;

use crate::kept::Kept;
use crate::state::{ContainerRecord, container_state, verdict};
use crate::stats::CpuRate;
use crate::{ContainerState, ContainerView, Error};
use oci_spec::runtime::Spec;
use orlop_model::{ContainerId, SandboxId};
use orlop_spec::request::Owner;
use orlop_task::Client;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use tokio::sync::{Mutex, Notify, watch};

/// How far a container's life is; it only ever advances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Its init waits to be let go.
    Created,
    /// Its program runs.
    Running,
    /// It is over, and that is recorded.
    Ended,
    /// Its shim and cgroup are gone too.
    Retired,
}

/// What is known of the shim.
pub(crate) enum Link {
    /// It answers.
    Up(Client),
    /// It exists, as far as is known, but has not answered.
    Silent,
    /// There is none any more.
    Down,
}

/// One container.
pub(crate) struct Container {
    pub(crate) id: ContainerId,
    pub(crate) owner: Owner,
    pub(crate) sandbox: SandboxId,
    pub(crate) facts: Kept<ContainerRecord>,
    pub(crate) bundle: PathBuf,
    /// Held by start and removal, which exclude each other.
    pub(crate) turn: Mutex<()>,
    /// The stop signal has been sent; once is enough however often a stop is asked for.
    pub(crate) stop_signalled: AtomicBool,
    /// SIGKILL has been or is about to be sent: no new exec.
    pub(crate) killing: AtomicBool,
    pub(crate) cpu_rate: CpuRate,
    phase: watch::Sender<Phase>,
    link: RwLock<Link>,
    link_changed: Notify,
    view: RwLock<Arc<ContainerView>>,
    /// The spec's process, for exec.
    process: OnceLock<Spec>,
    /// What the shim does by itself, as last read.
    watched: RwLock<Watched>,
}

impl Container {
    pub(crate) fn new(facts: Kept<ContainerRecord>, bundle: PathBuf, link: Link) -> Self {
        let now = facts.get();
        let phase = match (&now.end, now.started_at) {
            (Some(_), _) => Phase::Ended,
            (None, Some(_)) => Phase::Running,
            (None, None) => Phase::Created,
        };
        let view = derive(&now, &link, &bundle, &Watched::default());
        Self {
            id: now.id.clone(),
            owner: now.config.extras.owner,
            sandbox: now.sandbox.clone(),
            facts,
            bundle,
            turn: Mutex::new(()),
            stop_signalled: AtomicBool::new(false),
            killing: AtomicBool::new(false),
            cpu_rate: CpuRate::default(),
            phase: watch::Sender::new(phase),
            link: RwLock::new(link),
            link_changed: Notify::new(),
            view: RwLock::new(Arc::new(view)),
            process: OnceLock::new(),
            watched: RwLock::default(),
        }
    }

    /// What the world sees.
    pub(crate) fn view(&self) -> Arc<ContainerView> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn state(&self) -> ContainerState {
        self.view().state
    }

    /// The connection to its shim, if that answers.
    pub(crate) fn client(&self) -> Option<Client> {
        match &*self.link.read().unwrap_or_else(PoisonError::into_inner) {
            Link::Up(client) => Some(client.clone()),
            Link::Silent | Link::Down => None,
        }
    }

    pub(crate) fn is_silent(&self) -> bool {
        matches!(&*self.link.read().unwrap_or_else(PoisonError::into_inner), Link::Silent)
    }

    pub(crate) fn set_link(&self, link: Link) {
        *self.link.write().unwrap_or_else(PoisonError::into_inner) = link;
        self.refresh();
        self.link_changed.notify_waiters();
    }

    /// Returns once it is known whether there is a shim.
    pub(crate) async fn known(&self) {
        loop {
            // Made before the look, so that no change in between is missed.
            let changed = self.link_changed.notified();
            if !self.is_silent() {
                return;
            }
            changed.await;
        }
    }

    /// Adds to the facts, then shows it.
    pub(crate) async fn observe(&self, change: impl FnOnce(&mut ContainerRecord)) {
        self.facts.observe(change).await;
        self.refresh();
    }

    /// Derives the view anew. Under the view's lock, so that an older one never replaces a newer one.
    fn refresh(&self) {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let link = self.link.read().unwrap_or_else(PoisonError::into_inner);
        let watched = self.watched.read().unwrap_or_else(PoisonError::into_inner);
        *view = Arc::new(derive(&self.facts.get(), &link, &self.bundle, &watched));
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Advances; a phase that is behind already changes nothing.
    pub(crate) fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let ahead = to > *phase;
            *phase = (*phase).max(to);
            ahead
        });
    }

    /// Returns once the container has come to `phase`.
    pub(crate) async fn reached(&self, phase: Phase) {
        let mut phases = self.phase.subscribe();
        // The sender lives in `self`, so the channel cannot close meanwhile.
        let _ = phases.wait_for(|now| *now >= phase).await;
    }

    /// The call needs another state than this one.
    pub(crate) fn wrong_state(&self, expected: &'static str) -> Error {
        Error::WrongState { id: self.id.clone(), state: self.state().as_str(), expected }
    }

    pub(crate) fn remember_process(&self, spec: Spec) -> &Spec {
        self.process.get_or_init(|| spec)
    }

    pub(crate) fn remembered_process(&self) -> Option<&Spec> {
        self.process.get()
    }
}

fn derive(
    facts: &ContainerRecord,
    link: &Link,
    bundle: &std::path::Path,
    watched: &Watched,
) -> ContainerView {
    let state = container_state(facts, !matches!(link, Link::Silent));
    let (exit_code, reason) = facts.end.as_ref().map_or((0, ""), |end| verdict(&end.how));
    ContainerView {
        id: facts.id.clone(),
        sandbox: facts.sandbox.clone(),
        config: Arc::clone(&facts.config),
        state,
        created_at: facts.created_at,
        started_at: watched.began().or(facts.started_at).unwrap_or_default(),
        finished_at: facts.end.as_ref().map_or_else(Default::default, |end| end.at),
        exit_code,
        reason: reason.to_owned(),
        message: facts.end.as_ref().map_or_else(String::new, |end| end.message.clone()),
        pid: watched.pid(facts.pid).filter(|_| facts.end.is_none()),
        image_id: facts.image_id.clone(),
        image_name: facts.image_name.clone(),
        image_ref: facts.image_ref.clone(),
        log_path: facts.log_path.clone(),
        user: facts.user.clone(),
        resources: facts.resources().clone(),
        stop_signal: facts.stop_signal,
        cgroup: facts.cgroup.clone(),
        volume_images: facts.volume_images.clone(),
        bundle: bundle.to_owned(),
        runs: watched.runs.clone(),
        health: watched.health.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Records;
    use crate::state::tests::container_facts;
    use crate::state::{End, How};
    use orlop_model::Timestamp;

    #[tokio::test]
    async fn the_view_follows_the_facts() {
        let temp = tempfile::tempdir().unwrap();
        let (main, copies) = (temp.path().join("main"), temp.path().join("copies"));
        let dir = Arc::new(Records::open(&main, &copies).unwrap());
        let facts = Kept::create(dir, "c1", container_facts()).await.unwrap();
        let container = Container::new(facts, "/b".into(), Link::Down);
        assert_eq!(container.state(), ContainerState::Created);
        container.observe(|facts| facts.started_at = Some(Timestamp(20))).await;
        assert_eq!(container.state(), ContainerState::Running);
        container.set_link(Link::Silent);
        assert_eq!(container.state(), ContainerState::Unknown);
        container
            .observe(|facts| {
                let how = How::Exited { code: 137, oom: true };
                facts.end = Some(End { how, at: Timestamp(30), message: "m".into() });
            })
            .await;
        let view = container.view();
        assert_eq!(
            (view.state, view.exit_code, view.reason.as_str()),
            (ContainerState::Exited, 137, "OOMKilled")
        );
        assert_eq!((view.started_at.0, view.finished_at.0, view.pid), (20, 30, None));
    }

    #[tokio::test]
    async fn phases_only_advance() {
        let temp = tempfile::tempdir().unwrap();
        let (main, copies) = (temp.path().join("main"), temp.path().join("copies"));
        let dir = Arc::new(Records::open(&main, &copies).unwrap());
        let facts = Kept::create(dir, "c1", container_facts()).await.unwrap();
        let container = Container::new(facts, "/b".into(), Link::Down);
        container.advance(Phase::Ended);
        container.advance(Phase::Running);
        assert_eq!(container.phase(), Phase::Ended);
        container.reached(Phase::Running).await;
    }
}
