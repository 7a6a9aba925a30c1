//! `hosts.toml` trees: `<dir>/<host>[:port]/hosts.toml`, or only certificates in that directory.

use super::{Capabilities, Endpoint, Source, Transport, wrong};
use crate::registry::endpoint::{self, Scheme};
use crate::{PullErrorKind as Kind, RegistryOptions};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;

/// A `hosts.toml`. Keys that are not known are left alone, as containerd does.
#[derive(Deserialize, Default)]
struct File {
    server: Option<String>,
    #[serde(flatten)]
    settings: Settings,
    #[serde(default)]
    host: BTreeMap<Spanned<String>, Settings>,
}

#[derive(Deserialize, Default)]
struct Settings {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany>,
    client: Option<Client>,
    skip_verify: Option<bool>,
    #[serde(default)]
    header: BTreeMap<String, OneOrMany>,
    override_path: Option<bool>,
    dial_timeout: Option<String>,
    proxy: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Client {
    One(String),
    Many(Vec<String>),
    Pairs(Vec<Vec<String>>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// The hosts for one source: those of the first directory that is there, else the registry's own.
pub(super) fn endpoints(source: &Source, options: &RegistryOptions) -> Result<Vec<Endpoint>, Kind> {
    let Some(dir) = directory(&source.registry, &options.hosts_dirs) else {
        return Ok(vec![own(source, options, Transport::default())]);
    };
    let file = dir.join("hosts.toml");
    match std::fs::read_to_string(&file) {
        Ok(text) => from_file(&text, &file, &dir, source, options),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let transport = certificates(&dir).map_err(|error| wrong(&dir, error))?;
            Ok(vec![own(source, options, transport)])
        }
        Err(error) => Err(wrong(&file, error)),
    }
}

/// `host_port_` before `host:port`, the registry's own directory before `_default`.
fn directory(registry: &str, trees: &[PathBuf]) -> Option<PathBuf> {
    let escaped = match registry.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => format!("{host}_{port}_"),
        _ => registry.to_owned(),
    };
    trees.iter().find_map(|tree| {
        let names = [escaped.as_str(), registry, "_default"];
        names.iter().map(|name| tree.join(name)).find(|dir| dir.is_dir())
    })
}

/// The registry itself.
fn own(source: &Source, options: &RegistryOptions, mut transport: Transport) -> Endpoint {
    let scheme = match endpoint::scheme(&source.registry, options) {
        Scheme::Http => Some("http"),
        Scheme::Https if !source.insecure => Some("https"),
        Scheme::Https | Scheme::Either => None,
    };
    transport.skip_verify |= source.insecure;
    Endpoint {
        registry: source.registry.clone(),
        scheme,
        host: endpoint::host(&source.registry).to_owned(),
        path: "/v2/".to_owned(),
        repository: source.repository.clone(),
        namespace: None,
        able: Capabilities { push: source.own, ..Capabilities::ALL },
        transport,
        own: source.own,
    }
}

fn from_file(
    text: &str,
    file: &Path,
    dir: &Path,
    source: &Source,
    options: &RegistryOptions,
) -> Result<Vec<Endpoint>, Kind> {
    let parsed: File = toml::from_str(text).map_err(|error| wrong(file, error))?;
    let mut hosts: Vec<_> = parsed.host.into_iter().collect();
    // Order matters, and a map has none.
    hosts.sort_by_key(|(name, _)| name.span().start);
    let mut found = Vec::new();
    for (name, settings) in hosts {
        let name = name.into_inner();
        found.push(one(&name, settings, dir, source, options).map_err(|why| wrong(file, why))?);
    }
    let server = parsed.server.filter(|server| !server.is_empty());
    let server = server.unwrap_or_else(|| source.registry.clone());
    found
        .push(one(&server, parsed.settings, dir, source, options).map_err(|why| wrong(file, why))?);
    Ok(found)
}

/// One `[host."…"]`, or the server.
fn one(
    name: &str,
    settings: Settings,
    dir: &Path,
    source: &Source,
    options: &RegistryOptions,
) -> Result<Endpoint, String> {
    let (scheme, rest) = match name.split_once("://") {
        Some(("https", rest)) => (Some("https"), rest),
        Some(("http", rest)) => (Some("http"), rest),
        Some((other, _)) => return Err(format!("host {name:?}: {other} is not http or https")),
        None => (None, name),
    };
    let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
    if host.is_empty() || host.contains(['@', '?', '#']) {
        return Err(format!("host {name:?} is not an address"));
    }
    let scheme = scheme.or_else(|| match endpoint::scheme(host, options) {
        Scheme::Http => Some("http"),
        Scheme::Https => Some("https"),
        Scheme::Either => None,
    });
    let own = endpoint::host(host) == endpoint::host(&source.registry);
    let path = path.trim_matches('/');
    let path = match (path, settings.override_path.unwrap_or(false)) {
        ("", true) => "/".to_owned(),
        ("", false) => "/v2/".to_owned(),
        (path, true) => format!("/{path}/"),
        (path, false) if path == "v2" || path.ends_with("/v2") => format!("/{path}/"),
        (path, false) => format!("/{path}/v2/"),
    };
    Ok(Endpoint {
        registry: if own { source.registry.clone() } else { host.to_owned() },
        scheme,
        host: endpoint::host(host).to_owned(),
        path,
        repository: source.repository.clone(),
        namespace: (!own).then(|| source.registry.clone()),
        able: capabilities(settings.capabilities.as_deref(), name)?,
        own: own && source.own,
        transport: transport(settings, dir, source.insecure)?,
    })
}

fn capabilities(names: Option<&[String]>, host: &str) -> Result<Capabilities, String> {
    let Some(names) = names.filter(|names| !names.is_empty()) else { return Ok(Capabilities::ALL) };
    let mut able = Capabilities { pull: false, resolve: false, push: false };
    for name in names {
        match name.as_str() {
            "pull" => able.pull = true,
            "resolve" => able.resolve = true,
            "push" => able.push = true,
            other => {
                return Err(format!(
                    "host {host:?}: capability {other:?} is not one of pull, resolve and push"
                ));
            }
        }
    }
    Ok(able)
}

fn transport(settings: Settings, dir: &Path, insecure: bool) -> Result<Transport, String> {
    let place = |path: String| dir.join(path);
    let ca = settings.ca.map(OneOrMany::into_vec).unwrap_or_default();
    let client = match settings.client {
        None => Vec::new(),
        Some(Client::One(both)) => vec![(place(both), None)],
        Some(Client::Many(files)) => files.into_iter().map(|both| (place(both), None)).collect(),
        Some(Client::Pairs(pairs)) => pairs
            .into_iter()
            .map(|pair| match <[String; 2]>::try_from(pair) {
                Ok([both, key]) if key.is_empty() => Ok((place(both), None)),
                Ok([certificate, key]) => Ok((place(certificate), Some(place(key)))),
                Err(other) => {
                    Err(format!("client {other:?} is not a pair of a certificate and a key"))
                }
            })
            .collect::<Result<_, _>>()?,
    };
    let headers = settings.header.into_iter();
    let headers = headers
        .flat_map(|(name, values)| values.into_vec().into_iter().map(move |v| (name.clone(), v)));
    let dial_timeout =
        match settings.dial_timeout {
            Some(text) => {
                let parsed = duration(&text);
                Some(parsed.ok_or_else(|| {
                    format!("dial_timeout {text:?} is not a duration like \"3s\"")
                })?)
            }
            None => None,
        };
    Ok(Transport {
        ca: ca.into_iter().map(place).collect(),
        client,
        skip_verify: settings.skip_verify.unwrap_or(false) || insecure,
        headers: headers.collect(),
        dial_timeout,
        proxy: settings.proxy.filter(|proxy| !proxy.is_empty()),
    })
}

/// Durations as Go writes them: numbers with units, one after the other.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit_end = rest[end..]
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .map_or(rest.len(), |at| end + at);
        let unit = match &rest[end..unit_end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[unit_end..];
    }
    Duration::try_from_secs_f64(total).ok().filter(|duration| !duration.is_zero())
}

