//! A report as people read it.

use std::fmt::Write as _;

use super::{Report, Verdict};

/// The report as lines of text: a verdict, a title, what was found; the cure indented below where one is needed.
pub fn table(report: &Report, colour: bool) -> String {
    let width = report
        .checks
        .iter()
        .map(|check| check.title.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for check in &report.checks {
        let (word, code) = match check.verdict {
            Verdict::Ok => ("ok  ", "32"),
            Verdict::Warn => ("warn", "33"),
            Verdict::Fail => ("FAIL", "1;31"),
            Verdict::Skip => ("skip", "2"),
        };
        let _ = writeln!(
            text,
            "{}  {:width$}  {}",
            paint(word, code, colour),
            check.title,
            check.found
        );
        for line in &check.evidence {
            let _ = writeln!(
                text,
                "{:6}{:width$}  {}",
                "",
                "",
                paint(&format!("| {line}"), "2", colour)
            );
        }
        for line in check.cure.iter().flat_map(|cure| cure.lines()) {
            let _ = writeln!(text, "{:6}{:width$}  -> {line}", "", "");
        }
    }
    let kvm = report
        .checks
        .iter()
        .any(|check| check.id == "kvm" && check.verdict == Verdict::Ok);
    let (sentence, code) = match (report.able, kvm) {
        (true, true) => ("Nodes can boot here, with hardware virtualisation (KVM).", "1;32"),
        (true, false) => (
            "Nodes can boot here, but without KVM: many times slower (TCG).",
            "1;33",
        ),
        (false, _) => ("Nodes cannot boot here.", "1;31"),
    };
    let _ = writeln!(text, "\n{}", paint(sentence, code, colour));
    text
}

fn paint(text: &str, code: &str, colour: bool) -> String {
    if colour {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Check;

    #[test]
    fn a_report_reads_well() {
        let report = Report::new(vec![
            Check::new("kvm", "KVM", Verdict::Warn, "/dev/kvm is missing").cured_by("Set it.\nOr not."),
            Check::new("tun", "/dev/net/tun", Verdict::Ok, "opens"),
            Check::new("libvirtd", "libvirtd", Verdict::Fail, "died")
                .with_evidence(vec!["no space".to_owned()]),
        ]);
        insta::assert_snapshot!(table(&report, false), @r"
        warn  KVM           /dev/kvm is missing
                            -> Set it.
                            -> Or not.
        ok    /dev/net/tun  opens
        FAIL  libvirtd      died
                            | no space

        Nodes cannot boot here.
        ");
        assert!(table(&report, true).contains("\x1b[1;31mFAIL\x1b[0m"));
    }
}
