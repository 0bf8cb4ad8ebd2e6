//! Where a disk image comes from.

use serde_json::Value;
use url::Url;

use crate::topology::inputs::Inputs;
use crate::topology::model::ImageSource;
use crate::topology::problems::quoted;
use crate::topology::reader::Cursor;

const EXPECTED: &str = "{file: PATH}, {box: PATH} or {url: URL, sha256: DIGEST}";

pub(super) fn read(field: &Cursor<'_>, inputs: &Inputs) -> Option<ImageSource> {
    if let Value::String(text) = field.value {
        let hint = if text.contains("://") {
            "a download is {url: URL, sha256: DIGEST}".to_owned()
        } else {
            format!("did you mean {{file: {}}}?", text.escape_debug())
        };
        field.expected_hint(EXPECTED, Some(hint));
        return None;
    }
    let object = field.object(EXPECTED)?;
    let (file, r#box, url, sha256) = (
        object.field("file"),
        object.field("box"),
        object.field("url"),
        object.field("sha256"),
    );
    let source = match (&file, &r#box, &url, &sha256) {
        (Some(path), None, None, None) => found(path, inputs).map(ImageSource::File),
        (None, Some(path), None, None) => found(path, inputs).map(ImageSource::Box),
        (None, None, Some(url), Some(sha256)) => {
            let (url, sha256) = (
                address(url),
                sha256.checked("the 64 hexadecimal digits that sha256sum prints"),
            );
            url.zip(sha256)
                .map(|(url, sha256)| ImageSource::Url { url, sha256 })
        }
        (None, None, Some(url), None) => {
            url.wrong("needs sha256 beside it: the digest that the site publishes, or what sha256sum prints");
            None
        }
        (Some(_), None, None, Some(sha256)) | (None, Some(_), None, Some(sha256)) => {
            sha256.wrong("goes with url alone: a file of an input was checked when it was fetched");
            None
        }
        (None, None, None, _) => {
            object.wrong(format!("says nothing of where the image is: use {EXPECTED}"));
            None
        }
        _ => {
            object.wrong("says more than one of file, box and url: keep one");
            None
        }
    };
    object.finish(|key| (key == "path").then(|| "did you mean file?".to_owned()));
    source
}

fn found(field: &Cursor<'_>, inputs: &Inputs) -> Option<std::path::PathBuf> {
    let path = field.text("a path")?;
    inputs
        .file(path)
        .map_err(|bad| field.wrong_hint(bad.message, bad.hint))
        .ok()
}

fn address(field: &Cursor<'_>) -> Option<Url> {
    let text = field.text("an http or https URL")?;
    // What cannot be taken apart is not shown either: it may hold a password all the same.
    let shown = if text.contains('@') {
        "the URL".to_owned()
    } else {
        quoted(text)
    };
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            field.wrong(format!("{shown} is no URL: {error}"));
            return None;
        }
    };
    if !matches!(url.scheme(), "http" | "https") {
        field.wrong(format!(
            "{shown}: only http and https are fetched; let a get step bring anything else"
        ));
        return None;
    }
    if !url.username().is_empty() || url.password().is_some() {
        field.wrong(
            "holds a user name or password, which would be shown in the log: let a get step fetch it instead",
        );
        return None;
    }
    Some(url)
}
