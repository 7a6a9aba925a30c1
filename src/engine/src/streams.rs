//! Where the streams of containers are, and what a command in one is.

use crate::files::Root;
use crate::spec::ExecSpec;
use crate::{Container, Engine, Error, EventLog, ExecLocation, Result};
use oci_spec::runtime::{Capabilities, Process};
use orlop_image::UserDatabase;
use orlop_lifecycle::{ContainerState, ContainerView, user_table};
use orlop_spec::KNOWN_CAPABILITIES;
use orlop_spec::request::ContainerSecurity;
use orlop_task::{Bundle, Client};
use rand::Rng;
use std::os::fd::AsFd;

impl Engine {
    /// What a command in a running container is to be: `spec` against the container's own process.
    pub async fn prepare_exec(
        &self,
        container: &Container,
        spec: &ExecSpec,
    ) -> Result<ExecLocation> {
        let location = self.locate(container);
        let view = self.running(container)?;
        let runtime = self.runtime();
        let mut process = runtime.exec_process(view.id.as_str(), &spec.command, spec.tty).await?;
        if let Some(user) = &spec.user {
            let root = Root::live(self, container, &view).await?;
            let table = crate::container::blocking(move || {
                UserDatabase::of_root(root.as_fd()).map_err(Error::io("reading the users in", "/"))
            });
            let home = set_user(&mut process, user, &view.config.security, &table.await?)?;
            let names = |entry: &(String, String)| entry.0 == "HOME";
            if !home.is_empty() && !container.record().spec.env.iter().any(names) {
                set_env(&mut process, "HOME", &home)?;
            }
        }
        for (name, value) in &spec.env {
            set_env(&mut process, name, value)?;
        }
        if let Some(dir) = &spec.working_dir {
            if !dir.starts_with('/') || dir.bytes().any(|byte| byte < 0x20) {
                let why = "give an absolute path".to_owned();
                return Err(Error::Invalid { field: "workdir", value: dir.clone(), why });
            }
            process.set_cwd(dir.into());
        }
        if spec.privileged {
            privilege(&mut process);
        }
        let process = serde_json::to_string(&process)
            .map_err(|error| Error::Background(error.to_string()))?;
        let exec_id = format!("{}{:016x}", ExecLocation::PREFIX, rand::rng().random::<u64>());
        Ok(ExecLocation { location, exec_id, process })
    }

    /// A connection to the shim of a container that has one.
    pub async fn shim(&self, container: &Container) -> Result<Option<Client>> {
        let attempt = self.attempt(container);
        match attempt.filter(|view| view.state != ContainerState::Exited) {
            Some(view) => {
                let address = Bundle::new(&view.bundle).address()?;
                Ok(Some(Client::connect(view.id.as_str(), &address).await?))
            }
            None => Ok(None),
        }
    }

    /// Where what happens is written down.
    pub fn event_log(&self) -> EventLog {
        EventLog::new(&self.options().run)
    }

    /// The attempt of a container whose program runs and may be talked to.
    pub(crate) fn running(&self, container: &Container) -> Result<std::sync::Arc<ContainerView>> {
        let record = container.record();
        let state = |why: &str| Error::State {
            what: "container",
            name: record.name.clone(),
            why: why.to_owned(),
        };
        if record.attempt.as_ref().is_some_and(|attempt| attempt.paused) {
            return Err(state("is paused: unpause it first"));
        }
        let attempt = self.attempt(container);
        attempt
            .filter(|view| view.state == ContainerState::Running)
            .ok_or_else(|| state("is not running: start it first"))
    }
}

