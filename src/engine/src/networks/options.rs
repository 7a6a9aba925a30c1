//! Options of a bridge network, by the names that Docker gave them.

use crate::spec::NetworkSpec;
use crate::{Error, Result};

/// What of the options has a meaning here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// Name of the device; `None`: derived from the id.
    pub bridge: Option<String>,
    pub masquerade: bool,
    pub mtu: u32,
}

const NAME: &str = "com.docker.network.bridge.name";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const ICC: &str = "com.docker.network.bridge.enable_icc";
const MTU: [&str; 2] = ["com.docker.network.driver.mtu", "mtu"];
/// Longest name of a device.
const MAX_DEVICE: usize = 15;

/// Reads them; one that is not known is refused, as it would change nothing.
pub(super) fn read(spec: &NetworkSpec) -> Result<Options> {
    let mut options = Options { bridge: None, masquerade: true, mtu: 0 };
    for (name, value) in &spec.options {
        let wrong = |why: &str| Error::Invalid {
            field: "opt",
            value: format!("{name}={value}"),
            why: why.to_owned(),
        };
        match name.as_str() {
            NAME => {
                let plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
                if value.is_empty() || value.len() > MAX_DEVICE || !plain || value.starts_with('.')
                {
                    return Err(wrong("use 1 to 15 letters, digits, '-', '_' and '.'"));
                }
                options.bridge = Some(value.clone());
            }
            MASQUERADE => {
                options.masquerade = flag(value).ok_or_else(|| wrong("use true or false"))?
            }
            ICC if flag(value) == Some(true) => {}
            ICC => {
                return Err(wrong(
                    "containers of a network reach each other: put them on networks of their own",
                ));
            }
            name if MTU.contains(&name) => {
                let mtu = value.parse().ok().filter(|mtu| (68..=65_535).contains(mtu));
                options.mtu = mtu.ok_or_else(|| wrong("use a number from 68 to 65535"))?;
            }
            _ => {
                return Err(wrong(&format!(
                    "it is not known: use {NAME}, {MASQUERADE} or {}",
                    MTU[0]
                )));
            }
        }
    }
    Ok(options)
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Result<Options> {
        let options = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        read(&NetworkSpec { options: options.collect(), ..NetworkSpec::default() })
    }

    #[test]
    fn what_kind_asks_for() {
        let asked = options(&[(MASQUERADE, "true"), (MTU[0], "1500")]).unwrap();
        assert_eq!(asked, Options { bridge: None, masquerade: true, mtu: 1500 });
        assert_eq!(options(&[(NAME, "br0")]).unwrap().bridge.as_deref(), Some("br0"));
    }

    #[test]
    fn mistakes_are_named() {
        for (pair, words) in [
            ((NAME, "a/b"), "15 letters"),
            ((NAME, "a-name-that-is-too-long"), "15 letters"),
            ((MASQUERADE, "maybe"), "true or false"),
            ((MTU[0], "20"), "68"),
            ((ICC, "false"), "own"),
            (("nonsense", "1"), MTU[0]),
        ] {
            let error = options(&[pair]).unwrap_err().to_string();
            assert!(error.contains(words), "{pair:?}: {error}");
        }
    }
}
