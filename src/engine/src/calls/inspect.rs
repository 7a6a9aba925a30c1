//! What `inspect` shows, in the field names that scripts know.

use super::show::{networks, ports};
use crate::engine::Inner;
use crate::spec::{MountSource, NetworkMode, Protocol, Resources, RestartPolicy};
use crate::state::State;
use crate::{Container, Engine, Record, Result, Status};
use orlop_model::Timestamp;
use serde_json::{Map, Value, json};

impl Engine {
    /// Everything about a container.
    pub fn inspect(&self, text: &str) -> Result<Value> {
        Ok(self.0.inspection(&*self.find(text)?))
    }
}

impl Inner {
    fn inspection(&self, container: &Container) -> Value {
        let record = container.record();
        let status = self.status_of(&record);
        let args = record.merged.args();
        let log = match record.spec.no_log {
            true => String::new(),
            false => self.log_dir(&record.id).join("log").display().to_string(),
        };
        json!({
            "Id": record.id,
            "Created": time(record.created_at),
            "Path": args.first().cloned().unwrap_or_default(),
            "Args": args.get(1..).unwrap_or_default(),
            "State": state(&status),
            "Image": record.image,
            "Name": format!("/{}", record.name),
            "RestartCount": status.restarts,
            "Driver": "overlay",
            "Platform": "linux",
            "LogPath": log,
            "HostConfig": host_config(&record),
            "Mounts": self.mounts(&record),
            "Config": config(&record),
            "NetworkSettings": self.network_settings(&record, &status),
            "GraphDriver": self.layers(&record),
            "Pod": record.spec.pod.clone().unwrap_or_default(),
        })
    }

    fn layers(&self, record: &Record) -> Value {
        let root = self.images.rootfs(&record.layer());
        let root = root.map(|root| {
            let lower: Vec<_> = root.lower.iter().map(|path| path.display().to_string()).collect();
            json!({"LowerDir": lower.join(":"), "UpperDir": root.upper, "WorkDir": root.work})
        });
        json!({"Name": "overlay", "Data": root})
    }

    fn network_settings(&self, record: &Record, status: &Status) -> Value {
        let mut published = Map::new();
        for port in ports(record, status.state.lives()) {
            let key = format!("{}/{}", port.container_port, port.protocol);
            let entry = published.entry(key).or_insert(Value::Null);
            if port.host_port != 0 {
                let binding =
                    json!({"HostIp": port.host_ip, "HostPort": port.host_port.to_string()});
                match entry {
                    Value::Array(all) => all.push(binding),
                    other => *other = json!([binding]),
                }
            }
        }
        let pod = record.attempt.as_ref().filter(|_| status.state.lives());
        let pod = pod.and_then(|attempt| self.runtime.sandbox(attempt.sandbox.as_str()).ok());
        let ips = pod.as_ref().map(|pod| pod.ips.clone()).unwrap_or_default();
        let first = |v4: bool| {
            let ip = ips.iter().find(|ip| ip.is_ipv4() == v4);
            ip.map_or_else(String::new, ToString::to_string)
        };
        let noted = record.attempt.iter().flat_map(|attempt| &attempt.networks);
        let mut all: Map<String, Value> =
            noted.map(|(name, ips)| (name.clone(), endpoint(ips))).collect();
        for name in networks(record) {
            all.entry(name).or_insert_with(|| endpoint(&ips));
        }
        json!({
            "SandboxID": record.attempt.as_ref().map_or("", |attempt| attempt.sandbox.as_str()),
            "SandboxKey": pod.and_then(|pod| pod.netns.clone()),
            "Ports": published,
            "IPAddress": first(true),
            "GlobalIPv6Address": first(false),
            "Networks": all,
        })
    }
}

fn endpoint(ips: &[std::net::IpAddr]) -> Value {
    let first = |v4: bool| {
        let ip = ips.iter().find(|ip| ip.is_ipv4() == v4);
        ip.map_or_else(String::new, ToString::to_string)
    };
    json!({"IPAddress": first(true), "GlobalIPv6Address": first(false)})
}

