//! `cp`: the rules are those of cp(1) with two additions: `-` is a tar file, and a source that ends in
//! `/.` is what is in a directory, without the directory.

use super::transfer::{self, Outgoing, QUEUE, incoming};
use crate::args::containers::CpArgs;
use crate::container::said;
use crate::door::{Door, Engine};
use crate::size::size;
use anyhow::{Context, bail};
use orlop_api::engine_v1 as v1;
use orlop_engine::files::{FileStat, Packer, Unpacker};
use rustix::fs::{Mode, OFlags};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Side {
    Container { name: String, path: String },
    Local(String),
    Stream,
}

impl Side {
    fn parse(text: &str) -> Self {
        // A path of this machine may have a colon: written with a begin that no name has.
        let local = text.starts_with(['/', '.']);
        match text.split_once(':') {
            _ if text == "-" => Self::Stream,
            Some((name, path)) if !local && !name.is_empty() => {
                Self::Container { name: name.to_owned(), path: path.to_owned() }
            }
            _ => Self::Local(text.to_owned()),
        }
    }
}

/// Copies.
pub(super) async fn cp(door: &Door, asked: &CpArgs) -> anyhow::Result<()> {
    let sides = (Side::parse(&asked.source), Side::parse(&asked.target));
    match &sides {
        (Side::Container { .. }, Side::Container { .. }) => {
            bail!("copying between two containers is not possible: copy to this machine first")
        }
        (Side::Container { path, .. }, _) | (_, Side::Container { path, .. }) => {
            if path.is_empty() {
                bail!("give a path in the container, as in NAME:/path");
            }
        }
        _ => bail!("give one side as CONTAINER:PATH"),
    }
    let mut engine = door.engine();
    let done = match &sides {
        (Side::Container { name, path }, target) => {
            from_container(&mut engine, (name, path), target, asked).await
        }
        (source, Side::Container { name, path }) => {
            into_container(&mut engine, source, (name, path), asked).await
        }
        _ => Ok(0),
    };
    let total = done?;
    if !asked.quiet && sides.1 != Side::Stream {
        writeln!(io::stderr(), "Successfully copied {} to {}", size(total), asked.target)?;
    }
    Ok(())
}

/// Where what is copied goes: into which directory, and under which name; `None`: without one of its
/// own, the directory becomes or gets what is in it.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    directory: String,
    name: Option<OsString>,
    /// The directory must be made first.
    make: bool,
}

/// What is at the target already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum There {
    Nothing,
    Directory,
    Other,
}

/// The rules. `source` is a directory with `is_dir`, and only what is in it is copied with `contents`.
fn place(
    (is_dir, contents): (bool, bool),
    source_name: &OsStr,
    target: &str,
    there: There,
) -> anyhow::Result<Place> {
    let slash = target.ends_with('/') || target.ends_with("/.");
    let in_parent = || {
        let trimmed = target.trim_end_matches("/.").trim_end_matches('/');
        let path = Path::new(if trimmed.is_empty() { "/" } else { trimmed });
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory =
            parent.unwrap_or(Path::new(if target.starts_with('/') { "/" } else { "." }));
        let name = path.file_name().map(OsStr::to_owned);
        (directory.to_string_lossy().into_owned(), name)
    };
    match there {
        There::Directory if is_dir && contents => {
            Ok(Place { directory: target.to_owned(), name: None, make: false })
        }
        There::Directory => Ok(Place {
            directory: target.to_owned(),
            name: Some(source_name.to_owned()),
            make: false,
        }),
        There::Other if is_dir => bail!("{target} is no directory: a directory cannot go there"),
        There::Other if slash => bail!("{target} is no directory: leave the slash out"),
        There::Nothing if slash && !is_dir => {
            bail!("there is no directory {target}: make it first, or leave the slash out")
        }
        There::Nothing if is_dir && contents => {
            Ok(Place { directory: target.to_owned(), name: None, make: true })
        }
        There::Nothing | There::Other => {
            let (directory, name) = in_parent();
            Ok(Place { directory, name, make: false })
        }
    }
}

/// Whether only what is in a directory is meant.
fn contents(path: &str) -> bool {
    path.ends_with("/.") || path == "." || path == "/"
}

