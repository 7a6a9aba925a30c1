//! Start, stop and what lies between.

use crate::attempt;
use crate::container::to_the_end;
use crate::engine::Inner;
use crate::location::Location;
use crate::state::State;
use crate::{Container, Engine, Error, Result};
use orlop_lifecycle::{ContainerState, ContainerView};
use orlop_model::Signal;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::timeout;

/// Seconds between the stop signal and SIGKILL where nobody says.
const STOP_TIMEOUT: u32 = 10;
/// What a process that got SIGKILL may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

impl Engine {
    /// Makes the attempt that the next [`Self::start`] lets go, so that somebody can attach before the
    /// program's first word. Where it runs already it is only located.
    pub async fn prepare(&self, text: &str) -> Result<Location> {
        let (inner, container) = (Arc::clone(&self.0), self.find(text)?);
        to_the_end(async move {
            let _turn = container.turn.lock().await;
            refuse_removing(&container)?;
            attempt::make_log_dir(inner.log_dir(&container.id)).await?;
            attempt::prepare(&inner, &container).await?;
            Ok(inner.locate(&container))
        })
        .await
    }

    /// Starts a container. One that runs is left as it is.
    pub async fn start(&self, text: &str) -> Result<()> {
        let (inner, container) = (Arc::clone(&self.0), self.find(text)?);
        to_the_end(async move {
            let _turn = container.turn.lock().await;
            start(&inner, &container).await
        })
        .await
    }

    /// The stop signal (`None`: the container's own), the timeout in seconds (`None`: the container's
    /// own; negative: without end), SIGKILL. One that does not run is left as it is.
    pub async fn stop(&self, text: &str, signal: Option<Signal>, limit: Option<i32>) -> Result<()> {
        let (inner, container) = (Arc::clone(&self.0), self.find(text)?);
        to_the_end(async move { stop(&inner, &container, signal, limit).await }).await
    }

    /// Stop, then start.
    pub async fn restart(
        &self,
        text: &str,
        signal: Option<Signal>,
        limit: Option<i32>,
    ) -> Result<()> {
        let (inner, container) = (Arc::clone(&self.0), self.find(text)?);
        to_the_end(async move {
            container.restarting.store(true, Ordering::Release);
            let halted = halt(&inner, &container, signal, limit).await;
            let _turn = container.turn.lock().await;
            let started = match halted {
                Ok(_) => start(&inner, &container).await,
                Err(error) => Err(error),
            };
            container.restarting.store(false, Ordering::Release);
            started?;
            inner.emit(&container, "restart", |event| event);
            Ok(())
        })
        .await
    }

    /// One signal. SIGKILL is waited for.
    pub async fn kill(&self, text: &str, signal: Signal) -> Result<()> {
        let (inner, container) = (Arc::clone(&self.0), self.find(text)?);
        to_the_end(async move {
            let view = running(&inner, &container)?;
            let number = signal.number();
            if signal == Signal::KILL {
                thaw(&inner, &container, &view).await?;
                container.observe(|facts| facts.stopped = true).await;
            }
            inner.runtime.signal_container(view.id.as_str(), signal).await?;
            inner.emit(&container, "kill", |event| event.with("signal", number.to_string()));
            if signal == Signal::KILL {
                let _ = timeout(KILL_PATIENCE, over(&inner, &container)).await;
                super::ended(&inner, &container).await;
            }
            Ok(())
        })
        .await
    }

    /// Freezes a container.
    pub async fn pause(&self, text: &str) -> Result<()> {
        let (inner, container) = (Arc::clone(&self.0), self.find(text)?);
        to_the_end(async move {
            let _turn = container.turn.lock().await;
            let view = running(&inner, &container)?;
            if inner.status_of(&container.record()).state == State::Paused {
                return Err(state_error(&container, "is paused already"));
            }
            // First: a command that ends here leaves one that runs and is called paused, which
            // `unpause` mends; the other way round nobody would know why it does not answer.
            set_paused(&container, true).await?;
            if let Err(error) = inner.runtime.pause_container(view.id.as_str()).await {
                set_paused(&container, false).await?;
                return Err(error.into());
            }
            inner.emit(&container, "pause", |event| event);
            Ok(())
        })
        .await
    }

    /// Undoes [`Self::pause`].
    pub async fn unpause(&self, text: &str) -> Result<()> {
        let (inner, container) = (Arc::clone(&self.0), self.find(text)?);
        to_the_end(async move {
            let _turn = container.turn.lock().await;
            let view = running(&inner, &container)?;
            if inner.status_of(&container.record()).state != State::Paused {
                return Err(state_error(&container, "is not paused"));
            }
            thaw(&inner, &container, &view).await?;
            inner.emit(&container, "unpause", |event| event);
            Ok(())
        })
        .await
    }

