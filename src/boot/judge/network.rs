//! What is seen on the node's network, and of attempts to log in.

use std::net::IpAddr;

use super::{Contact, Judge};
use crate::boot::cause::Cause;
use crate::boot::evidence::{DhcpMessage, FirstBoot, ReadyCommand, Ssh};
use crate::boot::phase::Phase;

/// Lines of a command's output that are told.
const OUTPUT_LINES: usize = 6;

/// So many connections in a row may be closed at once after a login was refused: half a minute of them.
const SHUT_OUT: u32 = 6;

impl Judge {
    fn is_ours(&self, mac: &str) -> bool {
        self.context.as_ref().is_none_or(|context| {
            context.nics.is_empty() || context.nics.iter().any(|nic| nic.mac.eq_ignore_ascii_case(mac))
        })
    }

    /// The address by which the node is to be reached.
    pub(super) fn expected(&self) -> Option<IpAddr> {
        self.context.as_ref()?.nics.iter().find_map(|nic| nic.address)
    }

    fn is_expected(&self, address: IpAddr) -> bool {
        self.context
            .as_ref()
            .is_some_and(|context| context.nics.iter().any(|nic| nic.address == Some(address)))
    }

    pub(super) fn see_dhcp(&mut self, mac: &str, message: DhcpMessage, address: Option<IpAddr>) {
        if !self.is_ours(mac) {
            return;
        }
        let now = self.now;
        match message {
            DhcpMessage::Discover | DhcpMessage::Request => {
                self.system_or_firmware_asks();
                if self.boot.phase >= Phase::Kernel {
                    self.net.requests += 1;
                    let (first, _, count) = self.net.asked.unwrap_or((now, now, 0));
                    self.net.asked = Some((first, now, count + 1));
                    self.silently_reach(Phase::Address);
                }
            }
            DhcpMessage::Offer => self.net.offers += 1,
            DhcpMessage::Ack => {
                self.net.asked = None;
                self.net.naks = 0;
                self.net.no_lease = None;
                if let Some(address) = address.filter(|_| self.boot.phase >= Phase::Kernel) {
                    self.see_address(mac, address, "given to it by DHCP", false);
                }
            }
            DhcpMessage::Nak => self.net.naks += 1,
            DhcpMessage::Other => {}
        }
    }

    /// A firmware that boots from the network asks for an address as a system does. One that has read much from its disk
    /// has booted that.
    fn system_or_firmware_asks(&mut self) {
        if self.boot.phase >= Phase::Kernel {
            return;
        }
        let read = self.moves.counters.map_or(0, |counters| counters.disk_read_bytes);
        let netboot = self.context.as_ref().is_some_and(|context| context.network_boot);
        if read > 32 << 20 && !netboot {
            self.silently_reach(Phase::Userspace);
        } else {
            self.enter(Phase::Netboot);
        }
    }

    pub(super) fn see_address(&mut self, mac: &str, address: IpAddr, how: &str, answers: bool) {
        let ours = self.is_ours(mac);
        if Some(address) == self.expected() && !ours {
            self.net.clash.get_or_insert((
                self.now,
                format!("{mac} answers to {address}, which is kept for this node"),
            ));
        } else if ours && self.is_expected(address) {
            self.address_is_known(answers);
        } else if ours {
            self.address_is_elsewhere(address, &format!("{address} of {mac}: {how}"));
        }
    }

    pub(super) fn see_told_address(&mut self, address: IpAddr, mac: Option<&str>, text: &str) {
        if self.is_expected(address) {
            self.address_is_known(false);
            return;
        }
        let sure = match mac {
            Some(mac) => self.is_ours(mac),
            // Without a MAC it may be that of any interface, unless there is but one.
            None => {
                self.boot.phase >= Phase::Userspace
                    && self
                        .context
                        .as_ref()
                        .is_some_and(|context| context.nics.len() == 1)
            }
        };
        if sure {
            self.address_is_elsewhere(address, text);
        }
    }

    fn address_is_known(&mut self, answers: bool) {
        let now = self.now;
        if self.net.expected_at.is_none() {
            self.net.expected_at = Some(now);
            self.moves.last = now;
        }
        if answers {
            self.net.answers_itself = true;
            self.net.answered_at = Some(now);
        }
        self.net.elsewhere = None;
        if self.boot.phase == Phase::Address {
            self.enter(Phase::SshPort);
        }
    }

    fn address_is_elsewhere(&mut self, address: IpAddr, how: &str) {
        let usable = match address {
            IpAddr::V4(address) => {
                !address.is_loopback() && !address.is_link_local() && !address.is_unspecified()
            }
            IpAddr::V6(_) => false,
        };
        if usable
            && self.expected().is_some()
            && self.net.elsewhere.is_none()
            && self.net.answered_at.is_none()
        {
            self.net.elsewhere = Some((self.now, address, how.chars().take(200).collect()));
        }
    }

