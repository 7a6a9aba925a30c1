//! Bytes between the command's own standard streams and a container's, unchanged.

use super::keys::DetachKeys;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// Bytes of one reading.
const CHUNK: usize = 64 << 10;
/// How long a stream may be silent after the container's end before nothing more is waited for.
const SILENCE: Duration = Duration::from_secs(2);
/// Readings that may wait for the writer while the container runs.
const AHEAD: usize = 16;

/// Copies a stream of the container to one of ours, as fast as ours takes it. From `over` on (the
/// container has ended) what is left is read at once, however slow ours is: the shim does not keep it
/// for long. Ends with the stream; an error is ours.
pub(super) async fn output(
    mut from: pipe::Receiver,
    to: BorrowedFd<'static>,
    mut over: watch::Receiver<bool>,
) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(AHEAD));
    let (send, written) = writer(to, Arc::clone(&room))?;
    loop {
        let turn = tokio::select! {
            turn = room.acquire() => turn.ok(),
            // The sender lives as long as whoever waits for this.
            _ = over.wait_for(|over| *over) => None,
        };
        if let Some(turn) = turn {
            // Given back by the writer.
            turn.forget();
        }
        let mut chunk = Vec::with_capacity(CHUNK);
        let read = tokio::select! {
            biased;
            read = from.read_buf(&mut chunk) => read?,
            () = silence(over.clone()) => 0,
        };
        if read == 0 || send.send(chunk).await.is_err() {
            break;
        }
    }
    drop(send);
    written.await.unwrap_or(Ok(()))
}

/// Ready when the container has ended and nothing has come since for a while: something that it left
/// behind holds the stream open.
async fn silence(mut over: watch::Receiver<bool>) {
    if over.wait_for(|over| *over).await.is_err() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(SILENCE).await;
}

type Written = oneshot::Receiver<io::Result<()>>;

/// A thread that may wait in a write for as long as it takes.
fn writer(
    to: BorrowedFd<'static>,
    room: Arc<Semaphore>,
) -> io::Result<(mpsc::Sender<Vec<u8>>, Written)> {
    // Room for all that pipe and shim can hold when the container ends, beside what is ahead.
    let (send, mut queue) = mpsc::channel::<Vec<u8>>(4 * AHEAD);
    let (tell, written) = oneshot::channel();
    let mut file = File::from(to.try_clone_to_owned()?);
    let work = move || {
        let mut write = || {
            while let Some(chunk) = queue.blocking_recv() {
                write_all(&mut file, &chunk)?;
                room.add_permits(1);
            }
            Ok(())
        };
        let done = write();
        queue.close();
        // Whoever waits for room finds the queue closed.
        room.add_permits(AHEAD);
        let _ = tell.send(done);
    };
    std::thread::Builder::new().name("output".to_owned()).spawn(work)?;
    Ok((send, written))
}

/// As `write_all`, also where the descriptor was made non-blocking by whoever we share it with.
fn write_all(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait_for(file, rustix::event::PollFlags::OUT)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn wait_for(file: &File, what: rustix::event::PollFlags) -> io::Result<()> {
    match rustix::event::poll(&mut [rustix::event::PollFd::new(file, what)], None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// How typing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Typed {
    /// There is nothing more.
    Ended,
    /// The keys to detach with were typed.
    Detached,
}

/// Copies our standard input to the container's; dropping its end closes it there. With `keys`, until
/// these are typed.
pub(super) async fn input(to: pipe::Sender, mut keys: Option<DetachKeys>) -> io::Result<Typed> {
    let mut chunks = reader(super::terminal::stdin())?;
    let mut to = Some(to);
    while let Some(chunk) = chunks.recv().await {
        let (bytes, detached) = match &mut keys {
            Some(keys) => keys.feed(&chunk?),
            None => (chunk?, false),
        };
        write_pipe(&mut to, &bytes).await;
        if detached {
            return Ok(Typed::Detached);
        }
    }
    if let Some(keys) = &mut keys {
        write_pipe(&mut to, &keys.rest()).await;
    }
    Ok(Typed::Ended)
}

/// A process that takes no input any more gets no more; typing goes on for the keys' sake.
async fn write_pipe(to: &mut Option<pipe::Sender>, bytes: &[u8]) {
    if let Some(pipe) = to
        && tokio::io::AsyncWriteExt::write_all(pipe, bytes).await.is_err()
    {
        *to = None;
    }
}

/// A thread that reads: a terminal, a pipe and a file are read in the same way only like this. It ends
/// with the process.
fn reader(from: BorrowedFd<'static>) -> io::Result<mpsc::Receiver<io::Result<Vec<u8>>>> {
    let (send, chunks) = mpsc::channel(1);
    let mut file = File::from(from.try_clone_to_owned()?);
    let work = move || {
        loop {
            let mut chunk = vec![0; CHUNK];
            let read = match file.read(&mut chunk) {
                Ok(0) => return,
                Ok(count) => {
                    chunk.truncate(count);
                    Ok(chunk)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match wait_for(&file, rustix::event::PollFlags::IN) {
                        Ok(()) => continue,
                        Err(error) => Err(error),
                    }
                }
                // A terminal whose other side has gone.
                Err(error)
                    if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) =>
                {
                    return;
                }
                Err(error) => Err(error),
            };
            let failed = read.is_err();
            if send.blocking_send(read).is_err() || failed {
                return;
            }
        }
    };
    std::thread::Builder::new().name("input".to_owned()).spawn(work)?;
    Ok(chunks)
}