async fn open(
    engine: &mut Engine,
    container: &str,
    path: &str,
    follow: bool,
) -> Result<(FileStat, Streaming<v1::Chunk>), tonic::Status> {
    let request = v1::CopyRequest {
        container: container.to_owned(),
        path: path.to_owned(),
        follow,
        ..v1::CopyRequest::default()
    };
    let mut chunks = engine.copy_out(request).await?.into_inner();
    let first = chunks.message().await?.unwrap_or_default();
    let stat = serde_json::from_slice(&first.json)
        .map_err(|error| tonic::Status::internal(error.to_string()))?;
    Ok((stat, chunks))
}

async fn from_container(
    engine: &mut Engine,
    (container, path): (&str, &str),
    target: &Side,
    asked: &CpArgs,
) -> anyhow::Result<u64> {
    let (stat, chunks) = open(engine, container, path, asked.follow_link).await.map_err(said)?;
    let target = match target {
        Side::Local(target) => target,
        _ => {
            if rustix::termios::isatty(rustix::stdio::stdout()) {
                bail!("a tar file is not for a terminal: redirect the output");
            }
            return transfer::to_writer(chunks, transfer::stdout()?).await;
        }
    };
    let there = match std::fs::metadata(target) {
        Ok(found) if found.is_dir() => There::Directory,
        Ok(_) => There::Other,
        Err(error) if error.kind() == io::ErrorKind::NotFound => There::Nothing,
        Err(error) => return Err(error).with_context(|| target.clone()),
    };
    let name = OsString::from(stat.name.clone());
    let place = place((stat.is_dir(), contents(path)), &name, target, there)?;
    let keep = asked.archive;
    let mut archive = Counted { inner: incoming(chunks), total: 0 };
    let work = move || {
        let failed = || format!("directory {}", place.directory);
        if place.make {
            std::fs::create_dir(&place.directory).with_context(failed)?;
        }
        let dir = orlop_sys::fs::open_dir(&place.directory).with_context(failed)?;
        let unpacker = Unpacker::on_host(dir.as_fd(), keep).renaming(&name, place.name.as_deref());
        let left_out = unpacker.unpack(&mut archive).with_context(failed)?;
        anyhow::Ok((left_out, archive.total))
    };
    let (left_out, total) = tokio::task::spawn_blocking(work).await??;
    for path in left_out {
        writeln!(
            io::stderr(),
            "orlop: {} is a device and was left out: use -a to copy it too",
            super::plain(&path.display().to_string())
        )?;
    }
    Ok(total)
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    total: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.total += read as u64;
        Ok(read)
    }
}

/// What is at a path of a container, and which path that is when a link at its end is followed.
async fn target_of(
    engine: &mut Engine,
    container: &str,
    path: &str,
) -> anyhow::Result<(String, There)> {
    let found = |status: tonic::Status| match status.code() {
        // It is the container that is not there where the message says so.
        tonic::Code::NotFound if !status.message().contains("container") => Ok(None),
        _ => Err(said(status)),
    };
    let mut path = path.to_owned();
    let plain = match open(engine, container, &path, false).await {
        Ok((stat, _)) => Some(stat),
        Err(status) => found(status)?,
    };
    if let Some(stat) = plain.filter(FileStat::is_link) {
        path = match Path::new(&stat.link).is_absolute() {
            true => stat.link,
            false => {
                let parent = Path::new(&path).parent().unwrap_or(Path::new("/"));
                parent.join(&stat.link).to_string_lossy().into_owned()
            }
        };
    }
    match open(engine, container, &path, true).await {
        Ok((stat, _)) if stat.is_dir() => Ok((path, There::Directory)),
        Ok(_) => Ok((path, There::Other)),
        Err(status) => found(status).map(|_| (path, There::Nothing)),
    }
}

