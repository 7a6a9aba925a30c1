//! What a boot of the host takes away and a restart policy brings back.

use crate::spec::RestartPolicy;
use crate::{Engine, Record};

impl Engine {
    /// Starts what was started in an earlier boot and is to come back after one. For a daemon: a command
    /// that looks at containers starts none.
    pub async fn start_after_boot(&self) {
        let boot = self.0.boot.as_str();
        for container in self.containers() {
            if !comes_back(&container.record(), boot) {
                continue;
            }
            match self.start(container.id.as_str()).await {
                Ok(()) => tracing::info!(container = %container.id, "started again after a boot"),
                Err(error) => {
                    tracing::warn!(container = %container.id, %error, "not started after a boot");
                }
            }
        }
    }
}

fn comes_back(record: &Record, boot: &str) -> bool {
    if record.attempt.is_some() || record.removing || record.boot.is_empty() || record.boot == boot
    {
        return false;
    }
    let failed = record.last.as_ref().is_some_and(|last| last.exit_code != 0);
    match record.spec.restart {
        RestartPolicy::No => false,
        RestartPolicy::Always => true,
        RestartPolicy::UnlessStopped => !record.stopped,
        RestartPolicy::OnFailure { .. } => failed && !record.stopped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;

    #[test]
    fn what_comes_back() {
        for (policy, stopped, boot, expected) in [
            (RestartPolicy::No, false, "before", false),
            (RestartPolicy::Always, false, "before", true),
            (RestartPolicy::Always, true, "before", true),
            (RestartPolicy::Always, false, "now", false),
            (RestartPolicy::Always, false, "", false),
            (RestartPolicy::UnlessStopped, false, "before", true),
            (RestartPolicy::UnlessStopped, true, "before", false),
            (RestartPolicy::OnFailure { max: 0 }, false, "before", false),
        ] {
            let mut record = record("one");
            record.spec.restart = policy;
            (record.stopped, record.boot) = (stopped, boot.to_owned());
            assert_eq!(comes_back(&record, "now"), expected, "{policy:?} {stopped} {boot}");
        }
    }
}
