//! What domains have used so far.

use std::collections::BTreeMap;
use std::time::Duration;

use super::connection::Connection;
use super::error::{Action, HypervisorError, Thing};
use super::raw::{self, RawStats};

/// What one domain has used since it was switched on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DomainCounters {
    /// CPU time of its QEMU, all virtual CPUs together.
    pub cpu_time: Duration,
    /// All its disks together; `None` where QEMU was busy with another question.
    pub disks: Option<DiskCounters>,
    /// Packets towards the guest, all NICs.
    pub received_packets: u64,
    /// Packets from the guest, all NICs.
    pub sent_packets: u64,
}

/// What the disks of a domain have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounters {
    /// Requests to read.
    pub read_requests: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
}

impl Connection {
    /// The counters of all domains that are up, ours or not, by their names in libvirt.
    pub fn counters(&self) -> Result<BTreeMap<String, DomainCounters>, HypervisorError> {
        let all = raw::all_stats(self.connect())
            .map_err(|error| HypervisorError::refused(Action::Inspect, Thing::Domains, error))?;
        Ok(all.into_iter().map(counters).collect())
    }
}

/// The names are those of virConnectGetAllDomainStats.
fn counters(stats: RawStats) -> (String, DomainCounters) {
    let numbers = &stats.numbers;
    let sum = |group: &str, what: &str| {
        let count = numbers.get(&format!("{group}.count")).copied()?;
        let of_each = (0..count).map(|index| numbers.get(&format!("{group}.{index}.{what}")).copied());
        of_each.sum::<Option<u64>>()
    };
    let disks = || {
        Some(DiskCounters {
            read_requests: sum("block", "rd.reqs")?,
            read_bytes: sum("block", "rd.bytes")?,
            written_bytes: sum("block", "wr.bytes")?,
        })
    };
    let counters = DomainCounters {
        cpu_time: Duration::from_nanos(numbers.get("cpu.time").copied().unwrap_or(0)),
        disks: disks(),
        received_packets: sum("net", "rx.pkts").unwrap_or(0),
        sent_packets: sum("net", "tx.pkts").unwrap_or(0),
    };
    (stats.name, counters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(numbers: &[(&str, u64)]) -> RawStats {
        RawStats {
            name: "a".to_owned(),
            numbers: numbers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), *value))
                .collect(),
        }
    }

    #[test]
    fn the_numbers_of_all_disks_and_nics_are_summed() {
        let (name, counters) = counters(stats(&[
            ("cpu.time", 1_500_000_000),
            ("net.count", 2),
            ("net.0.rx.pkts", 1),
            ("net.0.tx.pkts", 10),
            ("net.1.rx.pkts", 2),
            ("net.1.tx.pkts", 20),
            ("block.count", 2),
            ("block.0.rd.reqs", 3),
            ("block.0.rd.bytes", 4),
            ("block.0.wr.bytes", 5),
            ("block.1.rd.reqs", 30),
            ("block.1.rd.bytes", 40),
            ("block.1.wr.bytes", 50),
        ]));
        assert_eq!(name, "a");
        assert_eq!(counters.cpu_time, Duration::from_millis(1500));
        assert_eq!((counters.received_packets, counters.sent_packets), (3, 30));
        let disks = DiskCounters {
            read_requests: 33,
            read_bytes: 44,
            written_bytes: 55,
        };
        assert_eq!(counters.disks, Some(disks));
    }

    #[test]
    fn disks_that_do_not_tell_are_not_told_as_idle() {
        let busy = stats(&[("cpu.time", 1), ("block.count", 2), ("block.0.rd.reqs", 1)]);
        assert_eq!(counters(busy).1.disks, None);
        assert_eq!(counters(stats(&[])).1, DomainCounters::default());
    }
}
