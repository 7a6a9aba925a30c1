//! The door of this room.

use crate::conf::{self, List};
use crate::engine::{self, Engine, report};
use crate::pool::Pool;
use crate::watch::DirWatch;
use crate::{
    AttachRequest, Attached, Attachment, DetachRequest, Namespaces, NetworkConfig, NetworkError,
    NetworkStatus, Place, builtin, hostlocal, netns, sysctl,
};
use orlop_sys::process::{IdMap, Namespaces as Kinds};
use rustix::thread::LinkNameSpaceType;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use tracing::{Instrument, Span};

/// Host names are at most so long; the kernel refuses more.
const MAX_HOSTNAME: usize = 64;

/// Namespaces and networks of this host's sandboxes. Cheap to clone; needs a tokio runtime.
#[derive(Clone)]
pub struct Network(Arc<Inner>);

struct Inner {
    config: NetworkConfig,
    engine: Engine,
    pool: Pool,
    current: Arc<RwLock<Current>>,
    /// Held for its thread.
    _watch: DirWatch,
}

/// The network in use, and what Status says about it.
struct Current {
    list: Option<Arc<List>>,
    status: NetworkStatus,
}

impl Current {
    fn load(config: &NetworkConfig) -> Self {
        let found = conf::load(&config.conf_dir);
        for why in found.bad.iter().filter(|_| found.list.is_some()) {
            tracing::warn!(%why, "a network configuration cannot be used; another one is");
        }
        match (found.list, found.bad.first()) {
            (Some((file, list)), _) => Self::ready(list, Some(file)),
            (None, Some(why)) => Self::not_ready("InvalidCniConfig", why.clone()),
            (None, None) if config.builtin.enabled => {
                let ipv6 = config.builtin.subnet6.is_some() && builtin::host_has_ipv6();
                match builtin::list(&config.builtin, ipv6) {
                    Ok(list) => Self::ready(list, None),
                    Err(error) => Self::not_ready("InvalidBuiltinNetwork", error.to_string()),
                }
            }
            (None, None) => {
                let dir = config.conf_dir.display();
                Self::not_ready(
                    "NoCniConfig",
                    format!("no network configuration in {dir}: put a .conflist file there"),
                )
            }
        }
    }

    fn ready(list: List, file: Option<PathBuf>) -> Self {
        let message = match &file {
            Some(file) => format!("network {:?} of {}", list.name, file.display()),
            None => "built-in bridge network".to_owned(),
        };
        let network = list.name.clone();
        let status = NetworkStatus { ready: true, reason: String::new(), message, network, file };
        Self { list: Some(Arc::new(list)), status }
    }

    fn not_ready(reason: &str, message: String) -> Self {
        let reason = reason.to_owned();
        Self {
            list: None,
            status: NetworkStatus {
                ready: false,
                reason,
                message,
                network: String::new(),
                file: None,
            },
        }
    }
}

/// What [`Network::open`] would make of the configuration; changes nothing.
pub fn inspect(config: &NetworkConfig) -> NetworkStatus {
    let Current { list, mut status } = Current::load(config);
    let absent = list.and_then(|list| engine::absent_plugin(&list, &config.bin_dirs));
    if let Some(message) = absent {
        status = NetworkStatus { ready: false, reason: "PluginAbsent".into(), message, ..status };
    }
    status
}

impl Network {
    /// Opens the room: reads the CNI configuration, starts to fill the pool of namespaces and to
    /// watch `conf_dir`. Call [`Self::recover`] before the first request is served.
    pub fn open(config: NetworkConfig) -> Result<Self, NetworkError> {
        let engine = Engine::open(&config)?;
        let pool = Pool::open(&config.run_dir, config.pool_size)?;
        let current = Arc::new(RwLock::new(Current::load(&config)));
        let (watched, shared) = (config.clone(), Arc::clone(&current));
        let watch = DirWatch::start(&config.conf_dir, move || {
            let loaded = Current::load(&watched);
            let mut current = shared.write().unwrap_or_else(PoisonError::into_inner);
            if current.status != loaded.status {
                tracing::info!(
                    ready = loaded.status.ready,
                    message = loaded.status.message,
                    "network configuration"
                );
            }
            *current = loaded;
        })
        .map_err(|source| NetworkError::Io {
            action: "watch",
            path: config.conf_dir.clone(),
            source,
        })?;
        Ok(Self(Arc::new(Inner { config, engine, pool, current, _watch: watch })))
    }

