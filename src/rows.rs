//! Rows of a store's tables as portable chunks: how register and access leave
//! their stores for a backup and come back, independent of the database.
//!
//! ```text
//! chunk   version u8 = 1, table u8, then rows
//! row     bytes of the key u16, bytes of the value u32, key, value
//! ```
//!
//! Integers are little-endian. What tables there are and how their keys are
//! written is each store's own; written keys rise bytewise within a table, and
//! tables come in the order of their codes.

use crate::limits::{BACKUP_FRAME_BYTES_MAX, BACKUP_PIECE_BYTES};

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 2;
const ROW_HEAD_BYTES: usize = 6;

/// Rows of one table, being collected.
pub(crate) struct Chunk(Vec<u8>);

/// A row that no chunk can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowTooLong;

/// Bytes that are no chunk, or rows out of their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotRows(pub(crate) &'static str);

/// Why rows stopped flowing: the store they come from, or where they go.
#[derive(Debug)]
pub enum Stopped<S, E> {
    /// The store cannot be read.
    Store(S),
    /// Whoever takes the rows takes no more.
    Sink(E),
}

impl Chunk {
    /// A chunk of this table without rows.
    pub(crate) fn of(table: u8) -> Self {
        let mut bytes = Vec::with_capacity(BACKUP_PIECE_BYTES + BACKUP_PIECE_BYTES / 8);
        bytes.extend_from_slice(&[VERSION, table]);
        Self(bytes)
    }

    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), RowTooLong> {
        let key_bytes = u16::try_from(key.len()).map_err(|_| RowTooLong)?;
        if HEAD_BYTES + ROW_HEAD_BYTES + key.len() + value.len() > BACKUP_FRAME_BYTES_MAX {
            return Err(RowTooLong);
        }
        self.0.extend_from_slice(&key_bytes.to_le_bytes());
        self.0.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.0.extend_from_slice(key);
        self.0.extend_from_slice(value);
        Ok(())
    }

    /// Whether a row of this many bytes would make it larger than it should be.
    pub(crate) fn is_full_for(&self, row_bytes: usize) -> bool {
        !self.is_empty() && self.0.len() + ROW_HEAD_BYTES + row_bytes > BACKUP_PIECE_BYTES
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.len() == HEAD_BYTES
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Empties it for more rows of the same table.
    pub(crate) fn restart(&mut self) {
        self.0.truncate(HEAD_BYTES);
    }
}

/// A row as it is written; reused.
#[derive(Default)]
pub(crate) struct Row {
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Row {
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8]) {
        self.key.clear();
        self.key.extend_from_slice(key);
        self.value.clear();
        self.value.extend_from_slice(value);
    }
}

/// Gives the rows of one table to `sink`, chunk by chunk. `next` writes the next
/// row and says whether there was one.
///
/// # Errors
/// The store's, or the sink's.
pub(crate) fn each_chunk<S, E>(
    table: u8,
    mut next: impl FnMut(&mut Row) -> Result<bool, S>,
    too_long: impl FnOnce(RowTooLong) -> S,
    sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), Stopped<S, E>> {
    let (mut chunk, mut row) = (Chunk::of(table), Row::default());
    while next(&mut row).map_err(Stopped::Store)? {
        if chunk.is_full_for(row.key.len() + row.value.len()) {
            sink(chunk.bytes()).map_err(Stopped::Sink)?;
            chunk.restart();
        }
        if let Err(error) = chunk.push(&row.key, &row.value) {
            return Err(Stopped::Store(too_long(error)));
        }
    }
    if chunk.is_empty() { Ok(()) } else { sink(chunk.bytes()).map_err(Stopped::Sink) }
}

/// A chunk that is read: its table and, as an iterator, its rows.
pub(crate) struct Rows<'a> {
    pub(crate) table: u8,
    rest: &'a [u8],
}

impl<'a> Rows<'a> {
    pub(crate) fn of(chunk: &'a [u8]) -> Result<Self, NotRows> {
        match chunk {
            [VERSION, table, rest @ ..] => Ok(Self { table: *table, rest }),
            [_, _, ..] => Err(NotRows("rows of an unknown version")),
            _ => Err(NotRows("rows without a head")),
        }
    }

    fn row(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let (key_bytes, rest) = self.rest.split_first_chunk()?;
        let (value_bytes, rest) = rest.split_first_chunk()?;
        let (key, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*key_bytes)))?;
        let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_bytes) as usize)?;
        self.rest = rest;
        Some((key, value))
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), NotRows>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let row = self.row().ok_or(NotRows("a row is cut off"));
        if row.is_err() {
            self.rest = &[];
        }
        Some(row)
    }
}

/// Judges that rows come in their order, none of them twice.
#[derive(Default)]
pub(crate) struct Order(Option<(u8, Vec<u8>)>);

impl Order {
    pub(crate) fn follow(&mut self, table: u8, key: &[u8]) -> Result<(), NotRows> {
        match &mut self.0 {
            Some((last_table, last)) => {
                if (table, key) <= (*last_table, last.as_slice()) {
                    return Err(NotRows("rows are out of their order"));
                }
                *last_table = table;
                last.clear();
                last.extend_from_slice(key);
            }
            None => self.0 = Some((table, key.to_vec())),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_back_and_every_cut_is_found() {
        let mut chunk = Chunk::of(3);
        assert!(chunk.is_empty());
        let rows: [(&[u8], &[u8]); 3] = [(b"a", b"first"), (b"b", b""), (b"c", &[0; 300])];
        for (key, value) in rows {
            chunk.push(key, value).expect("short");
        }
        let bytes = chunk.bytes();
        let read = Rows::of(bytes).expect("a chunk");
        assert_eq!(read.table, 3);
        assert!(read.map(|row| row.expect("a row")).eq(rows));
        for length in 0..bytes.len() {
            let rows = Rows::of(&bytes[..length]).map(|rows| rows.collect::<Vec<_>>());
            let is_short = rows.is_err() || rows.is_ok_and(|rows| rows.len() < 3 || rows[2].is_err());
            assert!(is_short, "cut at {length}");
        }
        assert!(Rows::of(&[2, 3]).is_err(), "another version");
        assert_eq!(chunk.push(&[0; 70_000], b""), Err(RowTooLong));
        assert_eq!(chunk.push(b"d", &vec![0; BACKUP_FRAME_BYTES_MAX]), Err(RowTooLong));
    }

    #[test]
    fn order_is_judged_over_tables_and_keys() {
        let mut order = Order::default();
        for (table, key) in [(1, "b"), (1, "ba"), (1, "c"), (2, "a")] {
            order.follow(table, key.as_bytes()).expect("rising");
        }
        for (table, key) in [(1, "z"), (2, "a"), (2, "")] {
            assert!(order.follow(table, key.as_bytes()).is_err());
        }
    }
}
