//! Making and removing volumes.

use super::adopt::draw;
use super::{VolumeRecord, mount, names};
use crate::container::{blocking, to_the_end};
use crate::engine::Inner;
use crate::event::Event;
use crate::spec::VolumeSpec;
use crate::{Engine, Error, Record, Result};
use orlop_model::Timestamp;
use std::sync::Arc;

impl Engine {
    /// Makes a volume; one of that name and kind may be there. Its name.
    pub async fn create_volume(&self, spec: VolumeSpec) -> Result<String> {
        let inner = Arc::clone(&self.0);
        to_the_end(async move { create(&inner, spec).await }).await
    }

    /// Removes a volume that no container has; with `force` one that is not there is no error.
    pub async fn remove_volume(&self, name: &str, force: bool) -> Result<()> {
        let (inner, name) = (Arc::clone(&self.0), name.to_owned());
        to_the_end(async move {
            match inner.volumes.find(&name) {
                Err(_) if force => return Ok(()),
                found => found?,
            };
            remove(&inner, &name).await
        })
        .await
    }

    /// Removes all volumes that no container has, but those that `keep` says. Their names, and bytes.
    pub async fn prune_volumes(
        &self,
        keep: impl Fn(&VolumeRecord) -> bool,
    ) -> Result<(Vec<String>, u64)> {
        let mut removed = (Vec::new(), 0);
        for volume in self.0.volumes.all() {
            let name = volume.name().to_owned();
            if keep(&volume) || !self.0.users_of_volume(&name).is_empty() {
                continue;
            }
            let (inner, gone) = (Arc::clone(&self.0), name.clone());
            removed.1 += to_the_end(async move {
                let data = inner.volumes.data(&gone);
                let bytes = blocking(move || Ok(super::show::size(&data))).await?;
                remove(&inner, &gone).await.map(|()| bytes)
            })
            .await?;
            removed.0.push(name);
        }
        Ok(removed)
    }
}

impl Inner {
    /// Names of the containers that have a volume, whether they run or not.
    pub(crate) fn users_of_volume(&self, name: &str) -> Vec<String> {
        let records = self.index.all().into_iter().map(|container| container.record());
        let users = records.filter(|record| names(record).any(|other| other == name));
        let mut users: Vec<String> = users.map(|record| record.name.clone()).collect();
        users.sort();
        users
    }

    /// Removes the unnamed volumes of a container that is gone. What fails stays, and is told.
    pub(crate) async fn remove_anonymous(self: &Arc<Self>, record: &Record) {
        for name in names(record) {
            let anonymous = self.volumes.find(name).is_ok_and(|volume| volume.anonymous);
            if anonymous
                && self.users_of_volume(name).is_empty()
                && let Err(error) = remove(self, name).await
            {
                tracing::warn!(volume = name, %error, "not removed");
            }
        }
    }
}

async fn create(inner: &Arc<Inner>, mut spec: VolumeSpec) -> Result<String> {
    check(&spec)?;
    spec.driver = "local".into();
    let anonymous = spec.name.is_empty();
    if anonymous {
        spec.name = draw();
    }
    crate::names::check(&spec.name)?;
    let _turn = inner.volumes.turn.lock().await;
    if let Ok(other) = inner.volumes.find(&spec.name) {
        if other.spec.options == spec.options {
            return Ok(spec.name);
        }
        return Err(Error::State {
            what: "volume",
            name: spec.name,
            why: "is there with other options: remove it first, or choose another name".into(),
        });
    }
    let (kept, name) = (Arc::clone(inner), spec.name.clone());
    let record = VolumeRecord { spec, created_at: Timestamp::now(), anonymous };
    blocking(move || kept.volumes.keep(record)).await?;
    inner.events.emit(&Event::new("volume", "create", &name));
    Ok(name)
}

fn check(spec: &VolumeSpec) -> Result<()> {
    let wrong = |field, value: &str, why: &str| {
        Err(Error::Invalid { field, value: value.to_owned(), why: why.to_owned() })
    };
    if !matches!(spec.driver.as_str(), "" | "local") {
        let why = "only local is possible; --opt type=nfs and such mount what is elsewhere";
        return wrong("driver", &spec.driver, why);
    }
    let known = ["type", "device", "o"];
    if let Some(other) = spec.options.keys().find(|name| !known.contains(&name.as_str())) {
        return wrong("opt", other, "use type=, device= and o=, as of mount(8)");
    }
    let words = spec.options.get("o").map_or("", String::as_str);
    let bind = words.split(',').any(|word| matches!(word, "bind" | "rbind"));
    if bind && !spec.options.get("device").is_some_and(|device| device.starts_with('/')) {
        return wrong("opt", "o=bind", "say what: device= and an absolute path");
    }
    if !spec.options.is_empty() && !bind && !spec.options.contains_key("type") {
        return wrong("opt", "type=", "say which file system: type=tmpfs, type=nfs; or o=bind");
    }
    Ok(())
}

async fn remove(inner: &Arc<Inner>, name: &str) -> Result<()> {
    let _turn = inner.volumes.turn.lock().await;
    let users = inner.users_of_volume(name);
    if !users.is_empty() {
        return Err(Error::State {
            what: "volume",
            name: name.to_owned(),
            why: format!("is used by {}: remove those containers first", users.join(", ")),
        });
    }
    let (kept, owned) = (Arc::clone(inner), name.to_owned());
    blocking(move || {
        // What is mounted there is somebody else's and must not go with it.
        mount::unmount_all(&kept.volumes.data(&owned))?;
        kept.volumes.forget(&owned)
    })
    .await?;
    inner.events.emit(&Event::new("volume", "destroy", name));
    Ok(())
}
