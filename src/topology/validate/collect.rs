//! The files to copy from nodes.

use std::collections::BTreeMap;

use super::settings::no_such;
use crate::topology::limits;
use crate::topology::model::{Collect, Node};
use crate::topology::name::Name;
use crate::topology::problems::quoted;
use crate::topology::reader::Cursor;

/// Names that the artifact has already: a collected file would replace one of ours.
const TAKEN: [&str; 6] = ["ssh", "scp", "env", "name", "token", "consoles"];

/// `nodes` is `None` where they could not be made out: then a node's name is not judged.
pub(super) fn all(field: &Cursor<'_>, nodes: Option<&[Node]>) -> Option<BTreeMap<Name, Collect>> {
    let entries = field
        .entries("a mapping, such as {kubeconfig: {node: control-1, path: /etc/kubernetes/admin.conf}}")?;
    if entries.len() > limits::COLLECT {
        field.wrong(format!(
            "has {} files: {} are the most",
            entries.len(),
            limits::COLLECT
        ));
        return None;
    }
    let read: Vec<Option<(Name, Collect)>> = entries
        .iter()
        .map(|(key, cursor)| {
            let name = file_name(key, cursor);
            let collect = one(cursor, nodes);
            Some((name?, collect?))
        })
        .collect();
    read.into_iter().collect()
}

fn file_name(key: &str, cursor: &Cursor<'_>) -> Option<Name> {
    if TAKEN.contains(&key) {
        cursor.wrong(format!(
            "the artifact has a file called {key} already: choose another name"
        ));
        return None;
    }
    key.parse()
        .map_err(|error| cursor.wrong(format!("the file's name {error}")))
        .ok()
}

fn one(cursor: &Cursor<'_>, nodes: Option<&[Node]>) -> Option<Collect> {
    let object = cursor.object("a mapping, such as {node: control-1, path: /etc/kubernetes/admin.conf}")?;
    let node = object
        .required("node", "a node's name, such as control-1")
        .and_then(|field| node(&field, nodes));
    let path = object
        .required("path", "an absolute path on the node")
        .and_then(|field| path(&field));
    object.finish(|_| None);
    Some(Collect {
        node: node?,
        path: path?,
    })
}

fn node(field: &Cursor<'_>, nodes: Option<&[Node]>) -> Option<Name> {
    let text = field.text("a node's name, such as control-1")?;
    let nodes = nodes?;
    let found = nodes.iter().find(|node| node.name.as_str() == text);
    if found.is_none() {
        let known: Vec<String> = nodes.iter().map(|node| node.name.to_string()).collect();
        no_such(field, "node", text, &known);
    }
    found.map(|node| node.name.clone())
}

fn path(field: &Cursor<'_>) -> Option<String> {
    let text = field.text("an absolute path on the node")?;
    if !text.starts_with('/') {
        field.wrong(format!("{} is not absolute: begin it with /", quoted(text)));
    } else if text.ends_with('/') {
        field.wrong(format!("{} is a folder: name a file", quoted(text)));
    } else if text.len() > limits::PATH || text.chars().any(char::is_control) {
        field.wrong(format!(
            "{} is too long or holds a control character",
            quoted(text)
        ));
    } else {
        return Some(text.to_owned());
    }
    None
}
