//! The agent proper: takes its order, brings the cluster up, and holds it once the launcher has committed.

use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::api::types::ClusterState;
use super::bring_up::{self, Standing};
use super::family::Family;
use super::hold;
use super::order::{Down, Order, Up};
use super::state::{Record, Run};
use super::takedown::{kill_all, remove_disks};
use crate::progress::{Event, Level, Progress};
use crate::report;

/// How long processes may take to die of SIGKILL. They do so in milliseconds unless the kernel itself is stuck.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Runs the agent to its end.
pub fn main(family: Family) -> ExitCode {
    // Two threads: libvirt's calls block in threads of their own, the rest is waiting and copying.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(serve(family));
            // A blocking call into a libvirtd that hangs must not keep a finished agent alive.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            eprintln!("the agent's runtime does not start: {error}");
            ExitCode::from(70)
        }
    }
}

async fn serve(family: Family) -> ExitCode {
    let (mut lines, words) = match launcher().await {
        Ok(both) => both,
        Err(error) => {
            eprintln!("the agent has no line to its launcher: {error}");
            return ExitCode::from(70);
        }
    };
    let order = match lines.next_line().await {
        Ok(Some(line)) => match serde_json::from_str::<Order>(&line) {
            Ok(order) => order,
            Err(error) => {
                eprintln!("the agent's order cannot be read: {error}");
                return ExitCode::from(65);
            }
        },
        // The launcher died before it said anything: there is nothing to take down.
        _ => return ExitCode::SUCCESS,
    };
    let record = Record {
        cluster: order.plan.cluster.clone(),
        request: order.request.clone(),
        directory: order.directory.clone(),
    };
    let run = Run::default();
    let taken = match run.take(&record) {
        Ok(Some(taken)) => taken,
        Ok(None) => {
            let reason = "another cluster is already held in this container\n  help: `nodectl list` shows it, `nodectl down` removes it";
            words.say(Up::Failed {
                kept: None,
                reason: reason.to_owned(),
            });
            return words.finish().await;
        }
        Err(error) => {
            let reason = format!("{}: cannot be written: {error}", run.directory().display());
            words.say(Up::Failed { kept: None, reason });
            return words.finish().await;
        }
    };
    let held = run_cluster(order, family, &run, lines, &words).await;
    // Whoever comes next finds nothing, since nothing is left.
    if let Err(error) = taken.leave() {
        eprintln!("the record of the cluster cannot be removed: {error}");
    }
    match held {
        End::Gone => words.finish().await,
        End::Tombstone => ExitCode::SUCCESS,
    }
}

enum End {
    /// Taken down before it was committed: the launcher hears of it.
    Gone,
    /// Held to its end, and after it long enough to say how it ended.
    Tombstone,
}

async fn run_cluster(
    order: Order,
    family: Family,
    run: &Run,
    mut lines: Lines<BufReader<OwnedReadHalf>>,
    words: &Words,
) -> End {
    let on_failure = order.on_failure;
    let directory = order.directory.clone();
    let (deaths, mut died) = mpsc::unbounded_channel();
    let mut standing = match Standing::new(order, family, run.clone(), words.progress.clone(), deaths) {
        Ok(standing) => standing,
        Err(error) => {
            words.say(Up::Failed {
                kept: None,
                reason: error.to_string(),
            });
            return End::Gone;
        }
    };
    let mut terminate = signal(SignalKind::terminate()).ok();
    let mut terminated = std::pin::pin!(async {
        match terminate.as_mut() {
            Some(signal) => {
                signal.recv().await;
            }
            None => std::future::pending().await,
        }
    });
    let service = standing.service();
    let outcome = tokio::select! {
        brought = bring_up::bring_up(&mut standing) => brought.map_err(Failure::of),
        // No word is due from the launcher yet: whatever comes is its end.
        _ = lines.next_line() => Err(Failure::Abandoned),
        Some(death) = died.recv() => Err(Failure::Died(crate::fault::tell(&death))),
        () = &mut terminated => Err(Failure::Abandoned),
        () = service.asked_to_end() => {
            Err(Failure::Died("it was ended by `nodectl down` while it was being brought up".to_owned()))
        }
    };
    let held = standing.held.clone();
    let offered = match outcome {
        Ok(()) => {
            words.say(Up::Ready(Box::new(held.summary())));
            Some(ClusterState::Ready)
        }
        Err(Failure::Abandoned) => {
            eprintln!("the launcher is gone before it committed");
            None
        }
        Err(Failure::Died(reason)) => {
            words.say(Up::Failed { kept: None, reason });
            None
        }
        Err(Failure::NotUp(reason)) => {
            // For whoever looks into the container of the failed put, when all else is gone.
            if let Err(error) = report::write(run.directory(), &held.report()) {
                eprintln!("{}", crate::fault::tell(&error));
            }
            let keep = on_failure == crate::topology::model::OnFailure::Keep && standing.is_reachable();
            let kept = keep.then(|| Box::new(held.summary()));
            words.say(Up::Failed {
                kept,
                reason: reason.clone(),
            });
            keep.then_some(ClusterState::Kept { reason })
        }
    };
    let word = match &offered {
        Some(_) => lines
            .next_line()
            .await
            .ok()
            .flatten()
            .and_then(|line| serde_json::from_str(&line).ok()),
        None => None,
    };
    let (Some(state), Some(word)) = (offered, word) else {
        take_down(&mut standing, &directory).await;
        standing.say_goodbye().await;
        return End::Gone;
    };
    held.found
        .expires_at
        .get_or_init(|| super::view::now() + held.order.lifetime);
    held.state.send_replace(state);
    words.say(Up::Committed);
    // Only who was told to stay goes with its launcher; a signal is for both.
    let mut abandoned = std::pin::pin!(async {
        let left = async {
            match word {
                Down::Commit => std::future::pending().await,
                Down::Stay => lines.next_line().await,
            }
        };
        tokio::select! {
            _ = left => {}
            () = &mut terminated => {}
        }
    });
    let end = tokio::select! {
        end = hold::until_end(&standing, &mut died) => Some(end),
        () = &mut abandoned => None,
    };
    eprintln!("the cluster ends: {end:?}");
    // Told from the first moment on: a caller who comes while the machines die must not take them for living.
    if let Some(end) = &end {
        held.all_off();
        held.state.send_replace(end.clone());
    }
    take_down(&mut standing, &directory).await;
    let left = match end {
        None => End::Gone,
        Some(_) => tokio::select! {
            () = hold::stand_as_tombstone(&standing) => End::Tombstone,
            () = &mut abandoned => End::Gone,
        },
    };
    standing.say_goodbye().await;
    left
}

