//! `inspect`: whatever has the name.

use crate::args::system::InspectArgs;
use crate::cli::Place;
use crate::container::{inspection, said, summaries, with_door};
use crate::door::Door;
use crate::show;
use orlop_api::engine_v1 as v1;
use orlop_api::images_v1;
use serde_json::Value;
use std::io::Write;
use std::process::ExitCode;
use tonic::{Code, Status};

const KINDS: [&str; 4] = ["container", "image", "network", "volume"];

/// Shows what was found; fails where something was not.
pub(crate) fn inspect(place: &Place, arguments: &InspectArgs) -> anyhow::Result<ExitCode> {
    with_door(place, async |door| {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        let kinds = match &arguments.r#type {
            Some(kind) => vec![kind.as_str()],
            None => KINDS.to_vec(),
        };
        for name in &arguments.names {
            match one(door, name, &kinds).await? {
                Some(object) => found.push(object),
                None => missing.push(name),
            }
        }
        let format = arguments.format.format.as_deref();
        show::objects(&mut std::io::stdout().lock(), &found, format)?;
        for name in &missing {
            let kind = arguments.r#type.as_deref().unwrap_or("container, image, network or volume");
            let hint = match nearest(door, name).await {
                Some(near) => format!("; did you mean {near}?"),
                None => String::new(),
            };
            let _ = writeln!(std::io::stderr(), "orlop: there is no {kind} {name}{hint}");
        }
        Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

async fn one(door: &Door, name: &str, kinds: &[&str]) -> anyhow::Result<Option<Value>> {
    for kind in kinds {
        let named = || v1::Name { name: name.to_owned() };
        let json = |done: Result<tonic::Response<v1::Json>, Status>| {
            let json = done?.into_inner().json;
            super::read(&json).map_err(|error| Status::internal(error.to_string()))
        };
        let found = match *kind {
            "container" => inspection(&mut door.engine(), name).await,
            "image" => crate::image::inspection(&mut door.images(), name).await,
            "network" => json(door.engine().inspect_network(named()).await),
            _ => json(door.engine().inspect_volume(named()).await),
        };
        match found {
            Ok(object) => return Ok(Some(object)),
            // A name that one kind cannot have may be another's.
            Err(status) if is_absent(&status) => {}
            Err(status) => return Err(said(status)),
        }
    }
    Ok(None)
}

fn is_absent(status: &Status) -> bool {
    // A daemon of another version may not know a kind.
    matches!(status.code(), Code::NotFound | Code::InvalidArgument | Code::Unimplemented)
}

/// The name that was probably meant.
async fn nearest(door: &Door, name: &str) -> Option<String> {
    let mut known: Vec<String> = Vec::new();
    known.extend(summaries(&mut door.engine()).await.ok()?.into_iter().map(|one| one.name));
    let images = door.images().list(images_v1::ListRequest {}).await.ok()?.into_inner().images;
    for tag in images.iter().flat_map(|image| &image.tags) {
        let short = crate::image::familiar(tag);
        known.push(short.to_owned());
        known.extend(short.rsplit_once(':').map(|(repository, _)| repository.to_owned()));
    }
    let near = crate::suggest::nearest(name, known.iter().map(String::as_str));
    near.map(str::to_owned)
}