/// Docker's pattern: `*.crt` are authorities, `*.cert` with a `*.key` of the same name are ours.
fn certificates(dir: &Path) -> std::io::Result<Transport> {
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    names.sort();
    let mut transport = Transport::default();
    for path in names {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => transport.ca.push(path),
            Some("cert") => {
                let key = path.with_extension("key");
                if !key.exists() {
                    return Err(std::io::Error::other(format!(
                        "there is no key {} for the certificate beside it",
                        key.display()
                    )));
                }
                transport.client.push((path, Some(key)));
            }
            _ => {}
        }
    }
    Ok(transport)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(registry: &str) -> Source {
        Source { registry: registry.into(), repository: "a/b".into(), insecure: false, own: true }
    }

    fn read(registry: &str, dir: &str, text: &str) -> Result<Vec<Endpoint>, Kind> {
        let temp = tempfile::tempdir().unwrap();
        let place = temp.path().join(dir);
        std::fs::create_dir(&place).unwrap();
        std::fs::write(place.join("hosts.toml"), text).unwrap();
        let options =
            RegistryOptions { hosts_dirs: vec![temp.path().into()], ..Default::default() };
        let mut found = endpoints(&source(registry), &options)?;
        for endpoint in &mut found {
            for path in &mut endpoint.transport.ca {
                *path = path.strip_prefix(&place).unwrap_or(path).to_owned();
            }
        }
        Ok(found)
    }

    /// Address, namespace, whose credentials.
    fn shown(found: &[Endpoint]) -> Vec<String> {
        let show = |e: &Endpoint| {
            let ns = e.namespace.as_ref().map(|ns| format!("?ns={ns}")).unwrap_or_default();
            format!("{}://{}{}{ns} {}", e.scheme.unwrap_or("*"), e.host, e.path, e.registry)
        };
        found.iter().map(show).collect()
    }

    #[test]
    fn hosts_come_in_the_order_of_the_file_and_the_server_last() {
        let text = r#"
            server = "https://upstream.example"
            [host."https://z.example"]
            [host."https://a.example/mirror"]
              capabilities = ["pull"]
              ca = "a.crt"
              dial_timeout = "1m1.5s"
              [host."https://a.example/mirror".header]
                x-one = "1"
                x-two = ["2", "3"]
            [host."http://m.example:5000/own/root"]
              override_path = true
              skip_verify = true
        "#;
        let found = read("r.example", "r.example", text).unwrap();
        assert_eq!(
            shown(&found),
            [
                "https://z.example/v2/?ns=r.example z.example",
                "https://a.example/mirror/v2/?ns=r.example a.example",
                "http://m.example:5000/own/root/?ns=r.example m.example:5000",
                "https://upstream.example/v2/?ns=r.example upstream.example",
            ]
        );
        assert!(!found[1].able.resolve && found[1].able.pull && found[0].able.resolve);
        assert_eq!(found[1].transport.ca, [Path::new("a.crt")]);
        assert_eq!(found[1].transport.dial_timeout, Some(Duration::from_millis(61_500)));
        let headers: Vec<_> = found[1].transport.headers.iter().map(|(_, v)| v.as_str()).collect();
        assert_eq!(headers, ["1", "2", "3"]);
        assert!(found[2].transport.skip_verify && !found[0].transport.skip_verify);
    }

    #[test]
    fn directories() {
        for (registry, dir, hit) in [
            ("r.example:5000", "r.example_5000_", true),
            ("r.example:5000", "r.example:5000", true),
            ("r.example:5000", "_default", true),
            ("r.example:5000", "r.example", false),
            ("r.example", "r.example", true),
        ] {
            let found = read(registry, dir, "[host.\"https://m.example\"]").unwrap();
            assert_eq!(found.len() == 2, hit, "{registry} {dir}");
            assert_eq!(found.last().unwrap().host, registry, "without a server it is the registry");
        }
        let found = read("docker.io", "docker.io", "server = 'https://docker.io'").unwrap();
        assert_eq!(shown(&found), ["https://registry-1.docker.io/v2/ docker.io"]);
        let found = read("r.example", "_default", "server = 'https://m.example'").unwrap();
        assert_eq!(shown(&found), ["https://m.example/v2/?ns=r.example m.example"]);
    }

    #[test]
    fn settings_of_the_root_are_the_servers() {
        let text = "ca = ['/c/a.pem', 'b.pem']\nclient = [['c.pem', 'c.key'], ['d.pem', '']]\nskip_verify = true\n";
        let found = read("r.example", "r.example", text).unwrap();
        let transport = &found[0].transport;
        assert_eq!(transport.ca, [Path::new("/c/a.pem"), Path::new("b.pem")]);
        assert!(transport.client[0].1.is_some() && transport.client[1].1.is_none());
        assert!(transport.skip_verify);
    }

    #[test]
    fn refuses() {
        for (text, word) in [
            ("server = 1", "server"),
            ("[host.\"ftp://x\"]", "not http or https"),
            ("[host.\"https://u:p@x\"]", "not an address"),
            ("[host.\"https://x\"]\ncapabilities = ['all']", "\"all\""),
            ("dial_timeout = 'soon'", "soon"),
            ("client = [['a']]", "pair"),
            ("[host", "line 1"),
        ] {
            let error = read("r.example", "r.example", text).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("hosts.toml"), "{text}: {error}");
        }
    }

    #[test]
    fn certificates_of_dockers_pattern() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("r.example:5000");
        std::fs::create_dir(&dir).unwrap();
        for name in ["ca.crt", "client.cert", "client.key", "readme"] {
            std::fs::write(dir.join(name), "").unwrap();
        }
        let options =
            RegistryOptions { hosts_dirs: vec![temp.path().into()], ..Default::default() };
        let found = endpoints(&source("r.example:5000"), &options).unwrap();
        assert_eq!(found[0].transport.ca, [dir.join("ca.crt")]);
        let pair = (dir.join("client.cert"), Some(dir.join("client.key")));
        assert_eq!(found[0].transport.client, [pair]);
        std::fs::remove_file(dir.join("client.key")).unwrap();
        let error = endpoints(&source("r.example:5000"), &options).unwrap_err().to_string();
        assert!(error.contains("client.key"), "{error}");
    }
}
