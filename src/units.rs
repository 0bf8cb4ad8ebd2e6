//! Sizes and times as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A number of bytes. Written as a number with a unit: `512MiB`, `2GiB`, `1.5TiB`.
///
/// In plans and in the API it is a plain number of bytes; text is for people alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

/// From the largest down, so that the first that fits is the shortest to read.
const SIZE_UNITS: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

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
///
/// What is a whole number of MiB, as every size in a topology is, prints exactly and parses back to itself. Anything
/// else (a file's length) is rounded to one decimal place: it is there to be read.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = self.0 % (1 << 20) == 0;
        for (name, unit) in SIZE_UNITS {
            let tenths = u128::from(self.0) * 10;
            let unit_wide = u128::from(unit);
            let fits = if exact { tenths % unit_wide == 0 } else { true };
            if self.0 >= unit && fits {
                let rounded = (tenths + unit_wide / 2) / unit_wide;
                return match rounded % 10 {
                    0 => write!(f, "{}{name}", rounded / 10),
                    tenth => write!(f, "{}.{tenth}{name}", rounded / 10),
                };
            }
        }
        f.write_str("0B")
    }
}

/// Why a size was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("use a number with MiB or GiB, such as 512MiB or 2GiB")]
pub struct BadSize;

/// A number, at most three decimal places, and one of `B`, `KiB`, `MiB`, `GiB`, `TiB`, with nothing between.
///
/// Decimal units are refused rather than guessed at: memory and disks come in powers of two, and `2GB` is read as
/// either by different people.
impl FromStr for ByteSize {
    type Err = BadSize;

    fn from_str(text: &str) -> Result<Self, BadSize> {
        let split = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or(BadSize)?;
        let (number, unit) = text.split_at(split);
        let (_, unit) = SIZE_UNITS
            .into_iter()
            .find(|(name, _)| *name == unit)
            .ok_or(BadSize)?;
        let (whole, decimals) = match number.split_once('.') {
            None => (number, ""),
            Some((_, decimals)) if decimals.is_empty() || decimals.len() > 3 || decimals.contains('.') => {
                return Err(BadSize);
            }
            Some(parts) => parts,
        };
        if whole.is_empty() || (unit == 1 && !decimals.is_empty()) {
            return Err(BadSize);
        }
        let whole: u64 = whole.parse().map_err(|_| BadSize)?;
        let thousandths: u64 = format!("{decimals:0<3}").parse().map_err(|_| BadSize)?;
        let bytes = u128::from(whole) * u128::from(unit) + u128::from(thousandths) * u128::from(unit) / 1000;
        u64::try_from(bytes)
            .ok()
            .filter(|bytes| *bytes <= i64::MAX as u64)
            .map(Self)
            .ok_or(BadSize)
    }
}

/// What a size with a wrong unit was probably meant to be: `2 GB`, `2g`, `2Gi` → `2GiB`.
pub fn nearest_size(text: &str) -> Option<ByteSize> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(split);
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "k" | "kb" | "ki" | "kib" => "KiB",
        "m" | "mb" | "mi" | "mib" => "MiB",
        "g" | "gb" | "gi" | "gib" => "GiB",
        "t" | "tb" | "ti" | "tib" => "TiB",
        _ => return None,
    };
    format!("{number}{unit}").parse().ok()
}

/// A length of time. Written as numbers with units, the larger first: `90s`, `5m`, `1h30m`, `2d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(Duration);

const TIME_UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

impl Span {
    /// So many seconds.
    pub const fn seconds(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }

    /// So many hours.
    pub const fn hours(count: u64) -> Self {
        Self::seconds(count * 3600)
    }

    /// As the standard library has it.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

/// What a clock measured: the parts of a second are dropped.
impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self::seconds(duration.as_secs())
    }
}

/// Prints hours, minutes and seconds, those that are not 0: `1h30m`; `0s`. Days stay hours (`120h`), as limits are told.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.as_secs();
        if left == 0 {
            return f.write_str("0s");
        }
        for (name, unit) in &TIME_UNITS[1..] {
            if left >= *unit {
                write!(f, "{}{name}", left / unit)?;
                left %= unit;
            }
        }
        Ok(())
    }
}

/// Why a time was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("use a number with s, m or h, such as 90s, 5m or 1h30m")]
pub struct BadSpan;

impl FromStr for Span {
    type Err = BadSpan;

