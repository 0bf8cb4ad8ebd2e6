//! A line of a console, taken apart: who says it, and what.

/// A line and its parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line<'a> {
    /// All of it.
    pub text: &'a str,
    /// The kernel's own time before it, in seconds since the kernel started.
    pub stamp: Option<f64>,
    /// systemd's or openrc's word on it.
    pub status: Option<Status>,
    /// The program that says it (`dracut-initqueue` of `dracut-initqueue[432]: `).
    pub tag: Option<&'a str>,
    /// What it says.
    pub body: &'a str,
}

/// The word in brackets by which an init system tells how a start went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `[  OK  ]`.
    Good,
    /// `[FAILED]`.
    Failed,
    /// `[DEPEND]`: something that it needs failed.
    Dependency,
    /// `[ TIME ]`: it took too long.
    Timeout,
    /// `[ WARN ]`, `[ INFO ]`, `[ SKIP ]`.
    Other,
    /// `[ ***  ]`: not there yet.
    Running,
}

impl<'a> Line<'a> {
    /// Takes a line apart.
    pub fn of(text: &'a str) -> Self {
        let mut rest = text.trim();
        let mut line = Self {
            text: rest,
            stamp: None,
            status: None,
            tag: None,
            body: rest,
        };
        rest = level(rest);
        if let Some((stamp, after)) = stamp(rest) {
            line.stamp = Some(stamp);
            rest = after;
        }
        if let Some((status, after)) = status(rest) {
            line.status = Some(status);
            rest = after;
        } else if let Some(after) = syslog(rest).or_else(|| line.stamp.and_then(|_| host(rest))) {
            rest = after;
        }
        if let Some((name, after)) = tag(rest) {
            line.tag = Some(name);
            rest = after;
        }
        // Python's own: `2024-05-01 10:00:00,123 - util.py[WARNING]: `.
        if let Some(after) = python(rest) {
            rest = after;
        }
        line.body = rest.trim();
        line
    }

    /// The status at the end of a line (` * Starting sshd ... [ !! ]`), as openrc writes it.
    pub fn failed_at_its_end(&self) -> bool {
        self.body.starts_with("* ") && self.body.ends_with("[ !! ]")
    }
}

/// Where in a line a kernel's message begins after something that had no line end of its own: a prompt, `Loading initrd...`.
pub fn second_message(text: &str) -> Option<usize> {
    text.match_indices('[')
        .skip_while(|(at, _)| *at == 0)
        .find_map(|(at, _)| {
            let before = text.get(..at)?.chars().next_back()?;
            // A message that is quoted, or given to a command, begins no line.
            if matches!(before, '"' | '\'' | '`' | '=' | '(' | '<' | '>' | '|' | ':') {
                return None;
            }
            let quoted = text.get(..at)?.contains(['"', '\'', '`']);
            (!quoted && stamp(text.get(at..)?).is_some()).then_some(at)
        })
}

fn level(text: &str) -> &str {
    let bytes = text.as_bytes();
    match bytes {
        [b'<', b'0'..=b'9', b'>', ..] => text.get(3..).unwrap_or_default().trim_start(),
        _ => text,
    }
}

/// `[   12.345678] `, with `[    T1] ` or `[   C0] ` behind it where the kernel tells its caller.
fn stamp(text: &str) -> Option<(f64, &str)> {
    let inner = text.strip_prefix('[')?;
    let close = inner.get(..24.min(inner.len())).unwrap_or(inner).find(']')?;
    let (number, rest) = inner.split_at(close);
    let (seconds, micros) = number.trim_start().split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(seconds) || !digits(micros) || micros.len() < 3 {
        return None;
    }
    let mut rest = rest.strip_prefix(']')?.trim_start();
    if let Some((caller, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let caller = caller.trim();
        if caller.starts_with(['T', 'C']) && digits(caller.get(1..).unwrap_or_default()) {
            rest = after.trim_start();
        }
    }
    Some((number.trim().parse().ok()?, rest))
}

fn status(text: &str) -> Option<(Status, &str)> {
    let (word, rest) = text.strip_prefix('[')?.split_once(']')?;
    if word.len() > 8 {
        return None;
    }
    let status = match word.trim() {
        "OK" | "ok" => Status::Good,
        "FAILED" | "!!" => Status::Failed,
        "DEPEND" => Status::Dependency,
        "TIME" => Status::Timeout,
        "WARN" | "INFO" | "SKIP" | "NOTICE" => Status::Other,
        stars if !stars.is_empty() && stars.bytes().all(|byte| byte == b'*') => Status::Running,
        _ => return None,
    };
    Some((status, rest.trim_start()))
}

/// `May 12 10:00:00 host ` or `2024-05-01T10:00:00.123456+00:00 host ` of a log that is forwarded to the console.
fn syslog(text: &str) -> Option<&str> {
    let (when, rest) = text.split_once(' ')?;
    // The month is told in the language of whoever shows the log.
    let after = if when.chars().count() <= 4 && when.chars().all(|c| c.is_alphabetic() || c == '.') {
        let (day, rest) = rest.trim_start().split_once(' ')?;
        let (time, rest) = rest.split_once(' ')?;
        let numbers = day.bytes().all(|byte| byte.is_ascii_digit()) && clock(time);
        numbers.then_some(rest)?
    } else {
        let (date, time) = when.split_once('T')?;
        (date.len() == 10 && clock(time.get(..8)?)).then_some(rest)?
    };
    host(after)
}

/// The program that a log names, and what it says.
pub fn logged(text: &str) -> Option<(&str, &str)> {
    tag(syslog(text)?)
}

/// `host ` before a program's name, as in a log, or as `journalctl -o short-monotonic` shows it behind a kernel's stamp.
fn host(text: &str) -> Option<&str> {
    let (name, rest) = text.split_once(' ')?;
    let fits = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    // Only where a program follows, so that no sentence is taken for a log.
    tag(rest).filter(|_| fits).map(|_| rest)
}

/// `10:00:00`.
pub fn clock(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 8
        && bytes.iter().enumerate().all(|(at, byte)| {
            if at == 2 || at == 5 {
                *byte == b':'
            } else {
                byte.is_ascii_digit()
            }
        })
}

/// `name[123]: `, or `kernel: `.
fn tag(text: &str) -> Option<(&str, &str)> {
    let (head, rest) = text
        .split_once(": ")
        .or_else(|| text.strip_suffix(':').map(|head| (head, "")))?;
    if head == "kernel" {
        return Some((head, rest));
    }
    let (name, pid) = head.strip_suffix(']')?.split_once('[')?;
    let fits = (1..=48).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-./@()+".contains(&byte));
    (fits && !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit())).then_some((name, rest))
}

