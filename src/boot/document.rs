//! The reference of causes, `docs/diagnosis.md`: made from the causes themselves.

use std::fmt::Write as _;

use super::cause::{Cause, Ends};
use super::phase::Phase;

/// What stands before the table, written by hand.
const INTRODUCTION: &str = "\
# Why a node is not ready

A node walks through phases: firmware, network boot, bootloader, kernel, initramfs, userspace, first-boot configuration,
address, SSH port, SSH login, ready command. When it stops, the log names the node, the phase, the likeliest cause with its
code, the lines that speak for it, and what to do.

The judge reads the serial console, the VGA text screen where the serial line is silent, the machine's state, its CPU, disk and
network counters, how far the virtio drivers are, DHCP on its link, whether the guest agent answers, what its SSH port says, and
over SSH, where a login works, cloud-init's status and the journal's warnings. What a program says itself
when it gives up counts most, then what the host sees of the devices, then complaints, then counters, then what merely has not
come. Of several failures the first of the last boot is told, since the others follow from it.

- **not sure**: other causes fit as well; they are listed below the verdict, the likelier first.
- A verdict that more than one thing may follow waits: a message that is only quoted is betrayed by what comes after it. Where
  a node gets further than a cause allows, the cause is withdrawn.
- Without KVM everything takes longer, and what is judged from time alone waits four times as long. What is being waited for
  with a limit of its own, and whatever still reads, prints or computes, is not cut short. A node that is up and whose CPU
  has nothing to do is not slow: for such a node the shorter times count everywhere. The user's own limit is absolute.

A console may print without end. The judge keeps the last 40 lines in memory; on disk a node's console is a file of 16 MiB at
the most and the three that came before it (`NAME.log`, `NAME.log.0` to `.2`), and the recording holds the first 16 MiB, then how
much is missing, then the last 64 KiB.

`nodectl diagnose FILE` judges a recording (JSON lines), or the text of a console; a time or a name that another program wrote
before each of its lines is taken away. Its exit status is 0 when the node got ready, 1 when it did not, 2 when the file cannot
be read.

<!-- What follows is made from src/boot/cause.rs: UPDATE_DOCS=1 cargo test --lib boot::document -->

";

/// The whole document.
pub fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    let _ = writeln!(text, "## The {} causes", Cause::ALL.len());
    for phase in Phase::ALL {
        let causes: Vec<Cause> = Cause::ALL
            .iter()
            .copied()
            .filter(|cause| cause.phase() == phase)
            .collect();
        if causes.is_empty() {
            continue;
        }
        let title = phase.title();
        let (first, rest) = title.split_at(1);
        let _ = writeln!(text, "\n### {}{rest}\n", first.to_uppercase());
        text += "| code | what is the matter | what to do | ends the wait |\n|---|---|---|---|\n";
        for cause in causes {
            let ends = match cause.ends() {
                Ends::After(0) => "at once".to_owned(),
                Ends::After(seconds) => format!("{seconds} s after its sign"),
                Ends::Scaled(seconds) => format!("after {seconds} s; {} s without KVM", seconds * 4),
                Ends::Never => match cause {
                    Cause::SshKeyRefused => "once the first-boot configuration is done".to_owned(),
                    _ => "no: it explains".to_owned(),
                },
            };
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {ends} |",
                cause.code(),
                cause.sentence().replace('|', "\\|"),
                cause.advice().replace('|', "\\|")
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_that_of_the_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/diagnosis.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == markdown(),
            "docs/diagnosis.md is not that of src/boot/cause.rs: UPDATE_DOCS=1 cargo test --lib boot::document"
        );
    }

    #[test]
    fn codes_are_words_and_none_is_twice() {
        let mut codes: Vec<&str> = Cause::ALL.iter().map(|cause| cause.code()).collect();
        assert!(codes.len() >= 40);
        for cause in Cause::ALL {
            let code = cause.code();
            assert!(
                code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'),
                "{code}"
            );
            assert_eq!(serde_json::to_value(cause).unwrap(), code);
            assert!(
                !cause.sentence().ends_with('.') && cause.advice().ends_with('.'),
                "{code}"
            );
        }
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Cause::ALL.len());
    }
}
