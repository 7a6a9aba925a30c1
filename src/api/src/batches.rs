//! Lists as streams: batches by encoded size, so that no message nears a client's limit however big
//! one item is. A client that goes away drops the stream, and with it the rest of the work.

use prost::Message;
use std::pin::Pin;
use tokio_stream::Stream;
use tonic::Status;

/// A server stream as tonic wants it.
pub(crate) type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Encoded bytes in a batch, unless a single item has more.
const BATCH: usize = 1 << 20;

/// Items in batches, each made into a message when the client is ready for it. No items: no message.
pub(crate) fn stream<I, T, R>(items: Vec<I>, item: fn(&I) -> T, wrap: fn(Vec<T>) -> R) -> Replies<R>
where
    I: Send + 'static,
    T: Message + 'static,
    R: Send + 'static,
{
    let mut items = items.into_iter().map(move |raw| item(&raw)).peekable();
    let batches = std::iter::from_fn(move || {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(next) =
            items.next_if(|next| batch.is_empty() || bytes + next.encoded_len() <= BATCH)
        {
            bytes += next.encoded_len();
            batch.push(next);
        }
        (!batch.is_empty()).then(|| Ok(wrap(batch)))
    });
    Box::pin(tokio_stream::iter(batches))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{Container, StreamContainersResponse};
    use tokio_stream::StreamExt;

    async fn sizes(lengths: &[usize]) -> Vec<usize> {
        let make = |length: &usize| Container { id: "x".repeat(*length), ..Default::default() };
        let wrap = |containers| StreamContainersResponse { containers };
        stream(lengths.to_vec(), make, wrap)
            .map(|batch| batch.unwrap().containers.len())
            .collect()
            .await
    }

    #[tokio::test]
    async fn by_bytes() {
        assert_eq!(sizes(&[]).await, Vec::<usize>::new());
        assert_eq!(sizes(&[1, 2, 3]).await, [3]);
        assert_eq!(sizes(&[BATCH, BATCH, 1]).await, [1, 1, 1]);
        assert_eq!(sizes(&[1, 2 * BATCH, 1]).await, [1, 1, 1]);
        assert_eq!(sizes(&[BATCH / 3; 7]).await, [2, 2, 2, 1]);
    }
}