    /// Where a container's shim and streams are.
    pub fn locate(&self, container: &Container) -> Location {
        self.0.locate(container)
    }
}

impl Inner {
    pub(crate) fn locate(&self, container: &Container) -> Location {
        let record = container.record();
        let view = self.attempt_of(&record);
        let running = self.status_of(&record).state.lives();
        Location {
            id: record.id.to_string(),
            name: record.name.clone(),
            task: view.as_ref().map_or_else(String::new, |view| view.id.to_string()),
            bundle: view.map(|view| view.bundle.clone()),
            running,
            tty: record.spec.tty,
            stdin: record.spec.stdin,
            log: (!record.spec.no_log).then(|| self.log_dir(&record.id).join("log")),
        }
    }
}

async fn start(inner: &Arc<Inner>, container: &Arc<Container>) -> Result<()> {
    refuse_removing(container)?;
    attempt::make_log_dir(inner.log_dir(&container.id)).await?;
    let view = attempt::prepare(inner, container).await?;
    if view.state == ContainerState::Created {
        attempt::go(inner, container, &view).await?;
    }
    Ok(())
}

async fn stop(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    signal: Option<Signal>,
    limit: Option<i32>,
) -> Result<()> {
    // Before the end: whoever sees that knows that it was asked for.
    if !container.record().stopped {
        container.observe(|facts| facts.stopped = true).await;
    }
    if halt(inner, container, signal, limit).await? {
        inner.emit(container, "stop", |event| event);
    }
    super::ended(inner, container).await;
    Ok(())
}

/// Ends the program. Whether one ran. Without the container's turn, so that a stop that waits does not
/// keep others from killing.
pub(super) async fn halt(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    signal: Option<Signal>,
    limit: Option<i32>,
) -> Result<bool> {
    let Some(view) = inner.attempt_of(&container.record()) else { return Ok(false) };
    if view.state == ContainerState::Exited {
        return Ok(false);
    }
    if view.state == ContainerState::Created {
        // Prepared and never let go.
        inner.runtime.remove_container(view.id.as_str()).await?;
        return Ok(false);
    }
    thaw(inner, container, &view).await?;
    let own = container.record().spec.stop_timeout.unwrap_or(STOP_TIMEOUT);
    let seconds = limit.map_or(i64::from(own), i64::from);
    let seconds = if seconds < 0 { i64::from(u32::MAX) } else { seconds };
    if let Some(signal) = signal {
        inner.runtime.signal_container(view.id.as_str(), signal).await?;
        let grace = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        if timeout(grace, over(inner, container)).await.is_ok() {
            return Ok(true);
        }
        inner.runtime.stop_container(view.id.as_str(), 0).await?;
    } else {
        inner.runtime.stop_container(view.id.as_str(), seconds).await?;
    }
    Ok(true)
}

/// Returns when the present attempt has ended.
async fn over(inner: &Arc<Inner>, container: &Arc<Container>) {
    let mut changes = container.changes();
    loop {
        changes.borrow_and_update();
        let view = inner.attempt_of(&container.record());
        if view.is_none_or(|view| view.state == ContainerState::Exited) {
            return;
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// A frozen process takes no signal.
async fn thaw(inner: &Inner, container: &Container, view: &ContainerView) -> Result<()> {
    let paused = container.record().attempt.as_ref().is_some_and(|attempt| attempt.paused);
    if paused {
        inner.runtime.resume_container(view.id.as_str()).await?;
        set_paused(container, false).await?;
    }
    Ok(())
}

async fn set_paused(container: &Container, paused: bool) -> Result<()> {
    container
        .change(|facts| {
            if let Some(attempt) = &mut facts.attempt {
                attempt.paused = paused;
            }
        })
        .await
}

fn running(inner: &Inner, container: &Container) -> Result<Arc<ContainerView>> {
    let view = inner.attempt_of(&container.record());
    view.filter(|view| view.started_at.0 != 0 && view.state != ContainerState::Exited)
        .ok_or_else(|| state_error(container, "is not running"))
}

fn state_error(container: &Container, why: &str) -> Error {
    Error::State { what: "container", name: container.name(), why: why.to_owned() }
}

fn refuse_removing(container: &Container) -> Result<()> {
    if container.record().removing {
        return Err(state_error(container, "is being removed"));
    }
    Ok(())
}