    /// A set of fresh namespaces from the pool.
    pub async fn namespaces(&self) -> Result<Namespaces, NetworkError> {
        match self.0.pool.take() {
            Some(set) => Ok(set),
            None => self.blocking(|inner| inner.pool.make()).await,
        }
    }

    /// A set of namespaces that a new user namespace owns, with these maps, each of which maps id 0.
    pub async fn owned_namespaces(
        &self,
        uids: IdMap,
        gids: IdMap,
    ) -> Result<Namespaces, NetworkError> {
        self.blocking(move |inner| inner.pool.make_owned(&[uids], &[gids])).await
    }

    /// Gives a set back: the pins are removed and the kernel frees the namespaces with their last
    /// process. Succeeds where the set is gone.
    pub async fn release(&self, slot: &str) -> Result<(), NetworkError> {
        let slot = slot.to_owned();
        self.blocking(move |inner| inner.pool.release(&slot)).await
    }

    /// Whether pods can be attached now; from memory.
    pub fn status(&self) -> NetworkStatus {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).status.clone()
    }

    /// Attaches a sandbox. A failed attachment is undone before the error is returned.
    pub async fn attach(&self, request: AttachRequest) -> Result<Attached, NetworkError> {
        let span = operation!("network.add");
        let attached = self.blocking(move |inner| inner.attach(&request));
        measured(span, attached).await
    }

    /// Detaches a sandbox; works with the namespace gone and for a sandbox that was never attached.
    /// The interface in one of our own namespaces ends with it: call [`Self::release`] next.
    pub async fn detach(&self, request: DetachRequest) -> Result<(), NetworkError> {
        let span = operation!("network.del");
        let detached = self.blocking(move |inner| inner.detach(&request));
        measured(span, detached).await
    }

    /// Gives a sandbox that is there one more interface; what `places` of the request says is not looked
    /// at.
    pub async fn connect(
        &self,
        request: AttachRequest,
        place: Place,
    ) -> Result<Attached, NetworkError> {
        self.blocking(move |inner| inner.join(&request, &place)).await
    }

    /// Takes the interface away that a sandbox has on a network, by the name of its list. False: it has
    /// none.
    pub async fn disconnect(
        &self,
        network: &str,
        sandbox_id: &str,
        netns: Option<PathBuf>,
    ) -> Result<bool, NetworkError> {
        let (network, sandbox) = (network.to_owned(), sandbox_id.to_owned());
        self.blocking(move |inner| inner.engine.leave(&network, &sandbox, netns.as_deref())).await
    }

    /// The interfaces of a sandbox, or of all, in the order of their names.
    pub async fn attachments(
        &self,
        sandbox_id: Option<&str>,
    ) -> Result<Vec<Attachment>, NetworkError> {
        let sandbox = sandbox_id.map(str::to_owned);
        self.blocking(move |inner| inner.engine.attachments(sandbox.as_deref())).await
    }

    /// Where people's containers are that chose no network: the built-in bridge, whatever `conf_dir` has.
    /// `default_route`: it is the way out.
    pub fn default_bridge(&self, default_route: bool) -> Result<String, NetworkError> {
        builtin::people(&self.0.config.builtin, default_route)
    }

    /// What the default bridge is.
    pub fn default_bridge_settings(&self) -> crate::BuiltinBridge {
        self.0.config.builtin.clone()
    }

    /// Makes the bridge of a network that people made, with its addresses; it may be there.
    pub async fn make_bridge(&self, network: crate::UserNetwork) -> Result<(), NetworkError> {
        self.blocking(move |_| crate::user::make_bridge(&network)).await
    }

    /// Removes what is left of a network that nobody is on: its bridge and its address files.
    pub async fn remove_bridge(&self, network: crate::UserNetwork) -> Result<(), NetworkError> {
        self.blocking(move |inner| crate::user::remove(&network, &inner.config.ipam_dir)).await
    }

    /// Checks that a sandbox is attached as its result says.
    pub async fn check(
        &self,
        network: &str,
        sandbox_id: &str,
        netns: PathBuf,
    ) -> Result<(), NetworkError> {
        let (network, sandbox_id) = (network.to_owned(), sandbox_id.to_owned());
        self.blocking(move |inner| inner.engine.check(&network, &sandbox_id, &netns)).await
    }

    /// Sets namespaced sysctls (`net.*`, `kernel.shm*`, `kernel.msg*`, `kernel.sem`, `fs.mqueue.*`;
    /// dots or slashes). The defaults of a pod with its own network are set already.
    pub async fn apply_sysctls(
        &self,
        namespaces: &Namespaces,
        sysctls: &BTreeMap<String, String>,
    ) -> Result<(), NetworkError> {
        if sysctls.is_empty() {
            return Ok(());
        }
        let checked = sysctls.iter().map(|(key, value)| Ok((sysctl::path(key)?, value.clone())));
        let checked = checked.collect::<Result<Vec<_>, String>>().map_err(NetworkError::Invalid)?;
        let set = namespaces.clone();
        self.blocking(move |_| write_sysctls(&set, &checked)).await
    }

    /// Sets the host name (at most 64 bytes) of the sandbox's uts namespace.
    pub async fn set_hostname(
        &self,
        namespaces: &Namespaces,
        name: &str,
    ) -> Result<(), NetworkError> {
        if name.is_empty() || name.len() > MAX_HOSTNAME || name.contains('\0') {
            return Err(NetworkError::Invalid(format!(
                "host name {name:?} is not 1 to {MAX_HOSTNAME} bytes long"
            )));
        }
        let (uts, name) = (namespaces.uts.clone(), name.to_owned());
        self.blocking(move |_| {
            let open = netns::open(&uts).map_err(netns::error("open the uts namespace"))?;
            let entered = [(open.as_fd(), LinkNameSpaceType::HostNameAndNISDomainName)];
            netns::inside(&entered, || rustix::system::sethostname(name.as_bytes()))
                .and_then(|result| Ok(result?))
                .map_err(netns::error("set the host name"))
        })
        .await
    }

    /// Sets the NIS domain name (at most 64 bytes) of the sandbox's uts namespace.
    pub async fn set_domainname(
        &self,
        namespaces: &Namespaces,
        name: &str,
    ) -> Result<(), NetworkError> {
        if name.len() > MAX_HOSTNAME || name.contains('\0') {
            return Err(NetworkError::Invalid(format!(
                "domain name {name:?} is longer than {MAX_HOSTNAME} bytes"
            )));
        }
        let (uts, name) = (namespaces.uts.clone(), name.to_owned());
        self.blocking(move |_| {
            let open = netns::open(&uts).map_err(netns::error("open the uts namespace"))?;
            let entered = [(open.as_fd(), LinkNameSpaceType::HostNameAndNISDomainName)];
            netns::inside(&entered, || rustix::system::setdomainname(name.as_bytes()))
                .and_then(|result| Ok(result?))
                .map_err(netns::error("set the domain name"))
        })
        .await
    }

    /// After a start of the daemon: drops namespaces, attachments, addresses and ports of
    /// everything that is not in `live_slots` and `live_sandboxes`. Goes on after an error and
    /// returns the first.
    pub async fn recover(
        &self,
        live_slots: &[String],
        live_sandboxes: &[String],
    ) -> Result<(), NetworkError> {
        let (slots, sandboxes) = (live_slots.to_vec(), live_sandboxes.to_vec());
        self.blocking(move |inner| inner.recover(&slots, &sandboxes)).await
    }

    /// For an orderly stop: removes the namespaces that nobody took and, where no sandbox has any,
    /// the mounts that hold them. Sandboxes and their networks stay.
    pub async fn close(&self) -> Result<(), NetworkError> {
        self.blocking(|inner| inner.pool.close()).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, NetworkError> + Send + 'static,
    ) -> Result<T, NetworkError> {
        let inner = Arc::clone(&self.0);
        let span = Span::current();
        tokio::task::spawn_blocking(move || span.in_scope(|| work(&inner)))
            .await
            .unwrap_or(Err(NetworkError::Cancelled))
    }
}

