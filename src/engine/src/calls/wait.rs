//! Waiting for an end.

use crate::{Engine, Result};
use orlop_model::Timestamp;
use std::sync::Arc;

/// What is waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Until {
    /// It does not run, also where it has not yet.
    #[default]
    NotRunning,
    /// It ends once from now on.
    NextExit,
    /// It is removed.
    Removed,
}

impl Engine {
    /// Exit code and error of the container, once what is waited for has come.
    pub async fn wait(&self, text: &str, until: Until) -> Result<(i32, String)> {
        let (inner, container) = (Arc::clone(&self.0), self.find(text)?);
        let mut changes = container.changes();
        let before = inner.status_of(&container.record()).finished_at;
        loop {
            changes.borrow_and_update();
            let status = inner.status_of(&container.record());
            let forgotten = container.is_forgotten().await;
            let over = match until {
                Until::NotRunning => !status.state.lives(),
                Until::NextExit => {
                    status.finished_at != before && status.finished_at != Timestamp(0)
                }
                Until::Removed => false,
            };
            if over || forgotten || changes.changed().await.is_err() {
                return Ok((status.exit_code, status.error));
            }
        }
    }
}
