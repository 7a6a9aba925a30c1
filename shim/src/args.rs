//! The command line, as containerd calls a shim: flags with one dash, then an action.

use crate::launch::Error;
use std::ffi::OsString;
use std::path::PathBuf;

/// What to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Action {
    /// Serve on the socket that is descriptor 3: how our daemon and `start` run the shim.
    #[default]
    Serve,
    /// The same as keeper of a container that runs in a shim of another maker (`foreign.json`).
    Keep,
    /// Make a socket, start a shim that serves on it, print the address.
    Start,
    /// Tidy up after a shim that has died.
    Delete,
    /// Be process 1 of a pod in another maker's runtime: reap, and end when told to.
    Init,
    /// Send the event on standard input to the keeper: for foreign shims that leave it to a program.
    Publish,
    /// Print the version.
    Version,
}

/// The whole command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) action: Action,
    /// containerd's namespace.
    pub(crate) namespace: String,
    /// The container.
    pub(crate) id: String,
    /// containerd's gRPC socket.
    pub(crate) address: String,
    /// An event's topic.
    pub(crate) topic: String,
    /// The bundle; the working directory when empty.
    pub(crate) bundle: PathBuf,
}

/// Reads the command line without the program's name.
pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Args, Error> {
    let mut args = args;
    let mut parsed = Args::default();
    let mut action = None;
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy().into_owned();
        let Some(flag) = text.strip_prefix('-') else {
            action = Some(match text.as_str() {
                "start" => Action::Start,
                "delete" => Action::Delete,
                "serve" => Action::Serve,
                "keep" => Action::Keep,
                "init" => Action::Init,
                "publish" => Action::Publish,
                _ => {
                    return Err(Error::Usage(format!(
                        "action {text:?} is not known: use start, delete or serve"
                    )));
                }
            });
            continue;
        };
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        let (name, inline) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(OsString::from(value))),
            None => (flag, None),
        };
        let mut value = || {
            inline
                .clone()
                .or_else(|| args.next())
                .ok_or_else(|| Error::Usage(format!("flag -{name} needs a value")))
        };
        match name {
            "v" | "version" => action = Some(Action::Version),
            "debug" | "info" => {}
            "namespace" => parsed.namespace = text_of(value()?),
            "id" => parsed.id = text_of(value()?),
            "address" => parsed.address = text_of(value()?),
            "topic" => parsed.topic = text_of(value()?),
            "bundle" => parsed.bundle = value()?.into(),
            // Events go over ttrpc (TTRPC_ADDRESS); the socket is ours to choose.
            "publish-binary" | "socket" => {
                value()?;
            }
            _ => return Err(Error::Usage(format!("flag -{name} is not known"))),
        }
    }
    parsed.action =
        action.ok_or_else(|| Error::Usage("no action: use start, delete or serve".to_owned()))?;
    let nameless = matches!(parsed.action, Action::Version | Action::Init | Action::Publish);
    if !nameless && parsed.id.is_empty() {
        return Err(Error::Usage("flag -id is missing: name the container".to_owned()));
    }
    Ok(parsed)
}

fn text_of(value: OsString) -> String {
    value.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Args, String> {
        parse(line.split_whitespace().map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn containerds_calls() {
        let args =
            read("-namespace k8s.io -id c1 -address /c.sock -publish-binary /b -debug start")
                .unwrap();
        assert_eq!(
            (args.action, args.id.as_str(), args.namespace.as_str()),
            (Action::Start, "c1", "k8s.io")
        );
        let args =
            read("-namespace=n -id=c1 -bundle=/b -address=/c.sock -publish-binary=/b delete")
                .unwrap();
        assert_eq!((args.action, args.bundle), (Action::Delete, PathBuf::from("/b")));
        assert_eq!(read("-v").unwrap().action, Action::Version);
    }

    #[test]
    fn mistakes() {
        for (line, want) in [
            ("", "no action"),
            ("-id c1 stop", "action \"stop\""),
            ("-id", "-id needs a value"),
            ("-what start", "-what is not known"),
            ("start", "-id is missing"),
        ] {
            assert!(read(line).unwrap_err().contains(want), "{line}");
        }
    }
}
