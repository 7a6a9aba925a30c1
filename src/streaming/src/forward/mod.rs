//! Port forwarding, whatever carries it: bytes between a client's stream and a port of a sandbox.

mod spdy;

pub(crate) use spdy::serve as serve_spdy;

use crate::backend::{Reader, Writer};
use tokio::io::{AsyncWriteExt, copy};
use tokio::net::TcpStream;

/// Carries bytes both ways until both sides have finished, or one fails. An end on one side is an
/// end for the other side's reading only.
pub(crate) async fn carry(
    mut from: Reader,
    mut to: Writer,
    port: TcpStream,
) -> std::io::Result<()> {
    let (mut read, mut write) = port.into_split();
    let up = async {
        copy(&mut from, &mut write).await?;
        write.shutdown().await
    };
    let down = async {
        copy(&mut read, &mut to).await?;
        to.shutdown().await
    };
    tokio::try_join!(up, down).map(|_| ())
}
