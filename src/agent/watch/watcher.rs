//! The one task through which all evidence of a node passes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::pace::Pace;
use super::recording::{Limits, Recording};
use super::rounds::{Found, Rounds};
use super::tail::{Tail, incomplete};
use super::{Gathered, Subject, hardware, link, logs};
use crate::boot::evidence::{Counters, Evidence, Life, Seen, Ssh};
use crate::hypervisor::{DiskCounters, qemu_log};

/// How often the console is looked at while it prints.
const BUSY: Duration = Duration::from_millis(100);

/// How often once it has been silent for [`QUIET`].
const LAZY: Duration = Duration::from_millis(250);

/// See [`LAZY`].
const QUIET: Duration = Duration::from_secs(5);

/// What is read of a console at a time.
const CHUNK: usize = 16 << 10;

/// When a machine stops, what it printed last is still on its way through virtlogd.
const SETTLE: Duration = Duration::from_millis(200);

/// How much evidence may wait to be told. Those who gather it wait when it is too much.
const WAITING: usize = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Watcher {
    began: Instant,
    rounds: Arc<Rounds>,
    subject: Subject,
    notes: mpsc::UnboundedReceiver<Evidence>,
    sender: mpsc::Sender<Seen>,
    /// Told when nobody can be waited for any more.
    closing: Arc<Notify>,
    closed: bool,
    recording: Option<Recording>,
    console: Tail,
    /// Of the console: the beginning of a character that is not complete.
    half: Vec<u8>,
    last_word: Instant,
    pace: Arc<Pace>,
}

impl Watcher {
    pub fn new(
        rounds: Arc<Rounds>,
        subject: Subject,
        notes: mpsc::UnboundedReceiver<Evidence>,
        sender: mpsc::Sender<Seen>,
        closing: Arc<Notify>,
    ) -> Self {
        Self {
            began: Instant::now(),
            rounds,
            notes,
            sender,
            closing,
            closed: false,
            recording: None,
            console: Tail::new(&subject.console),
            half: Vec::new(),
            last_word: Instant::now(),
            pace: Arc::new(Pace::new()),
            subject,
        }
    }

    /// Watches until it is told the end, or nobody is left who could tell it.
    pub async fn run(mut self) {
        match Recording::create(&self.subject.recording, Limits::default()).await {
            Ok(recording) => self.recording = Some(recording),
            Err(error) => self.not_recorded(&error),
        }
        // Dropped with this future, and all that was spawned with it.
        let mut helpers = JoinSet::new();
        let (sender, mut gathered) = mpsc::channel(WAITING);
        self.begin(&mut helpers, sender).await;
        let mut next_look = Instant::now();
        loop {
            tokio::select! {
                note = self.notes.recv() => match note {
                    Some(note) => {
                        if self.note(note).await {
                            return;
                        }
                    }
                    None => return,
                },
                Some(evidence) = gathered.recv() => self.put(evidence).await,
                () = sleep_until(next_look) => next_look = self.read_console().await,
            }
        }
    }

    /// The context, and those who gather.
    async fn begin(&mut self, helpers: &mut JoinSet<()>, sender: Gathered) {
        let connection = self.rounds.connection();
        let domain = self.subject.domain.clone();
        let ears = link::ears(&connection, &domain).await.unwrap_or_else(|error| {
            eprintln!("{domain}: {}", crate::fault::tell(&error));
            Vec::new()
        });
        let mut context = self.subject.context.clone();
        context.dhcp_watched = !ears.is_empty() && ears.len() == context.nics.len();
        let node = link::Node::new(&context);
        self.put(Evidence::Context(Box::new(context))).await;
        self.put(Evidence::Life(Life::Started)).await;
        for ear in ears {
            helpers.spawn(link::listen(ear, node.clone(), sender.clone()));
        }
        helpers.spawn(hardware::watch(
            connection,
            domain.clone(),
            self.pace.clone(),
            sender.clone(),
        ));
        helpers.spawn(logs::qemu(qemu_log(&domain), sender.clone()));
        if let Some(journal) = self.subject.ignition_journal.clone() {
            helpers.spawn(logs::ignition(journal, sender.clone()));
        }
        helpers.spawn(follow(self.rounds.clone(), domain.to_string(), node, sender));
    }

