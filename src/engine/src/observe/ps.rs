//! `top`: the processes of a container, as ps(1) shows them. Read from the host's procfs.

use crate::{Container, Engine, Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// A table of processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processes {
    /// Headings.
    pub titles: Vec<String>,
    /// A row of each process, ordered by its number on the host.
    pub rows: Vec<Vec<String>>,
}

/// Kernel ticks in a second, as the kernel's interface has it on every architecture of Linux here.
const TICKS: u64 = 100;

/// What ps calls columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Uid,
    User,
    UserNumber,
    Group,
    GroupNumber,
    Pid,
    Parent,
    C,
    Cpu,
    Memory,
    Virtual,
    Resident,
    Terminal,
    State,
    Start,
    Time,
    Elapsed,
    Nice,
    Threads,
    Name,
    Command,
}

impl Column {
    /// By ps's name, with its heading.
    fn named(name: &str) -> Option<(Self, &'static str)> {
        Some(match name {
            "user" | "euser" | "uname" => (Self::User, "USER"),
            "uid" | "euid" => (Self::UserNumber, "UID"),
            "group" | "egroup" => (Self::Group, "GROUP"),
            "gid" | "egid" => (Self::GroupNumber, "GID"),
            "pid" => (Self::Pid, "PID"),
            "ppid" => (Self::Parent, "PPID"),
            "c" => (Self::C, "C"),
            "pcpu" | "%cpu" => (Self::Cpu, "%CPU"),
            "pmem" | "%mem" => (Self::Memory, "%MEM"),
            "vsz" | "vsize" => (Self::Virtual, "VSZ"),
            "rss" | "rssize" => (Self::Resident, "RSS"),
            "tty" | "tt" | "tname" => (Self::Terminal, "TTY"),
            "stat" | "state" | "s" => (Self::State, "STAT"),
            "stime" | "start" | "start_time" => (Self::Start, "STIME"),
            "time" | "cputime" => (Self::Time, "TIME"),
            "etime" => (Self::Elapsed, "ELAPSED"),
            "ni" | "nice" => (Self::Nice, "NI"),
            "nlwp" | "thcount" => (Self::Threads, "NLWP"),
            "comm" | "ucmd" | "ucomm" => (Self::Name, "COMMAND"),
            "args" | "cmd" | "command" => (Self::Command, "COMMAND"),
            _ => return None,
        })
    }
}

/// Columns with their headings.
type Columns = Vec<(Column, String)>;

fn columns(arguments: &[String]) -> Result<Columns> {
    let list = |columns: &[(Column, &str)]| {
        columns.iter().map(|(column, title)| (*column, (*title).to_owned())).collect()
    };
    let text = arguments.join(" ");
    let full = [
        (Column::Uid, "UID"),
        (Column::Pid, "PID"),
        (Column::Parent, "PPID"),
        (Column::C, "C"),
        (Column::Start, "STIME"),
        (Column::Terminal, "TTY"),
        (Column::Time, "TIME"),
        (Column::Command, "CMD"),
    ];
    match text.as_str() {
        "" | "-ef" | "-f" | "-Af" | "-fe" => return Ok(list(&full)),
        "aux" | "-aux" | "au" | "ux" | "u" => {
            return Ok(list(&[
                (Column::User, "USER"),
                (Column::Pid, "PID"),
                (Column::Cpu, "%CPU"),
                (Column::Memory, "%MEM"),
                (Column::Virtual, "VSZ"),
                (Column::Resident, "RSS"),
                (Column::Terminal, "TTY"),
                (Column::State, "STAT"),
                (Column::Start, "START"),
                (Column::Time, "TIME"),
                (Column::Command, "COMMAND"),
            ]));
        }
        "-e" | "-A" | "e" | "a" | "x" | "ax" | "-a" => {
            return Ok(list(&[
                (Column::Pid, "PID"),
                (Column::Terminal, "TTY"),
                (Column::Time, "TIME"),
                (Column::Name, "CMD"),
            ]));
        }
        _ => {}
    }
    let format =
        ["-eo", "-Ao", "-o", "o", "axo", "--format", "-e -o", "ax -o"].iter().find_map(|flag| {
            let rest = text.strip_prefix(flag)?;
            (rest.starts_with(' ') || rest.starts_with('=') || *flag == "-o").then_some(rest)
        });
    let wrong = |value: &str| {
        Error::Invalid {
        field: "ps options",
        value: value.to_owned(),
        why: "expected -ef, aux, -e, or -o with columns such as pid,ppid,user,comm,args,pcpu,rss,etime"
            .to_owned(),
    }
    };
    let format = format.ok_or_else(|| wrong(&text))?.trim_start_matches(['=', ' ']);
    let words = format.split([',', ' ']).filter(|word| !word.is_empty());
    let found = words.map(|word| {
        let (name, title) = match word.split_once('=') {
            Some((name, title)) => (name, Some(title.to_owned())),
            None => (word, None),
        };
        let (column, usual) = Column::named(name).ok_or_else(|| wrong(word))?;
        Ok((column, title.unwrap_or_else(|| usual.to_owned())))
    });
    let found: Columns = found.collect::<Result<_>>()?;
    if found.is_empty() { Err(wrong(&text)) } else { Ok(found) }
}

