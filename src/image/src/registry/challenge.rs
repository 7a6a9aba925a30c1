//! `WWW-Authenticate`: what a registry wants to see (RFC 9110, section 11).

/// One challenge of a 401 reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User name and password with every request.
    Basic,
    /// A token from a token service.
    Bearer {
        /// Address of the token service.
        realm: String,
        /// Name of the registry there.
        service: Option<String>,
        /// What the token must allow.
        scope: Option<String>,
    },
}

/// Longest header value that is looked at, in bytes.
const LONGEST: usize = 8192;

/// Reads all challenges of one header value; schemes that are not known are skipped.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let Some(mut rest) = (header.len() <= LONGEST).then_some(header) else { return found };
    while let Some((scheme, after)) = token(rest.trim_start_matches([' ', '\t', ','])) {
        let (parameters, after) = parameters(after);
        rest = after;
        let get = |name: &str| {
            let hit = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            hit.map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            found.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = get("realm")
        {
            found.push(Challenge::Bearer { realm, service: get("service"), scope: get("scope") });
        }
    }
    found
}

/// A token (RFC 9110, section 5.6.2) and what follows it.
fn token(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)))
        .unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// `key=value` pairs up to the next scheme or something that is no pair.
fn parameters(mut text: &str) -> (Vec<(&str, String)>, &str) {
    let mut found = Vec::new();
    loop {
        let start = text.trim_start_matches([' ', '\t', ',']);
        let Some((key, after)) = token(start) else { return (found, start) };
        let Some(value) = after.trim_start().strip_prefix('=') else { return (found, start) };
        let value = value.trim_start();
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = value.find([',', ' ', '\t']).unwrap_or(value.len());
                (value[..end].to_owned(), &value[end..])
            }
        };
        found.push((key, value));
        text = after;
    }
}

/// The inside of a quoted string, which may be cut off, and what follows it.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
        }
    }

    #[test]
    fn table() {
        let cases: [(&str, Vec<Challenge>); 8] = [
            ("Basic realm=\"r\"", vec![Challenge::Basic]),
            ("basic", vec![Challenge::Basic]),
            (
                "Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:x:pull,push\"",
                vec![bearer("https://a/t", Some("s"), Some("repository:x:pull,push"))],
            ),
            ("Bearer realm=https://a/t", vec![bearer("https://a/t", None, None)]),
            (
                "Negotiate, Basic realm=\"x\", Bearer realm=\"y\"",
                vec![Challenge::Basic, bearer("y", None, None)],
            ),
            ("Bearer realm=\"a\\\"b\"", vec![bearer("a\"b", None, None)]),
            ("Bearer service=\"s\"", vec![]),
            ("", vec![]),
        ];
        for (text, want) in cases {
            assert_eq!(parse(text), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn ends_on_anything(text in ".{0,200}") {
            let _ = parse(&text);
        }
    }
}
