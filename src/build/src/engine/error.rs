//! Why a build failed.

use crate::exec::ExecError;
use crate::files::FileError;
use crate::{Diagnostic, Lines};

/// Why a build failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BuildError {
    /// At an instruction: of the Dockerfile, of a file it names, or of a step it runs.
    #[error("{0}")]
    Dockerfile(Box<Diagnostic>),
    /// A process of a step said no.
    #[error("process {command:?} did not complete successfully: exit code: {code}")]
    Step {
        /// Where.
        lines: Lines,
        /// What ran.
        command: String,
        /// How it ended.
        code: u32,
        /// Why the kernel had a part in it.
        note: Option<String>,
    },
    /// Something that no instruction is to blame for.
    #[error("{0}")]
    Other(String),
    /// Someone gave up on the build.
    #[error("the build was cancelled")]
    Cancelled,
}

impl BuildError {
    /// At an instruction.
    pub(crate) fn at(lines: Lines, message: impl std::fmt::Display) -> Self {
        Self::Dockerfile(Box::new(Diagnostic::new(lines, message.to_string())))
    }

    pub(crate) fn hinted(
        lines: Lines,
        message: impl std::fmt::Display,
        hint: impl Into<String>,
    ) -> Self {
        let diagnostic = Diagnostic::new(lines, message.to_string());
        Self::Dockerfile(Box::new(diagnostic.hint(Some(hint))))
    }

    pub(crate) fn file(lines: Lines, error: FileError, word: Option<&str>) -> Self {
        let mut diagnostic = Diagnostic::new(lines, error.to_string());
        if let FileError::Refused { hint: Some(hint), .. } = error {
            diagnostic = diagnostic.hint(Some(hint));
        }
        if let Some(word) = word {
            diagnostic = diagnostic.at(word);
        }
        Self::Dockerfile(Box::new(diagnostic))
    }

    /// The whole message with the Dockerfile's line.
    pub fn render(&self, name: &str, source: &str) -> String {
        match self {
            Self::Dockerfile(diagnostic) => diagnostic.render(name, source),
            Self::Step { lines, note, .. } => {
                let mut diagnostic = Diagnostic::new(*lines, self.to_string());
                if let Some(note) = note {
                    diagnostic = diagnostic.hint(Some(note.as_str()));
                }
                diagnostic.render(name, source)
            }
            other => format!("{other}\n"),
        }
    }
}

impl From<Diagnostic> for BuildError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Dockerfile(Box::new(diagnostic))
    }
}

impl BuildError {
    pub(crate) fn exec(lines: Lines, error: ExecError) -> Self {
        match error {
            ExecError::Cancelled => Self::Cancelled,
            ExecError::Failed(message) => Self::at(lines, message),
        }
    }
}
