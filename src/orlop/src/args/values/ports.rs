//! `--publish` and `--expose`.

use orlop_engine::spec::{Protocol, Publish};
use std::net::IpAddr;

/// What one `--publish` says: a range is several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published(pub(crate) Vec<Publish>);

/// What one `--expose` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exposed(pub(crate) Vec<(u16, Protocol)>);

const FORM: &str = "expected [[ADDRESS:]HOST-PORT:]CONTAINER-PORT[/tcp|udp|sctp], such as 8080:80, \
                    127.0.0.1::53/udp or 8000-8010:8000-8010";

/// `80`, `8080:80`, `127.0.0.1:8080:80`, `[::1]::80`, `8000-8010:80`, `8000-8010:8000-8010/udp`.
pub(crate) fn publish(text: &str) -> Result<Published, String> {
    let (text, protocol) = protocol(text)?;
    let (before, container) = match text.rsplit_once(':') {
        Some((before, container)) => (Some(before), container),
        None => (None, text),
    };
    let container = range(container)?;
    let (host_ip, host) = match before {
        None => (None, None),
        Some(before) => host(before)?,
    };
    let many = container.1 - container.0;
    let at = |offset: u16, host_ports| Publish {
        host_ip,
        host_ports,
        container_port: container.0 + offset,
        protocol,
    };
    let published = match host {
        None => (0..=many).map(|offset| at(offset, None)).collect(),
        Some(host) if host.1 - host.0 == many => {
            (0..=many).map(|offset| at(offset, Some((host.0 + offset, host.0 + offset)))).collect()
        }
        // One port of the container: any of the host's range.
        Some(host) if many == 0 => vec![at(0, Some(host))],
        Some(_) => return Err("the two ranges must have the same length".into()),
    };
    Ok(Published(published))
}

/// Address and first and last port of the host.
type HostSide = (Option<IpAddr>, Option<(u16, u16)>);

/// Address and ports before the last colon.
fn host(text: &str) -> Result<HostSide, String> {
    let (address, ports) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, ports) = rest.split_once(']').ok_or(FORM)?;
            (Some(address), ports.strip_prefix(':').ok_or(FORM)?)
        }
        None => match text.rsplit_once(':') {
            Some((address, ports)) => (Some(address), ports),
            // Docker lets an address stand alone for `ADDRESS::`.
            None if text.contains('.') => (Some(text), ""),
            None => (None, text),
        },
    };
    let address = address.filter(|address| !address.is_empty());
    let address = address
        .map(|address| address.parse().map_err(|_| format!("{address} is no address; {FORM}")));
    let ports = if ports.is_empty() { None } else { Some(range(ports)?) };
    // Port 0 asks for one that is free, as no port does.
    let ports = ports.filter(|ports| *ports != (0, 0));
    Ok((address.transpose()?, ports))
}

/// `80`, `80/udp`, `80-90/tcp`.
pub(crate) fn expose(text: &str) -> Result<Exposed, String> {
    let (text, protocol) = protocol(text)?;
    let (first, last) = range(text)?;
    Ok(Exposed((first..=last).map(|port| (port, protocol)).collect()))
}

fn protocol(text: &str) -> Result<(&str, Protocol), String> {
    let Some((ports, name)) = text.split_once('/') else { return Ok((text, Protocol::Tcp)) };
    let protocol = match name.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return Err(format!("{name} is no protocol: expected tcp, udp or sctp")),
    };
    Ok((ports, protocol))
}

fn range(text: &str) -> Result<(u16, u16), String> {
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
            Err(format!("port {text} is above 65535"))
        }
        _ => Err(FORM.to_owned()),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first > last || (first == 0 && last > 0) {
        return Err(format!("the range {text} is empty: write the lower port first"));
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        let one = |publish: &Publish| {
            let ip = publish.host_ip.map(|ip| format!("{ip} ")).unwrap_or_default();
            let host = match publish.host_ports {
                None => "any".to_owned(),
                Some((first, last)) if first == last => first.to_string(),
                Some((first, last)) => format!("{first}-{last}"),
            };
            format!("{ip}{host}:{}/{:?}", publish.container_port, publish.protocol)
        };
        publish(text).unwrap().0.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn forms_of_publish() {
        for (text, want) in [
            ("80", "any:80/Tcp"),
            ("8080:80", "8080:80/Tcp"),
            ("8080:80/udp", "8080:80/Udp"),
            ("127.0.0.1:8080:80", "127.0.0.1 8080:80/Tcp"),
            ("127.0.0.1::80", "127.0.0.1 any:80/Tcp"),
            ("127.0.0.1:80", "127.0.0.1 any:80/Tcp"),
            ("[::1]:8080:80", "::1 8080:80/Tcp"),
            ("[::1]::80/SCTP", "::1 any:80/Sctp"),
            ("::1:8080:80", "::1 8080:80/Tcp"),
            ("0:80", "any:80/Tcp"),
            (":80", "any:80/Tcp"),
            ("8000-8010:80", "8000-8010:80/Tcp"),
            ("8000-8001:80-81", "8000:80/Tcp 8001:81/Tcp"),
            ("80-81", "any:80/Tcp any:81/Tcp"),
        ] {
            assert_eq!(show(text), want, "{text}");
        }
        for (text, why) in [
            ("", "expected [["),
            ("http", "expected [["),
            ("8080:http", "expected [["),
            ("70000:80", "above 65535"),
            ("80/icmp", "tcp, udp or sctp"),
            ("81-80", "lower port first"),
            ("8000-8010:80-81", "same length"),
            ("[::1:8080:80", "expected [["),
            ("host:8080:80", "host is no address"),
            ("+80", "expected [["),
        ] {
            let error = publish(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn forms_of_expose() {
        assert_eq!(expose("53/udp").unwrap().0, [(53, Protocol::Udp)]);
        assert_eq!(expose("7-8").unwrap().0, [(7, Protocol::Tcp), (8, Protocol::Tcp)]);
        assert!(expose("80:80").is_err());
    }
}
