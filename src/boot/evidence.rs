//! What can be seen of one node from outside, and when: what the judge is fed, and what a recording holds.
//!
//! A recording is JSON lines (one [`Seen`] a line), the first of them the [`Context`]. Kinds that a reader does not
//! know (a recording by a newer version) come out as [`Evidence::Unknown`] and change nothing.

use std::net::IpAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One thing seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Seen {
    /// Since the node was switched on, in seconds.
    #[serde(with = "seconds")]
    #[schemars(with = "f64")]
    pub at: Duration,
    /// What was seen.
    #[serde(flatten)]
    pub what: Evidence,
}

impl Seen {
    /// Something seen at a time.
    pub fn new(at: Duration, what: Evidence) -> Self {
        Self { at, what }
    }
}

/// The kinds of evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Evidence {
    /// What the node is; the first record.
    Context(Box<Context>),
    /// A piece of what the serial console printed, raw: it may begin and end anywhere, in a line or an escape.
    Console {
        /// The bytes. In a recording they are text, what is no UTF-8 replaced.
        #[serde(rename = "text", with = "lossy")]
        #[schemars(with = "String")]
        bytes: Vec<u8>,
    },
    /// The VGA text screen as read from the guest's memory: up to 75 lines that were scrolled off its top, and the 25 of
    /// 80 characters that it shows. Sent when it has changed.
    Screen {
        /// From the top.
        lines: Vec<String>,
    },
    /// A change of the virtual machine's own state.
    Life(Life),
    /// Counters, cumulative since power-on.
    Counters(Counters),
    /// The registers of the first CPU, read as to what runs there.
    Registers {
        /// What kind of code it executed.
        mode: CpuMode,
        /// Whether it had halted until the next interrupt: idle.
        halted: bool,
    },
    /// How far the guest's drivers have come with its virtio devices. Sent when it has changed.
    Virtio {
        /// Every virtio device.
        devices: Vec<VirtioDevice>,
    },
    /// A DHCP message seen on the node's link.
    Dhcp {
        /// The client's.
        mac: String,
        /// Which message.
        message: DhcpMessage,
        /// The address that it asks for, offers, or gives.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<IpAddr>,
    },
    /// A lease in the DHCP server's list.
    Lease {
        /// Of the client.
        mac: String,
        /// The address leased.
        address: IpAddr,
    },
    /// An address that answered on the link (ARP, neighbour discovery).
    Neighbour {
        /// Of the one that answered.
        mac: String,
        /// The address it answers to.
        address: IpAddr,
    },
    /// The guest agent's channel was opened or closed by the guest.
    GuestAgent {
        /// Whether it is open.
        connected: bool,
    },
    /// An attempt to log in.
    Ssh(Ssh),
    /// The ready command has ended.
    ReadyCommand(ReadyCommand),
    /// What `cloud-init status --format json` printed in the guest.
    CloudInit {
        /// The JSON value.
        status: serde_json::Value,
    },
    /// Warnings and errors of the guest's own journal of this boot, read over SSH.
    Journal {
        /// `journalctl -o short`, a line each.
        text: String,
    },
    /// Bytes from the virtio-serial port `com.coreos.ignition.journal`: written only when the initramfs gave up.
    IgnitionJournal {
        /// `journalctl -o json`, or whatever it was.
        text: String,
    },
    /// New lines of QEMU's own log of this machine.
    QemuLog {
        /// The lines.
        text: String,
    },
    /// The file system with the node's disks is full, on the host.
    HostDiskFull {
        /// The path of that file system.
        #[serde(default)]
        path: String,
    },
    /// The recording was full: it leaves out some of what the console printed. What comes after this is the end of it.
    ConsoleCut {
        /// How many bytes are left out.
        #[serde(default)]
        bytes: u64,
    },
    /// The recording ends here.
    End {
        /// How the wait ended.
        #[serde(default)]
        outcome: Outcome,
    },
    /// Of a kind that this version does not know.
    #[serde(other)]
    Unknown,
}

