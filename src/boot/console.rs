//! A serial console's bytes as lines that a person can read.

/// The last `count` lines that hold anything, without escape sequences, carriage returns, backspaces and other control
/// characters; each cut at `WIDTH` characters.
pub fn last_lines(bytes: &[u8], count: usize) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines: Vec<String> = text
        .split('\n')
        .map(clean)
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines.drain(..lines.len().saturating_sub(count));
    lines
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

    use super::last_lines;

    #[test]
    fn a_console_reads_as_a_person_saw_it() {
        let console = b"SeaBIOS\x1b[2J\x1b[1;1H\r\n\r\n[  OK  ] \x1b[0;32mReached\x1b[0m target\r\n10%\r100%\r\nlogin: x\x08\r\n\x1b]0;title\x07end";
        assert_eq!(
            last_lines(console, 10),
            ["SeaBIOS", "[  OK  ] Reached target", "100%", "login:", "end"]
        );
        assert_eq!(last_lines(console, 1), ["end"]);
    }

    proptest! {
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
