//! A serial console's bytes as lines that a person can read.

use memchr::memchr2;
use std::borrow::Cow;

/// Turns a console's bytes, in pieces of any size, into lines without escape sequences and control characters.
///
/// A carriage return ends a line as a line feed does, so that a counter that overwrites itself is read each time; so does
/// an escape that clears the screen or moves the cursor to a place. Of a line, the first [`LINE`] bytes are kept: memory is
/// bounded whatever is printed.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    line: Vec<u8>,
    state: State,
    /// Room in which a line becomes text, used again and again.
    text: String,
}

/// The bytes kept of one line.
pub const LINE: usize = 2048;

/// Where in an escape sequence (ECMA-48) the reader is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate byte.
    Intermediate,
    /// In a control sequence.
    Control,
    /// In an operating system command, which ends with BEL or ESC \\.
    Command,
}

impl Reader {
    /// Reads on; `each` gets every line that holds anything.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(&str)) {
        while let Some(end) = memchr2(b'\n', b'\r', bytes) {
            let (piece, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            if self.line.is_empty() && self.state == State::Text && piece.len() <= LINE && plain(piece) {
                if let Ok(text) = std::str::from_utf8(piece) {
                    if !text.is_empty() {
                        each(text);
                    }
                    continue;
                }
            }
            self.slowly(piece, &mut each);
            // An escape that a line end cuts short is noise: it must not swallow what follows.
            self.state = State::Text;
            self.end(&mut each);
        }
        self.slowly(bytes, &mut each);
    }

    /// The line that has not ended yet: a prompt.
    pub fn partial(&self) -> String {
        let mut text = String::new();
        put_text(&self.line, &mut text);
        text
    }

    fn end(&mut self, each: &mut impl FnMut(&str)) {
        if !self.line.is_empty() {
            self.text.clear();
            put_text(&self.line, &mut self.text);
            self.line.clear();
            if !self.text.is_empty() {
                each(&self.text);
            }
        }
    }

    fn slowly(&mut self, bytes: &[u8], each: &mut impl FnMut(&str)) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            if self.state == State::Text && byte >= b' ' && byte != 0x7f {
                let run = run_of(rest, |byte| byte >= b' ' && byte != 0x7f);
                let (text, after) = rest.split_at(run);
                let room = LINE.saturating_sub(self.line.len());
                self.line
                    .extend_from_slice(text.get(..room.min(run)).unwrap_or_default());
                rest = after;
                continue;
            }
            rest = after;
            match (self.state, byte) {
                (State::Text, 0x1b) => self.state = State::Escape,
                (State::Text, b'\t') => self.keep(b' '),
                (State::Text, 0x08) => {
                    // What remains of a character of several bytes is replaced in the end.
                    self.line.pop();
                }
                (State::Text, 0..=0x1f | 0x7f) => {}
                (State::Text, byte) => self.keep(byte),
                (State::Escape, b'[') => self.state = State::Control,
                (State::Escape, b']') => self.state = State::Command,
                (State::Escape, b' '..=b'/') => self.state = State::Intermediate,
                (State::Escape, b'c') => {
                    self.state = State::Text;
                    self.end(each);
                }
                (State::Escape | State::Intermediate, 0x1b) => self.state = State::Escape,
                (State::Intermediate, b' '..=b'/') => {}
                (State::Escape | State::Intermediate, _) => self.state = State::Text,
                (State::Control | State::Command, 0x1b) => self.state = State::Escape,
                (State::Control, b'J' | b'H' | b'f') => {
                    self.state = State::Text;
                    self.end(each);
                }
                (State::Control, b'@'..=b'~') => self.state = State::Text,
                (State::Control, _) => {}
                (State::Command, 0x07) => self.state = State::Text,
                (State::Command, _) => {}
            }
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.line.len() < LINE {
            self.line.push(byte);
        }
    }
}

/// Printable ASCII throughout. Without an early end, so that the compiler makes wide instructions of it.
fn plain(bytes: &[u8]) -> bool {
    !bytes
        .iter()
        .fold(false, |other, byte| other | !(b' '..=b'~').contains(byte))
}

/// How many bytes from the start on are of a kind. In blocks without an early end, as [`plain`].
fn run_of(bytes: &[u8], is: impl Fn(u8) -> bool) -> usize {
    const BLOCK: usize = 32;
    let whole = bytes
        .chunks_exact(BLOCK)
        .take_while(|block| block.iter().fold(true, |all, byte| all & is(*byte)))
        .count()
        * BLOCK;
    let rest = bytes.get(whole..).unwrap_or_default();
    whole + rest.iter().position(|byte| !is(*byte)).unwrap_or(rest.len())
}

/// Appends bytes as text: a run of what is no UTF-8 as one replacement character, C1 controls (two bytes of UTF-8 each) not
/// at all. By hand, since noise has something to be replaced in every third byte.
fn put_text(mut bytes: &[u8], text: &mut String) {
    while let Some(first) = bytes.first() {
        if first.is_ascii() {
            let (run, rest) = bytes.split_at(run_of(bytes, |byte| byte.is_ascii()));
            text.push_str(std::str::from_utf8(run).unwrap_or_default());
            bytes = rest;
        } else if let Some((character, length)) = character(bytes) {
            if !character.is_control() {
                text.push(character);
            }
            bytes = bytes.get(length..).unwrap_or_default();
        } else {
            if !text.ends_with(char::REPLACEMENT_CHARACTER) {
                text.push(char::REPLACEMENT_CHARACTER);
            }
            bytes = bytes.get(1..).unwrap_or_default();
        }
    }
}

