//! A diagnosis as people read it: the verdict first, then the phases, and no more than fits a screen.

use std::fmt::Write as _;

use super::phase::Phase;
use super::recording::Diagnosis;
use super::verdict::Verdict;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "1;31";
const GREEN: &str = "1;32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

/// Steps that are shown; a node that reboots without end has many.
const STEPS: usize = 14;

/// Columns of text.
const WIDTH: usize = 100;

/// The whole diagnosis.
pub fn diagnosis(diagnosis: &Diagnosis, colour: bool) -> String {
    let mut text = String::new();
    let name = if diagnosis.node.is_empty() {
        "The node"
    } else {
        &diagnosis.node
    };
    match (diagnosis.ready_seconds, &diagnosis.verdict) {
        (Some(seconds), _) => {
            let _ = writeln!(
                text,
                "{}",
                paint(&format!("{name}: ready after {seconds:.1} s"), GREEN, colour)
            );
            if let Some(slowest) = &diagnosis.slowest {
                let _ = writeln!(text, "Slowest: {}, {:.1} s", slowest.phase, slowest.seconds);
            }
        }
        (None, Some(told)) => text += &verdict(name, told, colour),
        (None, None) => {}
    }
    if diagnosis.timed && !diagnosis.timeline.is_empty() {
        text.push('\n');
        text += &phases(diagnosis, colour);
    } else if !diagnosis.timeline.is_empty() {
        // A text has no times.
        let skip = diagnosis.timeline.len().saturating_sub(STEPS);
        let names: Vec<&str> = diagnosis
            .timeline
            .iter()
            .skip(skip)
            .map(|step| step.phase.title())
            .collect();
        let _ = writeln!(text, "\nCame through: {}", names.join(", "));
    }
    if diagnosis.skipped > 0 {
        let _ = writeln!(
            text,
            "\n{} records were not understood and left out.",
            diagnosis.skipped
        );
    }
    text
}

/// A verdict with its evidence and what to do.
pub fn verdict(name: &str, verdict: &Verdict, colour: bool) -> String {
    let mut text = String::new();
    let certain = if verdict.sure { "" } else { ", not sure" };
    let boot = if verdict.boot > 1 {
        format!(", boot {}", verdict.boot)
    } else {
        String::new()
    };
    let _ = writeln!(
        text,
        "{} {}",
        paint(&format!("{name}: {}", verdict.code), RED, colour),
        paint(&format!("({}{boot}{certain})", verdict.phase), DIM, colour)
    );
    for line in wrap(&verdict.sentence, WIDTH) {
        let _ = writeln!(text, "{}", paint(&line, BOLD, colour));
    }
    for line in &verdict.evidence {
        let _ = writeln!(
            text,
            "  {}",
            paint(&format!("│ {}", cut(line, WIDTH)), DIM, colour)
        );
    }
    for (at, line) in wrap(&verdict.advice, WIDTH - 6).into_iter().enumerate() {
        let head = if at == 0 {
            paint("help: ", CYAN, colour)
        } else {
            "      ".to_owned()
        };
        let _ = writeln!(text, "{head}{line}");
    }
    for other in &verdict.others {
        let line = format!("{}: {}", other.code, other.sentence);
        let _ = writeln!(text, "{} {}", paint("or", YELLOW, colour), cut(&line, WIDTH - 3));
    }
    text
}

/// A node's failure as an error tells it, without colour and without what to do: the verdict first.
pub fn failure(name: &str, diagnosis: &Diagnosis) -> String {
    let Some(verdict) = &diagnosis.verdict else {
        return format!("node {name}: not ready");
    };
    let mut text = format!("node {name}: {}", verdict.sentence);
    let certain = if verdict.sure { "" } else { ", not sure" };
    let boot = if diagnosis.boots > 1 {
        format!(", boot {}", diagnosis.boots)
    } else {
        String::new()
    };
    let _ = write!(
        text,
        "\nverdict: {} (phase: {}{boot}{certain})",
        verdict.code, verdict.phase
    );
    for line in &verdict.evidence {
        let _ = write!(text, "\n│ {}", cut(line, WIDTH));
    }
    let steps: Vec<String> = diagnosis
        .timeline
        .iter()
        .filter(|step| step.boot == diagnosis.boots)
        .map(|step| format!("{} {:.1} s", step.phase, step.seconds))
        .collect();
    if !steps.is_empty() {
        let _ = write!(text, "\nphases: {}", steps.join(" → "));
    }
    for other in &verdict.others {
        let _ = write!(text, "\nor: {}: {}", other.code, cut(&other.sentence, WIDTH));
    }
    text
}

fn phases(diagnosis: &Diagnosis, colour: bool) -> String {
    let mut text = String::new();
    let skip = diagnosis.timeline.len().saturating_sub(STEPS);
    if skip > 0 {
        let _ = writeln!(text, "  … {skip} earlier phases");
    }
    let longest = diagnosis.slowest.map_or(0.0, |step| step.seconds).max(0.1);
    let mut boot = 1;
    for step in diagnosis.timeline.iter().skip(skip) {
        if step.boot != boot {
            boot = step.boot;
            let _ = writeln!(text, "  boot {boot}");
        }
        let last = !step.done && diagnosis.ready_seconds.is_none() && step.phase == diagnosis.phase;
        let bar = "▪".repeat(((step.seconds / longest) * 30.0).round().clamp(0.0, 30.0) as usize);
        let mark = if last {
            paint("✗", RED, colour)
        } else {
            paint("✓", GREEN, colour)
        };
        let _ = writeln!(
            text,
            "  {mark} {:<24} {:>8.1} s  {:>8.1} s  {}",
            step.phase.title(),
            step.from_seconds,
            step.seconds,
            paint(&bar, DIM, colour)
        );
    }
    if diagnosis.ready_seconds.is_none() && diagnosis.phase < Phase::Ready {
        let _ = writeln!(text, "  {}", paint("phase, begun at, took", DIM, colour));
    }
    text
}

fn cut(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

fn paint(text: &str, code: &str, colour: bool) -> String {
    if colour && !text.is_empty() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use crate::boot::recording::diagnose;

    #[test]
    fn a_diagnosis_fits_a_screen_and_begins_with_the_verdict() {
        let text = "SeaBIOS (version 1.16.3)\nBooting from Hard Disk...\nGRUB loading.\nWelcome to GRUB!\n\nerror: no such device: 3f1c.\nEntering rescue mode...\ngrub rescue> ";
        let told = diagnose("console", text.as_bytes()).unwrap();
        insta::assert_snapshot!(super::diagnosis(&told, false), @r"
        The node: bootloader-rescue (bootloader)
        GRUB did not find its own files and stopped at its rescue prompt: no such device: 3f1c.
          │ error: no such device: 3f1c.
          │ grub rescue>
        help: The disk is cut short or was copied from a machine with another layout: check the image's
              checksum, or run grub-install again.

        Came through: firmware, bootloader
        ");
        assert!(super::diagnosis(&told, true).starts_with("\x1b[1;31m"));
    }
}
