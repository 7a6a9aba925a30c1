//! `unpack <dir> < layer.tar`: unpacks one layer and prints what it was and how long it took.
//! `list < layer.tar`: lists the members as the reader sees them, one a line, for comparison.

#[path = "../../../src/image/src/unpack/mod.rs"]
#[allow(dead_code, unused_imports, clippy::all)]
mod unpack;

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::time::Instant;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["unpack", dir, rest @ ..] => unpack_into(dir, rest),
        ["list"] => list(),
        _ => Err("usage: unpack <dir> [writers] | list".to_owned()),
    };
    if let Err(error) = result {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn unpack_into(dir: &str, rest: &[&str]) -> Result<(), String> {
    let mut limits = unpack::Limits::default();
    if let Some(writers) = rest.first() {
        limits.writers = writers.parse().map_err(|_| "writers: not a number".to_owned())?;
    }
    std::fs::create_dir_all(dir).map_err(|error| error.to_string())?;
    let dest = orlop_sys::fs::open_dir(dir).map_err(|error| error.to_string())?;
    let start = Instant::now();
    let unpacked = unpack::unpack_layer(std::io::stdin().lock(), dest.as_fd(), &limits)
        .map_err(|error| error.to_string())?;
    let written = start.elapsed();
    unpack::sync_tree(dest.as_fd()).map_err(|error| error.to_string())?;
    let durable = start.elapsed();
    eprintln!("{unpacked:?}\nwritten {written:?}, durable {durable:?}");
    Ok(())
}

fn list() -> Result<(), String> {
    let out = std::io::stdout();
    unpack::list(std::io::stdin().lock(), &unpack::Limits::default(), |line| {
        let _ = writeln!(out.lock(), "{line}");
    })
    .map_err(|error| error.to_string())
}
