//! What a client's first request must say, and what it is answered.

use crate::remote::Version;
use crate::websocket::{self, Protocol};
use http::header::{
    CONNECTION, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// What carries the flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// SPDY, with this version of the remote command protocol.
    Spdy(Version),
    /// WebSocket.
    WebSocket(Protocol),
}

/// Why a client is sent away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Too many connections.
    Busy,
    /// Neither GET nor POST.
    Method,
    /// The token does not exist, is used up, or too old.
    Unknown,
    /// It asks for no upgrade that exists.
    NoUpgrade,
    /// It speaks none of these.
    NoProtocol(Vec<&'static str>),
}

const PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
const SPDY: &str = "SPDY/3.1";
const PORT_FORWARD: &str = "portforward.k8s.io";
const REMOTE: [(&str, Version); 4] = [
    ("v4.channel.k8s.io", Version::V4),
    ("v3.channel.k8s.io", Version::V3),
    ("v2.channel.k8s.io", Version::V2),
    ("channel.k8s.io", Version::V1),
];

type Answer = Response<Full<Bytes>>;

/// Agrees with the client on a carrier, and says so.
pub(crate) fn negotiate(
    headers: &HeaderMap,
    forwarding: bool,
) -> Result<(Carrier, Answer), Refusal> {
    let asked = list(headers, &UPGRADE);
    let asks = |name: &str| asked.iter().any(|one| one.eq_ignore_ascii_case(name));
    let connected =
        list(headers, &CONNECTION).iter().any(|one| one.eq_ignore_ascii_case("upgrade"));
    if !connected {
        Err(Refusal::NoUpgrade)
    } else if asks(SPDY) {
        spdy(headers, forwarding)
    } else if asks("websocket") {
        websocket(headers, forwarding)
    } else {
        Err(Refusal::NoUpgrade)
    }
}

fn spdy(headers: &HeaderMap, forwarding: bool) -> Result<(Carrier, Answer), Refusal> {
    let offered = list(headers, &PROTOCOL);
    let ours: Vec<(&'static str, Version)> =
        if forwarding { vec![(PORT_FORWARD, Version::V1)] } else { REMOTE.to_vec() };
    let mut answer = switching(SPDY);
    // The first clients offered nothing.
    if offered.is_empty() {
        return answer.map(|answer| (Carrier::Spdy(Version::V1), answer));
    }
    let found = ours.iter().find(|(name, _)| offered.iter().any(|one| one == name));
    let Some((name, version)) = found else {
        return Err(Refusal::NoProtocol(ours.into_iter().map(|(name, _)| name).collect()));
    };
    if let Ok(answer) = &mut answer {
        answer.headers_mut().insert(PROTOCOL, http::HeaderValue::from_static(name));
    }
    answer.map(|answer| (Carrier::Spdy(*version), answer))
}

fn websocket(headers: &HeaderMap, forwarding: bool) -> Result<(Carrier, Answer), Refusal> {
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or(Refusal::NoUpgrade)?;
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refusal::NoUpgrade);
    }
    let offered = list(headers, &SEC_WEBSOCKET_PROTOCOL);
    let (name, protocol) = websocket::choose(forwarding, &offered)
        .ok_or_else(|| Refusal::NoProtocol(websocket::names(forwarding)))?;
    let mut answer = switching("websocket")?;
    let accept = derive_accept_key(key.as_bytes());
    let accept = accept.parse().map_err(|_| Refusal::NoUpgrade)?;
    answer.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(name) = name {
        let name = http::HeaderValue::from_static(name);
        answer.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
    }
    Ok((Carrier::WebSocket(protocol), answer))
}

/// The values of a header that may come several times, each a list.
fn list(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let words = values.flat_map(|value| value.split(',')).map(str::trim);
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn switching(to: &'static str) -> Result<Answer, Refusal> {
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, to)
        .body(Full::default())
        .map_err(|_| Refusal::NoUpgrade)
}

/// The answer to a client that is sent away.
pub(crate) fn refuse(refusal: Refusal) -> Answer {
    let (status, text) = match &refusal {
        Refusal::Busy => (
            StatusCode::TOO_MANY_REQUESTS,
            "too many streaming connections: try again in a moment".to_owned(),
        ),
        Refusal::Method => (StatusCode::METHOD_NOT_ALLOWED, "use GET or POST".to_owned()),
        Refusal::Unknown => (
            StatusCode::NOT_FOUND,
            "this URL is not good, or not any more: each is for one connection within a minute"
                .to_owned(),
        ),
        Refusal::NoUpgrade => {
            (StatusCode::BAD_REQUEST, "ask for an upgrade to SPDY/3.1 or websocket".to_owned())
        }
        Refusal::NoProtocol(ours) => {
            (StatusCode::FORBIDDEN, format!("speak one of these protocols: {}", ours.join(", ")))
        }
    };
    let mut answer = Response::new(Full::from(text + "\n"));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, http::HeaderValue::from_static("close"));
    match refusal {
        Refusal::Busy => {
            headers.insert(RETRY_AFTER, http::HeaderValue::from_static("1"));
        }
        Refusal::NoProtocol(ours) => {
            for name in ours {
                headers.append(ACCEPTED, http::HeaderValue::from_static(name));
            }
        }
        Refusal::Method | Refusal::Unknown | Refusal::NoUpgrade => {}
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, http::HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn spdy_takes_the_best_version() {
        let asked = headers(&[
            ("connection", "Upgrade"),
            ("upgrade", "spdy/3.1"),
            ("x-stream-protocol-version", "v2.channel.k8s.io"),
            ("x-stream-protocol-version", "v4.channel.k8s.io, other"),
        ]);
        let (carrier, answer) = negotiate(&asked, false).unwrap();
        assert_eq!(carrier, Carrier::Spdy(Version::V4));
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(answer.headers()["x-stream-protocol-version"], "v4.channel.k8s.io");
        let refusal = negotiate(&asked, true).unwrap_err();
        assert_eq!(refusal, Refusal::NoProtocol(vec!["portforward.k8s.io"]));
        let answer = refuse(refusal);
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        assert_eq!(answer.headers()["x-accepted-stream-protocol-versions"], "portforward.k8s.io");
        let silent = headers(&[("connection", "Upgrade"), ("upgrade", "SPDY/3.1")]);
        assert_eq!(negotiate(&silent, false).unwrap().0, Carrier::Spdy(Version::V1));
    }

    #[test]
    fn websocket_shakes_hands() {
        // Key and answer are the example of RFC 6455, section 1.3.
        let asked = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "v4.channel.k8s.io, v5.channel.k8s.io"),
        ];
        let (_, answer) = negotiate(&headers(&asked), false).unwrap();
        assert_eq!(answer.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answer.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
        for missing in ["connection", "upgrade", "sec-websocket-key", "sec-websocket-version"] {
            let rest: Vec<_> = asked.iter().filter(|(name, _)| *name != missing).copied().collect();
            assert_eq!(negotiate(&headers(&rest), false).unwrap_err(), Refusal::NoUpgrade);
        }
    }

    #[test]
    fn a_busy_server_says_when_to_come_back() {
        let answer = refuse(Refusal::Busy);
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.headers()[RETRY_AFTER], "1");
    }
}
