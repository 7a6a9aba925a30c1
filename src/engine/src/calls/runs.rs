//! What a container's shim does by itself, as events.

use crate::engine::Inner;
use orlop_lifecycle::{Event, EventKind};
use orlop_model::ContainerId;

impl Inner {
    /// A run has ended or begun, or health is another: tells whoever listens.
    pub(crate) fn tell_run(&self, event: &Event) {
        let of_event = |view: &&std::sync::Arc<orlop_lifecycle::ContainerView>| {
            Some(&view.id) == event.container.as_ref()
        };
        let Some(view) = event.containers.iter().find(of_event) else { return };
        let id = ContainerId::parse(&view.config.metadata.name).ok();
        let Some(container) = id.and_then(|id| self.index.get(&id)) else { return };
        match event.kind {
            EventKind::RunEnded => {
                let last = view.runs.as_ref().and_then(|runs| runs.last);
                let code = last.map_or(0, |end| end.code);
                self.emit(&container, "die", |event| event.with("exitCode", code.to_string()));
            }
            EventKind::RunStarted => self.emit(&container, "start", |event| event),
            EventKind::Health => {
                let Some(health) = &view.health else { return };
                let action = format!("health_status: {}", health.status.as_str());
                self.emit(&container, &action, |event| event);
            }
            _ => return,
        }
        container.poke();
    }
}
