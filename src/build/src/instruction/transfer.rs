//! `COPY` and `ADD`.

use super::flags::{Flags, Kind};
use crate::Diagnostic;
use crate::parse::{Arguments, Heredoc, Node};

/// What `COPY` and `ADD` move, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// At least one.
    pub sources: Vec<Source>,
    /// Where to.
    pub destination: String,
    /// `--from`: stage, number, image or named context.
    pub from: Option<String>,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<String>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`.
    pub exclude: Vec<String>,
    /// `--checksum`.
    pub checksum: Option<String>,
    /// `--unpack`.
    pub unpack: Option<bool>,
    /// `--keep-git-dir`.
    pub keep_git_dir: Option<bool>,
}

/// One source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path, a pattern, or for `ADD` an address.
    Path(String),
    /// A body in the Dockerfile.
    Heredoc(Heredoc),
}

const COMMON: [(&str, Kind); 5] = [
    ("chown", Kind::Text),
    ("chmod", Kind::Text),
    ("link", Kind::Bool),
    ("exclude", Kind::List),
    ("parents", Kind::Bool),
];
const COPY: [(&str, Kind); 1] = [("from", Kind::Text)];
const ADD: [(&str, Kind); 3] =
    [("checksum", Kind::Text), ("unpack", Kind::Bool), ("keep-git-dir", Kind::Bool)];

pub(super) fn transfer(node: &Node) -> Result<Transfer, Diagnostic> {
    let own: &[_] = if node.keyword == "COPY" { &COPY } else { &ADD };
    // `--parents` belongs to COPY alone.
    let common = COMMON.iter().filter(|(name, _)| node.keyword == "COPY" || *name != "parents");
    let known: Vec<_> = own.iter().chain(common).copied().collect();
    let flags = Flags::new(node, &known)?;
    let words = match &node.arguments {
        Arguments::Json(words) | Arguments::Words { words, .. } => words.as_slice(),
        _ => &[],
    };
    let Some((destination, sources)) = words.split_last().filter(|(_, from)| !from.is_empty())
    else {
        let message = format!("{} requires at least two arguments", node.keyword);
        let expected = format!("{} source... destination", node.keyword);
        return Err(Diagnostic::new(node.lines, message).expected(expected));
    };
    if sources.iter().chain([destination]).any(String::is_empty) {
        let message = format!("{} has an empty path", node.keyword);
        return Err(Diagnostic::new(node.lines, message));
    }
    let mut bodies = node.heredocs.iter();
    let source = |word: &String| match crate::parse::heredoc(word) {
        Some(_) if !matches!(node.arguments, Arguments::Json(_)) => {
            bodies.next().map(|body| Source::Heredoc(body.clone()))
        }
        _ => Some(Source::Path(word.clone())),
    };
    Ok(Transfer {
        sources: sources.iter().filter_map(source).collect(),
        destination: destination.clone(),
        from: from(node, &flags)?,
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link: flags.bool("link")?.unwrap_or(false),
        parents: flags.bool("parents")?.unwrap_or(false),
        exclude: flags.list("exclude"),
        checksum: flags.text("checksum"),
        unpack: flags.bool("unpack")?,
        keep_git_dir: flags.bool("keep-git-dir")?,
    })
}

fn from(node: &Node, flags: &Flags<'_>) -> Result<Option<String>, Diagnostic> {
    let from = flags.text("from").filter(|from| !from.is_empty());
    if from.as_deref().is_some_and(|from| from.contains('$')) {
        return Err(Diagnostic::new(node.lines, "variable expansion is not supported for --from")
            .at("--from")
            .hint(Some("name a stage for it: FROM with an ARG from before the first FROM")));
    }
    Ok(from)
}
