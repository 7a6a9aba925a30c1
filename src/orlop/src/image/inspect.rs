//! What `inspect` shows of an image, and `history`, in the field names that scripts know.

use crate::args::images::HistoryArgs;
use crate::door::Images;
use crate::show::{self, Column, Shape, ago, bytes};
use orlop_api::images_v1 as v1;
use orlop_model::Timestamp;
use serde_json::{Value, json};
use std::io::Write;

/// All that is known of an image.
pub(crate) async fn inspection(client: &mut Images, image: &str) -> Result<Value, tonic::Status> {
    let raw = raw(client, image).await?;
    Ok(shown(&raw))
}

/// As the service has it.
pub(super) async fn raw(client: &mut Images, image: &str) -> Result<Value, tonic::Status> {
    let request = v1::InspectRequest { image: image.to_owned() };
    let json = client.inspect(request).await?.into_inner().json;
    serde_json::from_str(&json)
        .map_err(|error| tonic::Status::internal(format!("the answer cannot be read: {error}")))
}

fn shown(raw: &Value) -> Value {
    let config = &raw["config"];
    let familiar = |names: &Value| -> Vec<String> {
        let names = names.as_array().into_iter().flatten().filter_map(Value::as_str);
        names.map(|name| super::familiar(name).to_owned()).collect()
    };
    let diff_ids: Vec<_> =
        raw["layers"].as_array().into_iter().flatten().map(|layer| &layer["diffID"]).collect();
    let text = |key: &str| config[key].as_str().unwrap_or_default();
    let mut run = config["config"].clone();
    if let Some(run) = run.as_object_mut() {
        // What scripts look into is there even where it is empty.
        for key in ["Env", "Cmd", "Entrypoint", "Labels", "ExposedPorts", "Volumes"] {
            run.entry(key).or_insert(Value::Null);
        }
        for key in ["User", "WorkingDir"] {
            run.entry(key).or_insert_with(|| "".into());
        }
    }
    json!({
        "Id": raw["id"],
        "RepoTags": familiar(&raw["repoTags"]),
        "RepoDigests": familiar(&raw["repoDigests"]),
        "Comment": config["history"].as_array().and_then(|all| all.last()).map_or("", |last| last["comment"].as_str().unwrap_or_default()),
        "Created": text("created"),
        "Author": text("author"),
        "Architecture": text("architecture"),
        "Variant": text("variant"),
        "Os": text("os"),
        "Size": raw["size"],
        "Config": run,
        "RootFS": {"Type": "layers", "Layers": diff_ids},
        "GraphDriver": {"Name": "overlay", "Data": null},
        "Pinned": raw["pinned"],
    })
}

const COLUMNS: [Column; 6] = [
    Column { field: "Comment", title: "COMMENT" },
    Column { field: "CreatedAt", title: "CREATED AT" },
    Column { field: "CreatedBy", title: "CREATED BY" },
    Column { field: "CreatedSince", title: "CREATED" },
    Column { field: "ID", title: "IMAGE" },
    Column { field: "Size", title: "SIZE" },
];

/// Steps that made the image, newest first, with the layers that came of them.
pub(super) fn history(
    out: &mut impl Write,
    raw: &Value,
    arguments: &HistoryArgs,
    now: Timestamp,
    width: Option<usize>,
) -> anyhow::Result<()> {
    let none = Vec::new();
    let steps = raw["config"]["history"].as_array().unwrap_or(&none);
    let mut layers = raw["layers"].as_array().unwrap_or(&none).iter();
    let mut rows = Vec::new();
    let size = |layer: Option<&Value>| {
        let bytes_of = layer.and_then(|layer| layer["blobSize"].as_u64()).unwrap_or(0);
        if arguments.human { bytes(bytes_of) } else { bytes_of.to_string() }
    };
    for step in steps {
        let empty = step["empty_layer"].as_bool().unwrap_or(false);
        let layer = if empty { None } else { layers.next() };
        rows.push(row(step, size(layer), arguments, now));
    }
    rows.extend(layers.map(|layer| row(&Value::Null, size(Some(layer)), arguments, now)));
    rows.reverse();
    if let Some(first) = rows.first_mut() {
        let id = raw["id"].as_str().unwrap_or_default();
        first["ID"] = if arguments.no_trunc { id } else { show::short_id(id) }.into();
    }
    let shape = Shape {
        columns: &COLUMNS,
        shown: &["ID", "CreatedSince", "CreatedBy", "Size", "Comment"],
        quiet: "ID",
    };
    show::list(out, &shape, &rows, arguments.format.as_deref(), arguments.quiet, width)
}

