//! `--security-opt`, and flags that are refused with advice.

/// What one `--security-opt` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecurityOption {
    /// `unconfined` or the path of a profile.
    Seccomp(String),
    Apparmor(String),
    Label(String),
    NoNewPrivileges(bool),
    Unmasked,
}

/// `seccomp=…`, `apparmor=…`, `label=…`, `no-new-privileges[=BOOL]`, `systempaths=unconfined`; an old form
/// has a colon for the first equals sign.
pub(crate) fn security_option(text: &str) -> Result<SecurityOption, String> {
    let (key, value) = match text.find(['=', ':']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let needed = || match value {
        Some(value) if !value.is_empty() => Ok(value.to_owned()),
        _ => Err(format!("{key} needs a value; {FORM}")),
    };
    Ok(match key {
        "seccomp" if value == Some("builtin") => {
            return Err("the built-in profile is the default: leave the flag out".into());
        }
        "seccomp" => SecurityOption::Seccomp(needed()?),
        "apparmor" => SecurityOption::Apparmor(needed()?),
        "label" => SecurityOption::Label(label(&needed()?)?),
        "no-new-privileges" => {
            SecurityOption::NoNewPrivileges(value.map_or(Ok(true), super::truth)?)
        }
        "systempaths" if value == Some("unconfined") => SecurityOption::Unmasked,
        "systempaths" => return Err("systempaths can only be unconfined".into()),
        _ => return Err(format!("{key} is not known; {FORM}")),
    })
}

const FORM: &str = "expected seccomp=PROFILE, apparmor=PROFILE, label=TYPE:VALUE, no-new-privileges or \
                    systempaths=unconfined";

fn label(text: &str) -> Result<String, String> {
    let known = ["user", "role", "type", "level"];
    let (kind, value) = text.split_once(':').unwrap_or((text, ""));
    if text == "disable" || (known.contains(&kind) && !value.is_empty()) {
        return Ok(text.to_owned());
    }
    Err("expected label=disable, or label=user:, role:, type: or level: with a value".into())
}

/// `--gpus`: drivers of their own are no part of this.
pub(crate) fn refuse_gpus(_: &str) -> Result<String, String> {
    Err("graphics cards come as CDI devices here: let the vendor's tool describe them (nvidia-ctk cdi \
         generate), then use --device nvidia.com/gpu=all"
        .into())
}

/// `--link`: what Docker itself has given up.
pub(crate) fn refuse_link(_: &str) -> Result<String, String> {
    Err("links are gone: make a network (orlop network create NAME) and start both containers with \
         --network NAME; they reach each other by name"
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        use SecurityOption::*;
        for (text, want) in [
            ("seccomp=unconfined", Seccomp("unconfined".into())),
            ("seccomp:unconfined", Seccomp("unconfined".into())),
            ("seccomp=/p:q=r.json", Seccomp("/p:q=r.json".into())),
            ("apparmor=web", Apparmor("web".into())),
            ("label=disable", Label("disable".into())),
            ("label=type:svirt_t", Label("type:svirt_t".into())),
            ("label:level:s0:c1,c2", Label("level:s0:c1,c2".into())),
            ("no-new-privileges", NoNewPrivileges(true)),
            ("no-new-privileges:false", NoNewPrivileges(false)),
            ("no-new-privileges=true", NoNewPrivileges(true)),
            ("systempaths=unconfined", Unmasked),
        ] {
            assert_eq!(security_option(text), Ok(want), "{text}");
        }
        for wrong in
            ["seccomp", "seccomp=", "apparmour=x", "label=colour:red", "systempaths=all", ""]
        {
            assert!(security_option(wrong).is_err(), "{wrong}");
        }
    }
}
