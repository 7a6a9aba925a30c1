//! Pulls images and says how long it took: `pull ROOT REFERENCE…`. For measurements by hand.

#![expect(clippy::print_stdout, reason = "a command-line tool")]

use anyhow::Context;
use orlop_image::{ImageStore, Options};
use orlop_model::Reference;
use std::time::Instant;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().context("usage: pull ROOT REFERENCE…")?;
    let store = ImageStore::open(Options { root: root.into(), ..Options::default() })?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        for text in arguments {
            let reference = Reference::parse(&text)?;
            let start = Instant::now();
            let id = store.pull(&reference, None, None).await?;
            println!("{text} {id} {:.3} s", start.elapsed().as_secs_f64());
        }
        anyhow::Ok(())
    })?;
    let usage = store.usage();
    println!("{} bytes, {} inodes", usage.bytes, usage.inodes);
    Ok(())
}
