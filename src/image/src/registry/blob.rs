//! The bytes of a blob, in order, whatever happens to the connection on the way.

use super::http::{self, Ask};
use super::session::Session;
use super::{Descriptor, redacted};
use crate::PullErrorKind as Kind;
use bytes::Bytes;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Method, Response, Url};
use std::sync::Arc;

/// Where a blob comes from.
pub(crate) struct BlobSource {
    pub(crate) session: Arc<Session>,
    pub(crate) descriptor: Descriptor,
}

/// A transfer that resumes where it was cut. Gives exactly the bytes that the descriptor
/// announces, or an error; whether they are the right ones is for the caller's digest to say.
pub(crate) struct BlobStream {
    source: BlobSource,
    url: Url,
    reply: Option<Response>,
    /// Bytes given out.
    done: u64,
    /// Bytes of the present reply that were given out before the cut.
    skip: u64,
    /// Attempts without a new byte.
    attempt: u32,
}

impl BlobStream {
    pub(crate) fn new(source: BlobSource) -> Result<Self, Kind> {
        let url = source.session.url("blobs", source.descriptor.digest.as_str())?;
        Ok(Self { source, url, reply: None, done: 0, skip: 0, attempt: 0 })
    }

    /// The next bytes; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Kind> {
        let size = self.source.descriptor.size;
        loop {
            if self.reply.is_none() {
                if self.done == size && size > 0 {
                    return Ok(None);
                }
                self.connect().await?;
            }
            match self.receive().await {
                Ok(Some(mut chunk)) => {
                    let skipped = self.skip.min(chunk.len() as u64);
                    self.skip -= skipped;
                    // Cannot truncate: at most the length of the chunk.
                    let chunk = chunk.split_off(skipped as usize);
                    if chunk.is_empty() {
                        continue;
                    }
                    self.done += chunk.len() as u64;
                    self.attempt = 0;
                    self.source.descriptor.check_not_over("layer", self.done)?;
                    return Ok(Some(chunk));
                }
                Ok(None) if self.done == size => return Ok(None),
                Ok(None) => {
                    self.cut(Kind::RegistryUnavailable {
                        message: format!(
                            "{}: ended after {} of {size} bytes",
                            redacted(&self.url),
                            self.done
                        ),
                    })
                    .await?
                }
                Err(kind) => self.cut(kind).await?,
            }
        }
    }

    async fn cut(&mut self, kind: Kind) -> Result<(), Kind> {
        self.reply = None;
        self.source.session.pause(kind, &mut self.attempt).await
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, Kind> {
        let stall = self.source.session.http.options.stall_timeout;
        let Some(reply) = &mut self.reply else { return Ok(None) };
        match tokio::time::timeout(stall, reply.chunk()).await {
            Err(_) => Err(http::no_answer(&self.url, stall)),
            Ok(Err(error)) => Err(http::failure(&error, &self.url)),
            Ok(Ok(chunk)) => Ok(chunk),
        }
    }

    /// Asks for the rest.
    async fn connect(&mut self) -> Result<(), Kind> {
        let from = (self.done > 0).then_some(self.done);
        let ask = Ask { accept: None, from };
        let reply = self.source.session.send(Method::GET, &self.url, &ask).await?;
        let partial = reply.status().as_u16() == 206;
        // A server that does not resume starts again at the first byte.
        self.skip = if partial { 0 } else { self.done };
        if partial && content_start(&reply) != Some(self.done) {
            return Err(Kind::RegistryUnavailable {
                message: format!(
                    "{}: answered with another range than asked for",
                    redacted(&self.url)
                ),
            });
        }
        let rest = self.source.descriptor.size - if partial { self.done } else { 0 };
        if let Some(length) = reply.content_length().filter(|length| *length > rest) {
            let whole = length.saturating_add(if partial { self.done } else { 0 });
            self.source.descriptor.check_not_over("layer", whole)?;
        }
        self.reply = Some(reply);
        Ok(())
    }
}

/// The first byte of a partial reply: `bytes 5-9/10` gives 5.
fn content_start(reply: &Response) -> Option<u64> {
    let text = reply.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    text.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}