/// Makes it the process of `user[:group]`; the user's home.
fn set_user(
    process: &mut Process,
    text: &str,
    security: &ContainerSecurity,
    users: &UserDatabase,
) -> Result<String> {
    let table = user_table(users);
    let security = ContainerSecurity { run_as_user: None, run_as_group: None, ..security.clone() };
    let resolved = orlop_spec::resolve_user(&security, text, &table).map_err(|error| {
        Error::Invalid { field: "user", value: text.to_owned(), why: error.to_string() }
    })?;
    let mut user = process.user().clone();
    user.set_uid(resolved.uid)
        .set_gid(resolved.gid)
        .set_additional_gids(Some(resolved.additional_gids.clone()));
    process.set_user(user);
    Ok(resolved.home)
}

fn set_env(process: &mut Process, name: &str, value: &str) -> Result<()> {
    if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
        let why = "give NAME=VALUE without NUL bytes".to_owned();
        return Err(Error::Invalid { field: "env", value: name.to_owned(), why });
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.retain(|entry| entry.split_once('=').is_none_or(|(known, _)| known != name));
    env.push(format!("{name}={value}"));
    process.set_env(Some(env));
    Ok(())
}

/// All capabilities that there are, and no AppArmor profile.
fn privilege(process: &mut Process) {
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")
        .ok()
        .and_then(|text| text.trim().parse::<usize>().ok())
        .unwrap_or(KNOWN_CAPABILITIES.len() - 1);
    let known = KNOWN_CAPABILITIES.iter().take(last + 1);
    let all: Capabilities = known
        .filter_map(|name| serde_json::from_value(serde_json::Value::from(*name)).ok())
        .collect();
    let mut sets = process.capabilities().clone().unwrap_or_default();
    sets.set_bounding(Some(all.clone())).set_effective(Some(all.clone())).set_permitted(Some(all));
    process.set_capabilities(Some(sets)).set_apparmor_profile(None);
}

#[cfg(test)]
mod tests {
    use super::*;
    use orlop_image::PasswdEntry;
    use orlop_spec::request::{CapabilityRequest, GroupsPolicy, NamespaceMode, NamespaceOptions};

    fn security() -> ContainerSecurity {
        ContainerSecurity {
            namespaces: NamespaceOptions {
                network: NamespaceMode::Pod,
                pid: NamespaceMode::Container,
                ipc: NamespaceMode::Pod,
                user: None,
            },
            privileged: false,
            capabilities: CapabilityRequest::default(),
            selinux: None,
            run_as_user: None,
            run_as_group: None,
            readonly_rootfs: false,
            supplemental_groups: Vec::new(),
            groups_policy: GroupsPolicy::Merge,
            no_new_privs: false,
            masked_paths: Vec::new(),
            readonly_paths: Vec::new(),
            seccomp: None,
            apparmor: None,
        }
    }

    #[test]
    fn users_and_variables() {
        let mut process = Process::default();
        let entry = PasswdEntry { name: "web".into(), uid: 1000, gid: 7, home: "/home/web".into() };
        let users = UserDatabase { passwd: vec![entry], group: Vec::new() };
        assert_eq!(set_user(&mut process, "web", &security(), &users).unwrap(), "/home/web");
        assert_eq!((process.user().uid(), process.user().gid()), (1000, 7));
        set_user(&mut process, "5:6", &security(), &users).unwrap();
        assert_eq!((process.user().uid(), process.user().gid()), (5, 6));
        for wrong in ["nobody-here", "4294967296", "1:2:3"] {
            assert!(set_user(&mut process, wrong, &security(), &users).is_err(), "{wrong}");
        }
        process.set_env(Some(vec!["A=1".into(), "B=2".into()]));
        set_env(&mut process, "A", "3=4").unwrap();
        assert_eq!(process.env().clone().unwrap(), ["B=2", "A=3=4"]);
        assert!(set_env(&mut process, "", "x").is_err());
        assert!(set_env(&mut process, "C", "x\0y").is_err());
    }

    #[test]
    fn all_capabilities() {
        let mut process = Process::default();
        privilege(&mut process);
        let sets = process.capabilities().clone().unwrap();
        assert!(sets.bounding().clone().unwrap().len() > 30);
        assert_eq!(sets.bounding(), sets.effective());
    }
}
