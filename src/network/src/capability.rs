//! What the runtime offers to plugins: `CNI_ARGS` and capability arguments, with the field's keys.

use crate::{AttachRequest, DnsSettings, NetworkError, Place};
use serde_json::{Map, Value, json};

const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";
/// Bandwidths that Kubernetes accepts, in bits per second.
const MIN_RATE: u64 = 1_000;
const MAX_RATE: u64 = 1_000_000_000_000_000;

/// `CNI_ARGS`.
pub(crate) fn args(request: &AttachRequest) -> Result<Vec<(String, String)>, NetworkError> {
    let args = [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", &request.namespace),
        ("K8S_POD_NAME", &request.name),
        ("K8S_POD_INFRA_CONTAINER_ID", &request.sandbox_id),
        ("K8S_POD_UID", &request.uid),
    ];
    if let Some((key, value)) = args.iter().find(|(_, value)| value.contains([';', '=', '\0'])) {
        return Err(NetworkError::Invalid(format!(
            "{key} {value:?} cannot be given to a network plugin: it has ';' or '='"
        )));
    }
    Ok(args.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

/// All capability arguments; a plugin gets those that it asks for.
pub(crate) fn all(request: &AttachRequest) -> Result<Map<String, Value>, NetworkError> {
    let mut all = Map::new();
    if !request.ports.is_empty() {
        all.insert("portMappings".into(), json!(request.ports));
    }
    if request.dns != DnsSettings::default() {
        all.insert("dns".into(), json!(request.dns));
    }
    if let Some(cgroup) = &request.cgroup {
        all.insert("cgroupPath".into(), json!(cgroup));
    }
    all.insert("io.kubernetes.cri.pod-annotations".into(), json!(request.annotations));
    let mut bandwidth = Map::new();
    for (key, rate, burst) in
        [(INGRESS, "ingressRate", "ingressBurst"), (EGRESS, "egressRate", "egressBurst")]
    {
        if let Some(text) = request.annotations.get(key) {
            bandwidth.insert(rate.into(), json!(quantity(key, text)?));
            bandwidth.insert(burst.into(), json!(i32::MAX));
        }
    }
    if !bandwidth.is_empty() {
        all.insert("bandwidth".into(), Value::Object(bandwidth));
    }
    Ok(all)
}

/// What a place adds to that, and takes from it.
pub(crate) fn of_place(place: &Place, all: &mut Map<String, Value>) {
    if !place.ports {
        all.remove("portMappings");
    }
    if !place.ips.is_empty() {
        all.insert("ips".into(), json!(place.ips));
    }
    if let Some(mac) = &place.mac {
        all.insert("mac".into(), json!(mac));
    }
}

/// Bits per second, written as Kubernetes writes quantities: `10M`, `1Gi`, `500000`, `1.5G`, `1e6`.
fn quantity(key: &str, text: &str) -> Result<u64, NetworkError> {
    let bad = || {
        NetworkError::Invalid(format!(
            "annotation {key}: {text:?} is not a bandwidth: write it like 10M, from 1k to 1P"
        ))
    };
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let factor = match suffix {
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "Ki" => 1024.0,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        exponent => {
            let power =
                exponent.strip_prefix(['e', 'E']).and_then(|power| power.parse::<i32>().ok());
            10f64.powi(power.filter(|power| (0..=15).contains(power)).ok_or_else(bad)?)
        }
    };
    let rate = number.parse::<f64>().map_err(|_| bad())? * factor;
    if rate.fract() == 0.0 && (MIN_RATE as f64..=MAX_RATE as f64).contains(&rate) {
        Ok(rate as u64)
    } else {
        Err(bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (text, bits) in [
            ("10M", 10_000_000),
            ("1Ki", 1024),
            ("1000", 1000),
            ("1.5G", 1_500_000_000),
            ("1e6", 1_000_000),
        ] {
            assert_eq!(quantity("k", text).unwrap(), bits, "{text}");
        }
        for text in ["", "M", "-1M", "1", "999", "2P", "10MB", "1e99", "0.1k", "NaN", "inf"] {
            assert!(quantity("k", text).is_err(), "{text}");
        }
    }

    #[test]
    fn args_cannot_be_forged() {
        let mut request = AttachRequest { name: "p".into(), ..AttachRequest::default() };
        assert_eq!(args(&request).unwrap()[2], ("K8S_POD_NAME".into(), "p".into()));
        request.uid = "u;K8S_POD_NAME=other".into();
        assert!(args(&request).is_err());
    }
}
