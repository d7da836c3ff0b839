//! Tables for people: a line a row, columns as wide as they need.

use serde_json::Value;

use crate::clock::Moment;

/// The rows as lines, the cells of a column below each other.
pub(super) fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A text of an answer; one with a control character must not reach a terminal.
pub(super) fn cell(value: &Value) -> String {
    value.as_str().unwrap_or("-").replace(char::is_control, " ")
}

/// A moment of an answer, as people read it; what is none is shown as it is.
pub(super) fn moment_cell(value: &Value) -> String {
    value.as_str().and_then(|text| Moment::parse(text).ok()).map_or_else(|| cell(value), Moment::in_poland)
}