/// A span that is measured: it ends with an outcome.
macro_rules! operation {
    ($name:literal) => {
        tracing::error_span!(target: "orlop::operation", $name, outcome = tracing::field::Empty)
    };
}
use operation;

/// Runs the work in its span.
async fn measured<T>(
    span: Span,
    work: impl Future<Output = Result<T, NetworkError>>,
) -> Result<T, NetworkError> {
    let done = work.instrument(span.clone()).await;
    span.record("outcome", if done.is_ok() { "ok" } else { "failed" });
    done
}

impl Inner {
    fn list(&self) -> Result<Arc<List>, NetworkError> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.list.clone().ok_or_else(|| NetworkError::NotReady(current.status.message.clone()))
    }

    fn attach(&self, request: &AttachRequest) -> Result<Attached, NetworkError> {
        let Some(places) = &request.places else {
            return self.engine.attach(&*self.list()?, request, None);
        };
        let mut all = Attached::default();
        for place in places {
            match self.join(request, place) {
                Ok(one) => all.add(one),
                Err(error) => {
                    let (id, netns) = (&request.sandbox_id, Some(request.netns.as_path()));
                    if let Err(left) = self.engine.detach(None, id, netns, false) {
                        tracing::warn!(sandbox = id, error = %report(&left), "a failed attachment was not undone wholly; it is tried again when the sandbox is removed");
                    }
                    return Err(error);
                }
            }
        }
        Ok(all)
    }

    fn join(&self, request: &AttachRequest, place: &Place) -> Result<Attached, NetworkError> {
        let list = List::parse(place.list.as_bytes()).map_err(NetworkError::Invalid)?;
        self.engine.attach(&list, request, Some(place))
    }

    fn detach(&self, request: &DetachRequest) -> Result<(), NetworkError> {
        let (sandbox, netns) = (&request.sandbox_id, request.netns.as_deref());
        let network = self.list().ok().filter(|_| !request.everywhere);
        let network = network.as_ref().map(|list| list.name.as_str());
        let dies = netns.is_some_and(|netns| self.pool.owns(netns));
        self.engine.detach(network, sandbox, netns, dies)
    }

    fn recover(&self, slots: &[String], sandboxes: &[String]) -> Result<(), NetworkError> {
        let mut outcome = Ok(());
        for gone in self.engine.sandboxes()?.into_iter().filter(|id| !sandboxes.contains(id)) {
            let detached = self.engine.detach(None, &gone, None, true);
            if let Err(error) = &detached {
                tracing::warn!(sandbox = gone, error = %report(error), "the network of a sandbox that is gone was not cleaned up");
            }
            outcome = outcome.and(detached);
        }
        if let Ok(list) = self.list() {
            outcome = outcome.and(self.engine.collect(&list, sandboxes));
        }
        // The built-in network has no other user, so an address without a live sandbox is lost.
        let collected = hostlocal::collect(&self.config.ipam_dir, builtin::NAME, sandboxes);
        outcome = outcome.and(collected.map_err(|source| NetworkError::Plugin {
            network: builtin::NAME.into(),
            plugin: "host-local".into(),
            source,
        }));
        outcome.and(self.pool.remove_stale(slots).map(drop))
    }
}

