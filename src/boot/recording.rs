//! A recording of what was seen of a node, judged as it was judged live; or the text of a console, which is all that
//! somebody may have.

use std::io::{BufRead, Read};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::console::without_secrets;
use super::escapes::Escapes;
use super::evidence::{Evidence, Seen};
use super::judge::Judge;
use super::phase::Phase;
use super::prefix::Prefix;
use super::timeline::Step;
use super::verdict::Verdict;
use crate::fault::Fault;

/// The longest record that is read; a recording has a chunk of the console in each.
const LONGEST: u64 = 16 << 20;

/// Bytes of a plain console that are judged at once.
const CHUNK: usize = 64 << 10;

/// Why a recording cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is neither a recording nor text.
    #[error("{path} holds nothing that can be judged")]
    Nothing {
        /// Its path.
        path: String,
    },
}

impl Fault for Error {
    fn help(&self) -> Option<String> {
        Some(
            match self {
                Self::Read { .. } => "Give the path of a recording (JSON lines) or of a console's text, or - for standard input.",
                Self::Nothing { .. } => "A recording is JSON lines, as `evidence/NODE.jsonl`; anything else is read as the text of a console.",
            }
            .to_owned(),
        )
    }
}

/// What became of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnosis {
    /// Its name, where the recording tells it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// When it got ready, in seconds since power-on.
    pub ready_seconds: Option<f64>,
    /// Why it did not.
    pub verdict: Option<Verdict>,
    /// The phase that it was in last.
    pub phase: Phase,
    /// How often it booted.
    pub boots: u32,
    /// Its phases.
    pub timeline: Vec<Step>,
    /// The phase that took longest.
    pub slowest: Option<Step>,
    /// The last lines of its console.
    pub last_lines: Vec<String>,
    /// Records that were not understood.
    #[serde(default)]
    pub skipped: u64,
    /// Whether the times mean anything: a plain console has none.
    pub timed: bool,
}

impl Diagnosis {
    /// What a judge says now.
    pub fn of(judge: &Judge) -> Self {
        Self {
            node: judge
                .context()
                .map(|context| context.node.clone())
                .unwrap_or_default(),
            ready_seconds: judge.ready().map(|at| at.as_secs_f64()),
            verdict: judge.verdict().map(shown),
            phase: judge.phase(),
            boots: judge.boots(),
            timeline: judge.timeline(),
            slowest: judge.slowest(),
            last_lines: judge
                .last_lines()
                .map(|line| without_secrets(line).into_owned())
                .collect(),
            skipped: 0,
            timed: true,
        }
    }
}

/// Its evidence is quoted in build logs.
fn shown(mut verdict: Verdict) -> Verdict {
    let others = verdict.others.iter_mut().map(|other| &mut other.evidence);
    for line in std::iter::once(&mut verdict.evidence).chain(others).flatten() {
        *line = without_secrets(line).into_owned();
    }
    verdict
}

/// Judges a recording, or a console's text, from a reader. `path` is for messages.
///
/// # Errors
/// It cannot be read, or there is nothing in it.
pub fn diagnose(path: &str, mut from: impl BufRead) -> Result<Diagnosis, Error> {
    let fault = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut first = Vec::new();
    from.by_ref()
        .take(LONGEST)
        .read_until(b'\n', &mut first)
        .map_err(fault)?;
    if first.iter().all(u8::is_ascii_whitespace) && first.is_empty() {
        return Err(Error::Nothing {
            path: path.to_owned(),
        });
    }
    if is_record(&first) {
        recording(first, from).map_err(fault)
    } else {
        console(first, from).map_err(fault)
    }
}

/// A record, perhaps of a kind that is not known here; not a line of a console that looks like JSON.
fn is_record(line: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(line)
        .is_ok_and(|value| value.get("at").is_some() && value.get("kind").is_some())
}

fn recording(first: Vec<u8>, mut from: impl BufRead) -> std::io::Result<Diagnosis> {
    let mut judge = Judge::new();
    let mut skipped = 0;
    let mut line = first;
    loop {
        if !line.iter().all(u8::is_ascii_whitespace) {
            match serde_json::from_slice::<Seen>(&line) {
                Ok(seen) => {
                    skipped += u64::from(seen.what == Evidence::Unknown);
                    // Live, the judge is asked once a second whether something that should have come has not.
                    let mut now = judge.now();
                    while now + STEP < seen.at && seen.at.saturating_sub(now) < LONGEST_GAP {
                        now += STEP;
                        let _ = judge.at(now);
                    }
                    let _ = judge.see(seen);
                }
                Err(_) => skipped += 1,
            }
        }
        line.clear();
        if from.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            break;
        }
    }
    let _ = judge.finish();
    let mut diagnosis = Diagnosis::of(&judge);
    diagnosis.skipped = skipped;
    Ok(diagnosis)
}