fn state(status: &Status) -> Value {
    let mut shown = json!({
        "Status": status.state.as_str(),
        "Running": status.state.lives(),
        "Paused": status.state == State::Paused,
        "Restarting": status.state == State::Restarting,
        "OOMKilled": status.oom,
        "Dead": false,
        "Pid": status.pid,
        "ExitCode": status.exit_code,
        "Error": status.error,
        "StartedAt": time(status.started_at),
        "FinishedAt": time(status.finished_at),
    });
    if let (Some(health), Value::Object(shown)) = (&status.health, &mut shown) {
        let log: Vec<Value> = health
            .log
            .iter()
            .map(|look| {
                json!({
                    "Start": time(Timestamp(look.start)),
                    "End": time(Timestamp(look.end)),
                    "ExitCode": look.exit_code,
                    "Output": look.output,
                })
            })
            .collect();
        let health = json!({
            "Status": health.status.as_str(),
            "FailingStreak": health.failing_streak,
            "Log": log,
        });
        shown.insert("Health".to_owned(), health);
    }
    shown
}

fn config(record: &Record) -> Value {
    let (spec, merged) = (&record.spec, &record.merged);
    let env: Vec<_> = merged.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let exposed: Map<String, Value> = merged
        .exposed
        .iter()
        .map(|(port, protocol)| (format!("{port}/{}", word(*protocol)), json!({})))
        .collect();
    let hostname = spec.hostname.clone().unwrap_or_else(|| match spec.network {
        NetworkMode::Host => String::new(),
        _ => record.id.as_str().chars().take(12).collect(),
    });
    json!({
        "Hostname": hostname,
        "Domainname": spec.domainname.clone().unwrap_or_default(),
        "User": merged.user,
        "AttachStdin": spec.stdin,
        "Tty": spec.tty,
        "OpenStdin": spec.stdin,
        "StdinOnce": spec.stdin_once,
        "Env": env,
        "Entrypoint": (!merged.entrypoint.is_empty()).then_some(&merged.entrypoint),
        "Cmd": (!merged.command.is_empty()).then_some(&merged.command),
        "Image": spec.image,
        "ExposedPorts": exposed,
        "WorkingDir": merged.working_dir,
        "Labels": merged.labels,
        "StopSignal": if merged.stop_signal.is_empty() { "SIGTERM" } else { &merged.stop_signal },
        "StopTimeout": spec.stop_timeout,
        "Healthcheck": merged.health.as_ref().map(|health| json!({
            "Test": health.test,
            "Interval": health.interval,
            "Timeout": health.timeout,
            "StartPeriod": health.start_period,
            "StartInterval": health.start_interval,
            "Retries": health.retries,
        })),
    })
}

fn host_config(record: &Record) -> Value {
    let spec = &record.spec;
    let mut wanted = Map::new();
    for port in &spec.ports {
        let host = match port.host_ports {
            None => String::new(),
            Some((first, last)) if first == last => first.to_string(),
            Some((first, last)) => format!("{first}-{last}"),
        };
        let ip = port.host_ip.map_or_else(String::new, |ip| ip.to_string());
        let key = format!("{}/{}", port.container_port, word(port.protocol));
        let binding = json!({"HostIp": ip, "HostPort": host});
        match wanted.entry(key).or_insert_with(|| json!([])) {
            Value::Array(all) => all.push(binding),
            other => *other = json!([binding]),
        }
    }
    let (restart, retries) = match spec.restart {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
        RestartPolicy::OnFailure { max } => ("on-failure", max),
    };
    let mut shown = limits(&spec.resources);
    let rest = json!({
        "NetworkMode": networks(record).first().cloned().unwrap_or_default(),
        "PortBindings": wanted,
        "PublishAllPorts": spec.publish_all,
        "RestartPolicy": {"Name": restart, "MaximumRetryCount": retries},
        "AutoRemove": spec.auto_remove,
        "Binds": binds(record),
        "Dns": spec.dns,
        "DnsSearch": spec.dns_search,
        "DnsOptions": spec.dns_options,
        "ExtraHosts":
            spec.extra_hosts.iter().map(|(name, ip)| format!("{name}:{ip}")).collect::<Vec<_>>(),
        "GroupAdd": spec.groups,
        "CapAdd": spec.cap_add,
        "CapDrop": spec.cap_drop,
        "Privileged": spec.privileged,
        "ReadonlyRootfs": spec.read_only,
        "SecurityOpt": security(record),
        "Sysctls": spec.sysctls,
        "Init": spec.init,
        "PidMode": spec.pid,
        "IpcMode": spec.ipc,
        "UTSMode": spec.uts,
        "UsernsMode": spec.userns,
        "CgroupnsMode": spec.cgroupns,
        "CgroupParent": spec.cgroup_parent,
        "Runtime": spec.runtime,
        "LogConfig": {"Type": if spec.no_log { "none" } else { "cri" }, "Config": {}},
        "Devices": spec.devices.iter().map(|device| json!({
            "PathOnHost": device.host,
            "PathInContainer": device.container,
            "CgroupPermissions": device.permissions,
        })).collect::<Vec<_>>(),
    });
    if let (Value::Object(shown), Value::Object(rest)) = (&mut shown, rest) {
        shown.extend(rest);
    }
    shown
}

