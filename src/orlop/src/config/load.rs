//! Reading: defaults, then RUST_LOG, the file, its drop-ins in order of name, and the flags. Later
//! ones win, key by key; every mistake in any of them is reported at once.

use super::problem::{Name, Origins, Place, Problem, Problems, Source};
use super::schema::{Entry, Reader, Section};
use super::{Config, check};
use crate::cli::SettingArgs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::de::DeTable;

const DEFAULT_FILE: &str = "/etc/orlop/orlop.toml";
/// Directory of drop-ins, beside the file.
const DROP_INS: &str = "conf.d";

/// A configuration with where each value came from.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) origins: Origins,
}

/// Where a configuration comes from; kept to read it again.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    file: PathBuf,
    /// Named by a flag: then it must be there.
    named: bool,
    environment: Vec<Arc<Source>>,
    flags: Vec<Arc<Source>>,
}

impl Sources {
    /// From the command line and the environment of this process.
    pub(crate) fn new(arguments: &SettingArgs) -> Self {
        let level = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
        let environment =
            level.map(|text| outside("RUST_LOG", "log.level", &text.into())).into_iter().collect();
        Self {
            file: arguments.config.clone().unwrap_or_else(|| DEFAULT_FILE.into()),
            named: arguments.config.is_some(),
            environment,
            flags: arguments
                .settings()
                .into_iter()
                .map(|(flag, key, value)| outside(flag, key, &value))
                .collect(),
        }
    }

    /// Reads everything.
    pub(crate) fn load(&self) -> Result<Loaded, Problems> {
        let mut problems = Vec::new();
        let files = self.files(&mut problems);
        let sources = self.environment.iter().chain(&files).chain(&self.flags);
        let (mut config, mut origins) = (Config::default(), Origins::new());
        let known = known_keys();
        for source in sources {
            read(source, &known, &mut config, &mut origins, &mut problems);
        }
        check::several_keys(&config, &origins, &mut problems);
        if problems.is_empty() { Ok(Loaded { config, origins }) } else { Err(Problems(problems)) }
    }

    /// The file and its drop-ins, those that can be read.
    fn files(&self, problems: &mut Vec<Problem>) -> Vec<Arc<Source>> {
        let mut files = Vec::new();
        let mut add =
            |file: &Path, needed: bool, problems: &mut Vec<Problem>| match std::fs::read_to_string(
                file,
            ) {
                Ok(text) => {
                    files.push(Arc::new(Source { name: Name::File(file.to_owned()), text }));
                }
                Err(error) if error.kind() == ErrorKind::NotFound && !needed => {}
                Err(error) => problems.push(unreadable(file, &error)),
            };
        add(&self.file, self.named, problems);
        let dir = self.file.with_file_name(DROP_INS);
        match drop_ins(&dir) {
            Ok(found) => found.iter().for_each(|file| add(file, true, problems)),
            Err(error) => problems.push(unreadable(&dir, &error)),
        }
        files
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
    Problem { place: None, message: format!("{} cannot be read: {error}", path.display()) }
}

/// Files of the directory that end in `.toml`, by name; none where it is not there.
fn drop_ins(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// One key that is set outside of files, as the TOML that sets it.
fn outside(name: &str, key: &str, value: &toml::Value) -> Arc<Source> {
    Arc::new(Source { name: Name::Outside(name.to_owned()), text: format!("{key} = {value}") })
}

/// Every key, for suggestions.
pub(super) fn known_keys() -> Vec<String> {
    entries(&Config::default()).into_iter().map(|entry| entry.key).collect()
}

/// Every key with what it is now.
pub(super) fn entries(config: &Config) -> Vec<Entry> {
    let mut entries = Vec::new();
    config.entries("", &mut entries);
    entries
}

/// Reads one source over what is there.
fn read(
    source: &Arc<Source>,
    known: &[String],
    config: &mut Config,
    origins: &mut Origins,
    problems: &mut Vec<Problem>,
) {
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    let mut found = Vec::new();
    for error in errors {
        let place = error.span().map(|span| Place { source: Arc::clone(source), span });
        found.push(Problem { place, message: error.message().trim_end().replace('\n', ", ") });
    }
    // What is left of a broken line is not worth a second report.
    let line = |problem: &Problem| problem.place.as_ref().map(Place::line_number);
    let broken: Vec<_> = found.iter().map(line).collect();
    let mut more = Vec::new();
    let mut reader = Reader { source, origins, problems: &mut more, known };
    reader.section(config, table.get_ref(), "");
    found.extend(more.into_iter().filter(|problem| !broken.contains(&line(problem))));
    found.sort_by_key(|problem| problem.place.as_ref().map(|place| place.span.start));
    problems.append(&mut found);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with these files, and its sources.
    pub(crate) fn sources(files: &[(&str, &str)]) -> (tempfile::TempDir, Sources) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(DROP_INS)).unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let arguments =
            SettingArgs { config: Some(dir.path().join("orlop.toml")), ..Default::default() };
        let sources = Sources { environment: Vec::new(), ..Sources::new(&arguments) };
        (dir, sources)
    }

    /// The report on these files, with the directory's name left out.
    fn report(files: &[(&str, &str)]) -> String {
        let (dir, sources) = sources(files);
        let text = sources.load().unwrap_err().to_string();
        text.replace(&format!("{}/", dir.path().display()), "")
    }

