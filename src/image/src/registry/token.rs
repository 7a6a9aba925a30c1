//! Tokens of a registry's token service (the distribution project's token specification).

use super::http::{self, Http};
use super::{printable, redacted};
use crate::Auth;
use crate::PullErrorKind as Kind;
use crate::hosts::Transport;
use reqwest::Url;
use reqwest::header::HeaderValue;

/// Most bytes of a token reply.
const REPLY: u64 = 1 << 20;

/// What a token is wanted for.
pub(super) struct Wanted<'a> {
    pub(super) realm: &'a Url,
    pub(super) service: Option<&'a str>,
    pub(super) scope: &'a str,
    /// Only what this realm may see.
    pub(super) auth: Option<&'a Auth>,
}

/// Fetches a token and makes the header that carries it.
pub(super) async fn fetch(
    http: &Http,
    transport: &Transport,
    wanted: &Wanted<'_>,
) -> Result<HeaderValue, Kind> {
    let client = http.client(wanted.realm, transport)?;
    let request = if let Some(Auth::IdentityToken(token)) = wanted.auth {
        let mut form = form_urlencoded(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", token),
            ("client_id", "orlop"),
            ("scope", wanted.scope),
        ]);
        if let Some(service) = wanted.service {
            form.push('&');
            form.push_str(&form_urlencoded(&[("service", service)]));
        }
        client
            .post(wanted.realm.clone())
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form)
    } else {
        let mut url = wanted.realm.clone();
        if let Some(service) = wanted.service {
            url.query_pairs_mut().append_pair("service", service);
        }
        url.query_pairs_mut().append_pair("scope", wanted.scope);
        let request = client.get(url);
        match wanted.auth {
            Some(Auth::Basic { username, password }) => {
                request.basic_auth(username, Some(password))
            }
            _ => request,
        }
    };
    let stall = http.options.stall_timeout;
    let reply = tokio::time::timeout(stall, request.send())
        .await
        .map_err(|_| http::no_answer(wanted.realm, stall))?
        .map_err(|error| http::failure(&error, wanted.realm))?;
    if !reply.status().is_success() {
        return Err(http::refusal(reply, stall).await);
    }
    let bytes = http::body(reply, "token reply", REPLY, stall).await?;
    header(&bytes).map_err(|why| Kind::Malformed {
        object: "token reply",
        message: format!("{}: {why}", redacted(wanted.realm)),
    })
}

fn header(bytes: &[u8]) -> Result<HeaderValue, String> {
    #[derive(serde::Deserialize)]
    struct Reply {
        #[serde(default)]
        token: Option<String>,
        #[serde(default)]
        access_token: Option<String>,
    }
    // The parser's message may quote the reply, which holds a secret.
    let reply: Reply = serde_json::from_slice(bytes).map_err(|error| {
        format!("not the expected JSON (line {}, column {})", error.line(), error.column())
    })?;
    let token = [reply.token, reply.access_token].into_iter().flatten().find(|t| !t.is_empty());
    bearer(&token.ok_or("neither token nor access_token")?)
}

/// The header for a bearer token.
pub(super) fn bearer(token: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| "the token has characters that no header may have".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// The header for user name and password.
pub(super) fn basic(username: &str, password: &str) -> Result<HeaderValue, String> {
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
    let mut value =
        HeaderValue::from_str(&format!("Basic {pair}")).map_err(|e| printable(&e.to_string()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// `key=value&…` with everything but unreserved characters escaped.
fn form_urlencoded(pairs: &[(&str, &str)]) -> String {
    let escape = |text: &str| {
        let mut out = String::with_capacity(text.len());
        for byte in text.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
        out
    };
    let pairs: Vec<String> =
        pairs.iter().map(|(k, v)| format!("{}={}", escape(k), escape(v))).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies() {
        assert_eq!(header(br#"{"token":"a"}"#).unwrap(), "Bearer a");
        assert_eq!(header(br#"{"token":"","access_token":"b"}"#).unwrap(), "Bearer b");
        for bad in [&b"{}"[..], b"[]", b"{\"token\":\"a\\nb\"}", b"{\"token\":null}", b"secret"] {
            let message = header(bad).unwrap_err();
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn forms() {
        assert_eq!(form_urlencoded(&[("a", "b c/+"), ("d", "é")]), "a=b%20c%2F%2B&d=%C3%A9");
    }
}