fn limits(resources: &Resources) -> Value {
    json!({
        "Memory": resources.memory.unwrap_or(0),
        "MemorySwap": resources.memory_swap.unwrap_or(0),
        "MemoryReservation": resources.memory_reservation.unwrap_or(0),
        "NanoCpus": resources.nano_cpus.unwrap_or(0),
        "CpuShares": resources.cpu_shares.unwrap_or(0),
        "CpuPeriod": resources.cpu_period.unwrap_or(0),
        "CpuQuota": resources.cpu_quota.unwrap_or(0),
        "CpusetCpus": resources.cpuset_cpus,
        "CpusetMems": resources.cpuset_mems,
        "PidsLimit": resources.pids,
        "ShmSize": resources.shm_size.unwrap_or(64 << 20),
        "BlkioWeight": resources.blkio_weight.unwrap_or(0),
        "OomScoreAdj": resources.oom_score_adj.unwrap_or(0),
        "OomKillDisable": resources.oom_kill_disable,
        "Ulimits": resources.ulimits.iter().map(|(name, soft, hard)| json!({
            "Name": name, "Soft": soft, "Hard": hard,
        })).collect::<Vec<_>>(),
    })
}

fn security(record: &Record) -> Vec<String> {
    let own = &record.spec.security;
    let pair =
        |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name}={value}"));
    let flags = [
        own.no_new_privileges.then(|| "no-new-privileges".to_owned()),
        own.unmasked.then(|| "systempaths=unconfined".to_owned()),
        pair("seccomp", &own.seccomp),
        pair("apparmor", &own.apparmor),
    ];
    let labels = own.label.iter().map(|label| format!("label={label}"));
    flags.into_iter().flatten().chain(labels).collect()
}

fn binds(record: &Record) -> Vec<String> {
    let bind = |mount: &crate::spec::Mount| {
        let source = match &mount.source {
            MountSource::Bind { path, .. } => path.display().to_string(),
            MountSource::Volume { name: Some(name), .. } => name.clone(),
            _ => return None,
        };
        let access = if mount.read_only { ":ro" } else { "" };
        Some(format!("{source}:{}{access}", mount.target.display()))
    };
    record.spec.mounts.iter().filter_map(bind).collect()
}

impl Inner {
    fn mounts(&self, record: &Record) -> Vec<Value> {
        let shown = record.spec.mounts.iter().map(|mount| {
            let (kind, name, source) = match &mount.source {
                MountSource::Bind { path, .. } => {
                    ("bind", String::new(), path.display().to_string())
                }
                MountSource::Volume { name, .. } => {
                    let name = name.clone().unwrap_or_default();
                    let data = self.volumes.data(&name).display().to_string();
                    ("volume", name, data)
                }
                MountSource::Tmpfs { .. } => ("tmpfs", String::new(), String::new()),
                MountSource::Image { image, .. } => ("image", image.clone(), String::new()),
            };
            json!({
                "Type": kind,
                "Name": name,
                "Source": source,
                "Destination": mount.target,
                "Mode": if mount.read_only { "ro" } else { "" },
                "RW": !mount.read_only,
            })
        });
        shown.collect()
    }
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// RFC 3339 in UTC with nanoseconds; what never was is the year 1.
pub(crate) fn time(at: Timestamp) -> String {
    if at.0 == 0 {
        return "0001-01-01T00:00:00Z".to_owned();
    }
    let (seconds, nanos) = (at.0.div_euclid(1_000_000_000), at.0.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since the first of March of the year 0, in eras of 400 years.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (seconds, expected) in [
            (1, "1970-01-01T00:00:01.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_764_349_146, "2025-11-28T16:59:06.000000000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000000000Z"),
        ] {
            assert_eq!(time(Timestamp(seconds * 1_000_000_000)), expected);
        }
        assert_eq!(time(Timestamp(0)), "0001-01-01T00:00:00Z");
    }
}
