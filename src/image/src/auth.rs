//! Credentials for one registry, as the kubelet sends them with a pull.

use crate::PullErrorKind;
use base64::Engine as _;
use orlop_model::Reference;
use std::fmt;
use std::path::PathBuf;

/// What to prove to a registry. Never printed: `Debug` hides the secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Auth {
    /// User name and password: basic authentication, or exchanged for a token.
    Basic {
        /// The user.
        username: String,
        /// The password or access key.
        password: String,
    },
    /// An OAuth2 refresh token, exchanged at the registry's token service.
    IdentityToken(String),
    /// A bearer token that is sent to the registry as it is.
    RegistryToken(String),
}

/// Why the fields of a CRI `AuthConfig` make no credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// `auth` is not base64 of `user:password`.
    #[error("auth.auth is not valid: expected base64 of \"user:password\"")]
    Encoding,
}

impl Auth {
    /// From the fields of CRI's `AuthConfig`. The first that is set wins, in the order: user name
    /// and password, `auth` (base64 of both), identity token, registry token. All empty: `None`,
    /// an anonymous pull.
    pub fn from_fields(
        username: &str,
        password: &str,
        auth: &str,
        identity_token: &str,
        registry_token: &str,
    ) -> Result<Option<Self>, AuthError> {
        if !username.is_empty() || !password.is_empty() {
            return Ok(Some(Self::Basic { username: username.into(), password: password.into() }));
        }
        if !auth.is_empty() {
            return Self::from_base64(auth).map(Some);
        }
        if !identity_token.is_empty() {
            return Ok(Some(Self::IdentityToken(identity_token.into())));
        }
        if !registry_token.is_empty() {
            return Ok(Some(Self::RegistryToken(registry_token.into())));
        }
        Ok(None)
    }

    /// What files like Docker's `config.json` have for the registry of a reference; the first file
    /// that has something counts, and one that is absent has nothing. Blocking: credential helpers
    /// are run.
    pub fn from_files(
        files: &[PathBuf],
        reference: &Reference,
    ) -> Result<Option<Self>, PullErrorKind> {
        crate::keyring::find(files, reference.registry(), reference.repository())
    }

    fn from_base64(auth: &str) -> Result<Self, AuthError> {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(auth.trim())
            .map_err(|_| AuthError::Encoding)?;
        let text = String::from_utf8(bytes).map_err(|_| AuthError::Encoding)?;
        let (username, password) = text.split_once(':').ok_or(AuthError::Encoding)?;
        // Docker's file pads the password with NUL bytes.
        let password = password.trim_matches('\0');
        Ok(Self::Basic { username: username.into(), password: password.into() })
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Auth::Basic(..)",
            Self::IdentityToken(_) => "Auth::IdentityToken(..)",
            Self::RegistryToken(_) => "Auth::RegistryToken(..)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let basic = |u: &str, p: &str| Some(Auth::Basic { username: u.into(), password: p.into() });
        let cases = [
            (["", "", "", "", ""], Ok(None)),
            (["u", "p", "eDp5", "i", "r"], Ok(basic("u", "p"))),
            (["", "", "eDp5", "i", "r"], Ok(basic("x", "y"))),
            (["", "", "eDp5OnoAAA==", "", ""], Ok(basic("x", "y:z"))),
            (["", "", "", "i", "r"], Ok(Some(Auth::IdentityToken("i".into())))),
            (["", "", "", "", "r"], Ok(Some(Auth::RegistryToken("r".into())))),
            (["", "", "%", "", ""], Err(AuthError::Encoding)),
            (["", "", "eA==", "", ""], Err(AuthError::Encoding)),
        ];
        for ([u, p, a, i, r], want) in cases {
            assert_eq!(Auth::from_fields(u, p, a, i, r), want);
        }
    }

    #[test]
    fn never_printed() {
        let auth = Auth::Basic { username: "name".into(), password: "secret".into() };
        assert!(!format!("{auth:?}").contains("secret"));
    }
}
