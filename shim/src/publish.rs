//! The event sender that a foreign shim may call: one event from standard input to the keeper's socket.

use crate::args::Args;
use crate::events::timestamp;
use crate::launch::{Error, at};
use orlop_model::Timestamp;
use orlop_task::names::EVENTS;
use orlop_task::protocol::forward::{Envelope, ForwardRequest};
use orlop_task::protocol::ttrpc::Request;
use orlop_task::ttrpc::{HEADER_LEN, Kind, encode};
use prost::Message;
use prost_types::Any;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// Longer than any event.
const LONGEST: u64 = 1 << 20;

/// Sends one event and returns when it has been taken.
pub(crate) fn publish(args: &Args) -> Result<(), Error> {
    let socket = std::env::var_os("TTRPC_ADDRESS").map(PathBuf::from).ok_or_else(|| {
        Error::Usage("TTRPC_ADDRESS is not set: name the socket that takes the event".to_owned())
    })?;
    let mut event = Vec::new();
    std::io::stdin().take(LONGEST).read_to_end(&mut event).map_err(at("stdin"))?;
    let event = Any::decode(event.as_slice())
        .map_err(|error| Error::Usage(format!("standard input is no event: {error}")))?;
    let envelope = Envelope {
        timestamp: Some(timestamp(Timestamp::now())),
        namespace: args.namespace.clone(),
        topic: args.topic.clone(),
        event: Some(event),
    };
    let request = Request {
        service: EVENTS.to_owned(),
        method: "Forward".to_owned(),
        payload: ForwardRequest { envelope: Some(envelope) }.encode_to_vec(),
        timeout_nano: 0,
        metadata: Vec::new(),
    };
    let mut frame = Vec::new();
    encode(1, Kind::Request, &request, &mut frame)
        .map_err(|error| Error::Usage(format!("the event is too long: {error}")))?;
    let name = socket.display().to_string();
    let mut stream = UnixStream::connect(&socket).map_err(at(&name))?;
    stream.write_all(&frame).map_err(at(&name))?;
    // Whatever the answer is: it means that the event has been taken.
    stream.read_exact(&mut [0; HEADER_LEN]).map_err(at(&name))
}