    /// Takes what others have seen; whether it was the end.
    async fn note(&mut self, note: Evidence) -> bool {
        let end = matches!(note, Evidence::End { .. });
        match &note {
            Evidence::Ssh(Ssh::LoggedIn) => self.pace.logged_in(),
            Evidence::Life(Life::Rebooted) => self.pace.reset(),
            Evidence::Life(Life::Stopped { .. } | Life::Panicked) => {
                // What it printed before comes before.
                sleep(SETTLE).await;
                self.drain_console().await;
            }
            Evidence::End { .. } => self.drain_console().await,
            _ => {}
        }
        self.put(note).await;
        end
    }

    /// Reads one chunk of the console; gives when to look again.
    async fn read_console(&mut self) -> Instant {
        let now = Instant::now();
        if self.read_chunk().await == CHUNK {
            return now;
        }
        let quiet = self.last_word.elapsed() >= QUIET;
        now + if quiet { LAZY } else { BUSY }
    }

    /// Reads what is on disk by now; a console that prints without end is not read to its end.
    async fn drain_console(&mut self) {
        let length = tokio::fs::metadata(&self.subject.console)
            .await
            .map_or(0, |file| file.len());
        let mut left = length + CHUNK as u64;
        while left > 0 {
            let count = self.read_chunk().await;
            if count == 0 {
                return;
            }
            left = left.saturating_sub(count as u64);
        }
    }

    /// Reads on, and gives how many bytes there were.
    async fn read_chunk(&mut self) -> usize {
        let mut bytes = std::mem::take(&mut self.half);
        let held = bytes.len();
        bytes.resize(held + CHUNK, 0);
        // A console that cannot be read says nothing.
        let count = self.console.read(&mut bytes[held..]).await.unwrap_or(0);
        bytes.truncate(held + count);
        if count > 0 {
            self.last_word = Instant::now();
            self.pace.console_spoke();
            // Where nothing follows, what was held back is told as it is.
            self.half = bytes.split_off(bytes.len() - incomplete(&bytes));
        }
        if !bytes.is_empty() {
            self.put(Evidence::Console { bytes }).await;
        } else if count == 0 {
            self.flush().await;
        }
        count
    }

    async fn put(&mut self, what: Evidence) {
        let seen = Seen::new(self.began.elapsed(), what);
        if let Some(recording) = &mut self.recording {
            if let Err(error) = recording.add(&seen).await {
                self.not_recorded(&error);
            }
        }
        if !self.closed {
            tokio::select! {
                () = self.closing.notified() => self.closed = true,
                room = self.sender.reserve() => {
                    // An error: nobody judges any more, what comes is for the recording.
                    if let Ok(room) = room {
                        room.send(seen);
                    }
                    return;
                }
            }
        }
        let _ = self.sender.try_send(seen);
    }

    async fn flush(&mut self) {
        if let Some(recording) = &mut self.recording {
            if let Err(error) = recording.flush().await {
                self.not_recorded(&error);
            }
        }
    }

    /// To the agent's log, once; what was written stays.
    fn not_recorded(&mut self, error: &std::io::Error) {
        eprintln!(
            "{}: cannot be written any more: {error}",
            self.subject.recording.display()
        );
        self.recording = None;
    }
}

/// Tells what the rounds find of one node.
async fn follow(rounds: Arc<Rounds>, domain: String, node: link::Node, gathered: Gathered) {
    let mut found = rounds.subscribe();
    let mut leases = Vec::new();
    let mut told_full = false;
    while found.changed().await.is_ok() {
        let now: Arc<Found> = found.borrow_and_update().clone();
        let mut news = Vec::new();
        if let Some(counters) = now.counters.get(&domain) {
            if let Some(disks) = counters.disks {
                news.push(Evidence::Counters(total(counters, disks)));
            }
        }
        for lease in now.leases.iter().filter(|lease| node.holds(lease)) {
            if !leases.contains(lease) {
                leases.push(lease.clone());
                news.push(Evidence::Lease {
                    mac: lease.mac.to_string(),
                    address: lease.address,
                });
            }
        }
        leases.retain(|lease| now.leases.contains(lease));
        if let Some(path) = now.full.as_ref().filter(|_| !told_full) {
            told_full = true;
            news.push(Evidence::HostDiskFull {
                path: path.display().to_string(),
            });
        }
        for evidence in news {
            if gathered.send(evidence).await.is_err() {
                return;
            }
        }
    }
}

fn total(counters: &crate::hypervisor::DomainCounters, disks: DiskCounters) -> Counters {
    Counters {
        cpu_time_seconds: counters.cpu_time.as_secs_f64(),
        disk_read_requests: disks.read_requests,
        disk_read_bytes: disks.read_bytes,
        disk_write_bytes: disks.written_bytes,
        net_rx_packets: counters.received_packets,
        net_tx_packets: counters.sent_packets,
    }
}
