//! What is believed of results, whoever wrote them: code that was measured, or whoever could write to a bucket. Judging
//! a directory and reading an object back share these limits, so that what is published can be read back.

use std::fmt::Write as _;

/// Bytes of one record as it is written.
pub(super) const MAX_RECORD_BYTES: usize = 4 << 20;
/// Records of one directory; lines of one object, empty ones too.
pub(super) const MAX_RECORDS: usize = 200_000;
/// Values of all its records.
pub(super) const MAX_VALUES: usize = 2_000_000;
/// Bytes of a name (model, benchmark, point, metric).
const MAX_NAME_BYTES: usize = 512;
/// Bytes of a unit.
const MAX_UNIT_BYTES: usize = 64;
/// Characters of a message.
const MAX_MESSAGE: usize = 300;

/// Whether `text` can be a name: one line of bounded length.
pub(super) fn is_name(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= MAX_NAME_BYTES && !text.chars().any(char::is_control)
}

/// Whether `text` can be a unit.
pub(super) fn is_unit(text: &str) -> bool {
    text.len() <= MAX_UNIT_BYTES && !text.chars().any(char::is_control)
}

/// A text of somebody else for people: its first characters, those that would move a terminal's cursor escaped.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars().take(MAX_MESSAGE) {
        if character.is_control() {
            if write!(shown, "{}", character.escape_default()).is_err() {
                // Writing into a string cannot fail.
            }
        } else {
            shown.push(character);
        }
    }
    shown
}
