//! What somebody else has written before every line of a console: a time, a name. A live console has none; a file that somebody
//! keeps mostly went through `docker logs`, `ts`, a test's or a build's log.

use super::line::{Line, clock, logged};
use super::marks::{speaks, worth_reading};

/// So many lines must agree.
const LINES: usize = 3;

/// The longest name that is looked for.
const LONGEST: usize = 64;

/// A time before a name, or the other way round, and one more.
const LAYERS: usize = 3;

/// One thing that stands before every line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Layer {
    /// `2024-05-01T10:00:00.123Z `, `[10:00:00] `.
    Time,
    /// `node-1  | `, `machine # `, `[node-1] `.
    Name(String),
    /// `May 12 10:00:00 host qemu[12]: `: the journal of the host, where what runs the machine prints its console.
    Log(String),
}

/// All that stands before every line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefix(Vec<Layer>);

impl Prefix {
    /// What most of these lines have before them.
    pub fn of(sample: &str) -> Self {
        let ends = ['\n', '\r'];
        let mut lines: Vec<&str> = sample
            .split(ends)
            .filter(|line| !line.trim().is_empty())
            .collect();
        let mut layers = Vec::new();
        while layers.len() < LAYERS && lines.len() >= LINES {
            let Some(layer) = layer(&lines) else { break };
            for line in &mut lines {
                *line = layer.strip(line);
            }
            layers.push(layer);
            lines.retain(|line| !line.trim().is_empty());
        }
        Self(layers)
    }

    /// Whether there is nothing to take away.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A line without it.
    pub fn strip<'a>(&self, line: &'a str) -> &'a str {
        self.0.iter().fold(line, |line, layer| layer.strip(line))
    }
}

impl Layer {
    fn strip<'a>(&self, line: &'a str) -> &'a str {
        let rest = match self {
            Self::Time => time(line),
            // A line with nothing behind the name may have lost its blank.
            Self::Name(name) => line
                .strip_prefix(name.as_str())
                .or_else(|| (line.trim_end() == name.trim_end()).then_some("")),
            Self::Log(program) => logged(line)
                .filter(|(name, _)| name == program)
                .map(|(_, rest)| rest),
        };
        rest.unwrap_or(line)
    }

    fn is_before(&self, line: &str) -> bool {
        self.strip(line).len() < line.len()
    }
}

fn layer(lines: &[&str]) -> Option<Layer> {
    let most = |layer: &Layer| {
        let count = lines.iter().filter(|line| layer.is_before(line)).count();
        count * 10 >= lines.len() * 9
    };
    if most(&Layer::Time) {
        return Some(Layer::Time);
    }
    let log = |line: &str| {
        let (program, _) = logged(line)?;
        (!speaks(program)).then(|| Layer::Log(program.to_owned()))
    };
    // The first line may be whole by chance; what stands before the second stands before all.
    lines
        .iter()
        .take(2)
        .filter_map(|line| log(line).or_else(|| Some(Layer::Name(name(line)?.to_owned()))))
        .find(most)
}

/// What may be a name before a line: up to a separator, and no part of what a boot prints.
fn name(line: &str) -> Option<&str> {
    let parts = Line::of(line);
    if parts.stamp.is_some() || parts.status.is_some() || parts.tag.is_some() {
        return None;
    }
    let bracket = line.starts_with('[');
    let separator = line
        .char_indices()
        .take_while(|(at, _)| *at < LONGEST)
        .find_map(|(at, c)| (matches!(c, '|' | '#') || (bracket && c == ']')).then_some(at))?;
    let mut end = separator + 1;
    // A coloured name ends with an escape sequence.
    if let Some((escape, _)) = line
        .get(end..)?
        .strip_prefix("\x1b[")
        .and_then(|rest| rest.split_once('m'))
    {
        end += escape.len() + 3;
    }
    if line.get(end..)?.starts_with(' ') {
        end += 1;
    }
    line.get(..end).filter(|name| !worth_reading(name))
}

/// What follows a time that nobody of the boot has written: a log's has a host and a program behind it, Python's a dash.
fn time(line: &str) -> Option<&str> {
    if Line::of(line).tag.is_some() {
        return None;
    }
    let (bracket, text) = match line.strip_prefix('[') {
        Some(text) => (true, text),
        None => (false, line),
    };
    let date = text.get(..11).filter(|date| {
        date.get(4..5) == Some("-") && date.get(7..8) == Some("-") && date.ends_with(['T', ' '])
    });
    let text = text.get(date.map_or(0, str::len)..)?;
    let after = clock(text.get(..8)?).then(|| text.get(8..)).flatten()?;
    // Fractions and the zone.
    let after =
        after.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | '+' | ':' | 'Z'));
    let after = if bracket { after.strip_prefix(']')? } else { after };
    let rest = match after.strip_prefix(' ') {
        Some(rest) => rest,
        None if after.trim().is_empty() => after,
        None => return None,
    };
    (!rest.starts_with("- ")).then_some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOOT: &str = "[    0.000000] Linux version 6.1\n\n[    1.000000] Run /init as init process\n\
        Loading, please wait...\nBegin: Mounting root file system ... done.\n[  OK  ] Reached target x.\nnode login: ";

    #[test]
    fn what_stands_before_every_line_is_taken_away() {
        for before in [
            "machine # ",
            "node-1  | ",
            "\x1b[36mnode-1  |\x1b[0m ",
            "[guest0/uart0] ",
            "2024-05-01T10:00:00.123456Z ",
            "2024-05-01 10:00:00 ",
            "[2024-05-01 10:00:00] ",
            "[10:00:00.123] ",
            "10:00:00 ",
            "node-1  | 2024-05-01T10:00:00Z ",
            "May 12 10:00:00 host microvm@node[12]: ",
            "2024-05-01T10:00:00.123456+00:00 host qemu[12]: ",
            "2024-05-01T10:00:00Z [node-1] ",
        ] {
            let text = BOOT
                .lines()
                .map(|line| format!("{before}{line}\n"))
                .collect::<Vec<_>>()
                .concat();
            let prefix = Prefix::of(&text);
            let told: Vec<&str> = text.lines().map(|line| prefix.strip(line)).collect();
            assert_eq!(told, BOOT.lines().collect::<Vec<_>>(), "{before:?}");
        }
    }

    #[test]
    fn what_a_boot_prints_is_left_alone() {
        let log = |line: &str| format!("{line}\n").repeat(9);
        for text in [
            BOOT.to_owned(),
            log("[    0.000000] BIOS-e820: x"),
            log("[  OK  ] Started x."),
            log("[talos] phase x"),
            log("May 12 10:00:00 host kernel: x"),
            log("2024-05-01T10:00:00.123456+00:00 host sshd[1]: x"),
            log("2024-05-01 10:00:00,123 - util.py[WARNING]: x"),
            log("BdsDxe: failed to load x"),
            log("ci-info: | eth0 | True |"),
            "machine # a\nmachine # b\n".to_owned(),
        ] {
            assert!(Prefix::of(&text).is_empty(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in "([\\[0-9T:\\- .|#\\]é\u{1b}m]{0,20}\n){0,9}") {
            let prefix = Prefix::of(&text);
            for line in text.lines() {
                prop_assert!(line.ends_with(prefix.strip(line)));
            }
        }
    }
}
