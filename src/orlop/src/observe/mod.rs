//! `top`, `stats` and `events`.

mod events;
mod stats;

use crate::args::containers::{StatsArgs, TopArgs, image_and_command};
use crate::args::system::EventsArgs;
use crate::cli::Place;
use crate::container::{said, with_config, with_door};
use crate::stream::from_json;
use orlop_api::engine_v1 as v1;
use orlop_engine::Processes;
use std::io::{self, Write};

/// What containers use.
pub(crate) fn stats(place: &Place, asked: &StatsArgs) -> anyhow::Result<()> {
    with_config(place, async |config| stats::stats(&config, asked).await)
}

/// What happens.
pub(crate) fn events(place: &Place, asked: &EventsArgs) -> anyhow::Result<()> {
    with_config(place, async |config| events::events(&config, asked).await)
}

/// The processes of a container.
pub(crate) fn top(place: &Place, asked: &TopArgs) -> anyhow::Result<()> {
    let (container, arguments) = image_and_command(&asked.container_and_options);
    let request = v1::TopRequest { container: container.to_owned(), arguments: arguments.to_vec() };
    let found = with_door(place, async |door| door.engine().top(request).await.map_err(said))?;
    let Processes { titles, rows } = from_json(&found.into_inner().json)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    write_table(&mut out, &titles, &rows)?;
    Ok(out.flush()?)
}

/// Columns as wide as they need to be; the last one as it comes.
pub(crate) fn write_table(
    out: &mut impl Write,
    titles: &[String],
    rows: &[Vec<String>],
) -> io::Result<()> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).chain(titles.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    for row in std::iter::once(titles).chain(rows.iter().map(Vec::as_slice)) {
        let mut line = String::new();
        for (cell, wide) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:wide$}   "));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
