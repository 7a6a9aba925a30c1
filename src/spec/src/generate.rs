//! The spec itself.

use crate::{Inputs, Namespaces, SpecError};
use oci_spec::runtime::{Process, Spec};

/// The OCI runtime spec of a container.
pub fn container_spec(_inputs: &Inputs<'_>) -> Result<Spec, SpecError> {
    todo!()
}

/// The spec of a sandbox's init, for pods that share a PID namespace: an empty read-only root, no
/// capabilities; the shim's own reaping loop runs in it, so `args` is a placeholder.
pub fn sandbox_init_spec(
    _namespaces: &Namespaces,
    _hostname: &str,
    _cgroups_path: &str,
) -> Result<Spec, SpecError> {
    todo!()
}

/// The process of an exec in a container: the container's own with other arguments, no terminal
/// unless asked for.
pub fn process_for_exec(
    _spec: &Spec,
    _args: &[String],
    _terminal: bool,
) -> Result<Process, SpecError> {
    todo!()
}
