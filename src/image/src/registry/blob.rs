//! The bytes of a blob, in order, whatever happens to the connection on the way.

use super::host::Host;
use super::http::{self, Ask};
use super::session::{Failures, Session};
use super::{Descriptor, redacted};
use crate::PullErrorKind as Kind;
use bytes::Bytes;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Method, Response, Url};
use std::ops::Range;
use std::sync::Arc;

/// Where a blob comes from.
#[derive(Clone)]
pub(crate) struct BlobSource {
    pub(crate) session: Arc<Session>,
    pub(crate) descriptor: Descriptor,
    /// Hosts that are left out, because what they gave was not what its digest says.
    pub(crate) skipped: usize,
}

/// A transfer that resumes where it was cut, at the same host or at the next one. Gives exactly the
/// bytes that the descriptor announces, or an error; whether they are the right ones is for the
/// caller's digest to say.
pub(crate) struct BlobStream {
    hosts: std::vec::IntoIter<Arc<Host>>,
    host: Option<Arc<Host>>,
    failures: Failures,
    descriptor: Descriptor,
    reply: Option<(Response, Url)>,
    /// What is wanted of the blob; starts where the next byte is missing.
    wanted: Range<u64>,
    /// Bytes of the present reply that lie before it.
    skip: u64,
    /// Attempts without a new byte.
    attempt: u32,
    /// Whether anybody was asked: also for an empty blob somebody must be.
    asked: bool,
    /// The present reply is not the part that was asked for, but everything.
    whole: bool,
    /// What came of such a reply beyond the part.
    rest: Bytes,
}

impl BlobStream {
    /// Only a part of the blob.
    pub(super) fn part(source: &BlobSource, wanted: Range<u64>) -> Self {
        let mut hosts = source.session.pullable();
        hosts.drain(..source.skipped.min(hosts.len()));
        let mut hosts = hosts.into_iter();
        Self {
            host: hosts.next(),
            hosts,
            failures: Failures::default(),
            descriptor: source.descriptor.clone(),
            reply: None,
            wanted,
            skip: 0,
            attempt: 0,
            asked: false,
            whole: false,
            rest: Bytes::new(),
        }
    }

    /// The next bytes; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Kind> {
        if !self.rest.is_empty() && !self.wanted.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            if let Some(chunk) = self.take(rest)? {
                return Ok(Some(chunk));
            }
        }
        // At the end of the blob a server that has more to say is listened to: then it is wrong.
        let to_the_end = self.wanted.end == self.descriptor.size;
        loop {
            let done = self.wanted.is_empty() && self.asked;
            if done && (!to_the_end || self.reply.is_none()) {
                return Ok(None);
            }
            let got = match self.reply {
                Some(_) => self.receive().await,
                None => match self.connect().await {
                    Ok(()) => continue,
                    Err(kind) => Err(kind),
                },
            };
            match got {
                Ok(Some(chunk)) => {
                    if let Some(chunk) = self.take(chunk)? {
                        return Ok(Some(chunk));
                    }
                }
                Ok(None) if self.wanted.is_empty() => return Ok(None),
                Ok(None) => self.cut(self.ended()).await?,
                Err(kind) => self.cut(kind).await?,
            }
        }
    }

    fn ended(&self) -> Kind {
        let at = self.reply.as_ref().map(|(_, url)| redacted(url)).unwrap_or_default();
        let (done, size) = (self.wanted.start, self.descriptor.size);
        Kind::RegistryUnavailable { message: format!("{at}: ended after {done} of {size} bytes") }
    }

    /// The part of a chunk that is new.
    fn take(&mut self, mut chunk: Bytes) -> Result<Option<Bytes>, Kind> {
        let skipped = self.skip.min(chunk.len() as u64);
        self.skip -= skipped;
        // Cannot truncate: at most the length of the chunk.
        let mut chunk = chunk.split_off(skipped as usize);
        if chunk.is_empty() {
            return Ok(None);
        }
        let left = self.wanted.end - self.wanted.start;
        if chunk.len() as u64 > left {
            if self.wanted.end == self.descriptor.size {
                self.descriptor.check_not_over("layer", self.wanted.start + chunk.len() as u64)?;
            }
            // The server gives more than the part that was asked for.
            self.rest = chunk.split_off(left as usize);
        }
        self.wanted.start += chunk.len() as u64;
        self.attempt = 0;
        Ok((!chunk.is_empty()).then_some(chunk))
    }

    /// Waits before another attempt, or turns to the next host.
    async fn cut(&mut self, kind: Kind) -> Result<(), Kind> {
        self.reply = None;
        let Some(host) = self.host.clone() else { return Err(kind) };
        let Err(kind) = host.pause(kind, &mut self.attempt).await else { return Ok(()) };
        self.failures.add(&host, kind)?;
        self.host = self.hosts.next();
        self.attempt = 0;
        match self.host {
            Some(_) => Ok(()),
            None => Err(std::mem::take(&mut self.failures).end("content")),
        }
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, Kind> {
        let Some(host) = &self.host else { return Ok(None) };
        let stall = host.http.options.stall_timeout;
        let Some((reply, url)) = &mut self.reply else { return Ok(None) };
        match tokio::time::timeout(stall, reply.chunk()).await {
            Err(_) => Err(http::no_answer(url, stall)),
            Ok(Err(error)) => Err(http::failure(&error, url)),
            Ok(Ok(chunk)) => Ok(chunk),
        }
    }

    /// Asks for the rest.
    async fn connect(&mut self) -> Result<(), Kind> {
        let Some(host) = self.host.clone() else {
            return Err(std::mem::take(&mut self.failures).end("content"));
        };
        let url = host.url("blobs", self.descriptor.digest.as_str()).await?;
        let Range { start, end } = self.wanted.clone();
        let size = self.descriptor.size;
        let to = (end < size).then_some(end);
        let range = (start > 0 || to.is_some()).then_some((start, to));
        let ask = Ask { range, ..Ask::default() };
        let reply = host.send(Method::GET, &url, &ask).await?;
        let partial = reply.status().as_u16() == 206;
        // A server that does not resume starts again at the first byte.
        self.skip = if partial { 0 } else { start };
        if partial && content_start(&reply) != Some(start) {
            return Err(Kind::RegistryUnavailable {
                message: format!("{}: answered with another range than asked for", redacted(&url)),
            });
        }
        let rest = if partial { end - start } else { size };
        if let Some(length) = reply.content_length().filter(|length| *length > rest) {
            let whole = length.saturating_add(if partial { start } else { 0 });
            self.descriptor.check_not_over("layer", whole)?;
        }
        self.reply = Some((reply, url));
        self.asked = true;
        self.whole = !partial;
        Ok(())
    }
}

impl BlobStream {
    /// Whether the server answered a request for a part with everything.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Takes everything to the end of the blob instead of a part.
    pub(super) fn extend(&mut self) {
        self.wanted.end = self.descriptor.size;
    }
}

/// The first byte of a partial reply: `bytes 5-9/10` gives 5.
fn content_start(reply: &Response) -> Option<u64> {
    let text = reply.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    text.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}
