//! `images`: which, and what is shown of each.

use crate::args::images::ImagesArgs;
use crate::show::{Column, Filters, Shape, ago, bytes, short_id};
use anyhow::{Context, bail};
use orlop_api::images_v1::ListedImage;
use orlop_model::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const COLUMNS: [Column; 10] = [
    Column { field: "Containers", title: "CONTAINERS" },
    Column { field: "CreatedAt", title: "CREATED AT" },
    Column { field: "CreatedSince", title: "CREATED" },
    Column { field: "Digest", title: "DIGEST" },
    Column { field: "ID", title: "IMAGE ID" },
    Column { field: "Labels", title: "LABELS" },
    Column { field: "Pinned", title: "PINNED" },
    Column { field: "Repository", title: "REPOSITORY" },
    Column { field: "Size", title: "SIZE" },
    Column { field: "Tag", title: "TAG" },
];

pub(super) fn shape(digests: bool) -> Shape<'static> {
    let shown: &[&str] = if digests {
        &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"]
    } else {
        &["Repository", "Tag", "ID", "CreatedSince", "Size"]
    };
    Shape { columns: &COLUMNS, shown, quiet: "ID" }
}

/// Name without tag and digest, and what stood behind it.
fn split(name: &str) -> (&str, &str) {
    if let Some((repository, digest)) = name.split_once('@') {
        return (repository, digest);
    }
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, ""),
    }
}

fn created(image: &ListedImage) -> Option<Timestamp> {
    Timestamp::from_rfc3339(&image.created)
}

/// One row for each name, newest first; one for an image without a name.
pub(super) fn rows(
    images: &[ListedImage],
    arguments: &ImagesArgs,
    now: Timestamp,
) -> anyhow::Result<Vec<Value>> {
    let known = ["before", "dangling", "label", "reference", "since", "until"];
    let filters = Filters::new(&arguments.list.filter, &known)?;
    let dangling = filters.truth("dangling")?;
    let moment = |key: &str| match filters.get(key).last() {
        None => Ok(None),
        Some(name) => {
            let found = images.iter().find(|image| is_called(image, name));
            let found = found.with_context(|| format!("--filter {key}={name}: no such image"))?;
            anyhow::Ok(Some(created(found).unwrap_or_default()))
        }
    };
    let (since, before) = (moment("since")?, moment("before")?);
    let until = match filters.get("until").last() {
        None => None,
        Some(text) => Some(super::until(text, now).context("--filter until")?),
    };
    let mut rows = Vec::new();
    for image in images {
        let labels: BTreeMap<String, String> = image.labels.clone().into_iter().collect();
        let at = created(image).unwrap_or_default();
        let fits = filters.labels(&labels)
            && dangling.is_none_or(|wanted| wanted == image.tags.is_empty())
            && since.is_none_or(|since| at > since)
            && before.is_none_or(|before| at < before)
            && until.is_none_or(|until| at < until);
        if fits {
            rows.extend(
                of_image(image, &filters, arguments, now)?.into_iter().map(|row| (at, row)),
            );
        }
    }
    rows.sort_by(|(a, one), (b, other)| b.cmp(a).then_with(|| name_of(one).cmp(&name_of(other))));
    let mut rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
    if arguments.list.quiet {
        rows.dedup_by(|a, b| a["ID"] == b["ID"]);
    }
    Ok(rows)
}

fn name_of(row: &Value) -> (String, String) {
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    (text("Repository"), text("Tag"))
}

fn is_called(image: &ListedImage, name: &str) -> bool {
    let hex = name.strip_prefix("sha256:").unwrap_or(name);
    let by_id = hex.len() >= 4 && image.id.trim_start_matches("sha256:").starts_with(hex);
    by_id || image.tags.iter().any(|tag| is_tag(tag, name))
}

fn is_tag(full: &str, name: &str) -> bool {
    let short = super::familiar(full);
    full == name || short == name || short.strip_suffix(":latest") == Some(name)
}

fn of_image(
    image: &ListedImage,
    filters: &Filters,
    arguments: &ImagesArgs,
    now: Timestamp,
) -> anyhow::Result<Vec<Value>> {
    let wanted = arguments.name.as_deref();
    let fits = |name: &str| {
        wanted.is_none_or(|wanted| matches(name, wanted))
            && filters.any("reference", |pattern| matches(name, pattern))
    };
    let tags: Vec<_> = image.tags.iter().filter(|tag| fits(tag)).collect();
    let row = |repository: &str, tag: &str| {
        let digest = image.digests.iter().map(|name| split(name));
        let digest = digest.clone().find(|(of, _)| *of == repository).or_else(|| {
            // A name of its own has the digest that the image came with.
            image.digests.first().map(|name| split(name)).filter(|_| tag == "<none>")
        });
        let digest = digest.map_or("<none>", |(_, digest)| digest);
        let at = created(image);
        let (date, time) = at.unwrap_or_default().date_and_time();
        let mut labels: Vec<_> =
            image.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        labels.sort();
        let seconds = |time: Timestamp| time.0.div_euclid(1_000_000_000);
        json!({
            "Containers": "N/A",
            "CreatedAt": at.map_or("N/A".into(), |_| format!("{date} {time} +0000 UTC")),
            "CreatedSince": at.map_or("N/A".into(), |at| ago(seconds(at), seconds(now))),
            "Digest": digest,
            "ID": if arguments.list.no_trunc { &image.id } else { short_id(&image.id) },
            "Labels": labels.join(","),
            "Label": image.labels,
            "Pinned": image.pinned,
            "Repository": if repository.is_empty() { "<none>" } else { super::familiar(repository) },
            "Size": bytes(image.size),
            "Tag": if tag.is_empty() { "<none>" } else { tag },
        })
    };
    if !tags.is_empty() {
        return Ok(tags
            .into_iter()
            .map(|name| split(name))
            .map(|(name, tag)| row(name, tag))
            .collect());
    }
    let unnamed = image.tags.is_empty() && wanted.is_none() && filters.get("reference").is_empty();
    if image.tags.is_empty() && wanted.is_some_and(|w| w.contains('*') && w.contains("**")) {
        bail!("** is no pattern: * stands for anything but a slash");
    }
    let from = image.digests.first().map_or("", |name| split(name).0);
    Ok(if unnamed { vec![row(from, "<none>")] } else { Vec::new() })
}

