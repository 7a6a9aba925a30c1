//! What people read when they ask for help, or mistype.

use crate::cli::Cli;
use clap::{Command, CommandFactory, Parser};
use std::fmt::Write;

/// Every command that is shown, with its path.
fn all(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
    found.push((path.to_owned(), command.clone()));
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        if sub.get_name() != "help" {
            all(sub, &format!("{path} {}", sub.get_name()), found);
        }
    }
}

#[test]
fn help_of_every_command() {
    let mut root = Cli::command().term_width(100);
    root.build();
    let mut found = Vec::new();
    all(&root, "orlop", &mut found);
    let mut text = String::new();
    for (path, mut command) in found {
        let help = command.render_help().to_string();
        // What can be given everywhere is shown once.
        let help = match path.as_str() {
            "orlop" => help,
            _ => help.split("\nWhere:\n").next().unwrap_or_default().to_owned(),
        };
        let lines: Vec<_> = help.lines().map(str::trim_end).collect();
        let _ = writeln!(text, "$ {path} --help\n{}\n", lines.join("\n").trim_end());
    }
    insta::assert_snapshot!("help", text);
}

#[test]
fn mistyped() {
    let mut text = String::new();
    for line in [
        "orlop rnu nginx",
        "orlop imagse",
        "orlop network creat back",
        "orlop run --nmae web nginx",
        "orlop run --memroy 1g nginx",
        "orlop run",
        "orlop ps --fromat json",
        "orlop run --restart alwys nginx",
        "orlop run -p 80:http nginx",
        "orlop stop --time soon web",
        "orlop run --gpus all nginx",
        "orlop exec web",
    ] {
        let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
        let _ = writeln!(text, "$ {line}\n{}\n", error.to_string().trim_end());
    }
    insta::assert_snapshot!("mistyped", text);
}
