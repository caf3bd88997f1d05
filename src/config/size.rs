//! Sizes as people write them (`2 GiB`, `64MiB`, `1500 MB`), kept exactly.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

/// A number of bytes, written as a whole number and a unit: `B`, `KiB`, `MiB`, `GiB`, `TiB` (powers of 1024, short
/// forms `k`, `m`, `g`, `t` as Docker has them) or `kB`, `MB`, `GB`, `TB` (powers of 1000).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct Size(u64);

/// The text is not a size.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a size (a whole number and a unit, for example `2 GiB` or `500 MiB`)")]
pub struct InvalidSize(String);

const UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Bytes as people read them, in powers of 1024 as the configuration has them, to a tenth: `1.5 GiB`.
pub fn human(bytes: u64) -> String {
    match UNITS.into_iter().find(|(unit, factor)| bytes >= *factor && *unit != "B") {
        Some((unit, factor)) => match bytes % factor * 10 / factor {
            0 => format!("{} {unit}", bytes / factor),
            tenths => format!("{}.{tenths} {unit}", bytes / factor),
        },
        None => format!("{bytes} B"),
    }
}

impl Size {
    /// So many times 1024^3 bytes.
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    /// So many times 1024^2 bytes.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidSize(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let (count, unit) = trimmed.split_at(digits);
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(invalid()),
        };
        let count: u64 = count.parse().ok().ok_or_else(invalid)?;
        // The database and the engine count bytes in signed 64 bits.
        let bytes = count.checked_mul(factor).filter(|bytes| i64::try_from(*bytes).is_ok());
        bytes.map(Self).ok_or_else(invalid)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeText;

        impl Visitor<'_> for SizeText {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as `500 MiB` or `2 GiB`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(SizeText)
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

impl fmt::Display for Size {
    /// The largest unit that keeps the number whole.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS.iter().find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor));
        match exact {
            Some((unit, factor)) => write!(f, "{} {unit}", self.0 / factor),
            None => write!(f, "{} B", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_exactly() {
        for (text, bytes, written) in [
            ("2 GiB", 2 << 30, "2 GiB"),
            ("4g", 4 << 30, "4 GiB"),
            ("1536MiB", 1536 << 20, "1536 MiB"),
            ("1500 MB", 1_500_000_000, "1500000000 B"),
            ("0 B", 0, "0 B"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!(size.bytes(), bytes, "{text}");
            assert_eq!(size.to_string(), written, "{text}");
            assert_eq!(written.parse::<Size>().unwrap(), size, "{text}");
        }
    }

    #[test]
    fn bytes_are_written_for_people() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2_199_000_000, "2 GiB"), (700 << 30, "700 GiB")]
        {
            assert_eq!(human(bytes), text);
        }
        assert!(human(u64::MAX).ends_with(".9 TiB"));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "2", "GiB", "-1 GiB", "1.5 GiB", "2 gibi", "99999999999 TiB", "1 G B"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