    fn from_str(text: &str) -> Result<Self, BadSpan> {
        let mut rest = text;
        let mut seconds: u64 = 0;
        let mut units = TIME_UNITS.into_iter();
        if rest.is_empty() {
            return Err(BadSpan);
        }
        while !rest.is_empty() {
            let split = rest.find(|c: char| !c.is_ascii_digit()).ok_or(BadSpan)?;
            let (number, after) = rest.split_at(split);
            let name = after.chars().next().ok_or(BadSpan)?;
            // Going on in the same iterator is what demands the larger unit first, and each of them once.
            let (_, unit) = units.find(|(unit, _)| *unit == name).ok_or(BadSpan)?;
            let number: u64 = number.parse().map_err(|_| BadSpan)?;
            seconds = number
                .checked_mul(unit)
                .and_then(|more| seconds.checked_add(more))
                .ok_or(BadSpan)?;
            rest = after.get(name.len_utf8()..).ok_or(BadSpan)?;
        }
        Ok(Self::seconds(seconds))
    }
}

impl TryFrom<String> for Span {
    type Error = BadSpan;

    fn try_from(text: String) -> Result<Self, BadSpan> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_people_write() {
        for (text, bytes) in [
            ("0B", 0),
            ("512B", 512),
            ("4KiB", 4096),
            ("512MiB", 512 << 20),
            ("2GiB", 2 << 30),
            ("1.5GiB", 3 << 29),
            ("1.5TiB", 3 << 39),
            ("0.125KiB", 128),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn sizes_refused() {
        for text in [
            "",
            "2",
            "GiB",
            "2GB",
            "2 GiB",
            "2gib",
            "2G",
            "2Gi",
            "-2GiB",
            "+2GiB",
            ".5GiB",
            "1.GiB",
            "1.2.3GiB",
            "1e3MiB",
            "0.5B",
            "9999999TiB",
            "99999999999999999999GiB",
            "٢GiB",
            "1.0001GiB",
            "2GiBé",
        ] {
            assert_eq!(text.parse::<ByteSize>(), Err(BadSize), "{text}");
        }
    }

    #[test]
    fn sizes_that_were_meant() {
        for text in ["2 GB", "2G", "2gb", " 2Gi ", "2 gib"] {
            assert_eq!(nearest_size(text), Some(ByteSize::gib(2)), "{text}");
        }
        for text in ["2", "two GB", "", "2 parsecs", "1.2.3GB"] {
            assert_eq!(nearest_size(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_shown() {
        for (bytes, text) in [
            (0, "0B"),
            (1, "1B"),
            (1023, "1023B"),
            (1536, "1.5KiB"),
            (1_234_567, "1.2MiB"),
            (1537 << 20, "1537MiB"),
            (3 << 29, "1.5GiB"),
            (1 << 40, "1TiB"),
        ] {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }

    #[test]
    fn times_people_write() {
        for (text, seconds) in [
            ("0s", 0),
            ("90s", 90),
            ("5m", 300),
            ("2h", 7200),
            ("1h30m", 5400),
            ("1h0m5s", 3605),
            ("5d", 432_000),
        ] {
            assert_eq!(text.parse(), Ok(Span::seconds(seconds)), "{text}");
        }
        assert_eq!(Span::seconds(5400).to_string(), "1h30m");
        assert_eq!(Span::hours(120).to_string(), "120h");
    }

    #[test]
    fn times_refused() {
        for text in [
            "",
            "5",
            "m",
            "5 m",
            "1.5h",
            "-5m",
            "30m1h",
            "5m5m",
            "5min",
            "1h30",
            "99999999999999999999s",
            "999999999999999999d",
            "5é",
        ] {
            assert_eq!(text.parse::<Span>(), Err(BadSpan), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whole_mebibytes_come_back_as_they_went(mib in 0u64..(1 << 40)) {
            let size = ByteSize::mib(mib);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }

        #[test]
        fn any_size_comes_back_nearly(bytes in 0u64..(1 << 60)) {
            let back: ByteSize = ByteSize(bytes).to_string().parse().unwrap();
            prop_assert!(back.0.abs_diff(bytes) <= bytes / 19, "{} → {}", bytes, back.0);
        }

        #[test]
        fn any_time_comes_back_as_it_went(seconds in 0u64..(1 << 40)) {
            let span = Span::seconds(seconds);
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }

        #[test]
        fn no_text_is_a_panic(text in ".{0,20}") {
            let _ = text.parse::<ByteSize>();
            let _ = text.parse::<Span>();
            let _ = nearest_size(&text);
        }

        #[test]
        fn nearly_a_size_is_no_panic(text in "[0-9.]{0,25} ?[KMGTkmgtiBb]{0,3}") {
            let _ = text.parse::<ByteSize>();
            let _ = nearest_size(&text);
        }
    }
}
