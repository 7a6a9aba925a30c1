//! What a list call asks for. All given parts must hold (CRI: filters are joined by AND).

use crate::{ContainerState, ContainerView, SandboxState, SandboxView};
use orlop_spec::request::Map;

/// Which sandboxes; the default is all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SandboxFilter {
    /// An id, or a prefix that only one id has; anything else matches nothing.
    pub id: Option<String>,
    /// State.
    pub state: Option<SandboxState>,
    /// Labels that must be there with these values.
    pub labels: Map,
}

/// Which containers; the default is all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerFilter {
    /// An id, or a prefix that only one id has; anything else matches nothing.
    pub id: Option<String>,
    /// Sandbox id, or a prefix that only one has.
    pub sandbox: Option<String>,
    /// State.
    pub state: Option<ContainerState>,
    /// Labels that must be there with these values.
    pub labels: Map,
}

impl SandboxFilter {
    /// Whether state and labels fit; ids are resolved by the index.
    pub(crate) fn fits(&self, view: &SandboxView) -> bool {
        self.state.is_none_or(|state| state == view.state)
            && labels_fit(&self.labels, &view.config.labels)
    }
}

impl ContainerFilter {
    /// Whether state and labels fit; ids are resolved by the index.
    pub(crate) fn fits(&self, view: &ContainerView) -> bool {
        self.state.is_none_or(|state| state == view.state)
            && labels_fit(&self.labels, &view.config.labels)
    }
}

fn labels_fit(wanted: &Map, labels: &Map) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}
