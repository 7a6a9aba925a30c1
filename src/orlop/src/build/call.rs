//! `--check` and `--call`: what can be said of a Dockerfile without building it.

use super::args::BuildArgs;
use super::source::Source;
use anyhow::bail;
use orlop_build::Outline;
use orlop_build::ignore::IgnoreRules;
use orlop_build::lint::{self, Input};
use std::collections::BTreeMap;
use std::io::Write;

pub(crate) fn run(
    call: &str,
    source: &Source,
    build_args: &BTreeMap<String, String>,
    arguments: &BuildArgs,
) -> anyhow::Result<()> {
    let ignore = IgnoreRules::parse(&source.ignore_text)?;
    let (what, format) = call.split_once(',').unwrap_or((call, ""));
    let json = format == "format=json";
    let file = orlop_build::instruction::read(&source.dockerfile)
        .map_err(|error| anyhow::anyhow!("\n{}", error.render(&source.name, &source.dockerfile)))?;
    let mut out = std::io::stdout().lock();
    match what {
        "check" => {
            let input =
                Input { build_args: build_args.clone(), ignore: Some(&ignore), ..Input::default() };
            let found = lint::check(&file, &input)?;
            if json {
                let warnings: Vec<_> = found
                    .warnings
                    .iter()
                    .map(|w| {
                        serde_json::json!({
                            "ruleName": w.rule.name(), "detail": w.message, "line": w.lines.first,
                        })
                    })
                    .collect();
                writeln!(out, "{}", serde_json::json!({ "warnings": warnings }))?;
            } else if found.warnings.is_empty() {
                writeln!(out, "Check complete, no warnings found.")?;
            }
            for warning in found.warnings.iter().filter(|_| !json) {
                let shown = orlop_build::Diagnostic::new(
                    warning.lines,
                    format!("{}: {}", warning.rule, warning.message),
                );
                let shown = shown.hint(Some(warning.rule.advice()));
                writeln!(out, "{}", shown.render(&source.name, &source.dockerfile))?;
            }
            if found.warnings.is_empty() {
                return Ok(());
            }
            bail!("{} warnings", found.warnings.len())
        }
        "targets" => {
            for (index, stage) in file.stages.iter().enumerate() {
                let name = stage.name.clone().unwrap_or_else(|| index.to_string());
                let last = index + 1 == file.stages.len();
                if json {
                    let target = serde_json::json!({
                        "name": name, "base": stage.base, "default": last,
                    });
                    writeln!(out, "{target}")?;
                } else {
                    let mark = if last { " (default)" } else { "" };
                    writeln!(out, "{name}{mark}")?;
                }
            }
            Ok(())
        }
        "outline" => {
            let outline =
                Outline::new(&file, build_args, arguments.target.as_deref()).map_err(|error| {
                    anyhow::anyhow!("{}", error.render(&source.name, &source.dockerfile))
                })?;
            match json {
                true => writeln!(out, "{}", serde_json::to_string_pretty(&outline)?)?,
                false => write!(out, "{outline}")?,
            }
            Ok(())
        }
        other => bail!("--call {other}: expected build, check, outline or targets"),
    }
}
