//! `ADD` of what is elsewhere: files by HTTP, and git repositories.

use super::add::{is_remote, without_secrets};
use super::copy::Prepared;
use super::layers::LayerStep;
use super::stage::Evaluation;
use super::time;
use super::{BuildError, Event};
use crate::files::copy::{Copier, write_file};
use crate::files::root::Root;
use crate::files::select::Tree;
use crate::git;
use crate::ignore::IgnoreRules;
use crate::instruction::Transfer;
use crate::key;
use orlop_image::{Draft, Validators};
use orlop_model::Digest;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;

/// A file that was fetched, or is known from an earlier time.
struct Fetched {
    address: String,
    name: String,
    digest: Digest,
    mtime: i64,
    /// Without it the file is what it was, and has to be fetched again where it is needed.
    file: Option<File>,
}

/// What is remembered of an address.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Known {
    etag: Option<String>,
    last_modified: Option<String>,
    digest: String,
}

/// What an `ADD` names.
enum Remote {
    File(Fetched),
    Repository(git::Source, String),
}

impl Evaluation<'_, '_> {
    /// `ADD` with addresses among its sources; there must be nothing else.
    pub(crate) fn add_remote(
        &mut self,
        transfer: &Transfer,
        addresses: &[String],
    ) -> Result<(), BuildError> {
        let lines = self.lines;
        if addresses.len() != transfer.sources.len() || addresses.iter().any(|a| !is_remote(a)) {
            let hint = "write one ADD for what is fetched and another one for what is local";
            let message = "ADD cannot take addresses and local files at once";
            return Err(BuildError::hinted(lines, message, hint));
        }
        if transfer.checksum.is_some() && addresses.len() > 1 {
            return Err(BuildError::at(lines, "--checksum wants exactly one source"));
        }
        let prepared = self.prepare(transfer, "ADD")?;
        let created_by = without_secrets_words(&self.transfer_history(transfer, &prepared)?);
        let checksum = transfer.checksum.as_ref().map(|word| self.word(word)).transpose()?;
        let unpack = transfer.unpack.unwrap_or(false);
        let mut remotes = Vec::new();
        for address in addresses {
            remotes.push(self.remote(address, checksum.as_deref(), transfer, &prepared)?);
        }
        let mut key = self.transfer_key(&prepared, unpack);
        for remote in &remotes {
            match remote {
                Remote::File(file) => {
                    let name = format!("content of {}", without_secrets(&file.address));
                    key.part(name, |hasher| {
                        hasher.field(&file.name).field(file.digest.as_str());
                        hasher.number(file.mtime as u64);
                    });
                }
                Remote::Repository(source, commit) => {
                    let name = format!("commit of {}", without_secrets(&source.url));
                    key.part(name, |hasher| {
                        hasher.field(commit).field(format!("{:?}", source.subdir));
                        hasher.field(format!("{:?} {}", source.keep_git_dir, source.submodules));
                    });
                }
            }
        }
        let this = &*self;
        let mut make = |draft: &Draft, _| {
            let root = Root(draft.mount().map_err(|error| BuildError::at(lines, error))?);
            let into = prepared.destination.ends_with('/') || remotes.len() > 1;
            if remotes.len() > 1 && !prepared.destination.ends_with('/') {
                let message =
                    format!("several sources cannot become the one file {}", prepared.destination);
                return Err(BuildError::at(lines, message));
            }
            for remote in &mut remotes {
                match remote {
                    Remote::File(file) => this.put_file(file, &prepared, &root, into, unpack)?,
                    Remote::Repository(source, commit) => {
                        this.put_repository(source, commit, &prepared, &root)?;
                    }
                }
            }
            Ok(())
        };
        let step = LayerStep {
            lines,
            name: self.step_name(created_by.trim_end_matches(" # buildkit")),
            key,
            linked: prepared.linked,
            fresh: self.fresh(),
            make: &mut make,
        };
        let mut stage = self.stage.clone();
        self.build.layer(&mut stage, step)?;
        self.stage = stage;
        self.history(created_by, false);
        Ok(())
    }

