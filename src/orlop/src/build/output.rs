//! `--output`: where a result goes beside the store.

use anyhow::{Context, bail};
use orlop_api::builds_v1 as v1;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// The place that stands for standard output.
const STDOUT: &str = "-";

/// `--output`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Output {
    /// `None`: the store alone.
    form: Option<v1::Form>,
    dest: Option<PathBuf>,
    compression: v1::Compression,
    /// `push=true`.
    pub(super) push: bool,
}

impl Output {
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut output =
            Self { form: None, dest: None, compression: v1::Compression::Gzip, push: false };
        if !text.contains('=') {
            // A path alone is a directory, a dash an archive on standard output.
            let form = if text == STDOUT { v1::Form::Tar } else { v1::Form::Local };
            (output.form, output.dest) = (Some(form), Some(PathBuf::from(text)));
            return Ok(output);
        }
        for part in text.split(',') {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match (key, value) {
                ("type", "image") => output.form = None,
                ("type", "registry") => (output.form, output.push) = (None, true),
                ("type", "oci") => output.form = Some(v1::Form::Oci),
                ("type", "docker") => output.form = Some(v1::Form::Docker),
                ("type", "tar") => output.form = Some(v1::Form::Tar),
                ("type", "local") => output.form = Some(v1::Form::Local),
                ("dest", path) => output.dest = Some(PathBuf::from(path)),
                ("push", "true") => output.push = true,
                ("push", "false") => output.push = false,
                ("compression", "uncompressed") => {
                    output.compression = v1::Compression::Uncompressed;
                }
                ("compression", "gzip") => output.compression = v1::Compression::Gzip,
                ("compression", "zstd") => output.compression = v1::Compression::Zstd,
                _ => bail!(
                    "--output {text}: {part:?} is not known; expected type=image|registry|oci|docker|tar|local, dest=PATH, push=true, compression=uncompressed|gzip|zstd"
                ),
            }
        }
        match output.form {
            Some(form) if output.dest.is_none() => match form {
                // As docker has it: an archive without a place goes to standard output.
                v1::Form::Oci | v1::Form::Docker | v1::Form::Tar => {
                    output.dest = Some(PathBuf::from(STDOUT));
                }
                v1::Form::Local => bail!("--output {text}: a dest=PATH is missing"),
            },
            _ => {}
        }
        Ok(output)
    }

    /// Whether an archive goes to standard output.
    pub(super) fn is_stdout(&self) -> bool {
        self.form.is_some_and(|form| form != v1::Form::Local)
            && self.dest.as_deref() == Some(Path::new(STDOUT))
    }

    /// What the service is asked for; `None` for the store alone.
    pub(super) fn message(&self) -> anyhow::Result<Option<v1::Output>> {
        let Some(form) = self.form else { return Ok(None) };
        let directory = match (form, &self.dest) {
            (v1::Form::Local, Some(dest)) => {
                std::fs::create_dir_all(dest)
                    .with_context(|| format!("making {}", dest.display()))?;
                let path = dest.canonicalize().with_context(|| dest.display().to_string())?;
                path.to_str().with_context(|| format!("{}: no UTF-8", path.display()))?.to_owned()
            }
            _ => String::new(),
        };
        Ok(Some(v1::Output { form: form.into(), compression: self.compression.into(), directory }))
    }
}

/// The files that outputs go to.
pub(super) struct Sinks<'a> {
    /// Outputs that the service sends, in the order of the request.
    outputs: Vec<&'a Output>,
    open: Option<(u32, Box<dyn Write + Send>)>,
}

impl<'a> Sinks<'a> {
    pub(super) fn new(outputs: &'a [Output]) -> Self {
        Self {
            outputs: outputs.iter().filter(|output| output.form.is_some()).collect(),
            open: None,
        }
    }

    /// Takes a part; an empty one is the end of its output.
    pub(super) fn take(&mut self, chunk: v1::Chunk) -> anyhow::Result<()> {
        let output = self.outputs.get(chunk.output as usize).context("an output nobody wants")?;
        let dest = output.dest.as_deref().context("an output without a place")?;
        let failed = || format!("writing {}", dest.display());
        if self.open.as_ref().is_none_or(|(open, _)| *open != chunk.output) {
            let file: Box<dyn Write + Send> = match output.is_stdout() {
                true => Box::new(std::io::stdout()),
                false => {
                    let file = File::create(dest).with_context(failed)?;
                    Box::new(BufWriter::with_capacity(1 << 20, file))
                }
            };
            self.open = Some((chunk.output, file));
        }
        let Some((_, file)) = &mut self.open else { return Ok(()) };
        file.write_all(&chunk.data).with_context(failed)?;
        if chunk.data.is_empty() {
            file.flush().with_context(failed)?;
            self.open = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs() {
        let oci = Output::parse("type=oci,dest=x.tar,compression=zstd").unwrap();
        assert_eq!((oci.form, oci.compression), (Some(v1::Form::Oci), v1::Compression::Zstd));
        assert_eq!(Output::parse("out").unwrap().form, Some(v1::Form::Local));
        assert_eq!(Output::parse("-").unwrap().form, Some(v1::Form::Tar));
        assert!(Output::parse("type=registry").unwrap().push);
        for wrong in ["type=local", "type=moon,dest=x", "dest=x,colour=red"] {
            assert!(Output::parse(wrong).is_err(), "{wrong}");
        }
    }
}
