//! Calls on images.

use crate::Api;
use crate::batches::{Replies, fits, in_batches as batches};
use crate::error::ApiError;
use crate::v1;
use crate::validate::Invalid;
use crate::view;
use orlop_image::{Auth, Image, ImageStore, NameError, Progress};
use orlop_model::{Digest, Reference, Timestamp};
use serde_json::json;
use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::Arc;

pub(crate) async fn list(
    api: &Api,
    request: v1::ListImagesRequest,
) -> Result<v1::ListImagesResponse, ApiError> {
    let images = select(api, request.filter)?;
    fits(v1::ListImagesResponse { images: images.iter().map(|image| view::image(image)).collect() })
}

pub(crate) async fn stream(
    api: &Api,
    request: v1::StreamImagesRequest,
) -> Result<Replies<v1::StreamImagesResponse>, ApiError> {
    let wrap = |images| v1::StreamImagesResponse { images };
    Ok(batches(select(api, request.filter)?, |image| view::image(image), wrap))
}

fn select(api: &Api, filter: Option<v1::ImageFilter>) -> Result<Vec<Arc<Image>>, ApiError> {
    let images = &api.engine()?.images;
    match filter.and_then(|filter| filter.image).map(|spec| spec.image) {
        Some(name) if !name.is_empty() => Ok(images.get(&name).into_iter().collect()),
        _ => Ok(images.list()),
    }
}

/// An image that is not there is an empty answer, not an error.
pub(crate) async fn status(
    api: &Api,
    request: v1::ImageStatusRequest,
) -> Result<v1::ImageStatusResponse, ApiError> {
    let images = &api.engine()?.images;
    let Some(image) = images.get(required(request.image.as_ref())?) else {
        return Ok(v1::ImageStatusResponse { image: None, info: BTreeMap::new() });
    };
    let info = if request.verbose { verbose(&image) } else { BTreeMap::new() };
    Ok(v1::ImageStatusResponse { image: Some(view::image(&image)), info })
}

fn verbose(image: &Image) -> BTreeMap<String, String> {
    let layers: Vec<_> = image
        .layers
        .iter()
        .map(|layer| json!({ "diffID": layer.diff_id, "blob": layer.blob, "blobSize": layer.blob_size }))
        .collect();
    let info = json!({ "imageSpec": image.config, "layers": layers });
    BTreeMap::from([("info".to_owned(), info.to_string())])
}

fn required(spec: Option<&v1::ImageSpec>) -> Result<&str, Invalid> {
    match spec.map(|spec| spec.image.as_str()) {
        Some(name) if !name.is_empty() => Ok(name),
        _ => Err(Invalid::Missing {
            field: "image.image".to_owned(),
            remedy: "name an image".to_owned(),
        }),
    }
}

/// Dropped with the client: then the pull ends too, unless another one shares it.
pub(crate) async fn pull(
    api: &Api,
    request: v1::PullImageRequest,
) -> Result<v1::PullImageResponse, ApiError> {
    let images = &api.engine()?.images;
    let names = names(images, required(request.image.as_ref())?).await?;
    let mut failure = None;
    for reference in &names {
        let auth = credentials(request.auth.as_ref(), reference)?;
        match images.pull(reference, auth, None).await {
            Ok(id) => return Ok(v1::PullImageResponse { image_ref: id.to_string() }),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.map_or(ApiError::NotReady, ApiError::from))
}

/// What a name may stand for. `registries.conf` is read for it.
pub(crate) async fn names(images: &ImageStore, name: &str) -> Result<Vec<Reference>, ApiError> {
    let (images, text) = (images.clone(), name.to_owned());
    let names = tokio::task::spawn_blocking(move || images.names(&text)).await;
    match names.map_err(|error| ApiError::Stream { message: error.to_string() })? {
        Ok(names) => Ok(names),
        Err(NameError::File(kind)) => Err(ApiError::Configuration { message: kind.to_string() }),
        Err(error) => {
            let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            let why = format!("{error}{cause}");
            Err(Invalid::Image { field: "image.image".to_owned(), why }.into())
        }
    }
}

/// Pulls the first of these names that can be had.
pub(crate) async fn pull_first(
    images: &ImageStore,
    names: &[Reference],
    auth: Option<Auth>,
    progress: Option<Progress>,
) -> Result<Digest, ApiError> {
    let mut failure = None;
    for reference in names {
        match images.pull(reference, auth.clone(), progress.clone()).await {
            Ok(id) => return Ok(id),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.map_or(ApiError::NotReady, ApiError::from))
}

/// Credentials made for another registry are not shown to this one.
fn credentials(
    raw: Option<&v1::AuthConfig>,
    reference: &Reference,
) -> Result<Option<Auth>, Invalid> {
    let Some(raw) = raw else { return Ok(None) };
    if !raw.server_address.is_empty() && server(&raw.server_address) != server(reference.registry())
    {
        tracing::warn!(
            registry = reference.registry(),
            server = server(&raw.server_address),
            "credentials are for another registry: not used"
        );
        return Ok(None);
    }
    Auth::from_fields(
        &raw.username,
        &raw.password,
        &raw.auth,
        &raw.identity_token,
        &raw.registry_token,
    )
    .map_err(|error| Invalid::Value {
        field: "auth.auth".to_owned(),
        value: "…".to_owned(),
        remedy: error.to_string(),
    })
}

/// Host and port of a server address, which may be a URL; Docker Hub has several names.
fn server(address: &str) -> &str {
    let host = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or_default();
    match host {
        "index.docker.io" | "registry-1.docker.io" | "registry.docker.io" => "docker.io",
        other => other,
    }
}

pub(crate) async fn remove(
    api: &Api,
    request: v1::RemoveImageRequest,
) -> Result<v1::RemoveImageResponse, ApiError> {
    api.engine()?.images.remove(required(request.image.as_ref())?).await?;
    Ok(v1::RemoveImageResponse {})
}

pub(crate) async fn fs_info(
    api: &Api,
    _: v1::ImageFsInfoRequest,
) -> Result<v1::ImageFsInfoResponse, ApiError> {
    let usage = api.engine()?.images.usage();
    let fs = v1::FilesystemUsage {
        timestamp: Timestamp::now().0,
        fs_id: Some(v1::FilesystemIdentifier {
            mountpoint: usage.mountpoint.display().to_string(),
        }),
        used_bytes: Some(v1::UInt64Value { value: usage.bytes }),
        inodes_used: Some(v1::UInt64Value { value: usage.inodes }),
    };
    Ok(v1::ImageFsInfoResponse {
        image_filesystems: vec![fs.clone()],
        container_filesystems: vec![fs],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(server_address: &str) -> v1::AuthConfig {
        v1::AuthConfig {
            username: "u".to_owned(),
            password: "p".to_owned(),
            server_address: server_address.to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn credentials_stay_with_their_registry() {
        for (image, address, used) in [
            ("r.io/a", "", true),
            ("r.io/a", "r.io", true),
            ("r.io/a", "https://r.io/v2/", true),
            ("r.io/a", "http://r.io:80/", false),
            ("r.io/a", "evil.io", false),
            ("r.io/a", "r.io.evil.io", false),
            ("nginx", "https://index.docker.io/v1/", true),
            ("nginx", "docker.io", true),
        ] {
            let reference = Reference::parse(image).unwrap();
            let found = credentials(Some(&auth(address)), &reference).unwrap();
            assert_eq!(found.is_some(), used, "{image} {address}");
        }
    }
}