fn write_sysctls(set: &Namespaces, sysctls: &[(String, String)]) -> Result<(), NetworkError> {
    let (net, others): (Vec<_>, Vec<_>) =
        sysctls.iter().cloned().partition(|(path, _)| path.starts_with("net/"));
    let refused = |path: &str, value: &str, why: String| {
        NetworkError::Invalid(format!(
            "sysctl {} cannot be set to {value:?}: {why}",
            path.replace('/', ".")
        ))
    };
    let open = |path: &Path| netns::open(path).map_err(netns::error("open a namespace"));
    let write = |sysctls: &[(String, String)]| -> Result<(), NetworkError> {
        let root = sysctl::root().map_err(netns::error("open /proc/sys"))?;
        sysctls.iter().try_for_each(|(path, value)| {
            sysctl::write(&root, path, value)
                .map_err(|error| refused(path, value, error.to_string()))
        })
    };
    let (net_ns, ipc_ns) = (open(&set.net)?, open(&set.ipc)?);
    let written = netns::inside_net(&net_ns, || write(&net));
    written.map_err(netns::error("enter the sandbox's namespaces"))??;
    let Some(user) = &set.user else {
        let ipc = [(ipc_ns.as_fd(), LinkNameSpaceType::InterProcessCommunication)];
        let written = netns::inside(&ipc, || write(&others));
        return written.map_err(netns::error("enter the sandbox's namespaces"))?;
    };
    // Parameters of an ipc namespace belong to root of the user namespace that owns it.
    let user = open(user)?;
    let joins = [(user.as_fd(), Kinds::USER), (ipc_ns.as_fd(), Kinds::IPC)];
    let root = sysctl::root().map_err(netns::error("open /proc/sys"))?;
    for (path, value) in others {
        let name = CString::new(path.as_str())
            .map_err(|_| refused(&path, &value, "its name holds a NUL byte".into()))?;
        let file = [(name, value.clone().into_bytes())];
        orlop_sys::process::write_inside(&joins, root.as_fd(), &file)
            .map_err(|error| refused(&path, &value, error.reason()))?;
    }
    Ok(())
}
