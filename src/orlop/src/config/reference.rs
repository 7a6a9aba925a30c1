//! `docs/configuration.md`, made of the declarations.

use super::Config;
use super::load::entries;
use super::schema::What;
use std::fmt::Write;

const HEAD: &str = "\
# Configuration

This page is made of the program's own declarations: `orlop config --reference` prints it, and a test fails where the
two differ.

Orlop needs no file at all. Where there is one, it is TOML: `/etc/orlop/orlop.toml`, or the one that `--config` names.
Beside it, `conf.d/*.toml` are drop-ins, read in the order of their names. Later ones win, key by key (a list is
replaced, not added to), flags of `orlop serve` win over all, and the variable `RUST_LOG` counts less than any file. An
empty text takes back an optional key.

- `orlop config` prints what is in force and where each value came from; `--default` a file with every default, as a
  start for one of your own; `--json` the same for programs. It takes the flags of `orlop serve`.
- A key that does not exist is refused, with what was probably meant. Every mistake in all the files is reported at
  once, each with file, line and column.
- SIGHUP (`systemctl reload orlop`) reads everything again. A configuration with a mistake changes nothing, nor does one
  that changes a key without a mark in the column \"reload\": all or nothing, and the log names the key.

Values: a *duration* has units, `\"250ms\"`, `\"90s\"`, `\"1m 30s\"`, `\"2h\"`; a *size* is a number of bytes or has a
unit, `\"64 KiB\"`, `\"16 MiB\"`, `\"2 GB\"`.
";

/// The whole page.
pub(super) fn page() -> String {
    let mut page = HEAD.to_owned();
    let _ = write!(page, "\n## At the top\n\n{TABLE}");
    for entry in entries(&Config::default()) {
        let key = &entry.key;
        let doc = prose(entry.doc);
        let _ = match entry.what {
            What::Section { .. } => write!(page, "\n## [{key}]\n\n{doc}\n\n{TABLE}"),
            What::Key { kind, value, reload } => {
                let name = key.rsplit('.').next().unwrap_or(key);
                let value = value.map_or("none".to_owned(), |value| format!("`{value}`"));
                let reload = if reload { "yes" } else { "" };
                writeln!(page, "| `{name}` | {kind} | {value} | {reload} | {doc} |")
            }
        };
    }
    page
}

const TABLE: &str = "| key | value | default | reload | meaning |\n|---|---|---|---|---|\n";

/// A docstring as one line.
pub(super) fn prose(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_is_up_to_date() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let there = std::fs::read_to_string(file).unwrap_or_default();
        assert!(
            there == super::page(),
            "docs/configuration.md is stale: run `cargo run -p orlop -- config --reference > docs/configuration.md`"
        );
    }
}
