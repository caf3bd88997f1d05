//! How values stand in columns: instants as milliseconds, nouns as their text, structured values as JSON. A column
//! that does not parse is an error that names it, never a default.

use std::fmt::Display;
use std::str::FromStr;

use chrono::{DateTime, TimeZone, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};

use super::StoreError;
use crate::model::Priority;

/// Reads the columns of one row of `table` as the program's own types.
pub(super) struct Columns<'r> {
    /// The table, for messages.
    pub table: &'static str,
    /// The row.
    pub row: &'r SqliteRow,
}

impl<'r> Columns<'r> {
    /// A column as SQLite gives it.
    pub fn plain<T: Decode<'r, Sqlite> + Type<Sqlite>>(&self, column: &'static str) -> Result<T, StoreError> {
        self.row.try_get(column).map_err(|error| StoreError::Column { table: self.table, column, source: error.into() })
    }

    /// A noun.
    pub fn noun<T: FromStr>(&self, column: &'static str) -> Result<T, StoreError> {
        let text: &str = self.plain(column)?;
        text.parse().ok().ok_or_else(|| self.bad(column, text))
    }

    /// A noun that may be absent.
    pub fn maybe_noun<T: FromStr>(&self, column: &'static str) -> Result<Option<T>, StoreError> {
        let text: Option<&str> = self.plain(column)?;
        text.map(|text| text.parse().ok().ok_or_else(|| self.bad(column, text))).transpose()
    }

    /// A number as the type it has in the program.
    pub fn number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, StoreError> {
        let number: i64 = self.plain(column)?;
        T::try_from(number).ok().ok_or_else(|| self.bad(column, number))
    }

    /// A number that may be absent.
    pub fn maybe_number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<Option<T>, StoreError> {
        let number: Option<i64> = self.plain(column)?;
        number.map(|number| T::try_from(number).ok().ok_or_else(|| self.bad(column, number))).transpose()
    }

    /// An id.
    pub fn id<T: TryFrom<u64>>(&self, column: &'static str) -> Result<T, StoreError> {
        let number: u64 = self.number(column)?;
        T::try_from(number).ok().ok_or_else(|| self.bad(column, number))
    }

    /// An id that may be absent.
    pub fn maybe_id<T: TryFrom<u64>>(&self, column: &'static str) -> Result<Option<T>, StoreError> {
        let number: Option<u64> = self.maybe_number(column)?;
        number.map(|number| T::try_from(number).ok().ok_or_else(|| self.bad(column, number))).transpose()
    }

    /// A priority that may be absent.
    pub fn maybe_priority(&self, column: &'static str) -> Result<Option<Priority>, StoreError> {
        let number: Option<u8> = self.maybe_number(column)?;
        number.map(|number| Priority::try_from(number).ok().ok_or_else(|| self.bad(column, number))).transpose()
    }

    /// An instant.
    pub fn instant(&self, column: &'static str) -> Result<DateTime<Utc>, StoreError> {
        let ms: i64 = self.plain(column)?;
        Utc.timestamp_millis_opt(ms).single().ok_or_else(|| self.bad(column, ms))
    }

    /// An instant that may be absent.
    pub fn maybe_instant(&self, column: &'static str) -> Result<Option<DateTime<Utc>>, StoreError> {
        let ms: Option<i64> = self.plain(column)?;
        ms.map(|ms| Utc.timestamp_millis_opt(ms).single().ok_or_else(|| self.bad(column, ms))).transpose()
    }

    /// A structured value.
    pub fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        let text: &str = self.plain(column)?;
        serde_json::from_str(text).map_err(|error| self.bad(column, format!("{text} ({error})")))
    }

    /// A structured value that may be absent.
    pub fn maybe_json<T: DeserializeOwned>(&self, column: &'static str) -> Result<Option<T>, StoreError> {
        let text: Option<&str> = self.plain(column)?;
        text.map(|text| serde_json::from_str(text).map_err(|error| self.bad(column, format!("{text} ({error})"))))
            .transpose()
    }

    /// The values of a measurement, from their JSON array, to the last bit.
    pub fn values(&self, column: &'static str) -> Result<Vec<f64>, StoreError> {
        let text: &str = self.plain(column)?;
        parse_values(text).ok_or_else(|| self.bad(column, text))
    }

    /// The column holds what this benchd does not understand.
    pub fn bad(&self, column: &'static str, value: impl Display) -> StoreError {
        StoreError::Row { table: self.table, column, value: value.to_string() }
    }
}

/// `serde_json` may read a number one unit in the last place off; the standard library never does.
fn parse_values(text: &str) -> Option<Vec<f64>> {
    let list = text.strip_prefix('[')?.strip_suffix(']')?;
    list.split(',').filter(|part| !part.is_empty()).map(|part| part.trim().parse().ok()).collect()
}

/// An id as SQLite stores it; ids are below 2^53.
pub(super) fn id_column(id: impl Into<u64>) -> i64 {
    i64::try_from(id.into()).unwrap_or(i64::MAX)
}

/// A size as SQLite stores it.
pub(super) fn size_column(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A structured value for a JSON column.
pub(super) fn to_json(column: &'static str, value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|source| StoreError::Json { column, source })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_come_back_to_the_last_bit(
            values in proptest::collection::vec(proptest::num::f64::NORMAL | proptest::num::f64::ZERO, 0..20),
        ) {
            let text = to_json("raw_values", &values).unwrap();
            let bits = |list: &[f64]| list.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&values), bits(&parse_values(&text).unwrap()));
        }
    }

    #[test]
    fn what_is_no_list_of_numbers_is_refused() {
        for bad in ["", "1,2", "[1,x]", "[1"] {
            assert_eq!(parse_values(bad), None, "{bad}");
        }
        assert_eq!(parse_values("[]"), Some(vec![]));
    }
}
