//! Starting a container again, with no daemon to ask. A run that ends by itself is followed by another in
//! the same namespaces, on the same root and into the same log, as far as the policy says.
//!
//! For the Task service the container runs all the while: Wait answers at the last end, State tells the
//! present process (none between two runs). Who is attached sees the end of the run as the end of its
//! streams. The stop signal or SIGKILL through the service is somebody's wish: no run follows it.

use crate::container::process::Process;
use crate::container::state::{Event, State};
use crate::container::{Container, host_owner, load_spec, make_cgroup};
use crate::error::Refusal;
use crate::health::Health;
use crate::io::Io;
use crate::rpc::ReplyTo;
use crate::service::{Answer, empty, habits, stdio};
use crate::shim::{Shim, stage_refusal};
use crate::stage::{InitRequest, RootfsMount, spawn_init};
use orlop_model::ExitStatus;
use orlop_task::protocol::shim::{WatchRequest, WatchResponse};
use orlop_task::protocol::task::KillRequest;
use orlop_task::{Bundle, Restart, RunEnd, RunsRecord};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Milliseconds before the first further run; doubled each time.
const FIRST_DELAY: u64 = 100;
/// The longest such pause.
const LONGEST_DELAY: u64 = 60_000;
/// A run that lasted so long was good: the pauses begin anew.
const GOOD_RUN: u64 = 10_000;

const KILL: u32 = 9;

/// What we do for a container by ourselves.
#[derive(Debug)]
pub(crate) struct Supervised {
    policy: Restart,
    stop_signal: u32,
    pub(crate) health: Option<Health>,
    /// What its root is made of, once more for each run.
    rootfs: Vec<RootfsMount>,
    runs: RunsRecord,
    last: Option<ExitStatus>,
    delay: u64,
    /// When the next run begins, on the shim's clock.
    due: Option<u64>,
    /// When the present run began.
    began: u64,
    /// Memory kills before the present run.
    kills: u64,
    /// Somebody asked for its end.
    stopping: bool,
}

impl Supervised {
    /// From the bundle; `None`: nothing is asked for.
    pub(crate) fn of(bundle: &Path, rootfs: &[RootfsMount]) -> Result<Option<Box<Self>>, Refusal> {
        let asked = Bundle::new(bundle).supervision();
        let Some(asked) = asked.map_err(|error| Refusal::invalid(error.to_string()))? else {
            return Ok(None);
        };
        Ok(Some(Box::new(Self {
            policy: asked.restart,
            stop_signal: asked.stop_signal,
            health: asked.health.map(Health::new),
            rootfs: rootfs.to_vec(),
            runs: RunsRecord { version: 1, ..RunsRecord::default() },
            last: None,
            delay: FIRST_DELAY,
            due: None,
            began: 0,
            kills: 0,
            stopping: false,
        })))
    }

    pub(crate) fn probe(&self) -> Option<&Process> {
        self.health.as_ref().and_then(|health| health.probe.as_ref())
    }

    pub(crate) fn probe_mut(&mut self) -> Option<&mut Process> {
        self.health.as_mut().and_then(|health| health.probe.as_mut())
    }
}

impl Container {
    /// Whether it has been started again before.
    pub(crate) fn runs_again(&self) -> bool {
        self.supervised.as_ref().is_some_and(|supervised| supervised.runs.restarts > 0)
    }
}

impl Shim {
    fn supervised(&mut self) -> Option<&mut Supervised> {
        self.container.as_mut()?.supervised.as_deref_mut()
    }

    /// Whether this is the container's first process, in another run than the first.
    pub(crate) fn is_rerun(&self, key: u32) -> bool {
        self.container.as_ref().is_some_and(|one| one.init.key == key && one.runs_again())
    }

    /// Reads the bundle's wishes anew.
    pub(crate) fn supervise_anew(&mut self, id: &str) -> Answer {
        let container = self.container(id)?;
        let asked = Bundle::new(&container.bundle).supervision();
        let asked = asked.map_err(|error| Refusal::invalid(error.to_string()))?;
        match (&mut container.supervised, asked) {
            (Some(supervised), Some(asked)) => {
                supervised.policy = asked.restart;
                supervised.stop_signal = asked.stop_signal;
                empty()
            }
            _ => Err(Refusal::precondition(format!("container {id} is not supervised"))),
        }
    }

