//! What the flags of `orlop build` ask of the service.

use super::args::{self, BuildArgs};
use super::output::Output;
use super::source::{self, Source};
use anyhow::{Context, bail};
use orlop_api::builds_v1 as v1;
use orlop_model::Reference;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// `--build-arg`, those without a value from the environment.
pub(super) fn build_args(arguments: &BuildArgs) -> anyhow::Result<BTreeMap<String, String>> {
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

/// The request. Agents, secrets and paths are looked up here, with the caller's own rights.
pub(super) fn request(
    arguments: &BuildArgs,
    source: &Source,
    outputs: &[Output],
) -> anyhow::Result<v1::BuildRequest> {
    let size = |text: &String| {
        orlop_build::bytes(text).with_context(|| format!("--shm-size {text}: expected 64m or such"))
    };
    for right in &arguments.allow {
        if !["network.host", "security.insecure"].contains(&right.as_str()) {
            bail!("--allow {right}: expected network.host or security.insecure");
        }
    }
    for tag in &arguments.tag {
        Reference::parse(tag).with_context(|| format!("--tag {tag}"))?;
    }
    if (arguments.push || outputs.iter().any(|output| output.push)) && arguments.tag.is_empty() {
        bail!("--push: give the image a name with --tag, so that it is known where to");
    }
    if let Some(platform) = &arguments.platform {
        orlop_build::platform(platform).map_err(|why| anyhow::anyhow!("--platform: {why}"))?;
    }
    let network = match arguments.network {
        args::Network::Default => v1::Network::Default,
        args::Network::None => v1::Network::None,
        args::Network::Host => v1::Network::Host,
    };
    let context = match &source.context {
        Some(path) => {
            Some(directory(path, source.ignore_text.clone(), source.ignore_name.clone())?)
        }
        None => None,
    };
    let host = |(name, address)| v1::Host { name, address };
    let asked = outputs.iter().map(Output::message).collect::<Result<Vec<_>, _>>()?;
    Ok(v1::BuildRequest {
        dockerfile: source.dockerfile.clone(),
        dockerfile_name: source.name.clone(),
        context,
        contexts: arguments.build_context.iter().map(|t| named(t)).collect::<Result<_, _>>()?,
        target: arguments.target.clone().unwrap_or_default(),
        build_args: build_args(arguments)?.into_iter().collect(),
        labels: pairs("--label", &arguments.label, '=')?.into_iter().collect(),
        annotations: pairs("--annotation", &arguments.annotation, '=')?
            .into_iter()
            .map(|(name, value)| {
                (name.strip_prefix("manifest:").unwrap_or(&name).to_owned(), value)
            })
            .collect(),
        tags: arguments.tag.clone(),
        no_cache: arguments.no_cache,
        no_cache_filter: arguments.no_cache_filter.clone(),
        pull: arguments.pull,
        secrets: arguments.secret.iter().map(|t| secret(t)).collect::<Result<_, _>>()?,
        ssh: arguments.ssh.iter().map(|t| agent(t)).collect::<Result<_, _>>()?,
        network: network.into(),
        allow: arguments.allow.clone(),
        add_hosts: pairs("--add-host", &arguments.add_host, ':')?.into_iter().map(host).collect(),
        shm_size: arguments.shm_size.as_ref().map(size).transpose()?.unwrap_or(0),
        ulimits: arguments.ulimit.iter().map(|t| ulimit(t)).collect::<Result<_, _>>()?,
        platform: arguments.platform.clone().unwrap_or_default(),
        epoch: arguments.timestamp,
        explain: arguments.explain,
        outputs: asked.into_iter().flatten().collect(),
    })
}

/// A directory that the service reads in place.
fn directory(path: &Path, text: String, name: String) -> anyhow::Result<v1::Directory> {
    let found = path.canonicalize().with_context(|| path.display().to_string())?;
    let meta = found.metadata().with_context(|| path.display().to_string())?;
    Ok(v1::Directory {
        path: found.to_str().with_context(|| format!("{}: no UTF-8", found.display()))?.to_owned(),
        device: meta.dev(),
        inode: meta.ino(),
        ignore: Some(v1::Ignore { text, name }),
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

fn named(text: &str) -> anyhow::Result<(String, v1::Context)> {
    use v1::context::Source as From;
    let (name, value) = text
        .split_once('=')
        .with_context(|| format!("--build-context {text}: expected NAME=SOURCE"))?;
    if let Some(image) = value.strip_prefix("docker-image://") {
        Reference::parse(image).with_context(|| format!("--build-context {text}"))?;
        let context = v1::Context { source: Some(From::Image(image.to_owned())) };
        return Ok((name.to_owned(), context));
    }
    if value.contains("://") {
        bail!("--build-context {text}: only directories and docker-image:// are possible yet");
    }
    let path = PathBuf::from(value);
    if !path.is_dir() {
        bail!("--build-context {text}: {value} is not a directory");
    }
    let (rules, _) = source::ignore_text(&path, None)?;
    let rules_name = format!("{}/.dockerignore", path.display());
    let directory = directory(&path, rules, rules_name)?;
    Ok((name.to_owned(), v1::Context { source: Some(From::Directory(directory)) }))
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

fn agent(text: &str) -> anyhow::Result<(String, String)> {
    match text.split_once('=') {
        Some((id, socket)) => Ok((id.to_owned(), absolute(socket)?)),
        None => {
            let socket = std::env::var_os("SSH_AUTH_SOCK")
                .with_context(|| format!("--ssh {text}: SSH_AUTH_SOCK is not set"))?;
            Ok((text.to_owned(), absolute(socket)?))
        }
    }
}

fn absolute(path: impl AsRef<Path>) -> anyhow::Result<String> {
    let path = std::path::absolute(path.as_ref())?;
    Ok(path.to_str().with_context(|| format!("{}: no UTF-8", path.display()))?.to_owned())
}

fn ulimit(text: &str) -> anyhow::Result<v1::Limit> {
    let wrong = || format!("--ulimit {text}: expected NAME=SOFT[:HARD]");
    let (name, limits) = text.split_once('=').with_context(wrong)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| match text {
        "-1" => Ok(u64::MAX),
        text => text.parse().with_context(wrong),
    };
    Ok(v1::Limit { name: name.to_owned(), soft: number(soft)?, hard: number(hard)? })
}
