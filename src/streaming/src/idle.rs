//! Connections on which nothing happens.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How long a connection may be silent in both directions.
pub(crate) const IDLE: Duration = Duration::from_secs(4 * 3600);

/// When something last happened.
#[derive(Debug, Clone)]
pub(crate) struct Activity {
    begin: Instant,
    last: Arc<AtomicU64>,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self { begin: Instant::now(), last: Arc::new(AtomicU64::new(0)) }
    }

    fn note(&self) {
        let now = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    fn deadline(&self) -> Instant {
        self.begin + Duration::from_millis(self.last.load(Ordering::Relaxed)) + IDLE
    }

    /// Ready once nothing has happened for [`IDLE`].
    pub(crate) async fn idle(&self) {
        loop {
            let until = self.deadline();
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

/// A connection that notes when bytes move.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    pub(crate) inner: T,
    pub(crate) activity: Activity,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.inner).poll_read(context, buffer);
        if done.is_ready() {
            self.activity.note();
        }
        done
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.inner).poll_write(context, bytes);
        if done.is_ready() {
            self.activity.note();
        }
        done
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn silence_is_counted_from_the_last_byte() {
        let hour = Duration::from_secs(3600);
        let begin = Instant::now().checked_sub(hour).unwrap();
        let activity = Activity { begin, last: Arc::default() };
        let mut watched = Watched { inner: tokio::io::sink(), activity: activity.clone() };
        assert_eq!(activity.deadline(), begin + IDLE);
        watched.write_all(b"x").await.unwrap();
        assert!(activity.deadline() >= begin + hour + IDLE);
    }
}