    /// Answers when there is something new.
    pub(crate) fn watch(&mut self, to: ReplyTo, request: &WatchRequest) -> Answer {
        self.container(&request.id)?;
        if request.seen != self.news {
            self.answer(to, &WatchResponse { seen: self.news });
        } else {
            self.watchers.push(to);
        }
        Ok(None)
    }

    /// Something is new.
    pub(crate) fn tell_news(&mut self) {
        self.news += 1;
        for to in std::mem::take(&mut self.watchers) {
            self.answer(to, &WatchResponse { seen: self.news });
        }
    }

    /// A run has begun.
    pub(crate) fn run_begun(&mut self) {
        let now = self.clock();
        let Some(container) = &mut self.container else { return };
        let (pid, at, kills) =
            (container.init.pid, container.init.started_at.0, container.memory_kills());
        let Some(supervised) = &mut container.supervised else { return };
        supervised.began = now;
        supervised.kills = kills;
        supervised.runs.pid = pid;
        supervised.runs.pid_start = orlop_sys::process::start_time(pid).unwrap_or(0);
        supervised.runs.started_at = at;
        supervised.runs.waiting = false;
        self.health_begins();
        self.keep_runs();
    }

    /// Writes what there is to know about the runs, and tells.
    fn keep_runs(&mut self) {
        let Some(container) = &self.container else { return };
        let Some(supervised) = &container.supervised else { return };
        if let Err(error) = Bundle::new(&container.bundle).write_runs(&supervised.runs) {
            crate::diagnostics::note(&error.to_string());
        }
        self.tell_news();
    }

    /// The container's first process has ended: whether another run follows.
    pub(crate) fn starts_again(&mut self) -> bool {
        let now = self.clock();
        self.drop_probe();
        let Some(container) = &mut self.container else { return false };
        let kills = container.memory_kills();
        let (Some(exit), begun) = (container.init.exit, container.init.started_at.0 != 0) else {
            return false;
        };
        let Some(supervised) = &mut container.supervised else { return false };
        let oom_killed = kills > supervised.kills;
        supervised.runs.last = Some(RunEnd { code: exit.code, at: exit.at.0, oom_killed });
        supervised.runs.pid = 0;
        supervised.runs.pid_start = 0;
        let again = begun
            && !supervised.stopping
            && supervised.policy.again(exit.code, supervised.runs.restarts);
        supervised.runs.waiting = again;
        if again {
            if now.saturating_sub(supervised.began) >= GOOD_RUN {
                supervised.delay = FIRST_DELAY;
            }
            supervised.due = Some(now.saturating_add(supervised.delay));
            supervised.delay = supervised.delay.saturating_mul(2).min(LONGEST_DELAY);
            supervised.last = Some(exit);
            self.between_runs();
        }
        self.keep_runs();
        again
    }

    /// Lets go of what belonged to the run.
    fn between_runs(&mut self) {
        self.run_late_hooks("stopped");
        let Some(container) = &mut self.container else { return };
        let init = &mut container.init;
        init.exit = None;
        init.pid = 0;
        // From Stopped, which the end has just made of it.
        let _ = init.happen(Event::Again);
    }