/// What the node is, as far as it helps to judge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Context {
    /// Its name.
    pub node: String,
    /// What executes its instructions.
    pub accelerator: Accelerator,
    /// Virtual CPUs.
    pub cpus: u32,
    /// RAM in bytes.
    pub memory: u64,
    /// Its firmware.
    pub firmware: Firmware,
    /// The seed that it was given.
    pub first_boot: FirstBoot,
    /// Its NICs, in order; the first with an expected address is the one it is reached by.
    pub nics: Vec<Nic>,
    /// Its disks, in order; the first is the one it boots from.
    pub disks: Vec<Disk>,
    /// The user's own limit for getting ready, in seconds. Absolute.
    #[serde(with = "maybe_seconds", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>")]
    pub limit: Option<Duration>,
    /// Who is logged in as. Empty: nobody, the node is ready without a login.
    pub ssh_user: String,
    /// The ready command, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_command: Option<String>,
    /// Whether it boots a kernel given by the host rather than from a disk.
    pub direct_kernel: bool,
    /// Whether it is to boot from the network.
    pub network_boot: bool,
    /// Whether DHCP on its link is watched, so that no message seen means that none was sent.
    pub dhcp_watched: bool,
}

/// What executes a guest's instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// The CPU itself.
    Kvm,
    /// QEMU's translator: some ten times slower.
    Tcg,
    /// Not known; judged as patiently as TCG.
    #[default]
    #[serde(other)]
    Unknown,
}

/// The firmware of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF.
    Uefi,
    /// Not known.
    #[default]
    #[serde(other)]
    Unknown,
}

/// The seed of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FirstBoot {
    /// None given.
    None,
    /// A NoCloud disk.
    CloudInit,
    /// A config by fw_cfg.
    Ignition,
    /// Not known.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A NIC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Nic {
    /// `52:54:00:…`, lower case.
    pub mac: String,
    /// The name of its network.
    pub network: String,
    /// The address that its network's DHCP keeps for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
}

/// A disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Disk {
    /// As the host calls it (`vda`).
    pub name: String,
    /// `virtio`, `scsi`, `sata`.
    pub bus: String,
    /// In bytes.
    pub size: u64,
}

/// A change of the virtual machine's own state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Life {
    /// It runs; the power is on.
    Started,
    /// It is off.
    Stopped {
        /// Why.
        #[serde(default)]
        reason: StopReason,
    },
    /// Its kernel has told the host that it panicked (pvpanic).
    Panicked,
    /// It was reset, by itself or by the host. One reboot may come as two of these.
    Rebooted,
    /// Its CPUs do not run.
    Paused {
        /// Why.
        #[serde(default)]
        reason: PauseReason,
    },
    /// Its CPUs run again.
    Resumed,
    /// The host could not read or write one of its disks.
    DiskFailed {
        /// The image file.
        #[serde(default)]
        path: String,
        /// The host's words (`enospc`, `eio`).
        #[serde(default)]
        reason: String,
    },
    /// Of a kind that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Why a machine is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    /// The guest powered off.
    Shutdown,
    /// The host ended it because it was told to.
    Destroyed,
    /// QEMU died.
    Crashed,
    /// QEMU could not be started, or ended with an error.
    Failed,
    /// The guest panicked, and is configured to be stopped then.
    Panicked,
    /// Something else.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Why a machine is paused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PauseReason {
    /// Somebody asked for it.
    User,
    /// The host could not read or write a disk.
    IoError,
    /// The accelerator gave up (QEMU's `internal-error`).
    InternalError,
    /// The guest panicked.
    Panicked,
    /// A watchdog fired.
    Watchdog,
    /// Something else.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Counters, cumulative since power-on. Those that are not known stay 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Counters {
    /// CPU time of all CPUs together, in seconds.
    pub cpu_time_seconds: f64,
    /// Read requests to all disks.
    pub disk_read_requests: u64,
    /// Bytes read from them.
    pub disk_read_bytes: u64,
    /// Bytes written to them.
    pub disk_write_bytes: u64,
    /// Packets towards the guest, all NICs.
    pub net_rx_packets: u64,
    /// Packets from the guest, all NICs.
    pub net_tx_packets: u64,
}

