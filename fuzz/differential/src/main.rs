//! `unpack <dir> [writers [lower...]] < layer.tar`: unpacks one layer, gives implied directories
//! the attributes they have in the lower layers (topmost first), and prints what it was and how
//! long it took.
//! `list <archive>...`: lists the members as the reader sees them, one a line, for comparison.

#[path = "../../../src/image/src/unpack/mod.rs"]
#[allow(dead_code, unused_imports)]
mod unpack;

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::time::Instant;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["unpack", dir, rest @ ..] => unpack_into(dir, rest),
        ["list", archives @ ..] => list(archives),
        _ => Err("usage: unpack <dir> [writers [lower...]] | list <archive>...".to_owned()),
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
    let lower: Result<Vec<_>, _> = rest.iter().skip(1).map(orlop_sys::fs::open_dir).collect();
    let lower = lower.map_err(|error| error.to_string())?;
    let lower: Vec<_> = lower.iter().map(|fd| fd.as_fd()).collect();
    unpack::adopt_parents(dest.as_fd(), &lower, &unpacked.implicit_dirs)
        .map_err(|error| error.to_string())?;
    unpack::sync_tree(dest.as_fd()).map_err(|error| error.to_string())?;
    let durable = start.elapsed();
    eprintln!("{unpacked:?}\nwritten {written:?}, durable {durable:?}");
    Ok(())
}

/// Lists every archive named, with a line before and, after an error, a line with it.
fn list(archives: &[&str]) -> Result<(), String> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for path in archives {
        let archive = std::fs::File::open(path).map_err(|error| format!("{path}: {error}"))?;
        let _ = writeln!(out, "== {path}");
        let listed = unpack::list(archive, &unpack::Limits::default(), |line| {
            let _ = writeln!(out, "{line}");
        });
        if let Err(error) = listed {
            let _ = writeln!(out, "ERROR {error}");
        }
    }
    Ok(())
}
