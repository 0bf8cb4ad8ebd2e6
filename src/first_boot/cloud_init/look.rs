//! A look into the user's `#cloud-config`, for what decides how ours is put beside it.

use serde::Deserialize;
use serde_yaml_ng::Value;

use super::kind;
use crate::first_boot::FirstBootError;
use crate::topology::model::UserName;

/// The settings that have to do with who logs in. Everything else is the user's own affair.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Look {
    /// Users to make, in any of cloud-init's forms.
    #[serde(default, deserialize_with = "present")]
    pub users: Option<Value>,
    /// Keys for the default user and root.
    #[serde(default)]
    pub ssh_authorized_keys: Option<Value>,
    /// Whether root may not log in.
    #[serde(default)]
    pub disable_root: Option<Value>,
    /// Host keys.
    #[serde(default)]
    pub ssh_keys: Option<Value>,
}

/// `users:` with nothing after it is still there.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

/// Parses a `#cloud-config`.
pub fn at(bytes: &[u8]) -> Result<Look, FirstBootError> {
    let text = kind::text(bytes)?;
    // A file of comments alone is taken: cloud-init passes over it.
    let look: Option<Look> =
        serde_yaml_ng::from_str(text).map_err(|error| yaml_error("user_data", &error))?;
    Ok(look.unwrap_or_default())
}

/// A YAML error with its place.
pub fn yaml_error(what: &'static str, error: &serde_yaml_ng::Error) -> FirstBootError {
    let (line, column) = match error.location() {
        Some(location) => (location.line(), location.column()),
        // Without a place it is about the document as a whole.
        None => (1, 1),
    };
    FirstBootError::syntax(what, "YAML", (line, column), &error.to_string())
}

impl Look {
    /// Whether the user says which users there are.
    pub fn has_users(&self) -> bool {
        self.users.is_some()
    }

    /// The JSON patch that puts a key into an entry of `users` that has keys of its own; none where an entry of ours
    /// beside it does.
    pub fn key_patch(&self, user: &UserName, key: &str) -> Option<String> {
        let (index, entry) = self
            .users
            .as_ref()?
            .as_sequence()?
            .iter()
            .enumerate()
            .find(|(_, entry)| entry.get("name").and_then(Value::as_str) == Some(user.as_str()))?;
        // cloud-init takes the field's old spelling too.
        let (field, keys) = ["ssh_authorized_keys", "ssh-authorized-keys"]
            .iter()
            .find_map(|f| Some((*f, entry.get(*f)?)))?;
        let operation = match keys {
            Value::Sequence(_) => {
                serde_json::json!({"op": "add", "path": format!("/users/{index}/{field}/-"), "value": key})
            }
            Value::String(one) => {
                serde_json::json!({"op": "replace", "path": format!("/users/{index}/{field}"), "value": [one, key]})
            }
            _ => {
                serde_json::json!({"op": "replace", "path": format!("/users/{index}/{field}"), "value": [key]})
            }
        };
        Some(format!("#cloud-config-jsonp\n[{operation}]\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn patch(text: &str) -> Option<String> {
        at(text.as_bytes())
            .unwrap()
            .key_patch(&UserName::try_from("alice".to_owned()).unwrap(), "KEY")
    }

    #[test]
    fn a_key_goes_into_an_entry_that_has_keys() {
        assert_eq!(
            patch("users:\n- default\n- name: alice\n  ssh_authorized_keys: [theirs]\n").unwrap(),
            "#cloud-config-jsonp\n[{\"op\":\"add\",\"path\":\"/users/1/ssh_authorized_keys/-\",\"value\":\"KEY\"}]\n"
        );
        assert_eq!(
            patch("users:\n- {name: alice, ssh-authorized-keys: theirs}\n").unwrap(),
            "#cloud-config-jsonp\n[{\"op\":\"replace\",\"path\":\"/users/0/ssh-authorized-keys\",\
             \"value\":[\"theirs\",\"KEY\"]}]\n"
        );
    }

    #[test]
    fn other_entries_need_no_patch() {
        assert_eq!(patch("users: [default, {name: alice, uid: 7}]"), None);
        assert_eq!(patch("users: [{name: bob, ssh_authorized_keys: [a]}]"), None);
        assert_eq!(patch("packages: [jq]"), None);
        assert_eq!(patch("#cloud-config\n# nothing\n"), None);
    }

    #[test]
    fn a_syntax_error_has_its_place() {
        let error = at(b"#cloud-config\nusers: [a\npackages: b\n").unwrap_err();
        let FirstBootError::Syntax { line, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(*line, 3, "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_looked_at_or_refused(text in "\\PC{0,200}") {
            let _ = at(text.as_bytes());
        }
    }
}
