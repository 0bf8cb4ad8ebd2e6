//! A topology file is read, and laid under what stands inline.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::document::{self, MAX_DOCUMENT};
use super::inputs::Inputs;
use super::model::Topology;
use super::problems::{Problem, Problems, quoted};
use super::validate::validate;

/// Reads the topology file that `path` names among `inputs`: JSON where it is called `.json`, else YAML or JSON.
///
/// Every problem's path begins with the file's own, and a syntax error names line and column.
pub fn load(path: &str, inputs: &Inputs) -> Result<Value, Problems> {
    let content = inputs
        .read(path, MAX_DOCUMENT)
        .map_err(|bad| Problem::new("topology", bad.message).hint(bad.hint))?;
    let text = match std::str::from_utf8(&content) {
        Ok(text) => text,
        Err(error) => {
            let line = content[..error.valid_up_to()]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count()
                + 1;
            return Err(Problems::one(
                path,
                format!("line {line}: is no UTF-8 text: a topology is YAML or JSON"),
            ));
        }
    };
    let read = if path.ends_with(".json") {
        document::from_json
    } else {
        document::from_either
    };
    let value = read(text).map_err(|problems| problems.relocate(|place| in_file(path, place)))?;
    if value.is_object() {
        return Ok(value);
    }
    let what = if value.is_null() {
        "is empty"
    } else {
        "is no mapping"
    };
    Err(Problems::one(
        path,
        format!("{what}: write a topology, beginning with image and nodes"),
    ))
}

/// Reads and validates the topology file at `path`, whose own folder the paths in it are relative to: what `-f` names.
///
/// The file itself may be a symbolic link that leads anywhere; the paths in it stay below the folder it was named in.
pub fn open(path: &Path) -> Result<Topology, Problems> {
    let shown = path.to_string_lossy().into_owned();
    let folder = |path: &Path| match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    // Where it is not there, the lookup below says what is.
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = real.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Problems::one(quoted(&shown), "is no path of a file"))?;
    let raw = load(name, &Inputs::of_folder(folder(&real))).map_err(|problems| {
        problems.relocate(|place| match place.strip_prefix(name) {
            Some(rest) => shown.clone() + rest,
            None => shown.clone(),
        })
    })?;
    validate(&raw, &Inputs::of_folder(folder(path)))
        .map_err(|problems| problems.relocate(|place| in_file(&shown, place)))
}

/// A place in a file.
pub(crate) fn in_file(file: &str, place: &str) -> String {
    if place.is_empty() {
        file.to_owned()
    } else {
        format!("{file}: {place}")
    }
}

/// What stands inline overrides what stands in the file: whole top-level fields, never parts of them.
pub fn overlay(file: Value, inline: Value) -> Value {
    match (file, inline) {
        (Value::Object(mut file), Value::Object(inline)) => {
            file.extend(inline);
            Value::Object(file)
        }
        (file, Value::Null) => file,
        (_, inline) => inline,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn inline_fields_replace_the_files_whole() {
        let file = json!({"nodes": {"a": {"cpus": 1}}, "lifetime": "1h"});
        let inline = json!({"nodes": {"b": null}});
        assert_eq!(
            overlay(file.clone(), inline),
            json!({"nodes": {"b": null}, "lifetime": "1h"})
        );
        assert_eq!(overlay(file.clone(), Value::Null), file);
        assert_eq!(overlay(Value::Null, json!({"a": 1})), json!({"a": 1}));
    }

    #[test]
    fn a_file_of_ones_own() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("real")).unwrap();
        fs::write(at("disk.qcow2"), "QFI").unwrap();
        fs::write(
            at("real/good.yml"),
            "image: {file: disk.qcow2}\nnodes: {worker: }",
        )
        .unwrap();
        fs::write(at("bad.yml"), "image: {file: disk.qcow}\nnodes: {worker: }").unwrap();
        fs::write(at("broken.yml"), "image: [").unwrap();
        std::os::unix::fs::symlink("real/good.yml", at("link.yml")).unwrap();
        assert_eq!(open(&at("link.yml")).unwrap().nodes.len(), 1);
        for (name, told) in [
            (
                "bad.yml",
                "image.file: \"disk.qcow\" is not there: the topology's folder holds ",
            ),
            ("broken.yml", "line 2, column 1: "),
            (
                "goof.yml",
                "\"goof.yml\" is not there: the topology's folder holds ",
            ),
            (
                "real",
                "\"real\" is a folder: name a file in it; it holds good.yml",
            ),
        ] {
            let shown = open(&at(name)).unwrap_err().to_string();
            let expected = format!("{}: {told}", at(name).display());
            assert!(shown.starts_with(&expected), "{shown}\n{expected}");
        }
        assert!(
            open(Path::new("/"))
                .unwrap_err()
                .to_string()
                .ends_with("is no path of a file")
        );
    }

    #[test]
    fn a_file_is_read_by_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let inputs = Inputs::of_folder(folder.path());
        let write = |name: &str, text: &[u8]| fs::write(folder.path().join(name), text).unwrap();
        write("a.yml", b"nodes: {worker: {count: 2}}");
        write("a.json", b"{\"nodes\": {\"worker\": {\"count\": 2}}}");
        assert_eq!(load("a.yml", &inputs), load("a.json", &inputs));
        for (name, text, told) in [
            (
                "bad.yml",
                &b"nodes: [1\nx"[..],
                "bad.yml: line 3, column 1: did not find",
            ),
            (
                "bad.json",
                b"{\n  \"a\" 1}",
                "bad.json: line 2, column 7: expected `:`",
            ),
            (
                "empty.yml",
                b"# nothing\n",
                "empty.yml: is empty: write a topology, beginning with image and nodes",
            ),
            ("list.yml", b"- a", "list.yml: is no mapping: write a topology"),
            (
                "bytes.yml",
                b"a: 1\nb: \xff",
                "bytes.yml: line 2: is no UTF-8 text",
            ),
            ("twice.yml", b"a: 1\na: 2", "twice.yml: a: is written twice"),
        ] {
            write(name, text);
            let shown = load(name, &inputs).unwrap_err().to_string();
            assert!(shown.starts_with(told), "{shown}");
        }
        let missing = load("b.yml", &inputs).unwrap_err().to_string();
        assert!(
            missing.starts_with("topology: \"b.yml\" is not there: the topology's folder holds "),
            "{missing}"
        );
    }
}
