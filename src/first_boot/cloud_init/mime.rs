//! MIME messages (RFC 2045, RFC 2046), as far as cloud-init takes parts by them.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

/// One part of a message.
pub enum Part<'a> {
    /// A file. It goes in as base64, so that not a byte of it is changed.
    Attachment {
        /// Its type, text.
        content_type: &'static str,
        /// The name under which cloud-init logs it.
        file_name: &'static str,
        /// How cloud-init merges it, where not by its default.
        merge_type: Option<&'static str>,
        /// Its content.
        body: &'a [u8],
    },
    /// A MIME message, which becomes a part as it stands: headers, empty line, body.
    Message(&'a str),
}

/// A multipart message of these parts. The same parts give the same bytes.
pub fn message(parts: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        body.push(written(part));
    }
    let boundary = boundary(&body);
    let mut text = format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\nMIME-Version: 1.0\n\n");
    for part in body {
        let _ = write!(text, "--{boundary}\n{part}\n");
    }
    let _ = writeln!(text, "--{boundary}--");
    text.into_bytes()
}

/// The header lines at its beginning: what stands before the first line that is none.
pub fn headers(message: &str) -> &str {
    let message = without_envelope(message);
    let mut end = 0;
    for line in message.split_inclusive('\n') {
        let named = line
            .split_once(':')
            .is_some_and(|(name, _)| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()));
        let continued = end > 0 && line.starts_with([' ', '\t']);
        if !named && !continued {
            break;
        }
        end += line.len();
    }
    message.get(..end).unwrap_or(message)
}

/// An mbox's `From ` line is no header: a message may start with it, a part may not.
fn without_envelope(message: &str) -> &str {
    let message = message.trim_start();
    match message.split_once('\n') {
        Some((first, rest)) if first.starts_with("From ") => rest,
        _ => message,
    }
}

fn written(part: &Part<'_>) -> String {
    match part {
        Part::Message(message) => without_envelope(message).to_owned(),
        Part::Attachment {
            content_type,
            file_name,
            merge_type,
            body,
        } => {
            let mut text = format!(
                "Content-Type: {content_type}; charset=\"utf-8\"\nMIME-Version: 1.0\n\
                 Content-Transfer-Encoding: base64\nContent-Disposition: attachment; filename=\"{file_name}\"\n"
            );
            if let Some(merge_type) = merge_type {
                let _ = writeln!(text, "Merge-Type: {merge_type}");
            }
            // 57 bytes make a line of 76 characters, the most that RFC 2045 allows.
            for line in body.chunks(57) {
                let _ = write!(text, "\n{}", STANDARD.encode(line));
            }
            if body.is_empty() {
                text.push('\n');
            }
            text.push('\n');
            text
        }
    }
}

/// A line that no part holds.
fn boundary(parts: &[String]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    loop {
        let boundary = format!("part-{}", hex::encode(&hash.clone().finalize()[..12]));
        if !parts.iter().any(|part| part.contains(&boundary)) {
            return boundary;
        }
        hash.update("again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_base64_in_short_lines() {
        let body = [b'a'; 58];
        let part = Part::Attachment {
            content_type: "text/x-shellscript",
            file_name: "f",
            merge_type: Some("x"),
            body: &body,
        };
        let message = String::from_utf8(message(&[part])).unwrap();
        insta::assert_snapshot!(message);
    }

    #[test]
    fn a_message_keeps_its_own_boundary() {
        let theirs =
            "From nobody\nContent-Type: multipart/mixed; boundary=b\nMIME-Version: 1.0\n\n--b\n\nx\n--b--\n";
        let message = String::from_utf8(message(&[Part::Message(theirs)])).unwrap();
        assert!(
            message.contains(
                "\nContent-Type: multipart/mixed; boundary=b\nMIME-Version: 1.0\n\n--b\n\nx\n--b--\n"
            )
        );
        assert!(!message.contains("From nobody"));
    }
}
