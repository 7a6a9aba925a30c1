//! Lists as streams: batches by encoded size, so that no message nears a client's limit however big
//! one item is. A client that goes away drops the stream, and with it the rest of the work.

use crate::error::ApiError;
use futures::{StreamExt, stream};
use orlop_lifecycle::stats::Source;
use prost::Message;
use std::pin::Pin;
use tokio_stream::Stream;
use tonic::Status;

/// What the kubelet and crictl receive at most, 16 MiB, with room for the frame.
const MAX_REPLY: usize = (16 << 20) - 1024;

/// A server stream as tonic wants it.
pub(crate) type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Encoded bytes in a batch, unless a single item has more.
const BATCH: usize = 1 << 20;

/// Items in batches, each made into a message when the client is ready for it. No items: no message.
pub(crate) fn in_batches<I, T, R>(
    items: Vec<I>,
    item: fn(&I) -> T,
    wrap: fn(Vec<T>) -> R,
) -> Replies<R>
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

/// What is read while it is sent, in batches. An error ends the stream.
pub(crate) fn portions<I, T, R>(
    source: Source<I>,
    item: impl Fn(I) -> T + Clone + Send + 'static,
    wrap: fn(Vec<T>) -> R,
) -> Replies<R>
where
    I: Send + 'static,
    T: Message + 'static,
    R: Send + 'static,
{
    let next = move |state: Option<Source<I>>| {
        let item = item.clone();
        async move {
            let mut source = state?;
            match source.next().await? {
                Ok(portion) => {
                    let items: Vec<T> = portion.into_iter().map(item).collect();
                    Some((split(items, wrap), Some(source)))
                }
                Err(error) => {
                    let error = ApiError::from(error);
                    let status = Status::new(error.code(), error.to_string());
                    Some((vec![Err(status)], None))
                }
            }
        }
    };
    Box::pin(stream::unfold(Some(source), next).flat_map(stream::iter))
}

/// Items that are there, in messages.
fn split<T: Message, R>(items: Vec<T>, wrap: fn(Vec<T>) -> R) -> Vec<Result<R, Status>> {
    let (mut batches, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
    for item in items {
        let length = item.encoded_len();
        if !batch.is_empty() && bytes + length > BATCH {
            batches.push(Ok(wrap(std::mem::take(&mut batch))));
            bytes = 0;
        }
        bytes += length;
        batch.push(item);
    }
    if !batch.is_empty() {
        batches.push(Ok(wrap(batch)));
    }
    batches
}

/// The reply of a list that is one message, if clients can take it.
pub(crate) fn fits<R: Message>(reply: R) -> Result<R, ApiError> {
    let bytes = reply.encoded_len();
    if bytes > MAX_REPLY { Err(ApiError::TooLarge { bytes }) } else { Ok(reply) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{Container, StreamContainersResponse};

    async fn sizes(lengths: &[usize]) -> Vec<usize> {
        let make = |length: &usize| Container { id: "x".repeat(*length), ..Default::default() };
        let wrap = |containers| StreamContainersResponse { containers };
        in_batches(lengths.to_vec(), make, wrap)
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

    #[test]
    fn what_was_read_is_split_by_bytes_too() {
        for (lengths, expected) in [
            (&[][..], &[][..]),
            (&[1, 2, 3], &[3]),
            (&[BATCH, BATCH, 1], &[1, 1, 1]),
            (&[BATCH / 3; 7], &[2, 2, 2, 1]),
        ] {
            let make = |length: &usize| Container { id: "x".repeat(*length), ..Default::default() };
            let wrap = |containers| StreamContainersResponse { containers };
            let batches = split(lengths.iter().map(make).collect(), wrap);
            let found: Vec<_> =
                batches.iter().map(|b| b.as_ref().unwrap().containers.len()).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_list_that_no_client_could_take_is_refused() {
        let list = |length| StreamContainersResponse {
            containers: vec![Container { id: "x".repeat(length), ..Default::default() }],
        };
        assert!(fits(list(1 << 20)).is_ok());
        let error = fits(list(16 << 20)).unwrap_err();
        assert_eq!(error.code(), tonic::Code::ResourceExhausted);
        assert!(error.to_string().contains("Stream"), "{error}");
    }
}
