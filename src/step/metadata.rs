//! What a person wants to see on the build page. Everyone who sees the pipeline sees it: no secret in it.

use crate::agent::api::types::Cluster;
use crate::agent::order::Summary;
use crate::concourse::Metadata;

/// Of a cluster that a put has just brought up.
pub fn of_summary(summary: &Summary) -> Vec<Metadata> {
    let nodes: Vec<&str> = summary.nodes.iter().map(|node| node.name.as_str()).collect();
    let slowest = summary
        .nodes
        .iter()
        .filter_map(|node| Some((node.ready_seconds?, &node.name)))
        .max_by(|one, other| one.0.total_cmp(&other.0));
    let ready = match slowest {
        Some((seconds, name)) if nodes.len() > 1 => {
            format!(
                "{:.1} s (slowest: {name}, {seconds:.1} s after power on)",
                summary.ready_seconds
            )
        }
        _ => format!("{:.1} s", summary.ready_seconds),
    };
    vec![
        Metadata::new("nodes", nodes.join(", ")),
        Metadata::new("image", summary.images.join(", ")),
        Metadata::new("accelerator", summary.accelerator.to_string()),
        Metadata::new("networking", summary.networking.to_string()),
        Metadata::new("ready after", ready),
        Metadata::new("expires", utc(summary.expires_at)),
        Metadata::new("libvirt", summary.versions.libvirt.clone()),
        Metadata::new("qemu", summary.versions.qemu.clone()),
        Metadata::new("libvirt-resource", summary.versions.resource.clone()),
    ]
}

/// Of a cluster as its agent describes it to a get.
pub fn of_cluster(cluster: &Cluster) -> Vec<Metadata> {
    let nodes: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
    vec![
        Metadata::new("nodes", nodes.join(", ")),
        Metadata::new("accelerator", cluster.accelerator.to_string()),
        Metadata::new("networking", cluster.networking.to_string()),
        Metadata::new("expires", utc(cluster.expires_at)),
        Metadata::new("libvirt", cluster.versions.libvirt.clone()),
        Metadata::new("qemu", cluster.versions.qemu.clone()),
        Metadata::new("libvirt-resource", cluster.versions.resource.clone()),
    ]
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