/// What is read of a process.
#[derive(Debug, Default)]
struct Facts {
    pid: u32,
    uid: u32,
    gid: u32,
    name: String,
    state: String,
    parent: String,
    terminal: i32,
    ticks: u64,
    nice: String,
    threads: String,
    /// Ticks since boot.
    started: u64,
    virtual_kb: u64,
    resident_kb: u64,
    command: String,
}

impl Engine {
    /// The processes of a container, in the columns that options of ps(1) ask for.
    pub async fn top(&self, container: &Container, arguments: &[String]) -> Result<Processes> {
        let columns = columns(arguments)?;
        let not_running = || Error::State {
            what: "container",
            name: container.name(),
            why: "is not running: it has no processes".to_owned(),
        };
        if self.locate(container).task.is_empty() {
            return Err(not_running());
        }
        let shim = self.shim(container).await?.ok_or_else(not_running)?;
        let mut pids = shim.pids().await?;
        pids.sort_unstable();
        crate::container::blocking(move || Ok(table(&columns, &pids))).await
    }
}

fn table(columns: &Columns, pids: &[u32]) -> Processes {
    let host = Host::read();
    // One that ends meanwhile is left out.
    let rows = pids.iter().filter_map(|pid| facts(*pid)).map(|facts| {
        columns.iter().map(|(column, _)| host.cell(*column, &facts)).collect::<Vec<_>>()
    });
    Processes {
        titles: columns.iter().map(|(_, title)| title.clone()).collect(),
        rows: rows.collect(),
    }
}

fn facts(pid: u32) -> Option<Facts> {
    let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).ok();
    let stat = String::from_utf8_lossy(&read("stat")?).into_owned();
    // The name is in parentheses and may hold anything.
    let (name, rest) = (stat.find('(')?, stat.rfind(')')?);
    let fields: Vec<&str> = stat.get(rest + 1..)?.split_ascii_whitespace().collect();
    let field = |n: usize| fields.get(n - 3).copied().unwrap_or_default();
    let number = |n: usize| field(n).parse::<u64>().unwrap_or(0);
    let status = String::from_utf8_lossy(&read("status")?).into_owned();
    let id = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        // Real, effective, …: the effective one.
        line.and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u32>().ok()).unwrap_or(0)
    };
    let name = stat.get(name + 1..rest)?.to_owned();
    let line = read("cmdline").unwrap_or_default();
    let words: Vec<String> = line
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| plain(&String::from_utf8_lossy(word)))
        .collect();
    let command = if words.is_empty() { format!("[{}]", plain(&name)) } else { words.join(" ") };
    let page = rustix::param::page_size() as u64 / 1024;
    Some(Facts {
        pid,
        uid: id("Uid:"),
        gid: id("Gid:"),
        name: plain(&name),
        state: field(3).to_owned(),
        parent: field(4).to_owned(),
        terminal: field(7).parse().unwrap_or(0),
        ticks: number(14) + number(15),
        nice: field(19).to_owned(),
        threads: field(20).to_owned(),
        started: number(22),
        virtual_kb: number(23) / 1024,
        resident_kb: number(24) * page,
        command,
    })
}

/// What a process calls itself is not for a terminal to interpret.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// What is the same for all of them.
struct Host {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
    uptime_ticks: u64,
    memory_kb: u64,
    /// Seconds since 1970.
    now: u64,
}

