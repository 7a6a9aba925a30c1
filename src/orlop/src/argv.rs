//! A line as Docker takes it, made such as clap takes it: switches may be told `=true` and `=false`.

use clap::{Arg, ArgAction, Command};
use std::ffi::OsString;

/// `--rm=false` goes, `-d=true` becomes `-d`. What follows the image or container of a command that runs
/// something stays as it is.
pub(crate) fn normal(root: &Command, line: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words = line.into_iter();
    let mut out: Vec<OsString> = words.next().into_iter().collect();
    let mut command = root;
    while let Some(word) = words.next() {
        let Some(text) = word.to_str() else {
            out.push(word);
            continue;
        };
        if text == "--" {
            out.push(word);
            break;
        }
        let option = text.len() > 1 && text.starts_with('-');
        if !option {
            match command.find_subcommand(text) {
                Some(next) => command = next,
                None if runs_something(command) => {
                    out.push(word);
                    break;
                }
                None => {}
            }
            out.push(word);
            continue;
        }
        let read = match text.strip_prefix("--") {
            Some(long) => long_flag(root, command, long),
            None => short_flags(root, command, &text[1..]),
        };
        match read {
            Read::AsIs => out.push(word),
            Read::Instead(text) => out.push(text.into()),
            Read::Nothing => {}
            Read::WithValue => {
                out.push(word);
                out.extend(words.next());
            }
        }
    }
    out.extend(words);
    out
}

enum Read {
    AsIs,
    Instead(String),
    Nothing,
    /// The next word is its value.
    WithValue,
}

/// Its last argument takes everything that follows.
fn runs_something(command: &Command) -> bool {
    command.get_positionals().any(Arg::is_trailing_var_arg_set)
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" => Some(true),
        "false" | "f" | "0" => Some(false),
        _ => None,
    }
}

fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

fn takes_next(arg: &Arg) -> bool {
    arg.get_action().takes_values() && !arg.is_require_equals_set()
}

fn known<'c>(root: &'c Command, command: &'c Command) -> impl Iterator<Item = &'c Arg> {
    command.get_arguments().chain(root.get_arguments())
}

fn long_flag(root: &Command, command: &Command, long: &str) -> Read {
    let (name, value) = match long.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (long, None),
    };
    let is = |arg: &&Arg| {
        arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|all| all.contains(&name))
    };
    match (known(root, command).find(is), value) {
        (Some(arg), None) if takes_next(arg) => Read::WithValue,
        (Some(arg), Some(value)) if is_switch(arg) => match truth(value) {
            Some(true) => Read::Instead(format!("--{name}")),
            Some(false) => Read::Nothing,
            None => Read::AsIs,
        },
        _ => Read::AsIs,
    }
}

/// Several switches may stand together, the last one may have a value.
fn short_flags(root: &Command, command: &Command, text: &str) -> Read {
    for (at, c) in text.char_indices() {
        let Some(arg) = known(root, command).find(|arg| arg.get_short() == Some(c)) else {
            return Read::AsIs;
        };
        let rest = &text[at + c.len_utf8()..];
        if takes_next(arg) {
            return if rest.is_empty() { Read::WithValue } else { Read::AsIs };
        }
        if let Some(value) = rest.strip_prefix('=').filter(|_| is_switch(arg)) {
            return match (truth(value), at) {
                (Some(true), _) => Read::Instead(format!("-{}", &text[..at + c.len_utf8()])),
                (Some(false), 0) => Read::Nothing,
                (Some(false), _) => Read::Instead(format!("-{}", &text[..at])),
                (None, _) => Read::AsIs,
            };
        }
    }
    Read::AsIs
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn lines() {
        let command = crate::cli::Cli::command();
        for (line, want) in [
            ("run --rm=true -d=false img --rm=false", "run --rm img --rm=false"),
            ("run -it=false img", "run -i img"),
            ("run -di=1 img", "run -di img"),
            ("run --name x=true -e A=true img", "run --name x=true -e A=true img"),
            ("run --sig-proxy=false img", "run --sig-proxy=false img"),
            ("--root /x run --init=0 img", "--root /x run img"),
            ("container run --rm=false img", "container run img"),
            ("exec -t=true c ls -l=true", "exec -t c ls -l=true"),
            ("ps -a=true", "ps -a"),
            ("ps --all=maybe", "ps --all=maybe"),
            ("stop web --time 5", "stop web --time 5"),
            ("run -- img --rm=false", "run -- img --rm=false"),
            ("rm --force=true x", "rm --force x"),
        ] {
            let words = std::iter::once("orlop").chain(line.split(' ')).map(OsString::from);
            let got: Vec<_> = normal(&command, words).into_iter().skip(1).collect();
            assert_eq!(got.join(std::ffi::OsStr::new(" ")), want, "{line}");
        }
    }
}