/// Whether a full name is what was asked for: the whole name or a pattern, with or without registry and
/// tag.
fn matches(full: &str, wanted: &str) -> bool {
    let short = super::familiar(full);
    let forms = [full, short, split(full).0, split(short).0];
    forms.iter().any(|form| glob(wanted, form))
}

/// `*` stands for any characters but a slash, `?` for one.
fn glob(pattern: &str, text: &str) -> bool {
    let mut pattern_chars = pattern.chars();
    match pattern_chars.next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = pattern_chars.as_str();
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            let reach = text.find('/').unwrap_or(text.len());
            ends.take_while(|at| *at <= reach).any(|at| glob(rest, &text[at..]))
        }
        Some(c) => {
            let mut text_chars = text.chars();
            let next = text_chars.next();
            (next == Some(c) || (c == '?' && next.is_some_and(|next| next != '/')))
                && glob(pattern_chars.as_str(), text_chars.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, tags: &[&str], created: &str) -> ListedImage {
        ListedImage {
            id: format!("sha256:{}", id.repeat(64)),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            digests: vec![format!("docker.io/library/nginx@sha256:{}", "d".repeat(64))],
            size: 187_000_000,
            created: created.into(),
            pinned: false,
            labels: [("tier".to_owned(), id.to_owned())].into(),
        }
    }

    fn all() -> Vec<ListedImage> {
        vec![
            image(
                "a",
                &["docker.io/library/nginx:1.27", "docker.io/library/nginx:latest"],
                "2026-01-01T00:00:00Z",
            ),
            image("b", &["r.example:5000/team/app:2"], "2026-01-03T00:00:00Z"),
            image("c", &[], "2026-01-02T00:00:00Z"),
        ]
    }

    fn show(arguments: ImagesArgs, width: Option<usize>) -> String {
        let now = Timestamp::from_rfc3339("2026-01-10T00:00:00Z").unwrap();
        let rows = match rows(&all(), &arguments, now) {
            Ok(rows) => rows,
            Err(error) => return format!("{error:#}"),
        };
        let mut out = Vec::new();
        let (format, quiet) = (arguments.list.format.as_deref(), arguments.list.quiet);
        crate::show::list(&mut out, &shape(arguments.digests), &rows, format, quiet, width)
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    fn names(filters: &[(&str, &str)], name: Option<&str>) -> String {
        let mut arguments = ImagesArgs { name: name.map(str::to_owned), ..ImagesArgs::default() };
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        arguments.list.filter = filters.iter().map(pair).collect();
        arguments.list.format = Some("{{.Repository}}:{{.Tag}}".into());
        show(arguments, None).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn tables() {
        insta::assert_snapshot!("images", show(ImagesArgs::default(), None));
        insta::assert_snapshot!("images_in_40_columns", show(ImagesArgs::default(), Some(40)));
        let digests = ImagesArgs { digests: true, ..ImagesArgs::default() };
        assert!(show(digests, None).contains("sha256:ddddd"));
        let mut quiet = ImagesArgs::default();
        quiet.list.quiet = true;
        assert_eq!(show(quiet, None), "bbbbbbbbbbbb\ncccccccccccc\naaaaaaaaaaaa\n");
    }

    #[test]
    fn filters() {
        let (one, nginx) = ("r.example:5000/team/app:2", "nginx:1.27 nginx:latest");
        for (filters, name, want) in [
            (&[][..], None, format!("{one} nginx:<none> {nginx}")),
            (&[("dangling", "true")], None, "nginx:<none>".into()),
            (&[("dangling", "false")], None, format!("{one} {nginx}")),
            (&[("label", "tier=b")], None, one.into()),
            (&[("reference", "nginx:1*")], None, "nginx:1.27".into()),
            (&[("reference", "*/*/app")], None, one.into()),
            (&[("since", "nginx")], None, format!("{one} nginx:<none>")),
            (&[("before", one)], None, format!("nginx:<none> {nginx}")),
            (&[("until", "2026-01-02T12:00:00Z")], None, format!("nginx:<none> {nginx}")),
            (&[], Some("nginx"), nginx.into()),
            (&[], Some("nginx:latest"), "nginx:latest".into()),
            (&[], Some("docker.io/library/nginx:latest"), "nginx:latest".into()),
            (&[], Some("ngin"), String::new()),
        ] {
            assert_eq!(names(filters, name), want, "{filters:?} {name:?}");
        }
        assert!(names(&[("since", "absent")], None).contains("no such image"));
    }
}
