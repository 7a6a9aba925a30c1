//! `generate`: completions and man pages from the definitions, for packages and shells.

use crate::cli::Cli;
use anyhow::Context;
use clap::{Args, CommandFactory, Subcommand};
use clap_complete::Shell;
use std::path::{Path, PathBuf};

/// What is made.
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the completions of a shell.
    Completion {
        /// The shell.
        shell: Shell,
        /// Name of the program, as a link to it may have.
        #[arg(long, value_name = "NAME", default_value = "orlop")]
        name: String,
    },
    /// Write the man pages of all commands into a directory.
    Man {
        /// The directory.
        dir: PathBuf,
    },
}

pub(crate) fn run(arguments: &GenerateArgs) -> anyhow::Result<()> {
    match &arguments.what {
        What::Completion { shell, name } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), name, &mut text);
            std::io::Write::write_all(&mut std::io::stdout(), &text)?;
            Ok(())
        }
        What::Man { dir } => man(dir),
    }
}

fn man(dir: &Path) -> anyhow::Result<()> {
    let wrong = || format!("{} cannot be written", dir.display());
    std::fs::create_dir_all(dir).with_context(wrong)?;
    clap_mangen::generate_to(Cli::command(), dir).with_context(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_page_and_completion() {
        let dir = tempfile::tempdir().unwrap();
        man(dir.path()).unwrap();
        for page in ["orlop", "orlop-run", "orlop-image-ls", "orlop-network-create"] {
            let text = std::fs::read_to_string(dir.path().join(format!("{page}.1"))).unwrap();
            assert!(text.contains(".SH NAME"), "{page}");
        }
        let run = std::fs::read_to_string(dir.path().join("orlop-run.1")).unwrap();
        assert!(run.contains("publish") && !run.contains("gpus"), "what is hidden stays so");
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "orlop", &mut text);
            let text = String::from_utf8(text).unwrap();
            for word in ["network", "inspect", "publish"] {
                assert!(text.contains(word), "{shell}: {word}");
            }
        }
    }
}
