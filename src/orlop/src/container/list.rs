//! `ps`: which containers, and what is shown of each.

use crate::args::containers::PsArgs;
use crate::show::{Column, Filters, Shape, ago, bytes, duration, short_id};
use anyhow::bail;
use orlop_engine::{PortLine, State, Summary};
use orlop_model::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

const fn column(field: &'static str, title: &'static str) -> Column {
    Column { field, title }
}

/// Fields of a row.
pub(super) const COLUMNS: [Column; 16] = [
    column("Command", "COMMAND"),
    column("CreatedAt", "CREATED AT"),
    column("Health", "HEALTH"),
    column("ID", "CONTAINER ID"),
    column("Image", "IMAGE"),
    column("Labels", "LABELS"),
    column("LocalVolumes", "LOCAL VOLUMES"),
    column("Mounts", "MOUNTS"),
    column("Names", "NAMES"),
    column("Networks", "NETWORKS"),
    column("Pod", "POD"),
    column("Ports", "PORTS"),
    column("RunningFor", "CREATED"),
    column("Size", "SIZE"),
    column("State", "STATE"),
    column("Status", "STATUS"),
];

const SHOWN: [&str; 8] =
    ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names", "Size"];

/// The form of the list.
pub(super) fn shape(size: bool) -> Shape<'static> {
    let shown = if size { &SHOWN[..] } else { &SHOWN[..7] };
    Shape { columns: &COLUMNS, shown, quiet: "ID" }
}

const FILTERS: [&str; 15] = [
    "ancestor", "before", "exited", "expose", "health", "id", "label", "name", "network", "pod",
    "publish", "since", "status", "volume", "is-task",
];

/// Those that flags and filters ask for, of all, newest first.
pub(super) fn chosen(all: Vec<Summary>, arguments: &PsArgs) -> anyhow::Result<Vec<Summary>> {
    let filters = Filters::new(&arguments.list.filter, &FILTERS)?;
    for (key, known) in [
        (
            "status",
            &["created", "running", "paused", "restarting", "removing", "exited", "dead"][..],
        ),
        ("health", &["starting", "healthy", "unhealthy", "none"]),
    ] {
        if let Some(wrong) = filters.get(key).iter().find(|value| !known.contains(&value.as_str()))
        {
            bail!("--filter {key}={wrong}: expected {}", known.join(", "));
        }
    }
    let place = |key: &str| match filters.get(key).last() {
        None => Ok(None),
        Some(name) => {
            let found = all.iter().position(|one| is_called(one, name));
            found.map(Some).ok_or_else(|| {
                anyhow::anyhow!("--filter {key}={name}: there is no container of this name")
            })
        }
    };
    let (since, before) = (place("since")?, place("before")?);
    let last = match arguments.last {
        Some(count) if count > 0 => Some(usize::try_from(count).unwrap_or(usize::MAX)),
        _ => arguments.latest.then_some(1),
    };
    // A state that was asked for is shown whatever else.
    let every = arguments.all
        || last.is_some()
        || ["status", "exited"].iter().any(|key| !filters.get(key).is_empty());
    let fits = |(at, one): &(usize, Summary)| {
        (every || one.state.lives())
            && since.is_none_or(|since| *at < since)
            && before.is_none_or(|before| *at > before)
            && matches(one, &filters)
    };
    let found = all.iter().cloned().enumerate().filter(fits).map(|(_, one)| one);
    Ok(found.take(last.unwrap_or(usize::MAX)).collect())
}

fn is_called(one: &Summary, name: &str) -> bool {
    one.name == name.trim_start_matches('/') || (!name.is_empty() && one.id.starts_with(name))
}

fn matches(one: &Summary, filters: &Filters) -> bool {
    let health = if one.health.is_empty() { "none" } else { &one.health };
    filters.labels(&one.labels)
        && filters.any("id", |id| one.id.starts_with(id))
        && filters.any("name", |name| fits_name(&one.name, name))
        && filters.any("status", |status| one.state.as_str() == status)
        && filters
            .any("exited", |code| one.state == State::Exited && code.parse() == Ok(one.exit_code))
        && filters.any("health", |wanted| wanted == health)
        && filters.any("network", |network| one.networks.iter().any(|name| name == network))
        && filters.any("pod", |pod| one.pod == pod)
        && filters.any("volume", |volume| one.mounts.iter().any(|mount| mount == volume))
        && filters.any("ancestor", |image| is_of(one, image))
        && filters.any("expose", |port| one.ports.iter().any(|line| is_port(line, port, false)))
        && filters.any("publish", |port| one.ports.iter().any(|line| is_port(line, port, true)))
        && filters.any("is-task", |task| task == "false" || task == "0")
}

/// Part of a name; `^` and `$` stand for its ends, as in `^web$`.
fn fits_name(name: &str, wanted: &str) -> bool {
    let wanted = wanted.trim_start_matches('/');
    let (wanted, first) = match wanted.strip_prefix('^') {
        Some(rest) => (rest.trim_start_matches('/'), true),
        None => (wanted, false),
    };
    let (wanted, last) = match wanted.strip_suffix('$') {
        Some(rest) => (rest, true),
        None => (wanted, false),
    };
    match (first, last) {
        (true, true) => name == wanted,
        (true, false) => name.starts_with(wanted),
        (false, true) => name.ends_with(wanted),
        (false, false) => name.contains(wanted),
    }
}