    fn remote(
        &self,
        address: &str,
        checksum: Option<&str>,
        transfer: &Transfer,
        prepared: &Prepared,
    ) -> Result<Remote, BuildError> {
        let lines = self.lines;
        let said = |why: String| BuildError::at(lines, why);
        if git::is_git(address) {
            let mut source = git::Source::parse(address).map_err(said)?;
            if transfer.keep_git_dir.is_some() {
                source.keep_git_dir = transfer.keep_git_dir;
            }
            if let Some(sum) = checksum {
                source.checksum = Some(sum.to_owned());
            }
            let commit = source.commit().map_err(said)?;
            return Ok(Remote::Repository(source, commit));
        }
        let checksum = checksum.map(Digest::parse).transpose().map_err(|e| said(e.to_string()))?;
        let name = self.file_name(address, &prepared.destination)?;
        self.fetch(address, name, checksum.as_ref()).map(Remote::File)
    }

    /// The name of the file: the last part of the address's path, and never what a server says.
    fn file_name(&self, address: &str, destination: &str) -> Result<String, BuildError> {
        let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
        let path = rest.split(['?', '#']).next().unwrap_or_default();
        let name = path.split_once('/').map_or("", |(_, path)| path);
        let name = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let plain = !name.is_empty() && name != "." && name != ".." && !name.contains('\0');
        if !plain && destination.ends_with('/') {
            let message = format!("{} has no file name", without_secrets(address));
            let hint = "name the file at the destination, without a slash at its end";
            return Err(BuildError::hinted(self.lines, message, hint));
        }
        Ok(name.to_owned())
    }

    /// Asks whether the file is what it was, and fetches it where it is not.
    fn fetch(
        &self,
        address: &str,
        name: String,
        checksum: Option<&Digest>,
    ) -> Result<Fetched, BuildError> {
        let (lines, engine) = (self.lines, self.build.engine);
        let record = engine.caches.join(format!("http-{}", key::digest(address).hex()));
        let known: Known = std::fs::read(&record)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let old = Digest::parse(&known.digest).ok();
        let validators = match &old {
            Some(_) if !self.fresh() => {
                Validators { etag: known.etag.clone(), last_modified: known.last_modified.clone() }
            }
            _ => Validators::default(),
        };
        // What must have this digest and had it once is not asked for again.
        if let (Some(wanted), Some(old)) = (checksum, &old)
            && wanted == old
            && !self.fresh()
        {
            let mtime = self.mtime(known.last_modified.as_deref());
            let digest = wanted.clone();
            return Ok(Fetched { address: address.to_owned(), name, digest, mtime, file: None });
        }
        let (found, file) = self.download(address, &validators)?;
        let (found, digest, file) = match (found, old) {
            (None, Some(old)) => (validators, old, None),
            (found, _) => {
                let mut file = file;
                file.rewind().map_err(|error| BuildError::at(lines, error))?;
                let digest = key::digest_of(&mut file).map_err(|e| BuildError::at(lines, e))?;
                (found.unwrap_or_default(), digest, Some(file))
            }
        };
        if let Some(wanted) = checksum
            && *wanted != digest
        {
            let message = format!("digest of {}: {digest}, not {wanted}", without_secrets(address));
            return Err(BuildError::at(lines, message));
        }
        let known = Known {
            etag: found.etag,
            last_modified: found.last_modified.clone(),
            digest: digest.to_string(),
        };
        // Without the record the file is fetched again the next time.
        if let Ok(bytes) = serde_json::to_vec(&known) {
            let written =
                tempfile::NamedTempFile::new_in(&engine.temporary).and_then(|mut file| {
                    file.write_all(&bytes)?;
                    file.persist(&record).map_err(|error| error.error)
                });
            if let Err(error) = written {
                tracing::warn!(path = %record.display(), %error, "cannot be written");
            }
        }
        let mtime = self.mtime(found.last_modified.as_deref());
        Ok(Fetched { address: address.to_owned(), name, digest, mtime, file })
    }

    fn mtime(&self, last_modified: Option<&str>) -> i64 {
        last_modified.and_then(time::http_date).unwrap_or(self.build.epoch)
    }