enum Failure {
    /// The launcher is gone, or a signal said so.
    Abandoned,
    /// A daemon died.
    Died(String),
    /// The cluster did not get ready.
    NotUp(String),
}

impl Failure {
    fn of(error: bring_up::BringUpError) -> Self {
        Self::NotUp(crate::fault::tell(&error))
    }
}

async fn take_down(standing: &mut Standing, directory: &std::path::Path) {
    standing.close();
    let family = standing.family;
    if let Err(error) = kill_all(family, KILL_LIMIT).await {
        eprintln!("taking the cluster down: {error}");
    }
    standing.remove_leftovers().await;
    remove_disks(family, directory);
}

/// The line to the launcher: events and words go up in the order in which they are said.
#[derive(Debug)]
struct Words {
    progress: Progress,
    sender: mpsc::UnboundedSender<Up>,
    writer: tokio::task::JoinHandle<()>,
}

impl Words {
    fn say(&self, up: Up) {
        let _ = self.sender.send(up);
    }

    /// Says that everything is gone, and returns once the launcher could hear it.
    async fn finish(self) -> ExitCode {
        self.say(Up::Gone);
        drop((self.sender, self.progress));
        // The writer ends with the last sender; a launcher that does not read is not waited for.
        let _ = tokio::time::timeout(Duration::from_secs(2), self.writer).await;
        ExitCode::SUCCESS
    }
}

/// The socket that was handed down as stdin, as a stream of lines and a queue of words.
async fn launcher() -> std::io::Result<(Lines<BufReader<OwnedReadHalf>>, Words)> {
    let socket = std::os::unix::net::UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    socket.set_nonblocking(true)?;
    // The copy is the only one from here on: its end must reach the launcher when this process lets go.
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    let (read, mut write) = UnixStream::from_std(socket)?.into_split();
    let (progress, mut events) = Progress::channel();
    let (sender, mut said) = mpsc::unbounded_channel();
    let writer = tokio::spawn(async move {
        loop {
            // Biased: a line of the log belongs before the word that it explains.
            let up = tokio::select! {
                biased;
                Some(event) = events.recv() => Up::Event(event),
                Some(up) = said.recv() => up,
                else => return,
            };
            note(&up);
            if let Ok(mut line) = serde_json::to_vec(&up) {
                line.push(b'\n');
                // Once the launcher is gone the log file still hears everything.
                let _ = write.write_all(&line).await;
            }
        }
    });
    Ok((
        BufReader::new(read).lines(),
        Words {
            progress,
            sender,
            writer,
        },
    ))
}

/// The agent's own log: stderr is its log file.
fn note(up: &Up) {
    match up {
        Up::Event(Event {
            level: Level::Quote, ..
        }) => {}
        Up::Event(event) => eprintln!("{} {}", event.node.as_deref().unwrap_or("-"), event.text),
        Up::Failed { reason, .. } => eprintln!("failed: {reason}"),
        Up::Ready(_) => eprintln!("all nodes are ready"),
        Up::Gone => eprintln!("everything is gone"),
        Up::Committed => eprintln!("committed"),
    }
}