/// What kind of code a CPU executes, as its registers tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CpuMode {
    /// Real mode: BIOS, boot sector.
    Real,
    /// Protected mode of 32 bits without paging: BIOS, a bootloader.
    Protected,
    /// Long mode below 4 GiB with privileges: UEFI firmware or its applications.
    Firmware64,
    /// In the upper half with privileges: an operating system's kernel.
    Kernel,
    /// Without privileges (CPL 3): a program.
    User,
    /// None of these.
    #[serde(other)]
    Unknown,
}

/// A virtio device as the guest has set it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VirtioDevice {
    /// What it is.
    pub device: VirtioKind,
    /// Which of its kind, from 0.
    #[serde(default)]
    pub index: u32,
    /// The guest knows that it is there (VIRTIO 1.2, 2.1).
    #[serde(default)]
    pub acknowledge: bool,
    /// The guest has a driver for it.
    #[serde(default)]
    pub driver: bool,
    /// They agreed on the features.
    #[serde(default)]
    pub features_ok: bool,
    /// It is being driven.
    #[serde(default)]
    pub driver_ok: bool,
    /// The guest has given up on it.
    #[serde(default)]
    pub failed: bool,
    /// How many features the guest uses. A firmware's driver takes few (3 of a disk), an operating system's many (12).
    #[serde(default)]
    pub guest_features: u32,
}

/// Kinds of virtio devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VirtioKind {
    /// A disk, or a controller of disks.
    Block,
    /// A NIC.
    Net,
    /// Serial ports.
    Console,
    /// Entropy.
    Rng,
    /// Memory ballooning.
    Balloon,
    /// Another.
    #[serde(other)]
    Other,
}

/// DHCP's messages (RFC 2132, 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DhcpMessage {
    /// A client looks for a server.
    Discover,
    /// A server offers an address.
    Offer,
    /// A client asks for it.
    Request,
    /// The server gives it.
    Ack,
    /// The server refuses.
    Nak,
    /// Another.
    #[serde(other)]
    Other,
}

/// How an attempt to log in by SSH ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Ssh {
    /// No such host on the link: ARP has no answer, or no route.
    Unreachable,
    /// The port did not answer.
    TimedOut,
    /// The port is closed.
    Refused,
    /// The port is open, and nobody says anything.
    NoBanner,
    /// The server has told its version; the attempt goes on.
    Banner {
        /// `SSH-2.0-…`.
        #[serde(default)]
        text: String,
    },
    /// The server ended the connection before the login was tried.
    Closed {
        /// The client's words.
        #[serde(default)]
        text: String,
    },
    /// The server knows the user's key not.
    Denied {
        /// The client's words.
        #[serde(default)]
        text: String,
    },
    /// Something else went wrong.
    Failed {
        /// The client's words.
        #[serde(default)]
        text: String,
    },
    /// The login worked.
    LoggedIn,
    /// Of a kind that this version does not know.
    #[serde(other)]
    Unknown,
}

/// How a ready command ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ReadyCommand {
    /// Its exit status; none where it did not end by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<i32>,
    /// Whether it was given up on.
    pub timed_out: bool,
    /// Whether it will be tried again: a failure that does not count.
    pub will_retry: bool,
    /// The end of its standard output.
    pub stdout: String,
    /// The end of its standard error.
    pub stderr: String,
}

/// How a recorded wait ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The node got ready.
    Ready,
    /// The judge ended it early.
    Failed,
    /// The time limit ended it.
    TimedOut,
    /// Somebody ended it.
    Aborted,
    /// Not known.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Seconds as a number with decimals; neither negative nor without end.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        // A recording is read by people: microseconds are noise enough.
        to.serialize_f64((time.as_secs_f64() * 1e6).round() / 1e6)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(from)?).map_err(D::Error::custom)
    }
}