    fn download(
        &self,
        address: &str,
        known: &Validators,
    ) -> Result<(Option<Validators>, File), BuildError> {
        let (lines, engine) = (self.lines, self.build.engine);
        let shown = without_secrets(address);
        let id = self.build.begin(&format!("[{}] fetch {shown}", self.build.label(self.index)));
        let started = std::time::Instant::now();
        let mut file = engine.temporary().map_err(|error| BuildError::at(lines, error))?;
        let fetched = engine.runtime.block_on(async {
            tokio::select! {
                fetched = engine.store.fetch(address, known, &mut file) => {
                    fetched.map_err(|error| BuildError::at(lines, error.to_string()))
                }
                () = self.build.cancel.cancelled() => Err(BuildError::Cancelled),
            }
        });
        match &fetched {
            Ok(found) => self.build.progress.event(Event::Done {
                id,
                cached: found.is_none(),
                took: started.elapsed(),
            }),
            Err(error) => {
                self.build.progress.event(Event::Failed { id, error: error.to_string() });
            }
        }
        Ok((fetched?, file))
    }

    fn put_file(
        &self,
        fetched: &mut Fetched,
        prepared: &Prepared,
        root: &Root,
        into: bool,
        unpack: bool,
    ) -> Result<(), BuildError> {
        let lines = self.lines;
        let failed = |error: std::io::Error| BuildError::at(lines, error);
        let mut file = match fetched.file.take() {
            Some(file) => file,
            None => {
                let (_, mut file) = self.download(&fetched.address, &Validators::default())?;
                file.flush().and_then(|()| file.rewind()).map_err(failed)?;
                let digest = key::digest_of(&mut file).map_err(failed)?;
                if digest != fetched.digest {
                    let shown = without_secrets(&fetched.address);
                    let message = format!("{shown} changed while it was built: {digest} now");
                    return Err(BuildError::at(lines, message));
                }
                file
            }
        };
        file.rewind().map_err(failed)?;
        let target = Path::new(&prepared.destination);
        let wrong = |error| BuildError::file(lines, error, None);
        if unpack && let Some(reader) = crate::files::archive::sniff(&mut file).map_err(failed)? {
            let implicit = &prepared.implicit;
            return crate::files::archive::unpack(root, target, reader, implicit, prepared.owner)
                .map_err(wrong);
        }
        file.rewind().map_err(failed)?;
        let path = match into || root.is_dir(target) {
            true => target.join(&fetched.name),
            false => target.to_owned(),
        };
        let (uid, gid) = prepared.owner.unwrap_or((0, 0));
        let mode = prepared.chmod.as_ref().map_or(0o600, |chmod| chmod.apply(0o600, false));
        let attributes = (uid, gid, mode, fetched.mtime);
        write_file(root, &path, &mut file, &prepared.implicit, attributes).map_err(wrong)
    }

    fn put_repository(
        &self,
        source: &git::Source,
        commit: &str,
        prepared: &Prepared,
        root: &Root,
    ) -> Result<(), BuildError> {
        let lines = self.lines;
        let place = tempfile::tempdir_in(&self.build.engine.temporary)
            .map_err(|error| BuildError::at(lines, error))?;
        // The commit of the key, whatever the branch is by now.
        let dir = git::checkout(source, commit, place.path(), &self.build.cancel)
            .map_err(|why| BuildError::at(lines, why))?;
        let opened = orlop_sys::fs::open_dir(&dir).map_err(|error| BuildError::at(lines, error))?;
        let tree = Tree {
            root: opened,
            hidden: IgnoreRules::default(),
            rules_file: String::new(),
            name: format!("the repository {}", without_secrets(&source.url)),
            owned: false,
        };
        let mut copier = Copier {
            tree: &tree,
            exclude: &prepared.exclude,
            owner: prepared.owner,
            chmod: prepared.chmod.as_ref(),
            implicit: prepared.implicit,
            root,
            linked: HashMap::new(),
        };
        let wrong = |error| BuildError::file(lines, error, None);
        for selected in tree.select("/", false).map_err(wrong)? {
            copier.copy(&selected, &prepared.destination).map_err(wrong)?;
        }
        Ok(())
    }
}

fn without_secrets_words(text: &str) -> String {
    text.split(' ').map(without_secrets).collect::<Vec<_>>().join(" ")
}
