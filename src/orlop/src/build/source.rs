//! Where the Dockerfile and the context come from.

use super::args::BuildArgs;
use anyhow::{Context, bail};
use orlop_build::ignore::IgnoreRules;
use std::fs::Permissions;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// What was found.
pub(crate) struct Source {
    pub(crate) dockerfile: String,
    pub(crate) name: String,
    pub(crate) context: Option<PathBuf>,
    /// Text of the ignore rules.
    pub(crate) ignore_text: String,
    pub(crate) ignore_name: String,
    /// An unpacked archive, removed with this.
    _unpacked: Option<TempDir>,
}

/// A directory of our own, on a disk: what others put there would be built.
fn place() -> anyhow::Result<TempDir> {
    let parent = std::env::var_os("TMPDIR").map_or_else(|| "/var/tmp".into(), PathBuf::from);
    let made = tempfile::Builder::new()
        .prefix("orlop-context-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(&parent);
    made.with_context(|| format!("making a directory in {}", parent.display()))
}

/// Larger than any Dockerfile.
const LIMIT: u64 = 16 << 20;

impl Source {
    /// Reads the Dockerfile and the ignore rules.
    pub(crate) fn find(arguments: &BuildArgs) -> anyhow::Result<Self> {
        if arguments.context == "-" {
            return Self::from_stdin(arguments);
        }
        if orlop_build::is_remote(&arguments.context) {
            return Self::from_git(arguments);
        }
        let context = PathBuf::from(&arguments.context);
        if !context.is_dir() {
            bail!("the context {} is not a directory", context.display());
        }
        Self::in_directory(arguments, context, None)
    }

    fn in_directory(
        arguments: &BuildArgs,
        context: PathBuf,
        unpacked: Option<TempDir>,
    ) -> anyhow::Result<Self> {
        let (dockerfile, name, path) = match arguments.file.as_deref() {
            Some("-") => {
                let mut text = String::new();
                std::io::stdin().take(LIMIT).read_to_string(&mut text)?;
                (text, "Dockerfile".to_owned(), None)
            }
            Some(file) => {
                // As given, or else in the context.
                let inside = context.join(file);
                let path = if unpacked.is_none() && Path::new(file).is_file() {
                    PathBuf::from(file)
                } else {
                    inside
                };
                (read(&path, &context)?, file.to_owned(), Some(path))
            }
            None => {
                let path = context.join("Dockerfile");
                (read(&path, &context)?, "Dockerfile".to_owned(), Some(path))
            }
        };
        let (ignore_text, ignore_name) = ignore_text(&context, path.as_deref())?;
        let context = Some(context);
        Ok(Self { dockerfile, name, context, ignore_text, ignore_name, _unpacked: unpacked })
    }

    /// A git repository, checked out for this build.
    fn from_git(arguments: &BuildArgs) -> anyhow::Result<Self> {
        let said = |why: String| anyhow::anyhow!("{why}");
        let source = orlop_build::git::Source::parse(&arguments.context).map_err(said)?;
        let unpacked = place()?;
        let commit = source.commit().map_err(said)?;
        let never = CancellationToken::new();
        let dir = orlop_build::git::checkout(&source, &commit, unpacked.path(), &never);
        let dir = dir.map_err(said)?;
        Self::in_directory(arguments, dir, Some(unpacked))
    }

    fn from_stdin(arguments: &BuildArgs) -> anyhow::Result<Self> {
        let mut input = std::io::stdin().lock();
        let mut head = vec![0; 262];
        let mut filled = 0;
        while filled < head.len() {
            match input.read(&mut head[filled..])? {
                0 => break,
                n => filled += n,
            }
        }
        head.truncate(filled);
        let archive = head.starts_with(&[0x1f, 0x8b])
            || head.starts_with(b"BZh")
            || head.starts_with(&[0xfd, b'7', b'z', b'X', b'Z'])
            || head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
            || head.get(257..262) == Some(b"ustar");
        let mut all = std::io::Cursor::new(head).chain(input);
        if !archive {
            let mut dockerfile = String::new();
            all.take(LIMIT).read_to_string(&mut dockerfile)?;
            return Ok(Self {
                dockerfile,
                name: "Dockerfile".into(),
                context: None,
                ignore_text: String::new(),
                ignore_name: String::new(),
                _unpacked: None,
            });
        }
        let unpacked = place()?;
        let dir = unpacked.path().to_owned();
        orlop_build::unpack_context(&mut all, &dir).context("the archive on standard input")?;
        Self::in_directory(arguments, dir, Some(unpacked))
    }
}

fn read(path: &Path, context: &Path) -> anyhow::Result<String> {
    if !path.is_file() {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let names: Vec<String> = std::fs::read_dir(path.parent().unwrap_or(context))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        let near = orlop_build::nearest(
            name.as_deref().unwrap_or_default(),
            names.iter().map(String::as_str),
        );
        let hint = near.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
        bail!("there is no Dockerfile at {}{hint}", path.display());
    }
    let mut text = String::new();
    let file = std::fs::File::open(path).with_context(|| format!("{}", path.display()))?;
    file.take(LIMIT).read_to_string(&mut text).with_context(|| format!("{}", path.display()))?;
    Ok(text)
}

/// The text of the rules beside the Dockerfile, else those of the context.
pub(crate) fn ignore_text(
    context: &Path,
    dockerfile: Option<&Path>,
) -> anyhow::Result<(String, String)> {
    let beside = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    let candidates = beside.into_iter().chain([context.join(".dockerignore")]);
    for path in candidates {
        // A link could lead anywhere; the rules are a file of the context or none.
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        if !meta.is_file() {
            bail!("{} is not a regular file", path.display());
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        IgnoreRules::parse(&text).with_context(|| format!("{}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Ok((text, name));
    }
    Ok((String::new(), ".dockerignore".into()))
}