    pub(super) fn see_ssh(&mut self, ssh: Ssh) {
        let (contact, text) = match ssh {
            Ssh::Banner { text } => {
                self.ssh.banner = true;
                self.net.expected_at.get_or_insert(self.now);
                self.net.answered_at = Some(self.now);
                if self.ssh.text.is_empty() {
                    self.ssh.text = text;
                }
                self.leave_for_ssh();
                return;
            }
            Ssh::LoggedIn => return self.logged_in(),
            Ssh::Unknown => return,
            Ssh::Unreachable => (Contact::Unreachable, String::new()),
            Ssh::TimedOut => (Contact::TimedOut, String::new()),
            Ssh::Refused => (Contact::Refused, String::new()),
            Ssh::NoBanner => (Contact::NoBanner, String::new()),
            Ssh::Closed { text } => (Contact::Closed, text),
            Ssh::Denied { text } => (Contact::Denied, text),
            Ssh::Failed { text } => (Contact::Failed, text),
        };
        let has = |words: &[&str]| words.iter().any(|words| text.contains(words));
        let denied = has(&["Permission denied ("]);
        // The keys were exchanged, and the login neither let in nor denied: so a server ends it whose rules for accounts (PAM)
        // refuse this one, whatever it says about it.
        let ended = contact == Contact::Closed && !has(&["kex_exchange_identification", "greeting"]);
        let not_yet = [
            "booting up",
            "not permitted to log in",
            "account is locked",
            "has expired",
            "nologin",
        ]
        .iter()
        .any(|words| text.contains(words));
        let contact = if matches!(
            contact,
            Contact::Unreachable | Contact::TimedOut | Contact::Refused
        ) {
            contact
        } else if !denied && (not_yet || ended) {
            Contact::NotAllowed
        } else if has(&[
            "Host key verification failed",
            "HOST IDENTIFICATION HAS CHANGED",
            "host key is known for",
        ]) {
            Contact::HostKey
        } else if has(&["Please login as the user", "Permission denied ("]) {
            // Images let root in with the cluster's key only to tell it to go away.
            Contact::Denied
        } else {
            contact
        };
        if !text.is_empty() {
            self.ssh.text = text
                .lines()
                .last()
                .unwrap_or_default()
                .chars()
                .take(200)
                .collect();
        }
        if contact != Contact::Unreachable && contact != Contact::TimedOut {
            self.net.expected_at.get_or_insert(self.now);
            self.net.answered_at = Some(self.now);
        }
        match contact {
            Contact::Refused => self.silently_reach(Phase::SshPort),
            Contact::Denied | Contact::NotAllowed | Contact::HostKey => self.leave_for_ssh(),
            _ => {}
        }
        if self.boot.phase == Phase::Address && self.net.expected_at.is_some() {
            self.enter(Phase::SshPort);
        }
        if matches!(contact, Contact::Denied | Contact::HostKey) && self.boot.cloud_done.is_some() {
            self.ssh.denied_after += 1;
        }
        // Who was refused again and again is shut out for a while by OpenSSH 9.8 and later: that says nothing new.
        let refused = self
            .ssh
            .last
            .filter(|(kind, ..)| matches!(kind, Contact::Denied | Contact::NotAllowed));
        if refused.is_some() && contact == Contact::Closed && self.ssh.shut_out < SHUT_OUT {
            self.ssh.shut_out += 1;
            return;
        }
        self.ssh.shut_out = 0;
        self.ssh.last = Some(match self.ssh.last {
            Some((before, since, count)) if before == contact => (contact, since, count.saturating_add(1)),
            _ => (contact, self.now, 1),
        });
    }

    /// An SSH server answers: no firmware and no initial RAM disk has one.
    fn leave_for_ssh(&mut self) {
        self.boot.job = None;
        self.enter(Phase::SshLogin);
    }

    fn logged_in(&mut self) {
        self.leave_for_ssh();
        self.ssh.logged_in.get_or_insert(self.now);
        self.ssh.last = None;
        self.net.answered_at = Some(self.now);
        self.net.expected_at.get_or_insert(self.now);
        let command = self
            .context
            .as_ref()
            .is_some_and(|context| context.ready_command.is_some());
        if command {
            self.enter(Phase::ReadyCommand);
        } else {
            self.be_ready();
        }
    }

