//! Blocking work that notices when nobody waits for it any more.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::error::ImageError;
use crate::units::ByteSize;

/// Whether the work is still wanted.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether to give up.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Asks the work to stop when the future that waits for it is dropped.
struct Leash(Stop);

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Runs blocking work off the runtime's own threads. Work that lasts must look at its [`Stop`].
pub async fn blocking<T: Send + 'static>(
    place: &str,
    work: impl FnOnce(&Stop) -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    let stop = Stop::default();
    let leash = Leash(stop.clone());
    let done = tokio::task::spawn_blocking(move || work(&stop)).await;
    drop(leash);
    match done {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down.
            Err(_) => Err(ImageError::Stopped {
                place: place.to_owned(),
            }),
        },
    }
}

/// What an image may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most that a file may have when it is unpacked, holes included.
    pub unpacked: ByteSize,
    /// What must stay free under the store.
    pub reserve: u64,
}

impl Default for Limits {
    /// 1 TiB unpacked; 64 MiB left free.
    fn default() -> Self {
        Self {
            unpacked: ByteSize::gib(1024),
            reserve: 64 << 20,
        }
    }
}

impl Limits {
    /// Refuses what does not fit beside what is there: `more` bytes, or, where that is not known, any at all.
    pub fn check_room(self, place: &str, dir: &Path, done: u64, more: u64) -> Result<(), ImageError> {
        let Ok(stat) = rustix::fs::statvfs(dir) else {
            return Ok(());
        };
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if more.saturating_add(self.reserve) <= free {
            return Ok(());
        }
        Err(ImageError::NoRoom {
            place: place.to_owned(),
            dir: dir.to_owned(),
            needs: ByteSize(done.saturating_add(more).saturating_add(self.reserve)),
            free: ByteSize(done.saturating_add(free)),
        })
    }
}

/// The error of a write, which may be for want of space.
pub fn write_error(error: std::io::Error, place: &str, path: &Path, done: u64) -> ImageError {
    if matches!(
        error.kind(),
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
    ) {
        let dir = path.parent().map(PathBuf::from).unwrap_or_default();
        return ImageError::NoRoom {
            place: place.to_owned(),
            dir,
            needs: ByteSize(done.saturating_add(1)),
            free: ByteSize(done),
        };
    }
    ImageError::Io {
        doing: "write",
        path: path.to_owned(),
        source: error,
    }
}

/// Says now and then how far a piece of work has come: every 5 s, or every 10 % if those are 1 s apart.
pub struct Meter {
    what: String,
    total: Option<u64>,
    start: Instant,
    from: u64,
    said: Instant,
    said_percent: u64,
}

impl Meter {
    /// A meter for work that begins `now`, at `from` of `total` bytes.
    pub fn new(what: String, from: u64, total: Option<u64>, now: Instant) -> Self {
        let mut meter = Self {
            what,
            total,
            start: now,
            from,
            said: now,
            said_percent: 0,
        };
        meter.said_percent = meter.percent(from).unwrap_or(0);
        meter
    }

    fn percent(&self, done: u64) -> Option<u64> {
        let total = self.total.filter(|total| *total > 0)?;
        Some((u128::from(done) * 100 / u128::from(total)).min(100) as u64)
    }

    /// The line to print, if it is time for one.
    pub fn line(&mut self, now: Instant, done: u64) -> Option<String> {
        let quiet = now.duration_since(self.said);
        let percent = self.percent(done);
        let leap = percent.is_some_and(|percent| percent >= self.said_percent + 10);
        if quiet < Duration::from_secs(1) || (quiet < Duration::from_secs(5) && !leap) {
            return None;
        }
        self.said = now;
        self.said_percent = percent.unwrap_or(0);
        let seconds = now.duration_since(self.start).as_secs_f64().max(0.001);
        let rate = ByteSize((done.saturating_sub(self.from) as f64 / seconds) as u64);
        let what = &self.what;
        Some(match (percent, self.total) {
            (Some(percent), Some(total)) => {
                format!(
                    "{what}: {percent} % ({} of {}, {rate}/s)",
                    ByteSize(done),
                    ByteSize(total)
                )
            }
            _ => format!("{what}: {} ({rate}/s)", ByteSize(done)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_speaks_every_ten_percent_but_not_too_often() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut meter = Meter::new("fetching x".to_owned(), 0, Some(1000), start);
        assert_eq!(meter.line(start, 500), None);
        assert_eq!(meter.line(after(1), 90), None);
        assert_eq!(
            meter.line(after(2), 110).unwrap(),
            "fetching x: 11 % (110B of 1000B, 55B/s)"
        );
        assert_eq!(meter.line(after(6), 120), None);
        assert!(meter.line(after(7), 120).is_some());
    }

    #[test]
    fn a_meter_without_a_total_counts_bytes() {
        let start = Instant::now();
        let mut meter = Meter::new("fetching x".to_owned(), 1024, None, start);
        assert_eq!(
            meter.line(start + Duration::from_secs(5), 6144).unwrap(),
            "fetching x: 6KiB (1KiB/s)"
        );
    }

    #[test]
    fn room_is_refused_with_both_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits {
            reserve: 1,
            ..Limits::default()
        };
        assert!(limits.check_room("x", dir.path(), 0, 0).is_ok());
        let error = limits
            .check_room("x", dir.path(), 5, 1 << 62)
            .unwrap_err()
            .to_string();
        assert!(error.contains(&((1u64 << 62) + 6).to_string()), "{error}");
    }
}