    #[test]
    fn nothing_is_needed() {
        let (_dir, sources) = sources(&[("orlop.toml", "")]);
        let loaded = sources.load().unwrap();
        assert_eq!(loaded.config, Config::default());
        assert!(loaded.origins.is_empty());
        let absent = Sources { file: "/nonexistent/orlop.toml".into(), named: false, ..sources };
        assert_eq!(absent.load().unwrap().config, Config::default());
        let named = Sources { named: true, ..absent };
        assert!(
            named
                .load()
                .unwrap_err()
                .to_string()
                .contains("/nonexistent/orlop.toml cannot be read")
        );
    }

    #[test]
    fn every_mistake_at_once_and_where() {
        let main = "\
rot = '/x'
workers = 'two'
[network]
confdir = '/x'
pool_size = 5_000
bin_dirs = ['/a', 'b', 3]
seccomp_dir = '/s'
[network.bridge]
subnet = 'fd00::/64'
[cgroup]
driver = 'systmd'
";
        let more = "[log]\nlevel = 'x=y=z'\n[images]\npinned = 'a'\n";
        let expected = "\
the configuration has 11 mistakes
orlop.toml:1:1: unknown key \"rot\": did you mean \"root\"?
 1 | rot = '/x'
   | ^^^
orlop.toml:2:11: workers: use a whole number from 0 to 18446744073709551615, not \"two\"
 2 | workers = 'two'
   |           ^^^^^
orlop.toml:4:1: unknown key \"confdir\" in [network]: did you mean \"conf_dir\"?
 4 | confdir = '/x'
   | ^^^^^^^
orlop.toml:5:13: network.pool_size: use a number from 0 to 1024, not 5000
 5 | pool_size = 5_000
   |             ^^^^^
orlop.toml:6:19: network.bin_dirs: use an absolute path, not \"b\"
 6 | bin_dirs = ['/a', 'b', 3]
   |                   ^^^
orlop.toml:6:24: network.bin_dirs: use an absolute path, not 3
 6 | bin_dirs = ['/a', 'b', 3]
   |                        ^
orlop.toml:7:1: unknown key \"seccomp_dir\" in [network]: it belongs in [runtime]
 7 | seccomp_dir = '/s'
   | ^^^^^^^^^^^
orlop.toml:9:10: network.bridge.subnet: use an IPv4 subnet, not fd00::/64
 9 | subnet = 'fd00::/64'
   |          ^^^^^^^^^^^
orlop.toml:11:10: cgroup.driver: use \"cgroupfs\" or \"systemd\": did you mean \"systemd\"?
 11 | driver = 'systmd'
    |          ^^^^^^^^
conf.d/m.toml:2:9: log.level: use error, warn, info, debug, trace or a filter such as \"orlop_image=debug,info\", not \"x=y=z\"
 2 | level = 'x=y=z'
   |         ^^^^^^^
conf.d/m.toml:4:10: images.pinned: use a list in brackets, not \"a\"
 4 | pinned = 'a'
   |          ^^^";
        assert_eq!(report(&[("orlop.toml", main), ("conf.d/m.toml", more)]), expected);
    }

    #[test]
    fn broken_lines_do_not_hide_others() {
        let text = report(&[("orlop.toml", "workers = \nrun = 5\nrun = '/a'\n[log\nlevel = 1\n")]);
        for place in
            ["orlop.toml:1:", "orlop.toml:2:7: run: use an absolute path", "orlop.toml:3:1:"]
        {
            assert!(text.contains(place), "{place} is not in: {text}");
        }
    }

    #[test]
    fn later_sources_win_key_by_key() {
        let (dir, sources) = sources(&[
            (
                "orlop.toml",
                "workers = 3\nroot = '/a'\nsocket = '/s'\n[network]\npool_size = 1\nbin_dirs = ['/x', '/y']",
            ),
            ("conf.d/20-b.toml", "root = '/c'\nsocket = ''"),
            ("conf.d/10-a.toml", "root = '/b'\n[network]\nbin_dirs = ['/z']"),
            ("conf.d/ignored.txt", "root = "),
            ("conf.d/.hidden.toml", "root = "),
        ]);
        let flags = vec![outside("--run", "run", &"/r".into())];
        let environment = vec![outside("RUST_LOG", "log.level", &"debug".into())];
        let loaded = Sources { flags, environment, ..sources }.load().unwrap();
        let config = &loaded.config;
        assert_eq!((config.workers, config.network.pool_size), (3, 1));
        assert_eq!(config.network.bin_dirs, [PathBuf::from("/z")]);
        assert_eq!((config.root.as_path(), &config.socket), (Path::new("/c"), &None));
        let origin = |key: &str| loaded.origins[key].to_string();
        assert_eq!(origin("root"), format!("{}:1", dir.path().join("conf.d/20-b.toml").display()));
        assert_eq!(
            origin("network.bin_dirs"),
            format!("{}:3", dir.path().join("conf.d/10-a.toml").display())
        );
        assert_eq!((origin("run").as_str(), origin("log.level").as_str()), ("--run", "RUST_LOG"));
    }

    #[test]
    fn flags_are_checked_as_files_are() {
        let (_dir, sources) = sources(&[("orlop.toml", "")]);
        let flags = vec![outside("--root", "root", &"x".into())];
        let text = Sources { flags, ..sources }.load().unwrap_err().to_string();
        assert_eq!(
            text,
            "the configuration has 1 mistake\n--root: root: use an absolute path, not \"x\""
        );
    }
}
