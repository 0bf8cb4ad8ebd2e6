//! Copies files from nodes once the cluster is ready.

use std::time::Duration;

use base64::Engine as _;

use super::{BringUpError, Standing};
use crate::agent::api::types::{CollectedFile, Secret};
use crate::progress::Level;

/// What is collected is carried in one API answer: configuration and credentials, not disks or logs.
const LIMIT_MIB: usize = 16;

/// How long a copy may take: a slow guest, a few megabytes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Copies every file that the order names, one after the other: they are few and small.
pub async fn collect(standing: &Standing) -> Result<(), BringUpError> {
    let held = &standing.held;
    for (name, wanted) in &held.order.collect {
        let failed = |said: String| BringUpError::Collect {
            name: name.clone(),
            node: wanted.node.clone(),
            path: wanted.path.clone(),
            said,
        };
        let node = held
            .order
            .plan
            .nodes
            .iter()
            .find(|node| *node.name() == wanted.node);
        let node = node.ok_or_else(|| failed("there is no such node".to_owned()))?;
        // One byte more than is taken tells a file that is too large from one that just fits.
        let command = format!("head -c {} -- {}", (LIMIT_MIB << 20) + 1, quote(&wanted.path));
        let output = standing
            .ssh
            .run(node, &command, PATIENCE)
            .await
            .map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        if output.stdout.len() > LIMIT_MIB << 20 {
            return Err(failed(format!(
                "it is larger than {LIMIT_MIB} MiB: fetch it with nodes/scp in a later step"
            )));
        }
        let size = output.stdout.len();
        let content = Secret(base64::engine::general_purpose::STANDARD.encode(&output.stdout));
        let file = CollectedFile {
            node: wanted.node.clone(),
            path: wanted.path.clone(),
            content,
        };
        held.collect(name.clone(), file);
        let text = format!("{} collected as {name} ({size} bytes)", wanted.path);
        standing.progress.node(Level::Info, &wanted.node, text);
    }
    Ok(())
}

/// One word to a POSIX shell, whatever it holds.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_quoted_text_is_one_word_to_a_shell(text in "[^\0]{0,40}") {
            let output = std::process::Command::new("sh")
                .arg("-c")
                .arg(format!("printf %s {}", super::quote(&text)))
                .output()
                .unwrap();
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
    }
}
