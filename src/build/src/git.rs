//! Git repositories as sources: of `ADD`, and as a context. The `git` of the machine fetches; what
//! comes from a Dockerfile or a repository never stands where git would take it for an option.

use orlop_sys::process::{Command, Exit, Program, output};
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The longest that one call of git may take.
const TIMEOUT: Duration = Duration::from_secs(1800);
/// Bytes of an answer that are read.
const LIMIT: usize = 1 << 20;
/// What git may speak. Others run programs or read files of this machine.
const PROTOCOLS: &str = "git:http:https:ssh";
/// Variables of ours that decide how the outside is reached, and as whom.
const PASSED: [&str; 14] = [
    "HOME",
    "PATH",
    "SSH_AUTH_SOCK",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
];

/// A repository, and what of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where it is.
    pub url: String,
    /// Branch, tag or commit; the repository's own choice without one.
    pub reference: Option<String>,
    /// The part that is wanted.
    pub subdir: Option<String>,
    /// What the commit must begin with.
    pub checksum: Option<String>,
    /// `.git` stays.
    pub keep_git_dir: Option<bool>,
    /// Repositories in the repository are fetched, too.
    pub submodules: bool,
}

/// Whether an address is one of a repository, and not of a file.
pub fn is_git(address: &str) -> bool {
    let (base, _) = address.split_once(['#', '?']).unwrap_or((address, ""));
    let web = base.starts_with("http://") || base.starts_with("https://");
    base.starts_with("git@")
        || base.starts_with("git://")
        || base.starts_with("ssh://")
        || (web && base.trim_end_matches('/').ends_with(".git"))
}

impl Source {
    /// Reads `URL[#REF[:DIRECTORY]]` and `URL?ref=…&subdir=…`.
    ///
    /// # Errors
    ///
    /// In words: what is no address of a repository, or would be an option of git.
    pub fn parse(address: &str) -> Result<Self, String> {
        let shown = crate::without_secrets(address);
        if !is_git(address) {
            return Err(format!(
                "{shown} is no git repository: expected https://….git, ssh://, git:// or git@, with #branch:directory behind it"
            ));
        }
        let (base, fragment) = address.split_once('#').unwrap_or((address, ""));
        let (url, query) = base.split_once('?').unwrap_or((base, ""));
        let mut source = Self {
            url: url.to_owned(),
            reference: None,
            subdir: None,
            checksum: None,
            keep_git_dir: None,
            submodules: true,
        };
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        source.reference = Some(reference.to_owned()).filter(|text| !text.is_empty());
        source.subdir = Some(subdir.to_owned()).filter(|text| !text.is_empty());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, "true"));
            let flag = || match value {
                "true" | "1" | "" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err(format!("{shown}: {key}={value}: expected true or false")),
            };
            match key {
                "ref" | "branch" | "tag" => source.reference = Some(value.to_owned()),
                "subdir" => source.subdir = Some(value.to_owned()),
                "checksum" | "commit" => source.checksum = Some(value.to_owned()),
                "keep-git-dir" => source.keep_git_dir = Some(flag()?),
                "submodules" => source.submodules = flag()?,
                _ => return Err(format!("{shown}: {key:?} is not known in a git address")),
            }
        }
        source.check().map_err(|why| format!("{shown}: {why}"))?;
        Ok(source)
    }

    /// Nothing may be an option, a path elsewhere, or two lines.
    fn check(&self) -> Result<(), String> {
        let plain = |text: &str| !text.starts_with('-') && !text.chars().any(char::is_control);
        let host = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        if !plain(&self.url) || host.starts_with('-') || host.contains("@-") {
            return Err("the address begins like an option".into());
        }
        if let Some(reference) = &self.reference {
            let wild = ["..", "@{", "~", "^", ":", "?", "*", "[", "\\", " "];
            let odd = wild.iter().any(|part| reference.contains(part));
            if !plain(reference) || odd || reference.is_empty() {
                return Err(format!("{reference:?} is no branch, tag or commit"));
            }
        }
        if let Some(subdir) = &self.subdir
            && (!plain(subdir) || Path::new(subdir).components().any(|c| c.as_os_str() == ".."))
        {
            return Err(format!("the directory {subdir:?} leads out of the repository"));
        }
        match &self.checksum {
            Some(sum) if sum.len() < 7 || !sum.bytes().all(|b| b.is_ascii_hexdigit()) => {
                Err(format!("{sum:?} is no commit"))
            }
            _ => Ok(()),
        }
    }

    /// The commit that is meant, as the repository says now, and the one that `checksum` asks for.
    /// Nothing is fetched.
    ///
    /// # Errors
    ///
    /// In words, without user names and passwords.
    pub fn commit(&self) -> Result<String, String> {
        let commit = match self.reference.as_deref().filter(|text| is_commit(text)) {
            Some(whole) => whole.to_owned(),
            None => self.resolve(self.reference.as_deref().unwrap_or("HEAD"))?,
        };
        match &self.checksum {
            Some(sum) if !commit.starts_with(&sum.to_ascii_lowercase()) => {
                let shown = crate::without_secrets(&self.url);
                Err(format!("{shown}: the commit is {commit}, not {sum}"))
            }
            _ => Ok(commit),
        }
    }

    fn resolve(&self, wanted: &str) -> Result<String, String> {
        // The first that is there counts; an annotated tag stands for its commit.
        let names = [
            wanted.to_owned(),
            format!("refs/tags/{wanted}^{{}}"),
            format!("refs/tags/{wanted}"),
            format!("refs/heads/{wanted}"),
        ];
        // Named, since big repositories have more than an answer may be long.
        let mut arguments = vec!["ls-remote", "--", &self.url];
        arguments.extend(names.iter().map(String::as_str));
        let listed = git(None, &arguments)?;
        let text = String::from_utf8_lossy(&listed);
        let rows: Vec<(&str, &str)> = text.lines().filter_map(|l| l.split_once('\t')).collect();
        let found = names.iter().find_map(|name| rows.iter().find(|(_, known)| known == name));
        let found = found.map(|(commit, _)| (*commit).to_owned());
        found.filter(|commit| is_commit(commit)).ok_or_else(|| {
            format!("{} has no branch or tag {wanted:?}", crate::without_secrets(&self.url))
        })
    }
}

