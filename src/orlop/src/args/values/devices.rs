//! `--device`.

use orlop_engine::spec::Device;

/// `/dev/a`, `/dev/a:/dev/b`, `/dev/a:rw`, `/dev/a:/dev/b:rwm`, or the name of a CDI device such as
/// `nvidia.com/gpu=all`.
pub(crate) fn device(text: &str) -> Result<Device, String> {
    if let Some((kind, name)) = text.split_once('=')
        && !text.starts_with('/')
    {
        let (vendor, class) = kind.split_once('/').unwrap_or_default();
        if vendor.is_empty() || class.is_empty() || name.is_empty() {
            return Err("expected a CDI device as VENDOR/CLASS=NAME".into());
        }
        return Ok(Device {
            host: text.into(),
            container: String::new(),
            permissions: String::new(),
        });
    }
    let mut parts = text.split(':');
    let host = parts.next().unwrap_or_default();
    let (container, permissions) = match (parts.next(), parts.next(), parts.next()) {
        (None, ..) => (host, "rwm"),
        (Some(only), None, _) if is_permissions(only) => (host, only),
        (Some(path), None, _) => (path, "rwm"),
        (Some(path), Some(permissions), None) if is_permissions(permissions) => (path, permissions),
        (_, Some(permissions), None) => {
            return Err(format!("{permissions} is not made of r, w and m"));
        }
        _ => return Err(FORM.into()),
    };
    if !host.starts_with('/') || !container.starts_with('/') {
        return Err(FORM.into());
    }
    let owned = str::to_owned;
    Ok(Device { host: owned(host), container: owned(container), permissions: owned(permissions) })
}

const FORM: &str =
    "expected HOST-PATH[:CONTAINER-PATH][:rwm], or a CDI device as VENDOR/CLASS=NAME";

fn is_permissions(text: &str) -> bool {
    let all = ['r', 'w', 'm'];
    !text.is_empty()
        && text.chars().all(|c| all.contains(&c))
        && all.iter().all(|c| text.matches(*c).count() <= 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, host, container, permissions) in [
            ("/dev/a", "/dev/a", "/dev/a", "rwm"),
            ("/dev/a:/dev/b", "/dev/a", "/dev/b", "rwm"),
            ("/dev/a:r", "/dev/a", "/dev/a", "r"),
            ("/dev/a:/dev/b:rw", "/dev/a", "/dev/b", "rw"),
            ("nvidia.com/gpu=all", "nvidia.com/gpu=all", "", ""),
        ] {
            let got = device(text).unwrap();
            assert_eq!(
                (got.host.as_str(), got.container.as_str(), got.permissions.as_str()),
                (host, container, permissions),
                "{text}"
            );
        }
        for wrong in ["", "dev/a", "/dev/a:b", "/dev/a:/dev/b:x", "/dev/a:/b:r:w", "gpu=all"] {
            assert!(device(wrong).is_err(), "{wrong}");
        }
    }
}
