//! Devices by the names of the Container Device Interface: what vendors describe in files on the node
//! becomes edits of a container's spec.
//!
//! Facts of the format: CNCF's Container Device Interface specification, version 1.0.

mod edits;
mod format;
mod registry;

pub(crate) use registry::devices;

use crate::{Error, Result};
use oci_spec::runtime::Spec;
use orlop_spec::request::ContainerConfig;
use std::path::PathBuf;

/// Prefix of annotations that name devices.
const ANNOTATION: &str = "cdi.k8s.io/";

/// Edits the spec for every device that the request names; an error if one cannot be had whole.
pub(crate) fn inject(dirs: &[PathBuf], config: &ContainerConfig, spec: &mut Spec) -> Result<()> {
    let names = names(config);
    if names.is_empty() {
        return Ok(());
    }
    devices(dirs, &names)?.iter().try_for_each(|found| edits::apply(spec, found))
}

/// The names of the request's field, then those of its annotations, each once.
fn names(config: &ContainerConfig) -> Vec<String> {
    let annotated = config
        .annotations
        .iter()
        .filter(|(key, _)| key.starts_with(ANNOTATION))
        .flat_map(|(_, value)| value.split(',').map(|name| name.trim().to_owned()));
    let mut names: Vec<String> = Vec::new();
    for name in config.cdi_devices.iter().cloned().chain(annotated) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// A device that cannot be had.
fn unresolvable(device: &str, why: impl Into<String>) -> Error {
    Error::Invalid { field: "CDI_devices", value: device.to_owned(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::container_config;

    #[test]
    fn a_device_that_is_named_twice_is_injected_once() {
        let mut config = container_config("c");
        config.cdi_devices = vec!["v.com/c=a".into(), "v.com/c=b".into()];
        config.annotations.insert("cdi.k8s.io/plugin".into(), "v.com/c=b, v.com/c=c".into());
        config.annotations.insert("other/plugin".into(), "v.com/c=d".into());
        assert_eq!(names(&config), ["v.com/c=a", "v.com/c=b", "v.com/c=c"]);
    }
}