    /// A signal is on its way: notes that somebody wants the end. True when that is all there is to do.
    pub(crate) fn end_asked(&mut self, request: &mut KillRequest) -> Result<bool, Refusal> {
        let container = self.container(&request.id)?;
        let (state, again, key) =
            (container.init.state, container.runs_again(), container.init.key);
        let Some(supervised) = &mut container.supervised else { return Ok(false) };
        if request.signal != KILL && request.signal != supervised.stop_signal {
            return Ok(false);
        }
        supervised.stopping = true;
        match state {
            State::Waiting => {
                supervised.due = None;
                supervised.runs.waiting = false;
                container.init.exit = supervised.last;
                container.init.happen(Event::Exit)?;
                self.keep_runs();
                self.end_for_good(key);
                Ok(true)
            }
            State::Creating | State::Created | State::Starting if again => {
                // Nothing of the workload runs that could heed a signal.
                request.signal = KILL;
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    /// Milliseconds until the next thing to do by ourselves.
    pub(crate) fn next_duty(&self) -> Option<u64> {
        let supervised = self.container.as_ref()?.supervised.as_ref()?;
        let health = supervised.health.as_ref().and_then(Health::next);
        let at = supervised.due.into_iter().chain(health).min()?;
        Some(at.saturating_sub(self.clock()))
    }

    /// Does what is due.
    pub(crate) fn do_duties(&mut self) {
        let now = self.clock();
        let Some(supervised) = self.supervised() else { return };
        if supervised.due.is_some_and(|due| due <= now) && self.last_words_told(now) {
            let Some(supervised) = self.supervised() else { return };
            supervised.due = None;
            supervised.runs.restarts = supervised.runs.restarts.saturating_add(1);
            self.run_again();
        }
        self.look_after_health(now);
    }

    /// Whether whoever waits for all of the last run's output has it; else the next one waits too.
    fn last_words_told(&mut self, now: u64) -> bool {
        let Self { poller, container: Some(container), .. } = self else { return true };
        let Some(io) = &mut container.init.io else { return true };
        if !io.waits_for_reader() {
            io.close(poller);
            return true;
        }
        if let Some(supervised) = &mut container.supervised {
            supervised.due = Some(now.saturating_add(FIRST_DELAY));
        }
        false
    }

    /// Another run, up to its exec, which [`Self::release_again`] lets go.
    fn run_again(&mut self) {
        let key = self.key();
        let Some(container) = &mut self.container else { return };
        if container.init.happen(Event::Rerun).is_err() {
            return;
        }
        container.init.key = key;
        if let Err(refusal) = self.stage_again(key) {
            self.start_failed(key, refusal);
        }
    }

    fn stage_again(&mut self, key: u32) -> Result<(), Refusal> {
        let Self { poller, container: Some(container), hierarchies, self_exe, .. } = self else {
            return Err(Refusal::internal("the container has gone"));
        };
        let Some(supervised) = &container.supervised else {
            return Err(Refusal::internal("the container is not supervised"));
        };
        let spec = load_spec(&container.bundle)?;
        let owner =
            spec.process().as_ref().map_or((0, 0), |process| host_owner(&spec, process.user()));
        let (io, ends) =
            Io::prepare(key, &container.init.paths, habits(&container.options), owner)?;
        supervised.rootfs.iter().for_each(forget_mount);
        let hierarchies =
            hierarchies.as_ref().ok_or_else(|| Refusal::internal("no control groups"))?;
        // systemd ends a scope with its last process.
        let remade = !container.cgroup.exists();
        if remade {
            container.cgroup = make_cgroup(hierarchies, &spec, &container.id)?;
        }
        let staged = spawn_init(&InitRequest {
            spec: &spec,
            bundle: &container.bundle,
            rootfs: &supervised.rootfs,
            stdio: stdio(&spec, container.init.paths.terminal, &ends),
            cgroup: Some(&container.cgroup),
            init_only: container.options.init,
            reaper: container.options.reaper,
            hooks: container.hooked.as_ref().and_then(|hooked| hooked.hooks.before_entry()),
            self_exe: self_exe.as_fd(),
        });
        container.cgroup.inhabited();
        container.init.adopt(poller, staged.map_err(stage_refusal)?, io)?;
        if remade {
            container.watch_memory(poller);
        }
        Ok(())
    }

    /// The stage of another run is ready: nobody has to be waited for.
    pub(crate) fn release_again(&mut self, key: u32) {
        let Some(container) = &mut self.container else { return };
        if container.init.happen(Event::Start).is_err() {
            return;
        }
        if let Err(refusal) = self.run_start_hooks() {
            self.start_failed(key, refusal);
            return;
        }
        let staged = self.container.as_mut().and_then(|one| one.init.staged.as_mut());
        if let Some(Err(error)) = staged.map(crate::stage::Staged::release) {
            self.start_failed(key, stage_refusal(error));
        }
    }
}

/// overlayfs does not mount a layer again that was mounted as `volatile`, since after a crash of the
/// host its content may not be whole. Here the host has not crashed: we are still there.
fn forget_mount(mount: &RootfsMount) {
    let work = mount.options.iter().find_map(|option| option.strip_prefix("workdir="));
    if let (Some(work), true) = (work, mount.options.iter().any(|option| option == "volatile")) {
        // Not being there is as good; anything else the mount tells better.
        let _ = std::fs::remove_dir(PathBuf::from(work).join("work/incompat/volatile"));
    }
}