fn python(text: &str) -> Option<&str> {
    let (when, rest) = text.split_once(" - ")?;
    let (date, time) = when.split_once(' ')?;
    (date.len() == 10 && date.starts_with("20") && clock(time.get(..8)?)).then_some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_come_apart() {
        for (text, stamp, status, tag, body) in [
            (
                "[    0.000000] Linux version 6.1",
                Some(0.0),
                None,
                None,
                "Linux version 6.1",
            ),
            (
                "[    0.000000][    T0] Linux version 6.1",
                Some(0.0),
                None,
                None,
                "Linux version 6.1",
            ),
            ("<6>[   12.5000] x", Some(12.5), None, None, "x"),
            (
                "[  OK  ] Reached target X.",
                None,
                Some(Status::Good),
                None,
                "Reached target X.",
            ),
            (
                "[FAILED] Failed to mount /data.",
                None,
                Some(Status::Failed),
                None,
                "Failed to mount /data.",
            ),
            (
                "[ ***  ] Job a/start running (1s / no limit)",
                None,
                Some(Status::Running),
                None,
                "Job a/start running (1s / no limit)",
            ),
            (
                "[  130.1] dracut-initqueue[432]: Warning: x",
                None,
                None,
                None,
                "[  130.1] dracut-initqueue[432]: Warning: x",
            ),
            (
                "[  130.123456] dracut-initqueue[432]: Warning: x",
                Some(130.123456),
                None,
                Some("dracut-initqueue"),
                "Warning: x",
            ),
            (
                "May 12 10:00:00 host sshd[12]: error: x",
                None,
                None,
                Some("sshd"),
                "error: x",
            ),
            (
                "ноя 05 09:41:15 host sshd[12]: error: x",
                None,
                None,
                Some("sshd"),
                "error: x",
            ),
            (
                "[  149.801317] host dracut-initqueue[408]: Warning: x",
                Some(149.801317),
                None,
                Some("dracut-initqueue"),
                "Warning: x",
            ),
            (
                "2024-05-01T10:00:00.123456+00:00 host kernel: x",
                None,
                None,
                Some("kernel"),
                "x",
            ),
            (
                "[   31.100000] cloud-init[512]: 2024-05-01 10:00:00,123 - util.py[WARNING]: Failed",
                Some(31.1),
                None,
                Some("cloud-init"),
                "util.py[WARNING]: Failed",
            ),
            ("error: no such device", None, None, None, "error: no such device"),
        ] {
            let line = Line::of(text);
            assert_eq!(
                (line.stamp, line.status, line.tag, line.body),
                (stamp, status, tag, body),
                "{text}"
            );
        }
    }

    #[test]
    fn a_message_in_the_middle_of_a_line_is_found_unless_quoted() {
        for (text, found) in [
            ("Loading initrd...[    0.000000] Linux", true),
            ("node login: [   50.000000] Kernel panic", true),
            ("[    0.000000] Linux", false),
            ("+ echo '[    1.000000] Kernel panic'", false),
            ("echo \"see [    1.000000] Kernel panic\"", false),
            ("array[1.5] x", false),
        ] {
            assert_eq!(second_message(text).is_some(), found, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_line_is_a_panic(text in "(\\[ *[0-9*.OKa-z]{0,9}\\]?[ :é]?){0,4}.{0,40}") {
            let line = Line::of(&text);
            prop_assert!(text.contains(line.body));
            if let Some(at) = second_message(&text) {
                prop_assert!(at > 0 && text.is_char_boundary(at));
            }
        }
    }
}