fn row(step: &Value, size: String, arguments: &HistoryArgs, now: Timestamp) -> Value {
    let text = |key: &str| step[key].as_str().unwrap_or_default();
    let at = Timestamp::from_rfc3339(text("created"));
    let seconds = |time: Timestamp| time.0.div_euclid(1_000_000_000);
    let since = match at {
        None => "N/A".into(),
        Some(at) if arguments.human => ago(seconds(at), seconds(now)),
        Some(_) => text("created").to_owned(),
    };
    let mut by = text("created_by").split_whitespace().collect::<Vec<_>>().join(" ");
    if !arguments.no_trunc && by.chars().count() > 45 {
        by = by.chars().take(44).chain(['…']).collect();
    }
    json!({
        // Only the image itself has an id here; its steps are no images.
        "ID": "<missing>",
        "CreatedAt": text("created"),
        "CreatedSince": since,
        "CreatedBy": by,
        "Size": size,
        "Comment": text("comment"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Value {
        json!({
            "id": format!("sha256:{}", "a".repeat(64)), "size": 7, "pinned": false,
            "repoTags": ["docker.io/library/nginx:1"], "repoDigests": [],
            "layers": [{"diffID": "sha256:1", "blobSize": 2_000_000}, {"diffID": "sha256:2", "blobSize": 512}],
            "config": {
                "created": "2026-01-02T03:04:05Z", "architecture": "amd64", "os": "linux",
                "config": {"Cmd": ["sh"], "Healthcheck": {"Test": ["CMD", "true"]}},
                "history": [
                    {"created": "2026-01-02T03:04:05Z", "created_by": "ADD x /"},
                    {"created": "2026-01-02T03:04:06Z", "created_by": "ENV a=\u{1b}[2Jb", "empty_layer": true},
                    {"created_by": "RUN y", "comment": "last"},
                ],
            },
        })
    }

    #[test]
    fn what_docker_shows() {
        let shown = shown(&image());
        assert_eq!(shown["RepoTags"], json!(["nginx:1"]));
        assert_eq!(shown["RootFS"]["Layers"], json!(["sha256:1", "sha256:2"]));
        assert_eq!(shown["Config"]["Cmd"], json!(["sh"]));
        assert_eq!(shown["Config"]["Healthcheck"]["Test"][1], "true");
        assert!(shown["Config"]["Entrypoint"].is_null() && shown["Config"]["User"] == "");
        assert_eq!(shown["Comment"], "last");
    }

    #[test]
    fn history_goes_with_the_layers() {
        let now = Timestamp::from_rfc3339("2026-01-04T03:04:05Z").unwrap();
        let arguments = HistoryArgs { human: true, ..HistoryArgs::default() };
        let mut out = Vec::new();
        history(&mut out, &image(), &arguments, now, None).unwrap();
        insta::assert_snapshot!("history", String::from_utf8(out).unwrap());
        let arguments = HistoryArgs { quiet: true, no_trunc: true, ..HistoryArgs::default() };
        let mut out = Vec::new();
        history(&mut out, &image(), &arguments, now, None).unwrap();
        assert!(String::from_utf8(out).unwrap().starts_with("sha256:aaaa"));
    }
}
