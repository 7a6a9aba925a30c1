//! `orlop build`: the engine in this process, on the node's own store.

mod args;
mod call;
mod executor;
mod output;
mod progress;
mod source;

pub(crate) use args::BuildArgs;

use crate::cli::{Place, SettingArgs};
use crate::config::{Config, Sources};
use crate::{lock, serve};
use anyhow::{Context, bail};
use args::ProgressForm;
use executor::StepExecutor;
use orlop_build::exec::NetworkMode;
use orlop_build::{Engine, NamedContext, Request};
use orlop_image::ImageStore;
use orlop_model::{Platform, Reference};
use orlop_network::Network;
use orlop_task::Launcher;
use output::Output;
use progress::Printer;
use source::Source;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Size of a step's `/dev/shm` when nobody says.
const SHM: u64 = 64 << 20;

/// Builds, checks or lists.
pub(crate) fn run(place: &Place, arguments: &BuildArgs) -> anyhow::Result<()> {
    let config = config(place, arguments)?;
    let source = Source::find(arguments, &config.run.join("build"))?;
    let call = if arguments.check { "check" } else { &arguments.call };
    if call != "build" {
        return call::run(call, &source, &build_args(arguments)?);
    }
    if !rustix::process::geteuid().is_root() {
        bail!("orlop build needs the rights of root: run it as root");
    }
    let outputs: Vec<Output> =
        arguments.output.iter().map(|text| Output::parse(text)).collect::<Result<_, _>>()?;
    let request = request(arguments, source)?;
    lock::own_dir(&config.root)?;
    lock::own_dir(&config.run)?;
    // Two builds at once share nothing that this lock guards; a daemon has the store's own.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("orlop-build")
        .enable_all()
        .build()
        .context("worker threads cannot be started")?;
    let opened = open(&config, runtime.handle())?;
    let cancel = CancellationToken::new();
    let watch = cancel.clone();
    runtime.spawn(async move {
        // Without a signal handler the build goes on to its end.
        if let Ok(stop) = serve::stop_signal() {
            stop.await;
            watch.cancel();
        }
    });
    let form = if arguments.quiet { ProgressForm::Quiet } else { arguments.progress };
    let printer = Printer::new(form);
    let built = opened.engine.build(&request, &printer, &cancel);
    let done = match built {
        Ok(built) => finish(arguments, &opened.engine, &built, &outputs, &request),
        Err(error) => {
            let shown = error.render(&request.dockerfile_name, &request.dockerfile);
            Err(anyhow::anyhow!("build failed\n{shown}"))
        }
    };
    if let Err(error) = runtime.block_on(opened.network.close()) {
        tracing::warn!("prepared namespaces stay behind: {error}");
    }
    drop(opened);
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}

struct Opened {
    engine: Engine,
    network: Network,
}

fn config(place: &Place, arguments: &BuildArgs) -> anyhow::Result<Config> {
    let shim = arguments.shim.as_ref().map(|path| path.display().to_string());
    let settings = place.with(SettingArgs { shim, ..SettingArgs::default() });
    Ok(Sources::new(&settings).load()?.config)
}

fn open(config: &Config, handle: &tokio::runtime::Handle) -> anyhow::Result<Opened> {
    let images = ImageStore::open(config.image_options()?).context(
        "the image store cannot be opened (a build beside a running daemon is not possible yet)",
    )?;
    let _entered = handle.enter();
    let shim = serve::shim(config)?;
    let network = Network::open(config.network_config()).context("network cannot be opened")?;
    let launcher = Launcher::new(&shim, &config.run)
        .with_context(|| format!("shim {} cannot be prepared", shim.display()))?;
    let features = orlop_lifecycle::host_features().context("this host")?;
    let executor = StepExecutor {
        run_dir: config.run.clone(),
        launcher,
        network: network.clone(),
        features,
        runtime: handle.clone(),
    };
    let dir = config.root.join("build");
    let engine = Engine::new(images, Arc::new(executor), handle.clone(), &dir)
        .with_context(|| format!("directory {}", dir.display()))?;
    Ok(Opened { engine, network })
}

