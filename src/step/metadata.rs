//! What a person wants to see on the build page. Everyone who sees the pipeline sees it: no secret in it.

use crate::agent::api::types::{Cluster, Versions};
use crate::agent::order::Summary;
use crate::concourse::Metadata;
use crate::topology::model::{Accelerator, Networking};
use crate::topology::name::Name;

/// Of a cluster that a put has just brought up.
pub fn of_summary(summary: &Summary) -> Vec<Metadata> {
    lines(&Facts {
        nodes: summary
            .nodes
            .iter()
            .map(|node| (&node.name, node.ready_seconds))
            .collect(),
        images: &summary.images,
        accelerator: summary.accelerator,
        networking: summary.networking,
        ready_seconds: Some(summary.ready_seconds),
        expires_at: summary.expires_at,
        versions: &summary.versions,
    })
}

/// Of a cluster as its agent describes it: word for word what the put said, since the build page shows a version with the
/// metadata of the step that saved it last, and that is the get.
pub fn of_cluster(cluster: &Cluster) -> Vec<Metadata> {
    lines(&Facts {
        nodes: cluster
            .nodes
            .iter()
            .map(|node| (&node.name, node.ready_seconds))
            .collect(),
        images: &cluster.images,
        accelerator: cluster.accelerator,
        networking: cluster.networking,
        ready_seconds: cluster.ready_seconds,
        expires_at: cluster.expires_at,
        versions: &cluster.versions,
    })
}

/// What both know of a cluster.
struct Facts<'a> {
    nodes: Vec<(&'a Name, Option<f64>)>,
    images: &'a [String],
    accelerator: Accelerator,
    networking: Networking,
    ready_seconds: Option<f64>,
    expires_at: u64,
    versions: &'a Versions,
}

fn lines(facts: &Facts) -> Vec<Metadata> {
    let names: Vec<&str> = facts.nodes.iter().map(|(name, _)| name.as_str()).collect();
    let mut lines = vec![
        Metadata::new("nodes", names.join(", ")),
        Metadata::new("image", facts.images.join(", ")),
        Metadata::new("accelerator", facts.accelerator),
        Metadata::new("networking", facts.networking),
    ];
    lines.extend(
        facts
            .ready_seconds
            .map(|seconds| Metadata::new("ready after", ready_after(seconds, &facts.nodes))),
    );
    lines.extend([
        Metadata::new("expires", utc(facts.expires_at)),
        Metadata::new("libvirt", &facts.versions.libvirt),
        Metadata::new("qemu", &facts.versions.qemu),
        Metadata::new("libvirt-resource", &facts.versions.resource),
    ]);
    lines
}

/// With the node to blame, where there are several.
fn ready_after(seconds: f64, nodes: &[(&Name, Option<f64>)]) -> String {
    let slowest = nodes
        .iter()
        .filter_map(|(name, ready)| Some((name, (*ready)?)))
        .max_by(|one, other| one.1.total_cmp(&other.1));
    match slowest {
        Some((name, its)) if nodes.len() > 1 => {
            format!("{seconds:.1} s (slowest: {name}, {its:.1} s after power on)")
        }
        _ => format!("{seconds:.1} s"),
    }
}

/// `2026-11-23 14:05:09 UTC`, from seconds since the Unix epoch.
///
/// The days are counted by the algorithm of H. Hinnant, "chrono-Compatible Low-Level Date Algorithms" (civil_from_days).
pub fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        rest / 3600,
        rest % 3600 / 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, date) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59:59 UTC"),
            (1_795_442_709, "2026-11-23 14:05:09 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(super::utc(seconds), date);
        }
    }
}
