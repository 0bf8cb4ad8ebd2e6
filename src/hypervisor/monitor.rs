//! Questions to a domain's QEMU, through libvirt, that libvirt itself has no words for.
//!
//! Each marks the domain as tainted (`custom-monitor`) in libvirt's log, which changes nothing else.

use serde_json::{Value, json};
use virt::sys;

use super::connection::Connection;
use super::error::{Action, HypervisorError, Thing};
use super::registers::Registers;
use super::screen::{self, Picture, TextMemory, TextScreen};
use super::virtio::{self, VirtioState};

/// What a domain's QEMU can be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// The state of its virtio devices (QEMU 7.2 and later; marked as unstable there).
    pub virtio: bool,
    /// Commands for people, such as those for registers and memory.
    pub human: bool,
}

impl Connection {
    /// What a domain's QEMU can be asked: by its own list, since much of this comes and goes with versions.
    pub fn questions(&self, domain: &str) -> Result<Questions, HypervisorError> {
        let known = self.qmp(domain, "query-commands", json!({}))?;
        let knows = |wanted: &str| {
            let commands = known.as_array().into_iter().flatten();
            commands.into_iter().any(|command| command["name"] == wanted)
        };
        Ok(Questions {
            virtio: knows("x-query-virtio") && knows("x-query-virtio-status"),
            human: knows("human-monitor-command"),
        })
    }

    /// What its QEMU is doing, in QEMU's words (qapi/run-state.json): `running`, `paused`, `io-error`, `internal-error`,
    /// `guest-panicked`. libvirt's events do not tell all of these apart.
    pub fn run_state(&self, domain: &str) -> Result<String, HypervisorError> {
        let status = self.qmp(domain, "query-status", json!({}))?;
        let state = status["status"].as_str();
        state
            .map(str::to_owned)
            .ok_or_else(|| no_answer(domain, "query-status", &status.to_string()))
    }

    /// How far the guest has come with each of its virtio devices.
    pub fn virtio(&self, domain: &str) -> Result<Vec<VirtioState>, HypervisorError> {
        let devices = self.qmp(domain, "x-query-virtio", json!({}))?;
        let mut states = Vec::new();
        for path in virtio::paths(&devices) {
            let status = self.qmp(domain, "x-query-virtio-status", json!({ "path": path }))?;
            states.extend(virtio::state(&status));
        }
        Ok(states)
    }

    /// The registers of its first CPU.
    pub fn registers(&self, domain: &str) -> Result<Registers, HypervisorError> {
        let command = "info registers";
        let text = self.hmp(domain, command)?;
        Registers::parse(&text).ok_or_else(|| no_answer(domain, command, &text))
    }

    /// The memory of its VGA display in text mode.
    pub fn text_memory(&self, domain: &str) -> Result<TextMemory, HypervisorError> {
        let text = self.hmp(domain, screen::COMMAND)?;
        TextMemory::parse(&text).ok_or_else(|| no_answer(domain, screen::COMMAND, &text))
    }

    /// What its VGA display shows of that memory; `None` where that is no text.
    pub fn text_screen(&self, domain: &str, memory: &TextMemory) -> Option<TextScreen> {
        // A picture costs more than the memory, and is needed only where more than one place may be meant.
        let picture = memory
            .is_scrolled()
            .then(|| self.screenshot(domain).ok())
            .flatten();
        memory.text(picture.as_deref().and_then(Picture::parse).as_ref())
    }

    /// Asks QEMU in its own protocol (QMP), and gives what it returned.
    fn qmp(&self, domain: &str, command: &str, arguments: Value) -> Result<Value, HypervisorError> {
        let question = json!({ "execute": command, "arguments": arguments }).to_string();
        let text = self.ask(domain, &question, sys::VIR_DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT)?;
        let mut answer: Value = serde_json::from_str(&text).map_err(|_| no_answer(domain, command, &text))?;
        match answer.get_mut("return") {
            Some(value) => Ok(value.take()),
            None => {
                let said = answer["error"]["desc"].as_str().unwrap_or(&text);
                Err(no_answer(domain, command, said))
            }
        }
    }

    /// Asks QEMU as a person would at its monitor.
    fn hmp(&self, domain: &str, command: &str) -> Result<String, HypervisorError> {
        self.ask(domain, command, sys::VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP)
    }

    fn ask(&self, domain: &str, question: &str, flags: u32) -> Result<String, HypervisorError> {
        let refused = |error| HypervisorError::refused(Action::Ask, Thing::Domain(domain.to_owned()), error);
        let found = self.connect().lookup_domain_by_name(domain).map_err(refused)?;
        found.qemu_monitor_command(question, flags).map_err(refused)
    }
}

/// The answer is quoted as far as it fits a line.
fn no_answer(domain: &str, command: &str, said: &str) -> HypervisorError {
    let said: String = said.trim().chars().take(200).collect();
    HypervisorError::Monitor {
        domain: domain.to_owned(),
        command: command.to_owned(),
        said: said.replace(['\r', '\n'], " "),
    }
}
