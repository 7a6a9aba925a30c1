//! Versions of CNI and how a result looks in each of them.

use crate::{CniResult, PluginError};
use serde_json::{Map, Value, json};

/// A version of the CNI specification that networks may be written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V030,
    V031,
    V040,
    V100,
    V110,
}

const ALL: [(&str, Version); 5] = [
    ("0.3.0", Version::V030),
    ("0.3.1", Version::V031),
    ("0.4.0", Version::V040),
    ("1.0.0", Version::V100),
    ("1.1.0", Version::V110),
];

impl Version {
    /// Reads a `cniVersion`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        ALL.iter().find(|(name, _)| *name == text).map(|(_, version)| *version).ok_or_else(|| {
            let known: Vec<_> = ALL.iter().map(|(name, _)| *name).collect();
            let given = if text.is_empty() {
                "is missing".into()
            } else {
                format!("{text:?} is not supported")
            };
            format!("cniVersion {given}: use one of {}", known.join(", "))
        })
    }

    /// The version as text.
    pub(crate) fn as_str(self) -> &'static str {
        ALL.iter().find(|(_, version)| *version == self).map_or("", |(name, _)| name)
    }

    /// Whether CHECK exists and DEL gets the cached result (0.4.0 and later).
    pub(crate) fn knows_results(self) -> bool {
        self >= Self::V040
    }
}

/// The result as a plugin of that version prints it.
pub(crate) fn to_json(result: &CniResult, version: Version) -> Value {
    let mut object = match serde_json::to_value(result) {
        Ok(Value::Object(object)) => object,
        // A result is a plain tree of strings and numbers.
        _ => Map::new(),
    };
    object.insert("cniVersion".into(), version.as_str().into());
    if version < Version::V110 {
        for key in ["interfaces", "routes"] {
            let known: &[&str] =
                if key == "routes" { &["dst", "gw"] } else { &["name", "mac", "sandbox"] };
            for item in object.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
                if let Value::Object(item) = item {
                    item.retain(|name, _| known.contains(&name.as_str()));
                }
            }
        }
    }
    if version < Version::V100 {
        let ips = object.get_mut("ips").and_then(Value::as_array_mut);
        for (item, ip) in ips.into_iter().flatten().zip(&result.ips) {
            item["version"] = json!(if ip.address.addr().is_ipv4() { "4" } else { "6" });
        }
    }
    Value::Object(object)
}

/// Reads what a plugin of the network's version printed.
pub(crate) fn from_json(
    value: Value,
    expected: Version,
) -> Result<(CniResult, Version), PluginError> {
    let bad = |why: String| PluginError {
        code: PluginError::DECODE,
        msg: format!("the result cannot be used: {why}"),
        details: String::new(),
    };
    if !value.is_object() {
        return Err(bad("it is not a JSON object".into()));
    }
    let version = match value.get("cniVersion").and_then(Value::as_str) {
        Some(text) => Version::parse(text).map_err(bad)?,
        None => expected,
    };
    let result: CniResult =
        serde_json::from_value(value).map_err(|error| bad(error.to_string()))?;
    let interfaces = result.interfaces.len();
    if let Some(ip) =
        result.ips.iter().find(|ip| ip.interface.is_some_and(|index| index as usize >= interfaces))
    {
        return Err(bad(format!(
            "address {} names an interface that is not in the list",
            ip.address
        )));
    }
    Ok((result, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (text, version) in ALL {
            assert_eq!(Version::parse(text), Ok(version));
            assert_eq!(version.as_str(), text);
        }
        assert!(Version::parse("").unwrap_err().contains("is missing"));
        assert!(Version::parse("2.0.0").unwrap_err().contains("1.1.0"));
    }

    #[test]
    fn results_round_trip_in_every_version() {
        let text = json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "eth0", "mac": "aa:bb:cc:dd:ee:ff", "sandbox": "/n", "mtu": 1500}],
            "ips": [{"interface": 0, "address": "10.1.0.5/16", "gateway": "10.1.0.1"}, {"address": "fd00::5/64"}],
            "routes": [{"dst": "0.0.0.0/0", "mtu": 1400}, {"dst": "::/0", "gw": "fd00::1"}],
            "dns": {"nameservers": ["10.0.0.1"]},
        });
        let (result, version) = from_json(text.clone(), Version::V100).unwrap();
        assert_eq!(version, Version::V110);
        assert_eq!(to_json(&result, Version::V110), text);
        let old = to_json(&result, Version::V040);
        assert_eq!(old["ips"][0]["version"], "4");
        assert_eq!(old["ips"][1]["version"], "6");
        assert_eq!(old["routes"][0], json!({"dst": "0.0.0.0/0"}));
        assert_eq!(old["interfaces"][0].get("mtu"), None);
        let (again, _) = from_json(old, Version::V110).unwrap();
        assert_eq!(again.ips, result.ips);
    }

    #[test]
    fn hostile_results_are_refused() {
        for bad in [
            json!({"ips": [{"interface": 3, "address": "10.0.0.1/8"}]}),
            json!({"ips": [{"address": "10.0.0.1"}]}),
            json!({"ips": "x"}),
            json!([]),
            json!({"cniVersion": "9.9.9"}),
        ] {
            assert!(from_json(bad.clone(), Version::V100).is_err(), "{bad}");
        }
        assert_eq!(
            from_json(json!({"ips": [{"address": "10.0.0.1/8", "gateway": ""}]}), Version::V100)
                .unwrap()
                .0
                .ips[0]
                .gateway,
            None
        );
    }
}
