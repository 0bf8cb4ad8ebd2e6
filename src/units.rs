//! Sizes and times as people write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A number of bytes. Written as a number with a unit: `512MiB`, `2GiB`, `1.5TiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// So many MiB.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// So many GiB.
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// Prints the largest unit that leaves at most one decimal place: `512MiB`, `2GiB`, `1.5GiB`.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        let rounded = (value * 10.0).round() / 10.0;
        if rounded.fract() == 0.0 {
            write!(f, "{rounded:.0}{}", UNITS[unit])
        } else {
            write!(f, "{rounded:.1}{}", UNITS[unit])
        }
    }
}

/// Why a size was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("use a number with MiB or GiB, such as 512MiB or 2GiB")]
pub struct BadSize;

impl FromStr for ByteSize {
    type Err = BadSize;

    fn from_str(text: &str) -> Result<Self, BadSize> {
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(BadSize)?;
        let (number, unit) = text.split_at(split);
        let shift = match unit {
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            "TiB" => 40,
            _ => return Err(BadSize),
        };
        let value: f64 = number.parse().map_err(|_| BadSize)?;
        let bytes = value * (1u64 << shift) as f64;
        if bytes.is_finite() && (0.0..9e18).contains(&bytes) { Ok(Self(bytes as u64)) } else { Err(BadSize) }
    }
}