fn is_commit(text: &str) -> bool {
    (text.len() == 40 || text.len() == 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Fetches `commit`, which [`Source::commit`] gave, into the empty directory `into`, and gives the
/// directory that is wanted. All files get the commit's time. Blocking.
///
/// # Errors
///
/// In words, without user names and passwords.
pub fn checkout(
    source: &Source,
    commit: &str,
    into: &Path,
    cancel: &CancellationToken,
) -> Result<PathBuf, String> {
    let shown = crate::without_secrets(&source.url);
    let tree = into.join("tree");
    let tree_text = tree.to_str().ok_or("the directory's name is no UTF-8")?;
    git(None, &["init", "--quiet", "--template=", "--", tree_text])?;
    git(Some(&tree), &["remote", "add", "--", "origin", &source.url])?;
    let name = source.reference.as_deref().filter(|text| !is_commit(text)).unwrap_or("HEAD");
    // One commit is enough where the server can give it; a plain file server cannot.
    let attempts: [&[&str]; 3] = [
        &["fetch", "--quiet", "--depth=1", "--", "origin", commit],
        &["fetch", "--quiet", "--", "origin", name],
        &["fetch", "--quiet", "--tags", "--", "origin", "+refs/heads/*:refs/remotes/origin/*"],
    ];
    let have = ["cat-file", "-e", &format!("{commit}^{{commit}}")];
    let mut last = String::new();
    let fetched = attempts.iter().any(|attempt| {
        if cancel.is_cancelled() {
            return false;
        }
        let done = git(Some(&tree), attempt);
        if let Err(why) = &done {
            last.clone_from(why);
        }
        done.is_ok() && git(Some(&tree), &have).is_ok()
    });
    if !fetched {
        return Err(match last.is_empty() {
            true => format!("{shown}: commit {commit} is not there"),
            false => last,
        });
    }
    git(Some(&tree), &["checkout", "--quiet", "--detach", commit])?;
    if source.submodules && tree.join(".gitmodules").is_file() {
        git(Some(&tree), &["submodule", "--quiet", "update", "--init", "--recursive"])?;
    }
    let time = git(Some(&tree), &["show", "--no-patch", "--format=%ct", commit])?;
    let time = String::from_utf8_lossy(&time).trim().parse().unwrap_or(0);
    if source.keep_git_dir != Some(true) {
        std::fs::remove_dir_all(tree.join(".git")).map_err(|error| format!("{shown}: {error}"))?;
    }
    settle(&tree, time).map_err(|error| format!("{shown}: {error}"))?;
    part(&tree, source.subdir.as_deref())
        .map_err(|error| format!("{shown}: directory {:?}: {error}", source.subdir))
}

/// A directory of the tree. A link may lead to it, but not out of the tree.
fn part(tree: &Path, subdir: Option<&str>) -> std::io::Result<PathBuf> {
    use std::os::fd::AsFd;
    let Some(subdir) = subdir.map(|s| s.trim_matches('/')).filter(|s| !s.is_empty()) else {
        return Ok(tree.to_owned());
    };
    let root = orlop_sys::fs::open_dir(tree)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let fd = orlop_sys::fs::open_beneath(root.as_fd(), subdir, flags, Mode::empty())?;
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Gives everything one time, so that the same commit is the same layer on every day.
fn settle(path: &Path, time: i64) -> std::io::Result<()> {
    if path.symlink_metadata()?.is_dir() {
        for entry in std::fs::read_dir(path)? {
            settle(&entry?.path(), time)?;
        }
    }
    let stamp = Timespec { tv_sec: time, tv_nsec: 0 };
    let times = Timestamps { last_access: stamp, last_modification: stamp };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn git(dir: Option<&Path>, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let program = std::env::split_paths(&path).map(|dir| dir.join("git")).find(|p| p.is_file());
    let program = program.ok_or("git is not in PATH: install it to build from repositories")?;
    let mut command = Command::new(Program::Path(&program));
    command.arg("git");
    // Neither hooks nor file systems' helpers of a repository run here.
    for setting in ["core.hooksPath=/dev/null", "core.fsmonitor=false", "advice.detachedHead=false"]
    {
        command.arg("-c").arg(setting);
    }
    for argument in arguments {
        command.arg(argument);
    }
    if let Some(dir) = dir {
        command.current_dir(dir);
    }
    for name in PASSED {
        if let Some(value) = std::env::var_os(name) {
            let value: OsString = value;
            command.env(name, value);
        }
    }
    command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_ALLOW_PROTOCOL", PROTOCOLS).env("LC_ALL", "C");
    let done = output(&command, b"", LIMIT, TIMEOUT).map_err(|error| format!("git: {error}"))?;
    if done.exit == Exit::Code(0) {
        return Ok(done.stdout);
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let said: Vec<String> = said.lines().map(hide).collect();
    Err(format!("git {}: {}", arguments.first().unwrap_or(&""), said.join("; ")))
}

/// A line of git's without the secrets of addresses in it.
fn hide(line: &str) -> String {
    let word = |word: &str| match word.find("://") {
        Some(_) => {
            let start = word.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(0);
            format!("{}{}", &word[..start], crate::without_secrets(&word[start..]))
        }
        None => word.to_owned(),
    };
    let clean: String = line.chars().filter(|c| !c.is_control()).collect();
    clean.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let source = Source::parse("https://host/x.git#v1.2:a/b").unwrap();
        assert_eq!(source.url, "https://host/x.git");
        assert_eq!(source.reference.as_deref(), Some("v1.2"));
        assert_eq!(source.subdir.as_deref(), Some("a/b"));
        let source =
            Source::parse("https://host/x.git?ref=main&subdir=s&keep-git-dir=true").unwrap();
        assert_eq!(source.reference.as_deref(), Some("main"));
        assert_eq!(source.keep_git_dir, Some(true));
        assert!(is_git("git@host:x/y") && is_git("ssh://git@host/x"));
        assert!(
            !is_git("https://host/x.tar.gz") && !is_git("dir/x.git") && !is_git("file:///x.git")
        );
    }

    #[test]
    fn what_would_be_an_option_is_refused() {
        for wrong in [
            "https://host/x.git#--upload-pack=touch",
            "https://host/x.git#-u",
            "https://host/x.git?ref=--exec",
            "ssh://-oProxyCommand=x/y",
            "git@host:x#a..b",
            "git@host:x#main:../../etc",
            "https://host/x.git#main:a/../../b",
            "https://host/x.git#a\nb",
            "https://host/x.git?checksum=zz",
            "https://host/x.git?colour=red",
            "file:///etc/x.git",
            "ext::sh -c touch% x",
        ] {
            assert!(Source::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn secrets_of_addresses_are_not_said() {
        let line = hide("fatal: unable to access 'https://me:token@host/x.git/': no");
        assert!(!line.contains("token") && line.contains("host/x.git"), "{line}");
        let error = Source::parse("https://me:token@host/x").unwrap_err();
        assert!(!error.contains("token"), "{error}");
    }
}
