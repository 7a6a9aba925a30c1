//! From the registry in a reference to the address that is spoken to, and which hosts may see its
//! credentials.

use crate::RegistryOptions;
use reqwest::Url;
use std::net::IpAddr;

/// Where the API of the registry that names without a host belong to answers.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// How the connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// TLS.
    Https,
    /// Plain, as configured.
    Http,
    /// A loopback address: whichever of the two it speaks.
    Either,
}

/// Host and port that serve the API of `registry`.
pub(crate) fn host(registry: &str) -> &str {
    if registry == DOCKER_HUB.0 { DOCKER_HUB.1 } else { registry }
}

/// Plain HTTP is for loopback addresses and for what is configured.
pub(crate) fn scheme(registry: &str, options: &RegistryOptions) -> Scheme {
    if options.insecure.iter().any(|host| host == registry) {
        return Scheme::Http;
    }
    match Url::parse(&format!("https://{registry}/")) {
        Ok(url) if is_loopback(&url) => Scheme::Either,
        _ => Scheme::Https,
    }
}

/// Whether an address never leaves this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Scheme, host and port.
pub(crate) fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme()
        && a.host_str() == b.host_str()
        && a.port_or_known_default() == b.port_or_known_default()
}

/// Whether the credentials of `registry` (as in the reference), whose API is at `base`, may be
/// shown to the token service `realm`.
///
/// The registry chooses the realm, so a registry that was taken over could have the credentials
/// sent anywhere. Allowed: the registry's own host and port; over HTTPS on its default port, the
/// registry's host or a domain above or below it, since whoever runs a domain also runs the names
/// in it; and what is configured. Siblings are not: tenants of one provider are siblings.
pub(crate) fn realm_is_trusted(
    registry: &str,
    base: &Url,
    realm: &Url,
    options: &RegistryOptions,
) -> bool {
    if same_origin(base, realm) {
        return true;
    }
    let Some(realm_host) = realm.host_str() else { return false };
    let with_port =
        realm.port().map_or_else(|| realm_host.to_owned(), |p| format!("{realm_host}:{p}"));
    if realm.scheme() == "https"
        && options.token_hosts.iter().any(|(from, to)| from == registry && *to == with_port)
    {
        return true;
    }
    if realm.scheme() != "https" || realm.port_or_known_default() != Some(443) {
        return false;
    }
    let own = registry_host(registry);
    realm_host == own || is_below(realm_host, &own) || is_below(&own, realm_host)
}

/// The host of a registry without its port.
fn registry_host(registry: &str) -> String {
    Url::parse(&format!("https://{registry}/"))
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned))
        .unwrap_or_default()
}

/// Whether `name` is a proper subdomain of `domain`, which must itself have two labels or more.
fn is_below(name: &str, domain: &str) -> bool {
    domain.contains('.')
        && domain.parse::<IpAddr>().is_err()
        && name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes() {
        let options =
            RegistryOptions { insecure: vec!["r.example:5000".into()], ..Default::default() };
        for (registry, want) in [
            ("r.example", Scheme::Https),
            ("r.example:5000", Scheme::Http),
            ("127.0.0.1:5000", Scheme::Either),
            ("127.0.0.2", Scheme::Either),
            ("localhost:80", Scheme::Either),
            ("[::1]:5000", Scheme::Either),
            ("localhost.example", Scheme::Https),
            ("127.0.0.1.example", Scheme::Https),
            ("10.0.0.1:5000", Scheme::Https),
        ] {
            assert_eq!(scheme(registry, &options), want, "{registry}");
        }
    }

    #[test]
    fn realms() {
        let options = RegistryOptions {
            token_hosts: vec![("r.example".into(), "id.other.example".into())],
            ..Default::default()
        };
        for (registry, base, realm, want) in [
            ("r.example", "https://r.example/", "https://r.example/token", true),
            ("r.example", "https://r.example/", "http://r.example/token", false),
            ("r.example", "https://r.example/", "https://r.example:444/token", false),
            ("r.example:5000", "https://r.example:5000/", "https://r.example/token", true),
            ("r.a.example", "https://r.a.example/", "https://a.example/token", true),
            ("r.example", "https://r.example/", "https://auth.r.example/token", true),
            ("r.a.example", "https://r.a.example/", "https://b.a.example/token", false),
            ("r.example", "https://r.example/", "https://example/token", false),
            ("r.example", "https://r.example/", "https://evilr.example/token", false),
            ("r.example", "https://r.example/", "https://id.other.example/token", true),
            ("r.example", "https://r.example/", "http://id.other.example/token", false),
            ("x.example", "https://x.example/", "https://id.other.example/token", false),
            ("127.0.0.1:1", "http://127.0.0.1:1/", "http://127.0.0.1:1/token", true),
            ("127.0.0.1:1", "http://127.0.0.1:1/", "http://127.0.0.1:2/token", false),
            ("1.2.3.4", "https://1.2.3.4/", "https://3.4/token", false),
            ("docker.io", "https://registry-1.docker.io/", "https://auth.docker.io/token", true),
        ] {
            let (base, url) = (Url::parse(base).unwrap(), Url::parse(realm).unwrap());
            assert_eq!(
                realm_is_trusted(registry, &base, &url, &options),
                want,
                "{registry} {realm}"
            );
        }
    }
}
