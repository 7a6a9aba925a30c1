//! `--network` and what belongs to it.

use orlop_engine::spec::Endpoint;
use std::net::IpAddr;

/// What one `--network` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Join {
    Bridge,
    Host,
    None,
    Container(String),
    Named(Endpoint),
}

/// `bridge`, `host`, `none`, `container:NAME`, the name of a network, or
/// `name=NET[,alias=NAME][,ip=ADDRESS][,ip6=ADDRESS][,mac-address=MAC]`.
pub(crate) fn join(text: &str) -> Result<Join, String> {
    match text {
        "bridge" | "default" => return Ok(Join::Bridge),
        "host" => return Ok(Join::Host),
        "none" => return Ok(Join::None),
        _ => {}
    }
    if let Some(name) = text.strip_prefix("container:") {
        if name.is_empty() {
            return Err("expected container:NAME".into());
        }
        return Ok(Join::Container(name.to_owned()));
    }
    if !text.contains('=') {
        return Ok(Join::Named(Endpoint { network: super::name(text)?, ..Endpoint::default() }));
    }
    let mut endpoint = Endpoint::default();
    for field in super::fields(text)? {
        let (key, value) = field.split_once('=').ok_or(FORM)?;
        match key {
            "name" => endpoint.network = super::name(value)?,
            "alias" => endpoint.aliases.push(super::name(value)?),
            "ip" => endpoint.ip = Some(address(value)?),
            "ip6" => endpoint.ip6 = Some(address(value)?),
            "mac-address" => endpoint.mac = Some(mac(value)?),
            _ => return Err(format!("{key} is not known; {FORM}")),
        }
    }
    if endpoint.network.is_empty() {
        return Err(format!("name= is missing; {FORM}"));
    }
    Ok(Join::Named(endpoint))
}

const FORM: &str = "expected bridge, host, none, container:NAME, the name of a network, or \
                    name=NETWORK with alias=, ip=, ip6= and mac-address=";

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{text} is no address"))
}

/// Six octets in hexadecimal.
pub(crate) fn mac(text: &str) -> Result<String, String> {
    let octets: Vec<_> = text.split([':', '-']).collect();
    let good = octets.len() == 6
        && octets
            .iter()
            .all(|octet| octet.len() == 2 && octet.bytes().all(|b| b.is_ascii_hexdigit()));
    if !good {
        return Err("expected a hardware address such as 02:42:ac:11:00:02".into());
    }
    Ok(octets.join(":").to_ascii_lowercase())
}

/// `NAME:ADDRESS` or `NAME=ADDRESS`; `host-gateway` is the host.
pub(crate) fn extra_host(text: &str) -> Result<(String, String), String> {
    let form = || "expected NAME:ADDRESS, such as db:10.0.0.5 or host:host-gateway".to_owned();
    let at = text.find([':', '=']).ok_or_else(form)?;
    let (name, address) = (&text[..at], &text[at + 1..]);
    let address = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    if name.is_empty() || name.chars().any(char::is_whitespace) {
        return Err(form());
    }
    if address != "host-gateway" && address.parse::<IpAddr>().is_err() {
        return Err(form());
    }
    Ok((name.to_owned(), address.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        assert_eq!(join("default"), Ok(Join::Bridge));
        assert_eq!(join("container:db"), Ok(Join::Container("db".into())));
        let named = Endpoint { network: "back".into(), ..Endpoint::default() };
        assert_eq!(join("back"), Ok(Join::Named(named.clone())));
        let full =
            "name=back,alias=db,alias=sql,ip=10.1.0.5,ip6=fd00::5,mac-address=02-42-AC-11-00-02";
        let want = Endpoint {
            aliases: vec!["db".into(), "sql".into()],
            ip: Some("10.1.0.5".parse().unwrap()),
            ip6: Some("fd00::5".parse().unwrap()),
            mac: Some("02:42:ac:11:00:02".into()),
            ..named
        };
        assert_eq!(join(full), Ok(Join::Named(want)));
        for wrong in ["", "container:", "alias=x", "name=back,foo=1", "name=back,ip=x", "a b"] {
            assert!(join(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hosts() {
        for (text, name, address) in [
            ("db:10.0.0.5", "db", "10.0.0.5"),
            ("db=10.0.0.5", "db", "10.0.0.5"),
            ("db:[fd00::1]", "db", "fd00::1"),
            ("db:fd00::1", "db", "fd00::1"),
            ("host:host-gateway", "host", "host-gateway"),
        ] {
            assert_eq!(extra_host(text), Ok((name.into(), address.into())), "{text}");
        }
        for wrong in ["db", "db:", ":10.0.0.5", "db:name", "a b:10.0.0.5"] {
            assert!(extra_host(wrong).is_err(), "{wrong}");
        }
    }
}
