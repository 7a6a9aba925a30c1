//! Sending content to a registry (distribution specification, "Push").

use super::endpoint;
use super::host::Host;
use super::http::Ask;
use super::redacted;
use crate::PullErrorKind as Kind;
use bytes::Bytes;
use orlop_model::Digest;
use reqwest::header::LOCATION;
use reqwest::{Method, Response, Url};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Bytes that are sent at once: what is lost when a connection breaks.
const CHUNK: u64 = 8 << 20;
const BINARY: &str = "application/octet-stream";

impl Host {
    /// Whether the repository has a blob.
    pub(crate) async fn has_blob(&self, digest: &Digest) -> Result<bool, Kind> {
        let url = self.url("blobs", digest.as_str()).await?;
        match self.send(Method::HEAD, &url, &Ask::default()).await {
            Ok(_) => Ok(true),
            Err(Kind::NotFound { .. }) => Ok(false),
            Err(kind) => Err(kind),
        }
    }

    /// Sends a blob unless the repository has it, or can take it from another one of the registry.
    /// `sent` is told how many bytes have gone. `false`: nothing had to be sent.
    pub(crate) async fn push_blob(
        &self,
        digest: &Digest,
        size: u64,
        file: Arc<File>,
        from: Option<&str>,
        sent: impl Fn(u64) + Sync,
    ) -> Result<bool, Kind> {
        if self.has_blob(digest).await? {
            return Ok(false);
        }
        let mut start = self.url("blobs", "uploads/").await?;
        if let Some(repository) = from {
            let pairs = [("mount", digest.as_str()), ("from", repository)];
            start.query_pairs_mut().extend_pairs(pairs);
        }
        let reply = self.send(Method::POST, &start, &Ask::default()).await?;
        if reply.status().as_u16() == 201 {
            return Ok(false);
        }
        let mut at = self.location(&start, &reply)?;
        let mut done = 0;
        while size - done > CHUNK {
            let bytes = read(&file, done, CHUNK).await?;
            let reply = self.patch(&at, done, bytes).await?;
            at = self.location(&at, &reply)?;
            done += CHUNK;
            sent(done);
        }
        let rest = read(&file, done, size - done).await?;
        if done > 0 && !rest.is_empty() {
            let reply = self.patch(&at, done, rest).await?;
            at = self.location(&at, &reply)?;
            self.close(&at, digest, Bytes::new()).await?;
        } else {
            self.close(&at, digest, rest).await?;
        }
        sent(size);
        Ok(true)
    }

    async fn patch(&self, at: &Url, start: u64, bytes: Bytes) -> Result<Response, Kind> {
        let end = start + bytes.len() as u64 - 1;
        let ask = Ask {
            body: Some((BINARY.into(), bytes)),
            content_range: Some(format!("{start}-{end}")),
            ..Ask::default()
        };
        self.once(Method::PATCH, at, &ask).await
    }

    async fn close(&self, at: &Url, digest: &Digest, bytes: Bytes) -> Result<(), Kind> {
        let mut at = at.clone();
        at.query_pairs_mut().append_pair("digest", digest.as_str());
        let ask = Ask { body: Some((BINARY.into(), bytes)), ..Ask::default() };
        self.once(Method::PUT, &at, &ask).await.map(drop)
    }

    /// Gives a manifest its name. All that it points to must be there.
    pub(crate) async fn push_manifest(
        &self,
        tag_or_digest: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<(), Kind> {
        let url = self.url("manifests", tag_or_digest).await?;
        let ask = Ask { body: Some((media_type.to_owned(), bytes)), ..Ask::default() };
        self.send(Method::PUT, &url, &ask).await.map(drop)
    }

    /// Where an upload goes on. A registry that sends us elsewhere would get our credentials there.
    fn location(&self, from: &Url, reply: &Response) -> Result<Url, Kind> {
        let wrong =
            |why: &str| Kind::RegistryUnavailable { message: format!("{}: {why}", redacted(from)) };
        let text = reply.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let text = text.ok_or_else(|| wrong("the upload got no usable location"))?;
        let next = from.join(text).map_err(|_| wrong("the upload's location is no address"))?;
        let same_host = next.host_str() == from.host_str()
            && next.port_or_known_default() == from.port_or_known_default();
        let mut next = next;
        if same_host && next.scheme() != from.scheme() {
            // A registry behind a proxy that ends TLS often does not know its own scheme.
            let _ = next.set_scheme(from.scheme());
        }
        if endpoint::same_origin(from, &next) {
            Ok(next)
        } else {
            Err(wrong("the upload was sent to another host, which is refused"))
        }
    }
}

/// A part of a file, on a thread that may block.
async fn read(file: &Arc<File>, start: u64, length: u64) -> Result<Bytes, Kind> {
    let file = file.clone();
    let read = move || {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact_at(&mut bytes, start)?;
        io::Result::Ok(Bytes::from(bytes))
    };
    let done = tokio::task::spawn_blocking(read).await.map_err(io::Error::other);
    done.and_then(|bytes| bytes)
        .map_err(|error| Kind::Store { message: format!("read a blob: {error}") })
}