const STEP: Duration = Duration::from_secs(1);

/// A gap that no node lives through is a wrong clock.
const LONGEST_GAP: Duration = Duration::from_secs(24 * 3600);

fn console(first: Vec<u8>, mut from: impl BufRead) -> std::io::Result<Diagnosis> {
    let mut judge = Judge::new();
    let mut show = |bytes: Vec<u8>| {
        let _ = judge.see(Seen::new(Duration::ZERO, Evidence::Console { bytes }));
    };
    let mut sample = first;
    from.by_ref().take(CHUNK as u64).read_to_end(&mut sample)?;
    let (escapes, prefix) = {
        let text = String::from_utf8_lossy(&sample);
        let escapes = Escapes::of(&text);
        (escapes, Prefix::of(&escapes.restore(&text)))
    };
    let mut from = std::io::Cursor::new(sample).chain(from);
    if prefix.is_empty() && escapes == Escapes::Kept {
        let mut chunk = vec![0; CHUNK];
        loop {
            let length = from.read(&mut chunk)?;
            if length == 0 {
                break;
            }
            show(chunk.get(..length).unwrap_or_default().to_vec());
        }
    } else {
        let mut line = Vec::new();
        while from.by_ref().take(LONGEST).read_until(b'\n', &mut line)? > 0 {
            // A carriage return may be all that ends a line.
            for piece in String::from_utf8_lossy(&line).split_inclusive('\r') {
                show(prefix.strip(&escapes.restore(piece)).as_bytes().to_vec());
            }
            line.clear();
        }
    }
    let _ = judge.see(Seen::new(
        Duration::ZERO,
        Evidence::End {
            outcome: super::evidence::Outcome::Unknown,
        },
    ));
    let mut diagnosis = Diagnosis::of(&judge);
    diagnosis.timed = false;
    Ok(diagnosis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::cause::Cause;

    fn read(text: &str) -> Diagnosis {
        diagnose("test", text.as_bytes()).unwrap()
    }

    #[test]
    fn a_recording_is_judged_with_its_times() {
        let diagnosis = read(concat!(
            "{\"at\":0,\"kind\":\"context\",\"node\":\"a\",\"accelerator\":\"kvm\"}\n",
            "{\"at\":1,\"kind\":\"console\",\"text\":\"SeaBIOS (version 1.16)\\r\\n\"}\n",
            "not json\n",
            "{\"at\":2,\"kind\":\"newer\"}\n",
            "{\"at\":3,\"kind\":\"console\",\"text\":\"No bootable device.\\r\\n\"}\n",
            "{\"at\":9,\"kind\":\"end\",\"outcome\":\"failed\"}\n",
        ));
        assert_eq!((diagnosis.node.as_str(), diagnosis.skipped), ("a", 2));
        let verdict = diagnosis.verdict.unwrap();
        assert_eq!(verdict.code, Cause::NoBootableDevice);
        assert!(
            verdict.sure && verdict.fatal && verdict.at_seconds == 3.0,
            "{verdict:?}"
        );
    }

    #[test]
    fn a_plain_console_is_judged_too() {
        let diagnosis =
            read("GRUB loading.\nerror: no such partition.\nEntering rescue mode...\ngrub rescue> ");
        assert!(!diagnosis.timed);
        let verdict = diagnosis.verdict.unwrap();
        assert_eq!(verdict.code, Cause::BootloaderRescue);
        assert_eq!(verdict.phase, Phase::Bootloader);
    }

    #[test]
    fn what_others_wrote_before_the_lines_is_not_read() {
        for end in ["\n", "\r\n", "\r"] {
            let lines = [
                "GRUB loading.",
                "error: no such partition.",
                "Entering rescue mode...",
                "grub rescue> ",
            ];
            let text = lines
                .map(|line| format!("node-1  | 2024-05-01T10:00:00Z {line}{end}"))
                .concat();
            assert_eq!(
                read(&text).verdict.unwrap().code,
                Cause::BootloaderRescue,
                "{end:?}"
            );
        }
    }

    #[test]
    fn nothing_is_nothing() {
        assert!(matches!(diagnose("test", &b""[..]), Err(Error::Nothing { .. })));
    }
}