fn finish(
    arguments: &BuildArgs,
    engine: &Engine,
    built: &orlop_build::Built,
    outputs: &[Output],
    request: &Request,
) -> anyhow::Result<()> {
    let tags: Vec<String> = request.tags.iter().map(ToString::to_string).collect();
    for output in outputs {
        output.write(engine, built, &tags)?;
    }
    if let Some(path) = &arguments.iidfile {
        std::fs::write(path, built.id.as_str())
            .with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &arguments.metadata_file {
        let metadata = serde_json::json!({
            "containerimage.config.digest": built.id.as_str(),
            "image.name": tags.join(","),
            "orlop.steps.reused": built.reused,
            "orlop.steps.made": built.made,
        });
        std::fs::write(path, serde_json::to_vec_pretty(&metadata)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    writeln!(std::io::stdout(), "{}", built.id)?;
    Ok(())
}

fn build_args(arguments: &BuildArgs) -> anyhow::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for text in &arguments.build_arg {
        match text.split_once('=') {
            Some((name, value)) => drop(found.insert(name.to_owned(), value.to_owned())),
            // Without a value the caller's own, where there is one.
            None => {
                if let Ok(value) = std::env::var(text) {
                    found.insert(text.clone(), value);
                }
            }
        }
    }
    if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
        found.entry("SOURCE_DATE_EPOCH".into()).or_insert(epoch);
    }
    Ok(found)
}

fn request(arguments: &BuildArgs, source: Source) -> anyhow::Result<Request> {
    let platform = Platform::host();
    if let Some(wanted) = &arguments.platform
        && *wanted != platform.to_string()
        && *wanted != format!("{}/{}", platform.os, platform.architecture)
    {
        bail!("this machine builds for {platform} only, not for {wanted}");
    }
    let tag = |text: &String| Reference::parse(text).with_context(|| format!("--tag {text}"));
    let size = |text: &String| {
        orlop_build::bytes(text).with_context(|| format!("--shm-size {text}: expected 64m or such"))
    };
    let allowed = |right: &str| arguments.allow.iter().any(|given| given == right);
    for right in &arguments.allow {
        if !["network.host", "security.insecure"].contains(&right.as_str()) {
            bail!("--allow {right}: expected network.host or security.insecure");
        }
    }
    let network = match arguments.network {
        args::Network::Default => NetworkMode::Default,
        args::Network::None => NetworkMode::None,
        args::Network::Host => NetworkMode::Host,
    };
    Ok(Request {
        dockerfile: source.dockerfile,
        dockerfile_name: source.name,
        context: source.context,
        ignore: source.ignore,
        ignore_name: source.ignore_name,
        contexts: arguments.build_context.iter().map(|t| named(t)).collect::<Result<_, _>>()?,
        target: arguments.target.clone(),
        build_args: build_args(arguments)?,
        labels: pairs("--label", &arguments.label, '=')?.into_iter().collect(),
        tags: arguments.tag.iter().map(tag).collect::<Result<_, _>>()?,
        no_cache: arguments.no_cache,
        no_cache_filter: arguments.no_cache_filter.clone(),
        pull: arguments.pull,
        secrets: arguments.secret.iter().map(|t| secret(t)).collect::<Result<_, _>>()?,
        ssh: arguments.ssh.iter().map(|t| agent(t)).collect::<Result<_, _>>()?,
        network,
        allow_host_network: allowed("network.host") || matches!(network, NetworkMode::Host),
        allow_insecure: allowed("security.insecure"),
        add_hosts: pairs("--add-host", &arguments.add_host, ':')?,
        shm_size: arguments.shm_size.as_ref().map(size).transpose()?.unwrap_or(SHM),
        ulimits: arguments.ulimit.iter().map(|t| ulimit(t)).collect::<Result<_, _>>()?,
        platform,
        epoch: arguments.timestamp,
        explain: arguments.explain,
    })
}

fn pairs(flag: &str, texts: &[String], mark: char) -> anyhow::Result<Vec<(String, String)>> {
    let pair = |text: &String| {
        let (name, value) = text
            .split_once(mark)
            .or_else(|| text.split_once('='))
            .with_context(|| format!("{flag} {text}: expected NAME{mark}VALUE"))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    texts.iter().map(pair).collect()
}

fn named(text: &str) -> anyhow::Result<(String, NamedContext)> {
    let (name, value) = text
        .split_once('=')
        .with_context(|| format!("--build-context {text}: expected NAME=SOURCE"))?;
    if let Some(image) = value.strip_prefix("docker-image://") {
        return Ok((name.to_owned(), NamedContext::Image(Reference::parse(image)?)));
    }
    if value.contains("://") {
        bail!("--build-context {text}: only directories and docker-image:// are possible yet");
    }
    let path = PathBuf::from(value);
    if !path.is_dir() {
        bail!("--build-context {text}: {value} is not a directory");
    }
    let (rules, _) = source::ignore_rules(&path, None)?;
    Ok((name.to_owned(), NamedContext::Directory(path, rules)))
}

fn secret(text: &str) -> anyhow::Result<(String, Vec<u8>)> {
    let (mut id, mut path, mut variable) = (None, None, None);
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("id", value)) => id = Some(value.to_owned()),
            Some(("src" | "source", value)) => path = Some(value.to_owned()),
            Some(("env", value)) => variable = Some(value.to_owned()),
            Some(("type", "file" | "env")) => {}
            _ => bail!("--secret {text}: expected id=NAME,src=FILE or id=NAME,env=VARIABLE"),
        }
    }
    let id = id.with_context(|| format!("--secret {text}: an id is missing"))?;
    let value = match (path, variable) {
        (Some(path), _) => std::fs::read(&path).with_context(|| format!("secret {id}: {path}"))?,
        (None, variable) => {
            let name = variable.unwrap_or_else(|| id.clone());
            let value = std::env::var_os(&name);
            let value = value.with_context(|| format!("secret {id}: no variable {name} is set"))?;
            value.into_encoded_bytes()
        }
    };
    Ok((id, value))
}

fn agent(text: &str) -> anyhow::Result<(String, PathBuf)> {
    match text.split_once('=') {
        Some((id, socket)) => Ok((id.to_owned(), PathBuf::from(socket))),
        None => {
            let socket = std::env::var_os("SSH_AUTH_SOCK")
                .with_context(|| format!("--ssh {text}: SSH_AUTH_SOCK is not set"))?;
            Ok((text.to_owned(), PathBuf::from(socket)))
        }
    }
}

fn ulimit(text: &str) -> anyhow::Result<(String, u64, u64)> {
    let wrong = || format!("--ulimit {text}: expected NAME=SOFT[:HARD]");
    let (name, limits) = text.split_once('=').with_context(wrong)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| match text {
        "-1" => Ok(u64::MAX),
        text => text.parse().with_context(wrong),
    };
    Ok((name.to_owned(), number(soft)?, number(hard)?))
}
