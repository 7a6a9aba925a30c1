//! What this version cannot give is refused, never left out.

use crate::spec::MountSource;
use crate::{ContainerSpec, Error, Result};
use oci_spec::image::ImageConfiguration;

/// The image that is here is one for the platform that was asked for.
pub(super) fn platform(spec: &ContainerSpec, image: &ImageConfiguration) -> Result<()> {
    let Some(asked) = &spec.platform else { return Ok(()) };
    let mut parts = asked.split('/');
    let (os, architecture) = (parts.next().unwrap_or_default(), parts.next());
    let (its_os, its_architecture) = (image.os().to_string(), image.architecture().to_string());
    let fits = architecture.is_none_or(|architecture| architecture == its_architecture);
    if its_os == os && fits {
        return Ok(());
    }
    Err(Error::Invalid {
        field: "platform",
        value: asked.clone(),
        why: format!("the image that is here is for {its_os}/{its_architecture}"),
    })
}

/// Namespaces and mounts.
pub(super) fn modes(spec: &ContainerSpec) -> Result<()> {
    let wrong = |field, value: &str, why: &str| {
        Err(Error::Invalid { field, value: value.to_owned(), why: why.to_owned() })
    };
    if !matches!(spec.ipc.as_str(), "" | "host" | "private" | "shareable" | "none") {
        let why = "share a pod (--pod), or use host, private, shareable or none";
        return wrong("ipc", &spec.ipc, why);
    }
    let joins = spec.pid.starts_with("container:");
    if !joins && !matches!(spec.pid.as_str(), "" | "private" | "host") {
        return wrong("pid", &spec.pid, "use host or container:NAME");
    }
    if !matches!(spec.userns.as_str(), "" | "host") {
        let why = "only the host's user namespace is there yet: use host";
        return wrong("userns", &spec.userns, why);
    }
    for mount in &spec.mounts {
        if let MountSource::Bind { path, non_recursive: true, .. } = &mount.source {
            let why = "what is mounted below it cannot be left out yet: bind it recursively";
            return wrong("mount", &path.display().to_string(), why);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_said() {
        type Change = fn(&mut ContainerSpec);
        let cases: [(Change, bool); 6] = [
            (|_| {}, true),
            (|spec| spec.ipc = "container:x".into(), false),
            (|spec| spec.pid = "container:x".into(), true),
            (|spec| spec.pid = "x".into(), false),
            (|spec| spec.userns = "auto".into(), false),
            (|spec| spec.userns = "host".into(), true),
        ];
        for (number, (change, fine)) in cases.into_iter().enumerate() {
            let mut spec = ContainerSpec::default();
            change(&mut spec);
            assert_eq!(modes(&spec).is_ok(), fine, "case {number}");
        }
        let spec = ContainerSpec { platform: Some("plan9/mips".into()), ..Default::default() };
        assert!(platform(&spec, &ImageConfiguration::default()).is_err());
    }
}
