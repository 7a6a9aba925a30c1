//! Lists of rows: a table, JSON lines, or a template for each row.

use super::{Missing, Template};
use anyhow::bail;
use serde_json::{Map, Value};
use std::io::Write;
use unicode_width::UnicodeWidthStr;

/// A field of a row, and its title in a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) field: &'static str,
    pub(crate) title: &'static str,
}

/// What a kind of list has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape<'s> {
    /// Every field that a template can name; rows may have hidden ones beside them.
    pub(crate) columns: &'s [Column],
    /// Those of the table, where nobody says otherwise.
    pub(crate) shown: &'s [&'s str],
    /// What `--quiet` prints.
    pub(crate) quiet: &'s str,
}

/// A column is at least so wide, and so much is between two.
const LEAST: usize = 10;
const GAP: usize = 3;
/// A column is not cut to less.
const KEPT: usize = 8;

/// Columns of the terminal that standard output is; `None`: it is none.
pub(crate) fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok()?;
    Some(if size.ws_col == 0 { 80 } else { size.ws_col.into() })
}

/// Writes rows, which are objects, as flags say. `width` is that of the terminal, if there is one: what is
/// wider is cut there, and nowhere else.
pub(crate) fn list(
    out: &mut impl Write,
    shape: &Shape<'_>,
    rows: &[Value],
    format: Option<&str>,
    quiet: bool,
    width: Option<usize>,
) -> anyhow::Result<()> {
    if quiet {
        for row in rows {
            writeln!(out, "{}", super::template::print(&row[shape.quiet]))?;
        }
        return Ok(());
    }
    match format.map(str::trim_end) {
        None | Some("" | "table") => {
            let fields = shape.shown.iter();
            let fields: Vec<_> = fields.map(|field| format!("{{{{.{field}}}}}")).collect();
            table(out, shape, rows, &fields.join("\t"), width)
        }
        Some("json") => {
            for row in rows {
                let fields = shape.columns.iter();
                let fields = fields.map(|c| (c.field.to_owned(), row[c.field].clone()));
                writeln!(out, "{}", Value::Object(fields.collect()))?;
            }
            Ok(())
        }
        Some("raw" | "pretty") => {
            bail!("--format: expected json, table or a template such as '{{{{.ID}}}}'")
        }
        Some(text) => match text.strip_prefix("table ").or_else(|| text.strip_prefix("table\t")) {
            Some(template) => table(out, shape, rows, template.trim_start(), width),
            None => {
                let template = Template::parse(text)?;
                for row in rows {
                    writeln!(out, "{}", template.render(row, Missing::Error)?)?;
                }
                Ok(())
            }
        },
    }
}

fn table(
    out: &mut impl Write,
    shape: &Shape<'_>,
    rows: &[Value],
    template: &str,
    width: Option<usize>,
) -> anyhow::Result<()> {
    let template = Template::parse(template)?;
    let titles: Map<String, Value> =
        shape.columns.iter().map(|c| (c.field.to_owned(), c.title.into())).collect();
    let mut titles = Value::Object(titles);
    // Hidden fields stand for what is looked up in them.
    if let (Some(titles), Some(row)) =
        (titles.as_object_mut(), rows.first().and_then(Value::as_object))
    {
        for field in row.keys() {
            titles.entry(field.clone()).or_insert_with(|| "".into());
        }
    }
    let mut lines = vec![cells(&template.render(&titles, Missing::Head)?)];
    for row in rows {
        lines.push(cells(&template.render(row, Missing::Error)?));
    }
    let text = match width {
        Some(width) => fit(lines, width),
        None => aligned(&lines),
    };
    out.write_all(text.as_bytes())?;
    Ok(())
}

/// Lines of cells with tabs between, one below the other.
pub(crate) fn columns(out: &mut impl Write, lines: &[String]) -> std::io::Result<()> {
    let lines: Vec<_> = lines.iter().map(|line| cells(line)).collect();
    out.write_all(aligned(&lines).as_bytes())
}

/// What comes from containers and images is not for a terminal to interpret.
fn cells(line: &str) -> Vec<String> {
    let clean = |cell: &str| cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.split('\t').map(clean).collect()
}

fn widths(lines: &[Vec<String>]) -> Vec<usize> {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let wide = |at: usize| lines.iter().filter_map(|line| line.get(at)).map(|c| c.width()).max();
    (0..columns).map(|at| wide(at).unwrap_or(0)).collect()
}

