//! How things are shown: tables, templates, JSON, and words for sizes and times.

// Until every command has its work.
#![allow(dead_code, unused_imports)]

mod filter;
mod human;
mod table;
mod template;

pub(crate) use filter::Filters;
pub(crate) use human::{ago, bytes, duration, moment, short_id};
pub(crate) use table::{Column, Shape, columns, list, terminal_width};
pub(crate) use template::{Missing, Template};

use anyhow::Context;
use serde_json::Value;
use std::io::Write;

/// What `inspect` found: a JSON list, or a template filled for each.
pub(crate) fn objects(
    out: &mut impl Write,
    objects: &[Value],
    format: Option<&str>,
) -> anyhow::Result<()> {
    match format {
        None | Some("") => {
            let mut text = Vec::new();
            let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            let mut writer = serde_json::Serializer::with_formatter(&mut text, indent);
            serde::Serialize::serialize(objects, &mut writer).context("the answer")?;
            text.push(b'\n');
            out.write_all(&text)?;
        }
        Some("json") => writeln!(out, "{}", serde_json::to_string(objects)?)?,
        Some(text) => {
            let template = Template::parse(text)?;
            for object in objects {
                writeln!(out, "{}", template.render(object, Missing::NoValue)?)?;
            }
        }
    }
    Ok(())
}

/// One object as `info` and `version` show it; `None`: the caller shows it for people.
pub(crate) fn object(
    out: &mut impl Write,
    object: &Value,
    format: Option<&str>,
) -> anyhow::Result<bool> {
    match format {
        None | Some("") => return Ok(false),
        Some("json") => writeln!(out, "{object}")?,
        Some(text) => {
            writeln!(out, "{}", Template::parse(text)?.render(object, Missing::Error)?)?;
        }
    }
    Ok(true)
}