mod maybe_seconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::seconds::serialize(time, to),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Option::<f64>::deserialize(from)?
            .map(|seconds| Duration::try_from_secs_f64(seconds).map_err(D::Error::custom))
            .transpose()
    }
}

/// Bytes as text, what is no UTF-8 replaced.
mod lossy {
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&String::from_utf8_lossy(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        String::deserialize(from).map(String::into_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comes_back(json: &str) -> Seen {
        let seen: Seen = serde_json::from_str(json).unwrap();
        let again = serde_json::to_string(&seen).unwrap();
        assert_eq!(serde_json::from_str::<Seen>(&again).unwrap(), seen, "{again}");
        seen
    }

    #[test]
    fn a_recording_reads_and_writes() {
        let seen = comes_back(r#"{"at":1.25,"kind":"life","event":"stopped","reason":"crashed"}"#);
        assert_eq!(seen.at, Duration::from_millis(1250));
        assert_eq!(
            seen.what,
            Evidence::Life(Life::Stopped {
                reason: StopReason::Crashed
            })
        );
        assert_eq!(
            serde_json::to_string(&seen).unwrap(),
            r#"{"at":1.25,"kind":"life","event":"stopped","reason":"crashed"}"#
        );
        comes_back(
            r#"{"at":0,"kind":"context","node":"a","limit":300,"nics":[{"mac":"52:54:00:00:00:01","address":"10.0.0.5"}]}"#,
        );
        comes_back(r#"{"at":2,"kind":"console","text":"\u001b[0mhello\r\n"}"#);
        comes_back(r#"{"at":2,"kind":"screen","lines":["SeaBIOS"]}"#);
        comes_back(r#"{"at":2,"kind":"counters","cpu_time_seconds":1.5,"disk_read_bytes":512}"#);
        comes_back(r#"{"at":2,"kind":"registers","mode":"user","halted":false}"#);
        comes_back(
            r#"{"at":2,"kind":"virtio","devices":[{"device":"block","driver_ok":true,"guest_features":12}]}"#,
        );
        comes_back(r#"{"at":2,"kind":"dhcp","mac":"52:54:00:00:00:01","message":"discover"}"#);
        comes_back(r#"{"at":2,"kind":"ssh","outcome":"denied","text":"Permission denied (publickey)."}"#);
        comes_back(r#"{"at":2,"kind":"ssh","outcome":"logged-in"}"#);
        comes_back(r#"{"at":2,"kind":"ready-command","exit_status":1,"stderr":"no"}"#);
        comes_back(r#"{"at":2,"kind":"cloud-init","status":{"status":"done","errors":[]}}"#);
        comes_back(r#"{"at":2,"kind":"journal","text":"May 12 10:00:00 n systemd[1]: Failed to start x."}"#);
        comes_back(r#"{"at":2,"kind":"end","outcome":"timed-out"}"#);
    }

    #[test]
    fn what_is_newer_than_the_reader_is_tolerated() {
        for json in [
            r#"{"at":3,"kind":"thermometer","celsius":40}"#,
            r#"{"at":3,"kind":"life","event":"teleported","to":"mars"}"#,
            r#"{"at":3,"kind":"ssh","outcome":"quantum"}"#,
            r#"{"at":3,"kind":"life","event":"stopped","reason":"bored"}"#,
            r#"{"at":3,"kind":"counters","new_counter":7}"#,
            r#"{"at":3,"kind":"end"}"#,
        ] {
            comes_back(json);
        }
    }

    #[test]
    fn a_time_that_is_none_is_refused() {
        for at in ["-1", "1e300", "\"1\"", "null"] {
            let json = format!(r#"{{"at":{at},"kind":"end"}}"#);
            assert!(serde_json::from_str::<Seen>(&json).is_err(), "{at}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        let seen = Seen::new(
            Duration::ZERO,
            Evidence::Console {
                bytes: b"a\xffb".to_vec(),
            },
        );
        assert_eq!(
            serde_json::to_string(&seen).unwrap(),
            r#"{"at":0.0,"kind":"console","text":"a�b"}"#
        );
    }
}