impl Host {
    fn read() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let seconds = text("/proc/uptime");
        let seconds = seconds.split(' ').next().and_then(|text| text.parse::<f64>().ok());
        let memory = text("/proc/meminfo");
        let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        Self {
            users: ids(&text("/etc/passwd")),
            groups: ids(&text("/etc/group")),
            uptime_ticks: (seconds.unwrap_or(0.0) * TICKS as f64) as u64,
            memory_kb: memory
                .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
                .unwrap_or(0),
            now: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()),
        }
    }

    fn cell(&self, column: Column, facts: &Facts) -> String {
        let named = |names: &HashMap<u32, String>, id: u32| {
            names.get(&id).cloned().unwrap_or_else(|| id.to_string())
        };
        let life = self.uptime_ticks.saturating_sub(facts.started).max(1);
        let tenths = |part: u64, whole: u64| {
            let tenths = part.saturating_mul(1000) / whole.max(1);
            format!("{}.{}", tenths / 10, tenths % 10)
        };
        match column {
            Column::Uid | Column::User => named(&self.users, facts.uid),
            Column::UserNumber => facts.uid.to_string(),
            Column::Group => named(&self.groups, facts.gid),
            Column::GroupNumber => facts.gid.to_string(),
            Column::Pid => facts.pid.to_string(),
            Column::Parent => facts.parent.clone(),
            Column::C => (facts.ticks.saturating_mul(100) / life).min(99).to_string(),
            Column::Cpu => tenths(facts.ticks, life),
            Column::Memory => tenths(facts.resident_kb, self.memory_kb),
            Column::Virtual => facts.virtual_kb.to_string(),
            Column::Resident => facts.resident_kb.to_string(),
            Column::Terminal => terminal(facts.terminal),
            Column::State => facts.state.clone(),
            Column::Start => self.start(life / TICKS),
            Column::Time => clock(facts.ticks / TICKS, true),
            Column::Elapsed => clock(life / TICKS, false),
            Column::Nice => facts.nice.clone(),
            Column::Threads => facts.threads.clone(),
            Column::Name => facts.name.clone(),
            Column::Command => facts.command.clone(),
        }
    }

    /// The time of day in UTC; of one that is older than a day, how many days.
    fn start(&self, age: u64) -> String {
        if age > 86_400 {
            return format!("{}d", age / 86_400);
        }
        let at = self.now.saturating_sub(age) % 86_400;
        format!("{:02}:{:02}", at / 3600, at / 60 % 60)
    }
}

/// Names by number, from passwd(5) or group(5).
fn ids(text: &str) -> HashMap<u32, String> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        Some((id.parse().ok()?, name.to_owned()))
    };
    let mut found = HashMap::new();
    for (id, name) in text.lines().filter_map(entry) {
        found.entry(id).or_insert(name);
    }
    found
}

/// The device's number as ps shows it.
fn terminal(device: i32) -> String {
    let device = device.unsigned_abs();
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xf_ff00));
    match major {
        _ if device == 0 => "?".to_owned(),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 => format!("tty{minor}"),
        _ => format!("{major}:{minor}"),
    }
}

/// `00:01:02`, with days where there are any; without `hours` as short as it can be.
fn clock(seconds: u64, hours: bool) -> String {
    let (day, hour) = (seconds / 86_400, seconds / 3600 % 24);
    let rest = format!("{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    match (day, hour) {
        (0, 0) if !hours => rest,
        (0, hour) => format!("{hour:02}:{rest}"),
        (day, hour) => format!("{day}-{hour:02}:{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &[&str]) -> Result<Vec<String>> {
        let arguments: Vec<String> = text.iter().map(|text| (*text).to_owned()).collect();
        Ok(columns(&arguments)?.into_iter().map(|(_, title)| title).collect())
    }

    #[test]
    fn options_of_ps() {
        assert_eq!(asked(&[]).unwrap()[..2], ["UID", "PID"]);
        assert_eq!(asked(&["aux"]).unwrap().len(), 11);
        assert_eq!(asked(&["-o", "pid,comm"]).unwrap(), ["PID", "COMMAND"]);
        assert_eq!(asked(&["-eo", "pid,user=WHO"]).unwrap(), ["PID", "WHO"]);
        assert_eq!(asked(&["-opid,rss"]).unwrap(), ["PID", "RSS"]);
        for wrong in [&["--forest"][..], &["-o", "colour"], &["-o", ""]] {
            let error = asked(wrong).unwrap_err().to_string();
            assert!(error.contains("expected -ef"), "{error}");
        }
    }

    #[test]
    fn this_process() {
        let own = table(
            &columns(&["-o".into(), "pid,args,tty,time".into()]).unwrap(),
            &[std::process::id(), u32::MAX],
        );
        assert_eq!(own.rows.len(), 1);
        assert_eq!(own.rows[0][0], std::process::id().to_string());
        assert!(own.rows[0][1].contains("orlop_engine"), "{own:?}");
    }

    #[test]
    fn words() {
        assert_eq!(clock(62, true), "00:01:02");
        assert_eq!(clock(62, false), "01:02");
        assert_eq!(clock(90_061, false), "1-01:01:01");
        assert_eq!(terminal(0), "?");
        assert_eq!(terminal(34_817), "pts/1");
        assert_eq!(plain("a\u{1b}[2J\n"), "a?[2J?");
    }
}