    pub(super) fn see_ready_command(&mut self, command: &ReadyCommand) {
        if command.exit_status == Some(0) {
            self.be_ready();
            return;
        }
        self.enter(Phase::ReadyCommand);
        let output = if command.stderr.trim().is_empty() {
            &command.stdout
        } else {
            &command.stderr
        };
        let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
        let evidence: Vec<String> = lines
            .iter()
            .skip(lines.len().saturating_sub(OUTPUT_LINES))
            .map(|line| line.chars().filter(|c| !c.is_control()).take(200).collect())
            .collect();
        let (cause, detail) = match command.exit_status {
            _ if command.timed_out => (Cause::ReadyCommandTimedOut, String::new()),
            Some(127) => (
                Cause::ReadyCommandFailed,
                "exit status 127, the command was not found".to_owned(),
            ),
            Some(status) => (Cause::ReadyCommandFailed, format!("exit status {status}")),
            None => (Cause::ReadyCommandFailed, "ended by a signal".to_owned()),
        };
        self.suspects.remove(&cause);
        self.suspect(cause, detail, evidence);
        if command.will_retry {
            if let Some(suspect) = self.suspects.get_mut(&cause) {
                suspect.ends = None;
            }
        }
    }

    /// `cloud-init status --format json`, src cloudinit/cmd/status.py.
    pub(super) fn see_cloud_init(&mut self, status: &serde_json::Value) {
        let word = |field: &str| {
            status
                .get(field)
                .and_then(|value| value.as_str())
                .unwrap_or_default()
        };
        let mut lines: Vec<String> = Vec::new();
        let strings = |value: &serde_json::Value| -> Vec<String> {
            value
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|line| line.as_str())
                .take(OUTPUT_LINES)
                .map(|line| line.chars().filter(|c| !c.is_control()).take(300).collect())
                .collect()
        };
        if let Some(errors) = status.get("errors") {
            lines.extend(strings(errors));
        }
        let recoverable: Vec<String> = status
            .get("recoverable_errors")
            .and_then(|value| value.as_object())
            .into_iter()
            .flat_map(|levels| levels.values().flat_map(strings))
            .collect();
        let finished = matches!(word("status"), "done" | "error" | "disabled" | "degraded done");
        let invalid = lines
            .iter()
            .chain(&recoverable)
            .find(|line| {
                line.contains("yaml blob")
                    || line.contains("nvalid cloud-config")
                    || line.contains("non-multipart")
            })
            .cloned();
        if word("status") == "error" {
            let detail = lines.first().cloned().unwrap_or_default();
            self.suspect(Cause::CloudInitFailed, detail, lines);
        }
        if let Some(line) = invalid {
            self.suspect(Cause::UserDataInvalid, line.clone(), vec![line]);
        }
        let seeded = self
            .context
            .as_ref()
            .is_some_and(|context| context.first_boot == FirstBoot::CloudInit);
        if word("status") == "disabled" && seeded {
            let why = word("boot_status_code").to_owned();
            self.suspect(Cause::CloudInitAbsent, why, Vec::new());
        }
        if matches!(word("datasource"), "none" | "DataSourceNone") && finished {
            self.suspect(
                Cause::SeedNotFound,
                String::new(),
                vec!["cloud-init status: datasource none".to_owned()],
            );
        }
        if finished {
            self.cloud_init_is_done();
        }
    }

    /// Bytes on Ignition's channel: nothing is written there unless it failed.
    pub(super) fn see_ignition_journal(&mut self, text: &str) {
        let mut detail = String::new();
        let mut evidence = Vec::new();
        for line in text.lines().take(2000) {
            let message = serde_json::from_str::<serde_json::Value>(line)
                .ok()
                .and_then(|entry| entry.get("MESSAGE")?.as_str().map(str::to_owned))
                .unwrap_or_else(|| line.to_owned());
            let message: String = message.chars().filter(|c| !c.is_control()).take(300).collect();
            if let Some((_, why)) = message.split_once("Ignition failed: ") {
                why.clone_into(&mut detail);
                evidence.push(message);
            } else if message.contains("CRITICAL") && evidence.len() < OUTPUT_LINES {
                evidence.push(message);
            }
        }
        if evidence.is_empty() {
            evidence
                .push("the initial RAM disk sent its journal over com.coreos.ignition.journal".to_owned());
        }
        if detail.is_empty() {
            detail = evidence
                .first()
                .filter(|line| line.contains("CRITICAL"))
                .cloned()
                .unwrap_or_default();
        }
        if let Some(known) = self
            .suspects
            .get_mut(&Cause::IgnitionFailed)
            .filter(|known| known.detail.is_empty())
        {
            known.detail.clone_from(&detail);
        }
        self.suspect(Cause::IgnitionFailed, detail, evidence);
    }
}