async fn into_container(
    engine: &mut Engine,
    source: &Side,
    (container, target): (&str, &str),
    asked: &CpArgs,
) -> anyhow::Result<u64> {
    let (target, there) = target_of(engine, container, target).await?;
    let first = |path: String| v1::CopyRequest {
        container: container.to_owned(),
        path,
        archive: asked.archive,
        ..v1::CopyRequest::default()
    };
    let source = match source {
        Side::Local(source) => source.clone(),
        _ => {
            if there != There::Directory {
                bail!("{target} is no directory of the container: a tar file is unpacked into one");
            }
            return send(engine, first(target), |mut out| {
                io::copy(&mut io::stdin().lock(), &mut out)?;
                out.flush()?;
                Ok(out.total)
            })
            .await;
        }
    };
    let follow = asked.follow_link || source.ends_with('/') || contents(&source);
    let last = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    let found =
        rustix::fs::open(source.as_str(), OFlags::PATH | OFlags::CLOEXEC | last, Mode::empty())
            .with_context(|| source.clone())?;
    let is_dir = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode)
        == rustix::fs::FileType::Directory;
    if !is_dir && source.ends_with('/') {
        bail!("{source} is no directory: leave the slash out");
    }
    let own_name = name_of(&source)?;
    let mut place = place((is_dir, contents(&source)), &own_name, &target, there)?;
    if place.make {
        // The archive's own root makes it.
        let path = PathBuf::from(place.directory.trim_end_matches("/.").trim_end_matches('/'));
        place.name = path.file_name().map(OsStr::to_owned);
        let parent = path.parent().unwrap_or(Path::new("/"));
        place.directory = parent.to_string_lossy().into_owned();
    }
    let name = place.name.unwrap_or_else(|| OsString::from("."));
    let directory = if place.directory.is_empty() { "/".to_owned() } else { place.directory };
    send(engine, first(directory), move |out| {
        let mut packer = Packer::new(out);
        packer.add(&found, Path::new(&name))?;
        packer.finish().map(|out| out.total)
    })
    .await
}

/// The last component of a path of this machine, also of `.` and `..`.
fn name_of(path: &str) -> anyhow::Result<OsString> {
    match Path::new(path).components().next_back() {
        Some(Component::Normal(name)) => Ok(name.to_owned()),
        _ => {
            let whole = std::fs::canonicalize(path).with_context(|| path.to_owned())?;
            Ok(whole.file_name().unwrap_or(OsStr::from_bytes(b".")).to_owned())
        }
    }
}

/// Sends what a thread writes.
async fn send(
    engine: &mut Engine,
    first: v1::CopyRequest,
    write: impl FnOnce(Outgoing) -> io::Result<u64> + Send + 'static,
) -> anyhow::Result<u64> {
    let (send, requests) = mpsc::channel(QUEUE);
    // There is room for it.
    let _ = send.send(first).await;
    let writing = tokio::task::spawn_blocking(move || write(Outgoing::new(send)));
    let answer = engine.copy_in(ReceiverStream::new(requests)).await;
    let written = writing.await?;
    match (answer, written) {
        // Where it is refused, that says why writing broke off.
        (Err(status), _) => Err(said(status)),
        (Ok(_), written) => written.context("the archive cannot be made"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides() {
        let container = |name: &str, path: &str| Side::Container {
            name: name.to_owned(),
            path: path.to_owned(),
        };
        for (text, side) in [
            ("-", Side::Stream),
            ("web:/etc/passwd", container("web", "/etc/passwd")),
            ("web:a:b", container("web", "a:b")),
            ("./a:b", Side::Local("./a:b".into())),
            ("/a:b", Side::Local("/a:b".into())),
            ("plain", Side::Local("plain".into())),
            (":x", Side::Local(":x".into())),
        ] {
            assert_eq!(Side::parse(text), side, "{text}");
        }
    }

    #[test]
    fn the_rules() {
        use There::{Directory, Nothing, Other};
        const FILE: (bool, bool) = (false, false);
        const DIR: (bool, bool) = (true, false);
        const INSIDE: (bool, bool) = (true, true);
        for (source, target, there, directory, name, make) in [
            (FILE, "/new", Nothing, "/", Some("new"), false),
            (FILE, "a/new", Nothing, "a", Some("new"), false),
            (FILE, "new", Nothing, ".", Some("new"), false),
            (FILE, "/old", Other, "/", Some("old"), false),
            (FILE, "/dir", Directory, "/dir", Some("src"), false),
            (FILE, "/dir/", Directory, "/dir/", Some("src"), false),
            (DIR, "/new", Nothing, "/", Some("new"), false),
            (DIR, "/new/", Nothing, "/", Some("new"), false),
            (DIR, "/dir", Directory, "/dir", Some("src"), false),
            (INSIDE, "/dir", Directory, "/dir", None, false),
            (INSIDE, "/new", Nothing, "/new", None, true),
        ] {
            let found = place(source, OsStr::new("src"), target, there).unwrap();
            let expected =
                Place { directory: directory.into(), name: name.map(OsString::from), make };
            assert_eq!(found, expected, "{source:?} to {target} ({there:?})");
        }
        for (source, target, there) in [
            (FILE, "/new/", Nothing),
            (DIR, "/old", Other),
            (INSIDE, "/old", Other),
            (FILE, "/old/", Other),
        ] {
            assert!(place(source, OsStr::new("src"), target, there).is_err(), "{target}");
        }
    }
}
