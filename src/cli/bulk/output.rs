//! The result: every row as it was, and what is known of its number.

use std::fs::File;
use std::io::{self, Write};

use super::answer::{Outcome, Text, Verdict};
use super::input::{ADDED, Batch, Shape, put_field};

/// Bytes that are collected before they are written.
const BUFFER_BYTES: usize = 256 * 1024;

/// Where the result goes.
#[derive(Debug)]
pub(super) enum Target {
    /// A file that an interrupted run can go on with.
    Part(File),
    Stdout(io::Stdout),
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Part(file) => file.write(bytes),
            Self::Stdout(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Part(file) => file.flush(),
            Self::Stdout(out) => out.flush(),
        }
    }
}

/// Writes whole rows.
#[derive(Debug)]
pub(super) struct Sink<W> {
    target: W,
    buffer: Vec<u8>,
    /// Bytes that the target has.
    written: u64,
    /// Some of what was handed over may be there: nothing can follow it.
    has_failed: bool,
    delimiter: u8,
    end: &'static [u8],
}

impl<W: Write> Sink<W> {
    /// A sink behind so many bytes that the target has already.
    pub(super) fn new(target: W, written: u64, shape: Shape) -> Self {
        let buffer = Vec::with_capacity(BUFFER_BYTES + 64 * 1024);
        Self { target, buffer, written, has_failed: false, delimiter: shape.delimiter, end: shape.end }
    }

    /// The header, as it is.
    pub(super) fn header(&mut self, header: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(header);
        self.spill()
    }

    /// A row that was not asked: its text is complete.
    pub(super) fn unasked(&mut self, batch: &Batch, row: usize) -> io::Result<()> {
        self.buffer.extend_from_slice(batch.text(row));
        self.buffer.extend_from_slice(self.end);
        self.spill()
    }

    /// A row with what became of it.
    pub(super) fn row(
        &mut self,
        batch: &Batch,
        row: usize,
        index: u64,
        outcome: &Outcome<'_>,
    ) -> io::Result<()> {
        self.buffer.extend_from_slice(batch.text(row));
        match outcome {
            Outcome::Verified(verdict) => self.verdict(verdict, index),
            Outcome::Wrong(error) => {
                self.buffer.extend(std::iter::repeat_n(self.delimiter, ADDED.len() - 1));
                self.index(index);
                self.buffer.push(self.delimiter);
                put_field(&mut self.buffer, error, self.delimiter);
            }
        }
        self.buffer.extend_from_slice(self.end);
        self.spill()
    }

    fn verdict(&mut self, verdict: &Verdict<'_>, index: u64) {
        self.buffer.push(self.delimiter);
        self.buffer.extend_from_slice(if verdict.reserved { b"true" } else { b"false" });
        self.field(verdict.reserved_at.as_ref());
        self.field(verdict.withdrawn_at.as_ref());
        self.field(Some(&verdict.verification_id));
        self.buffer.push(self.delimiter);
        self.index(index);
        self.buffer.push(self.delimiter);
    }

    fn field(&mut self, text: Option<&Text<'_>>) {
        self.buffer.push(self.delimiter);
        match text {
            // The scanner lends only what has nothing to quote, unless one of a
            // moment's own characters parts the columns.
            Some(Text::Borrowed(text)) if !b":-TZ".contains(&self.delimiter) => {
                self.buffer.extend_from_slice(text)
            }
            Some(text) => put_field(&mut self.buffer, text, self.delimiter),
            None => {}
        }
    }

    fn index(&mut self, index: u64) {
        self.buffer.extend_from_slice(itoa::Buffer::new().format(index).as_bytes());
    }

    fn spill(&mut self) -> io::Result<()> {
        if self.buffer.len() < BUFFER_BYTES { Ok(()) } else { self.flush() }
    }

    /// Hands everything to the target.
    ///
    /// # Errors
    /// The target's; from the first one on nothing is written any more, for nobody knows
    /// how much of a row is there.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.has_failed {
            return Err(io::Error::other("nothing is written behind an earlier failure"));
        }
        self.has_failed = true;
        self.target.write_all(&self.buffer)?;
        self.target.flush()?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.has_failed = false;
        Ok(())
    }

    /// Bytes that the target has after [`Sink::flush`].
    pub(super) const fn written(&self) -> u64 {
        self.written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes half of the second write, refuses the third, and is well again.
    #[derive(Default)]
    struct FullForAMoment {
        taken: Vec<u8>,
        writes: u32,
    }

    impl Write for FullForAMoment {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.writes += 1;
            let length = match self.writes {
                2 => bytes.len() / 2,
                3 => return Err(io::ErrorKind::StorageFull.into()),
                _ => bytes.len(),
            };
            self.taken.extend_from_slice(&bytes[..length]);
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nothing_is_written_behind_a_row_that_is_half_there() {
        let (target, buffer) = (FullForAMoment::default(), Vec::new());
        let mut sink = Sink { target, buffer, written: 0, has_failed: false, delimiter: b',', end: b"\n" };
        sink.header(b"pesel\n").and_then(|()| sink.flush()).expect("taken");
        sink.header(b"12345678").expect("collected");
        assert_eq!(sink.flush().map_err(|error| error.kind()), Err(io::ErrorKind::StorageFull));
        assert!(sink.flush().is_err() && sink.header(b"x").and_then(|()| sink.flush()).is_err());
        assert_eq!((sink.written(), sink.target.taken.as_slice()), (6, &b"pesel\n1234"[..]));
    }
}