/// Width of a table: the last column ends where its text does.
fn total(widths: &[usize]) -> usize {
    let Some((last, others)) = widths.split_last() else { return 0 };
    others.iter().map(|width| (width + GAP).max(LEAST)).sum::<usize>() + last
}

fn aligned(lines: &[Vec<String>]) -> String {
    let widths = widths(lines);
    let mut out = String::new();
    for line in lines {
        let mut text = String::new();
        for (at, cell) in line.iter().enumerate() {
            text += cell;
            if at + 1 < line.len() {
                let wide = (widths[at] + GAP).max(LEAST);
                text.push_str(&" ".repeat(wide - cell.width()));
            }
        }
        out += text.trim_end();
        out.push('\n');
    }
    out
}

/// Cuts the widest columns until the table fits; where that is too much, shows each row as lines.
fn fit(mut lines: Vec<Vec<String>>, width: usize) -> String {
    let mut now = widths(&lines);
    while total(&now) > width {
        let Some(widest) = now.iter_mut().max().filter(|widest| **widest > KEPT) else {
            return blocks(&lines, width);
        };
        *widest -= 1;
    }
    for line in &mut lines {
        for (cell, most) in line.iter_mut().zip(&now) {
            cut(cell, *most);
        }
    }
    // A title must not be cut: it would name nothing.
    if lines.first().is_some_and(|titles| titles.iter().any(|title| title.ends_with('…'))) {
        return blocks(&lines, width);
    }
    aligned(&lines)
}

fn cut(cell: &mut String, most: usize) {
    if cell.width() <= most {
        return;
    }
    while cell.width() + 1 > most && cell.pop().is_some() {}
    cell.push('…');
}

/// Each row as a block of lines: title and value.
fn blocks(lines: &[Vec<String>], width: usize) -> String {
    let Some((titles, rows)) = lines.split_first() else { return String::new() };
    let wide = titles.iter().map(|title| title.width()).max().unwrap_or(0);
    let block = |row: &Vec<String>| {
        let line = |(title, cell): (&String, &String)| {
            let mut line = format!("{title:wide$} {cell}");
            cut(&mut line, width);
            line.trim_end().to_owned() + "\n"
        };
        titles.iter().zip(row).map(line).collect::<String>()
    };
    if rows.is_empty() {
        return titles.join(" ") + "\n";
    }
    rows.iter().map(block).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SHAPE: Shape<'_> = Shape {
        columns: &[
            Column { field: "ID", title: "CONTAINER ID" },
            Column { field: "Image", title: "IMAGE" },
            Column { field: "Names", title: "NAMES" },
        ],
        shown: &["ID", "Image", "Names"],
        quiet: "ID",
    };

    fn show(format: Option<&str>, quiet: bool, width: Option<usize>) -> String {
        let rows = [
            json!({"ID": "0123456789ab", "Image": "registry.example/team/nginx:1", "Names": "web", "Label": {"a": "1"}}),
            json!({"ID": "ba9876543210", "Image": "b\u{1b}[2J", "Names": "db", "Label": {}}),
        ];
        let mut out = Vec::new();
        match list(&mut out, &SHAPE, &rows, format, quiet, width) {
            Ok(()) => String::from_utf8(out).unwrap(),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn forms() {
        insta::assert_snapshot!("table", show(None, false, None));
        insta::assert_snapshot!("table_60", show(None, false, Some(50)));
        insta::assert_snapshot!("table_40", show(None, false, Some(40)));
        insta::assert_snapshot!("table_20", show(None, false, Some(20)));
        assert_eq!(show(None, true, None), "0123456789ab\nba9876543210\n");
        assert_eq!(
            show(Some("json"), false, None).lines().next().unwrap(),
            r#"{"ID":"0123456789ab","Image":"registry.example/team/nginx:1","Names":"web"}"#
        );
        assert_eq!(show(Some("{{.Names}} {{.Label \"a\"}}"), false, None), "web 1\ndb \n");
        assert_eq!(
            show(Some(r#"table {{.Names}}\t{{upper .ID}}\t{{.Label "a"}}"#), false, None),
            "NAMES     CONTAINER ID   a\nweb       0123456789AB   1\ndb        BA9876543210\n"
        );
        assert_eq!(
            show(Some("{{.Name}}"), false, None),
            "--format: there is no field Name; did you mean Names?"
        );
    }

    #[test]
    fn nothing_is_a_title_line() {
        let mut out = Vec::new();
        list(&mut out, &SHAPE, &[], None, false, None).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "CONTAINER ID   IMAGE     NAMES\n");
    }
}
