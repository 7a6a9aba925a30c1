//! A file that grows, and that another may take the place of.

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tokio::io::unix::AsyncFd;

/// Bytes of one reading.
const CHUNK: usize = 64 << 10;
/// Longest line; what is longer is cut, so that a file that is no log costs no memory.
const LONGEST: usize = 4 << 20;

/// Reads lines as they come. The file need not be there yet.
pub struct Tail {
    path: PathBuf,
    file: Option<File>,
    /// What was read and not given out yet.
    rest: Vec<u8>,
    /// Told of whatever happens in the directory; only where the file is followed.
    news: Option<AsyncFd<OwnedFd>>,
}

impl Tail {
    /// Opens the file, whose directory must be there.
    pub fn open(path: &Path, follow: bool) -> io::Result<Self> {
        // Before the file: nothing that comes after the first reading is missed.
        let news = follow.then(|| watch(path)).transpose()?;
        let mut tail = Self { path: path.to_owned(), file: None, rest: Vec::new(), news };
        tail.file = tail.find()?;
        Ok(tail)
    }

    fn find(&self) -> io::Result<Option<File>> {
        match File::open(&self.path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The file itself.
    pub fn file(&mut self) -> Option<&mut File> {
        self.file.as_mut()
    }

    /// Goes to an offset from the begin.
    pub fn seek(&mut self, to: u64) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.seek(SeekFrom::Start(to))?;
        }
        Ok(())
    }

    /// Goes to the end of what is there.
    pub fn to_end(&mut self) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.seek(SeekFrom::End(0))?;
        }
        Ok(())
    }

    /// The next line that is there, without its end; `None`: there is none yet.
    pub fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.rest.drain(..=end).collect();
                line.pop();
                return Ok(Some(line));
            }
            if self.rest.len() > LONGEST {
                return Ok(Some(std::mem::take(&mut self.rest)));
            }
            if !self.fill()? && !self.next_file()? {
                return Ok(None);
            }
        }
    }

    /// What is left without an end of line.
    pub fn unfinished(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.rest)
    }

    fn fill(&mut self) -> io::Result<bool> {
        let Some(file) = &mut self.file else { return Ok(false) };
        let before = self.rest.len();
        let read = file.take(CHUNK as u64).read_to_end(&mut self.rest)?;
        Ok(read > 0 || self.rest.len() > before)
    }

    /// Goes over to the file that has the name now; whether there is another.
    fn next_file(&mut self) -> io::Result<bool> {
        if self.news.is_none() {
            return Ok(false);
        }
        let Some(found) = self.find()? else { return Ok(false) };
        let new = match &self.file {
            None => true,
            Some(old) => {
                let (old_facts, facts) = (old.metadata()?, found.metadata()?);
                (old_facts.dev(), old_facts.ino()) != (facts.dev(), facts.ino())
            }
        };
        if new {
            // It may have been written to until it was renamed.
            if self.file.is_some() && self.fill()? {
                return Ok(true);
            }
            self.file = Some(found);
        }
        Ok(new)
    }

    /// Ready when something may have come.
    pub async fn wait(&mut self) -> io::Result<()> {
        let Some(news) = &self.news else { return std::future::pending().await };
        loop {
            let mut ready = news.readable().await?;
            let mut buffer = [0_u8; 4096];
            match rustix::io::read(news.get_ref(), &mut buffer) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn watch(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let flags = WatchFlags::MODIFY
        | WatchFlags::CREATE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::DELETE;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    inotify::add_watch(&inotify, dir, flags)?;
    #[expect(
        deprecated,
        reason = "what it warns of is a descriptor that does not own what it names"
    )]
    AsyncFd::new(inotify)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    async fn next(tail: &mut Tail) -> String {
        loop {
            if let Some(line) = tail.line().unwrap() {
                return String::from_utf8(line).unwrap();
            }
            tail.wait().await.unwrap();
        }
    }

    #[tokio::test]
    async fn lines_come_also_from_the_next_file() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("log");
        let mut tail = Tail::open(&path, true).unwrap();
        assert_eq!(tail.line().unwrap(), None);
        let mut file = File::create(&path).unwrap();
        file.write_all(b"one\ntwo").unwrap();
        assert_eq!(next(&mut tail).await, "one");
        assert_eq!(tail.line().unwrap(), None);
        file.write_all(b"!\n").unwrap();
        assert_eq!(next(&mut tail).await, "two!");
        std::fs::rename(&path, temp.path().join("log.1")).unwrap();
        file.write_all(b"late\n").unwrap();
        std::fs::write(&path, "new\n").unwrap();
        assert_eq!(next(&mut tail).await, "late");
        assert_eq!(next(&mut tail).await, "new");
        assert_eq!(tail.line().unwrap(), None);
    }
}