/// The character of several bytes at the start, and its length.
fn character(bytes: &[u8]) -> Option<(char, usize)> {
    let length = match bytes.first()? {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return None,
    };
    let text = std::str::from_utf8(bytes.get(..length)?).ok()?;
    Some((text.chars().next()?, length))
}

/// The last `count` lines that hold anything, without escape sequences, carriage returns, backspaces and other control
/// characters; each cut at `WIDTH` characters.
pub fn last_lines(bytes: &[u8], count: usize) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines: Vec<String> = text
        .split('\n')
        .map(clean)
        .map(|line| without_secrets(&line).into_owned())
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines.drain(..lines.len().saturating_sub(count));
    lines
}

/// A line as it may be shown to everybody. Ignition prints its whole configuration when it fails, with the node's private host
/// key in it as a `data:` URL (RFC 2397).
pub fn without_secrets(line: &str) -> Cow<'_, str> {
    const MARK: &str = "base64,";
    let is_data = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '%' | '-' | '_');
    if !line.contains(MARK) {
        return Cow::Borrowed(line);
    }
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once(MARK) {
        shown.push_str(before);
        shown.push_str(MARK);
        rest = after.trim_start_matches(is_data);
        if rest.len() < after.len() {
            shown.push('…');
        }
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// A log line that is longer is noise to whoever reads a build log.
const WIDTH: usize = 400;

fn clean(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.trim_end_matches('\r').chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => skip_escape(&mut chars),
            // What was printed before a carriage return is overwritten by what follows, as on a terminal.
            '\r' => out.clear(),
            '\x08' => {
                out.pop();
            }
            '\t' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out.truncate(out.char_indices().nth(WIDTH).map_or(out.len(), |(at, _)| at));
    out.trim_end().to_owned()
}

/// ECMA-48: CSI runs to a byte in `@`..`~`, OSC to BEL or ESC \, any other escape is intermediates and one final.
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        Some('[') => {
            for c in chars.by_ref() {
                if ('@'..='~').contains(&c) {
                    break;
                }
            }
        }
        Some(']') => {
            while let Some(c) = chars.next() {
                if c == '\x07' || (c == '\x1b' && chars.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        Some(' '..='/') => {
            chars.find(|c| !(' '..='/').contains(c));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{LINE, Reader, last_lines, without_secrets};

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut reader = Reader::default();
        let mut lines = Vec::new();
        for piece in pieces {
            reader.feed(piece, |line| lines.push(line.to_owned()));
        }
        lines.push(reader.partial());
        lines
    }

    #[test]
    fn what_clears_or_overwrites_ends_a_line() {
        assert_eq!(
            lines(&[
                b"Loading ok\x1b[2J\x1b[1;1HLinux\tversion\r\n1%\r2%\r\n[\x1b[0;32m  OK  \x1b[0m] up\nlo",
                b"gin: "
            ]),
            [
                "Loading ok",
                "Linux version",
                "1%",
                "2%",
                "[  OK  ] up",
                "login: "
            ]
        );
        assert_eq!(lines(&[b"\x1b]0;never ended\nafter\n"]), ["after", ""]);
        assert_eq!(
            lines(&[b"a\xff\xfe\x80b\xc2\x9fc\xe2\x82\xacd\xe2\x82\n"]),
            ["a\u{fffd}bc\u{20ac}d\u{fffd}", ""]
        );
        assert_eq!(lines(&[&[b'x'; 9000], b"\n"])[0].len(), LINE);
    }

    #[test]
    fn a_console_reads_as_a_person_saw_it() {
        let console = b"SeaBIOS\x1b[2J\x1b[1;1H\r\n\r\n[  OK  ] \x1b[0;32mReached\x1b[0m target\r\n10%\r100%\r\nlogin: x\x08\r\n\x1b]0;title\x07end";
        assert_eq!(
            last_lines(console, 10),
            ["SeaBIOS", "[  OK  ] Reached target", "100%", "login:", "end"]
        );
        assert_eq!(last_lines(console, 1), ["end"]);
    }

    #[test]
    fn what_a_configuration_holds_is_not_shown() {
        assert_eq!(
            without_secrets("a \"source\": \"data:;base64,c2VjcmV0\", \"mode\": 384, base64,Zm9v and on"),
            "a \"source\": \"data:;base64,…\", \"mode\": 384, base64,… and on"
        );
        assert_eq!(last_lines(b"x base64,c2VjcmV0", 1), ["x base64,…"]);
    }

    proptest! {
        #[test]
        fn it_matters_not_how_the_bytes_are_cut(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b"\x1b[]\r\n\x08JH0;m\xc3\xa9a "[..])], 0..600),
            cuts in proptest::collection::vec(0usize..600, 0..8),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            pieces.push(&bytes[from..]);
            prop_assert_eq!(lines(&pieces), lines(&[&bytes]));
        }

        #[test]
        fn no_byte_gets_through_that_a_terminal_would_obey(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let lines = last_lines(&bytes, 7);
            prop_assert!(lines.len() <= 7);
            for line in lines {
                prop_assert!(!line.chars().any(char::is_control), "{line:?}");
                prop_assert!(line.chars().count() <= 400);
            }
        }
    }
}
