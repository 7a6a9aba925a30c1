//! Port forwarding over SPDY: for each connection of the client a pair of streams, one for the bytes
//! and one for an error in words.

use super::carry;
use crate::backend::Backend;
use crate::remote::CREATION;
use crate::spdy::io::{Connection, Stream};
use futures::stream::{FuturesUnordered, StreamExt};
use std::collections::BTreeMap;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep_until};

/// The halves of a pair as they come.
#[derive(Debug, Default)]
struct Pair {
    data: Option<Stream>,
    error: Option<Stream>,
}

/// Serves pairs until the connection ends.
pub(crate) async fn serve(connection: &Connection, backend: &dyn Backend, sandbox: &str) {
    let mut pairs: BTreeMap<String, (Pair, Instant)> = BTreeMap::new();
    let mut running = FuturesUnordered::new();
    loop {
        let oldest = pairs.values().map(|(_, until)| *until).min();
        let overdue = async {
            match oldest {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            stream = connection.accept() => match stream {
                Some(stream) => {
                    if let Some((data, error)) = matched(&mut pairs, stream) {
                        running.push(forward(data, error, backend, sandbox));
                    }
                }
                None => return,
            },
            Some(()) = running.next() => {}
            () = overdue => {
                let now = Instant::now();
                pairs.retain(|_, (_, until)| *until > now);
            }
        }
    }
}

/// The pair that `stream` completes.
fn matched(
    pairs: &mut BTreeMap<String, (Pair, Instant)>,
    stream: Stream,
) -> Option<(Stream, Stream)> {
    let is_error = match stream.headers().get("streamtype") {
        Some("error") => true,
        Some("data") => false,
        _ => {
            stream.refuse();
            return None;
        }
    };
    let id = request(&stream, is_error);
    let (pair, _) =
        pairs.entry(id.clone()).or_insert_with(|| (Pair::default(), Instant::now() + CREATION));
    let half = if is_error { &mut pair.error } else { &mut pair.data };
    if half.is_some() {
        stream.refuse();
        return None;
    }
    *half = Some(stream);
    if pair.data.is_some() && pair.error.is_some() {
        let (pair, _) = pairs.remove(&id)?;
        return pair.data.zip(pair.error);
    }
    None
}

/// Which request a stream belongs to. Old clients name none: with them the stream for the bytes is
/// opened right behind the one for the error.
fn request(stream: &Stream, is_error: bool) -> String {
    match stream.headers().get("requestid") {
        Some(id) => id.to_owned(),
        None if is_error => stream.id().to_string(),
        None => stream.id().saturating_sub(2).to_string(),
    }
}

async fn forward(data: Stream, mut error: Stream, backend: &dyn Backend, sandbox: &str) {
    let named = data.headers().get("port").unwrap_or_default().to_owned();
    let dialled = match named.parse::<u16>() {
        Ok(port) if port > 0 => backend.dial(sandbox, port).await,
        _ => Err(format!("port {named:?} is not a number from 1 to 65535")),
    };
    let done = match dialled {
        Ok(port) => {
            let (read, write) = tokio::io::split(data);
            carry(Box::new(read), Box::new(write), port).await.map_err(|error| error.to_string())
        }
        Err(why) => Err(why),
    };
    // The client may have gone: then nobody needs to be told.
    if let Err(why) = done {
        let _ = error.write_all(why.as_bytes()).await;
    }
    let _ = error.shutdown().await;
}
