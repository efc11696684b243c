//! `criquet image ls` and `criquet image inspect`.

use serde_json::{Value, json};

use super::{
    Client, Error,
    args::{Ls, Output},
};
use crate::cri::v1::{Image, ImageFilter, ImageSpec, ImageStatusRequest, ListImagesRequest};

/// Hex digits of an id in a table.
const SHORT_ID: usize = 12;

pub(super) fn list(client: &Client, arguments: &Ls) -> Result<String, Error> {
    let filter = arguments.image.clone().map(|image| ImageFilter { image: Some(spec(image)) });
    let request = ListImagesRequest { filter };
    let images = client.ask(client.images().list_images(request))?.images;
    if arguments.quiet {
        return Ok(images.iter().map(|image| format!("{}\n", image.id)).collect());
    }
    Ok(match arguments.output {
        Output::Table => table(&rows(&images, arguments.digests)),
        Output::Json => {
            let images: Vec<Value> = images.iter().map(document).collect();
            format!("{:#}\n", json!({ "images": images }))
        }
    })
}

pub(super) fn inspect(client: &Client, names: &[String]) -> Result<String, Error> {
    let mut found = Vec::new();
    for name in names {
        let request = ImageStatusRequest { image: Some(spec(name.clone())), verbose: true };
        let answer = client.ask(client.images().image_status(request))?;
        let image = answer.image.ok_or_else(|| Error::Absent(name.clone()))?;
        let parse = |text: &String| serde_json::from_str::<Value>(text).ok();
        let info = answer.info.get("info").and_then(parse).unwrap_or_default();
        found.push(json!({ "status": document(&image), "info": info }));
    }
    let document = if found.len() == 1 { found.remove(0) } else { found.into() };
    Ok(format!("{document:#}\n"))
}

pub(super) fn spec(image: String) -> ImageSpec {
    ImageSpec { image, ..ImageSpec::default() }
}

/// With the field names of the CRI, as `crictl` prints it.
fn document(image: &Image) -> Value {
    json!({
        "id": image.id,
        "repoTags": image.repo_tags,
        "repoDigests": image.repo_digests,
        // 64 bits are text in the JSON of protobuf.
        "size": image.size.to_string(),
        "uid": image.uid.as_ref().map(|uid| json!({ "value": uid.value.to_string() })),
        "username": image.username,
        "spec": image.spec.as_ref().map(|spec| json!({ "annotations": spec.annotations })),
        "pinned": image.pinned,
    })
}

/// A row for each tag, under a row of headings.
fn rows(images: &[Image], digests: bool) -> Vec<Vec<String>> {
    let row = |name: &str, tag: &str, digest: &str, id: &str, size: &str| {
        let mut row = vec![name.to_owned(), tag.to_owned()];
        row.extend(digests.then(|| digest.to_owned()));
        row.extend([id.to_owned(), size.to_owned()]);
        row
    };
    let mut rows = vec![row("IMAGE", "TAG", "DIGEST", "IMAGE ID", "SIZE")];
    for image in images {
        let id: String =
            image.id.chars().skip_while(|c| *c != ':').skip(1).take(SHORT_ID).collect();
        let size = size(image.size);
        for (name, tag) in names(image) {
            let of_name = |digest: &&String| digest.starts_with(&format!("{name}@"));
            let digest = image.repo_digests.iter().find(of_name);
            let digest = digest.and_then(|digest| digest.split('@').nth(1)).unwrap_or("<none>");
            rows.push(row(name, tag, digest, &id, &size));
        }
    }
    rows
}

/// Names with their tags; an image without a tag still has a name.
fn names(image: &Image) -> Vec<(&str, &str)> {
    let tags: Vec<_> = image.repo_tags.iter().filter_map(|tag| tag.rsplit_once(':')).collect();
    if !tags.is_empty() {
        return tags;
    }
    let digest = image.repo_digests.first().and_then(|digest| digest.split('@').next());
    vec![(digest.unwrap_or("<none>"), "<none>")]
}

/// In the units of other tools: thousands.
pub(in crate::cli) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.5 {
            let digits = if value < 9.995 && unit != "B" {
                2
            } else {
                usize::from(value < 99.95 && unit != "B")
            };
            return format!("{value:.digits$}{unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.2}TB")
}

/// Columns as wide as their widest cells.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}   "));
        text.push_str(cells.collect::<String>().trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_in_columns() {
        let image = Image {
            id: format!("sha256:{}", "ab".repeat(32)),
            repo_tags: vec!["r.io:5000/a:1".into(), "r.io:5000/b:2".into()],
            repo_digests: vec!["r.io:5000/b@sha256:cd".into()],
            size: 2_240_000,
            ..Image::default()
        };
        let unnamed = Image { repo_tags: Vec::new(), ..image.clone() };
        assert_eq!(
            table(&rows(&[image, unnamed], true)),
            "IMAGE         TAG      DIGEST      IMAGE ID       SIZE\n\
             r.io:5000/a   1        <none>      abababababab   2.24MB\n\
             r.io:5000/b   2        sha256:cd   abababababab   2.24MB\n\
             r.io:5000/b   <none>   sha256:cd   abababababab   2.24MB\n"
        );
    }

    #[test]
    fn sizes_as_other_tools_print_them() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (45_900_000, "45.9MB"),
            (459_000_000, "459MB"),
            (1_500_000_000_000, "1.50TB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
