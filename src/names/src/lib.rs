//! Names of containers on networks that people made.
//!
//! One responder per network listens in the bridge's address. What it knows are files: one per
//! container, in a directory per network ([`Entry`]). It needs no daemon, asks the host's resolvers for
//! every other name, and ends with the last container of its network. It runs in one thread without an
//! async runtime: the shim's binary, executed anew.
//!
//! Whatever comes in is hostile: packets are parsed by `simple-dns`, answers go to containers of the
//! network only, and what waits for a resolver is bounded.

mod book;
mod forward;
mod message;
mod resolvers;
mod server;
mod stream;

pub use book::{Entry, LOCK, register, unregister};
pub use message::{Answer, Asked, Kind, MAX_DATAGRAM, ask, refuse, reply};
pub use server::{Settings, run};

/// Whether a responder lives for the network whose directory this is; under [`register`]'s lock only.
pub fn is_served(dir: &std::path::Path) -> std::io::Result<bool> {
    server::is_served(dir)
}

/// One message through all that parses, for fuzzing: never panics.
pub fn fuzz(data: &[u8]) {
    let Ok(asked) = ask(data) else { return };
    let found = ["10.0.0.1".parse().ok(), "fd00::1".parse().ok()];
    let found = found.into_iter().flatten().collect();
    let _ = reply(data, &Answer::Addresses(found));
    let _ = reply(data, &Answer::Name(asked.name));
    let _ = refuse(data, simple_dns::RCODE::ServerFailure);
    let _ = message::answers(data, data, 0);
}