/// By the name it was made with, or by the id.
fn is_of(one: &Summary, image: &str) -> bool {
    let bare = |name: &str| {
        let name = crate::image::familiar(name);
        name.strip_suffix(":latest").unwrap_or(name).to_owned()
    };
    bare(&one.image) == bare(image)
        || (image.len() >= 4
            && short_of(&one.image_id).starts_with(image.trim_start_matches("sha256:")))
}

fn short_of(id: &str) -> &str {
    id.strip_prefix("sha256:").unwrap_or(id)
}

/// `80`, `80/udp`, `80-90`.
fn is_port(line: &PortLine, wanted: &str, published: bool) -> bool {
    let (ports, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let port = if published { line.host_port } else { line.container_port };
    let within = first.parse::<u16>().is_ok_and(|first| first <= port)
        && last.parse::<u16>().is_ok_and(|last| port <= last);
    within && port != 0 && line.protocol == protocol
}

/// What a list shows of a container.
pub(super) fn row(one: &Summary, now: Timestamp, no_trunc: bool) -> Value {
    let seconds = |time: i64| time.div_euclid(1_000_000_000);
    let (date, time) = Timestamp(one.created_at).date_and_time();
    let labels: Vec<_> = one.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mounts = one.mounts.iter().filter(|mount| !mount.is_empty());
    let mounts: Vec<_> =
        mounts.map(|mount| cut(mount, if no_trunc { usize::MAX } else { 15 })).collect();
    let image = crate::image::familiar(&one.image);
    json!({
        "ID": if no_trunc { &one.id } else { short_id(&one.id) },
        "Image": if no_trunc { image } else { short_image(image) },
        "Command": format!("\"{}\"", cut(&one.command.join(" "), if no_trunc { usize::MAX } else { 20 })),
        "CreatedAt": format!("{date} {time} +0000 UTC"),
        "RunningFor": ago(seconds(one.created_at), seconds(now.0)),
        "Status": status(one, now),
        "State": one.state.as_str(),
        "Health": one.health,
        "Ports": ports(&one.ports),
        "Names": one.name,
        "Labels": labels.join(","),
        "Label": one.labels,
        "LocalVolumes": one.mounts.iter().filter(|m| !m.starts_with('/') && !m.is_empty()).count().to_string(),
        "Mounts": mounts.join(","),
        "Networks": one.networks.join(","),
        "Pod": one.pod,
        "Size": bytes(one.size),
    })
}

/// An id that stands for a name is as short as other ids.
fn short_image(image: &str) -> &str {
    let is_id = image.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64);
    if is_id { short_id(image) } else { image }
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// `Up 2 minutes (healthy)`, `Exited (0) 3 hours ago`.
fn status(one: &Summary, now: Timestamp) -> String {
    let since = |time: i64| {
        let past = u64::try_from(now.0.saturating_sub(time)).unwrap_or(0);
        duration(Duration::from_nanos(past))
    };
    let health = match one.health.as_str() {
        "" | "none" => String::new(),
        "starting" => " (health: starting)".into(),
        other => format!(" ({other})"),
    };
    match one.state {
        State::Created => "Created".into(),
        State::Running => format!("Up {}{health}", since(one.started_at)),
        State::Paused => format!("Up {} (Paused)", since(one.started_at)),
        State::Restarting => {
            format!("Restarting ({}) {} ago", one.exit_code, since(one.finished_at))
        }
        State::Removing => "Removal In Progress".into(),
        State::Exited => format!("Exited ({}) {} ago", one.exit_code, since(one.finished_at)),
    }
}

/// Ports that follow each other are one range.
fn ports(all: &[PortLine]) -> String {
    let mut groups: Vec<(&PortLine, u16)> = Vec::new();
    for line in all {
        match groups.last_mut() {
            Some((first, more)) if follows(first, *more, line) => *more += 1,
            _ => groups.push((line, 0)),
        }
    }
    let range = |first: u16, more: u16| match more {
        0 => first.to_string(),
        more => format!("{first}-{}", first.saturating_add(more)),
    };
    let show = |(line, more): &(&PortLine, u16)| {
        let inside = format!("{}/{}", range(line.container_port, *more), line.protocol);
        match line.host_port {
            0 => inside,
            port if line.host_ip.contains(':') => {
                format!("[{}]:{}->{inside}", line.host_ip, range(port, *more))
            }
            port => format!("{}:{}->{inside}", line.host_ip, range(port, *more)),
        }
    };
    groups.iter().map(show).collect::<Vec<_>>().join(", ")
}

fn follows(first: &PortLine, more: u16, line: &PortLine) -> bool {
    let next = |port: u16| port.checked_add(more).and_then(|port| port.checked_add(1));
    (line.protocol == first.protocol && line.host_ip == first.host_ip)
        && next(first.container_port) == Some(line.container_port)
        && match first.host_port {
            0 => line.host_port == 0,
            port => next(port) == Some(line.host_port),
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn port(container_port: u16, host_port: u16, host_ip: &str, protocol: &str) -> PortLine {
        PortLine { container_port, host_port, host_ip: host_ip.into(), protocol: protocol.into() }
    }

    fn summary(id: &str, name: &str, state: State) -> Summary {
        Summary {
            id: id.repeat(64),
            name: name.into(),
            image: "docker.io/library/nginx:1".into(),
            image_id: format!("sha256:{}", "e".repeat(64)),
            command: ["nginx", "-g", "daemon off;", "\u{1b}"].map(str::to_owned).into(),
            created_at: 0,
            started_at: 60_000_000_000,
            finished_at: if state == State::Exited { 120_000_000_000 } else { 0 },
            state,
            exit_code: if state == State::Exited { 3 } else { 0 },
            health: if state == State::Running { "healthy".into() } else { String::new() },
            pid: 0,
            ports: vec![port(80, 8080, "0.0.0.0", "tcp")],
            labels: [("tier".to_owned(), name.to_owned())].into(),
            mounts: vec!["data".into(), "/srv/a/very/long/path".into()],
            networks: vec!["back".into()],
            size: 4096,
            pod: String::new(),
        }
    }

    fn all() -> Vec<Summary> {
        vec![
            summary("c", "web-2", State::Created),
            summary("b", "db", State::Exited),
            summary("a", "web", State::Running),
        ]
    }

    fn names(flags: &str) -> anyhow::Result<Vec<String>> {
        let words = flags.split(' ').filter(|word| !word.is_empty());
        let cli = crate::cli::Cli::try_parse_from(["orlop", "ps"].into_iter().chain(words))?;
        let crate::cli::Command::Ps(arguments) = cli.command else { panic!() };
        Ok(chosen(all(), &arguments)?.into_iter().map(|one| one.name).collect())
    }

    #[test]
    fn which_are_shown() {
        for (flags, want) in [
            ("", &["web"][..]),
            ("-a", &["web-2", "db", "web"]),
            ("-l", &["web-2"]),
            ("-n 2", &["web-2", "db"]),
            ("-n -1", &["web"]),
            ("-a --filter name=web", &["web-2", "web"]),
            ("-a -f name=^/web$", &["web"]),
            ("-f status=exited", &["db"]),
            ("-f status=exited -f status=created", &["web-2", "db"]),
            ("-f exited=3", &["db"]),
            ("-f exited=0", &[]),
            ("-a -f id=bbb", &["db"]),
            ("-a -f label=tier=db", &["db"]),
            ("-f health=healthy", &["web"]),
            ("-f network=front", &[]),
            ("-a -f since=web", &["web-2", "db"]),
            ("-a -f before=web-2", &["db", "web"]),
            ("-f ancestor=nginx:1", &["web"]),
            ("-f ancestor=eeee", &["web"]),
            ("-f publish=8000-8100 -f expose=80", &["web"]),
            ("-f expose=80/udp", &[]),
            ("-f volume=data", &["web"]),
        ] {
            assert_eq!(names(flags).unwrap(), want, "{flags}");
        }
        for (flags, why) in [
            ("-f status=up", "expected created, running"),
            ("-f since=nobody", "no container of this name"),
            ("-f nam=x", "did you mean name?"),
        ] {
            let error = names(flags).unwrap_err().to_string();
            assert!(error.contains(why), "{flags}: {error}");
        }
    }

    #[test]
    fn table() {
        let now = Timestamp(600_000_000_000);
        let rows: Vec<_> = all().iter().map(|one| row(one, now, false)).collect();
        let mut out = Vec::new();
        crate::show::list(&mut out, &shape(true), &rows, None, false, None).unwrap();
        insta::assert_snapshot!("ps", String::from_utf8(out).unwrap());
        let mut out = Vec::new();
        crate::show::list(&mut out, &shape(false), &rows[..2], None, false, Some(40)).unwrap();
        insta::assert_snapshot!("ps_in_40_columns", String::from_utf8(out).unwrap());
        let mut out = Vec::new();
        let rows = [row(&all()[2], now, true)];
        crate::show::list(&mut out, &shape(false), &rows, Some("json"), false, None).unwrap();
        insta::assert_snapshot!("ps_json", String::from_utf8(out).unwrap());
    }

    #[test]
    fn ranges_of_ports() {
        let all = [
            port(80, 0, "", "tcp"),
            port(81, 0, "", "tcp"),
            port(7000, 8000, "0.0.0.0", "tcp"),
            port(7001, 8001, "0.0.0.0", "tcp"),
            port(7002, 9000, "::1", "tcp"),
            port(53, 53, "0.0.0.0", "udp"),
        ];
        assert_eq!(
            ports(&all),
            "80-81/tcp, 0.0.0.0:8000-8001->7000-7001/tcp, [::1]:9000->7002/tcp, 0.0.0.0:53->53/udp"
        );
    }
}
