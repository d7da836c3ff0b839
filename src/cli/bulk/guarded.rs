//! The input as the CSV reader may see it: no endless row, and no quote in doubt.
//!
//! The reader is lenient: whatever a quote opens belongs to one field until the next
//! quote or the end of the input, and text behind a closing quote is taken along. A quote
//! that somebody forgot swallows the people behind it, who then were never asked.

use std::io::{self, Read};

use memchr::{memchr, memchr_iter};

/// Bytes of a row; more means a quote that nobody closed.
pub(super) const ROW_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Where in a field the input stands (RFC 4180, 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    FieldBegins,
    Bare,
    Quoted,
    /// Behind a quote within a quoted field: its end, or the first half of a quote.
    QuoteInQuoted,
}

/// An input that begins where a row does.
pub(super) struct Guarded<R> {
    input: R,
    delimiter: u8,
    place: Place,
    /// Ends of line so far, and how many of them were before the last quote that opened.
    lines: u64,
    opened_after: u64,
    /// Bytes that may still come of the row in the making.
    left: u64,
}

impl<R: Read> Guarded<R> {
    pub(super) const fn new(input: R, delimiter: u8) -> Self {
        Self { input, delimiter, place: Place::FieldBegins, lines: 0, opened_after: 0, left: ROW_BYTES_MAX }
    }

    /// Another row begins.
    pub(super) const fn begin_row(&mut self) {
        self.left = ROW_BYTES_MAX;
    }

    fn in_doubt(&self, why: &str) -> io::Error {
        // Of work that is gone on with, lines count from where it goes on.
        io::Error::other(format!(
            "the field that a quote opens in line {} of it {why}",
            self.opened_after + 1
        ))
    }

    /// Where the input stands behind these bytes.
    ///
    /// # Errors
    /// Text behind a closing quote.
    fn follow(&mut self, bytes: &[u8]) -> io::Result<()> {
        let is_end = |byte: u8| byte == self.delimiter || byte == b'\n' || byte == b'\r';
        let mut place = self.place;
        let is_bare = matches!(place, Place::FieldBegins | Place::Bare);
        if let (true, None, Some(last)) = (is_bare, memchr(b'"', bytes), bytes.last()) {
            self.lines += memchr_iter(b'\n', bytes).count() as u64;
            self.place = if is_end(*last) { Place::FieldBegins } else { Place::Bare };
            return Ok(());
        }
        for byte in bytes {
            if place == Place::FieldBegins && *byte == b'"' {
                self.opened_after = self.lines;
            }
            self.lines += u64::from(*byte == b'\n');
            place = match (place, *byte) {
                (Place::FieldBegins, b'"') | (Place::QuoteInQuoted, b'"') => Place::Quoted,
                (Place::Quoted, b'"') => Place::QuoteInQuoted,
                (Place::Quoted, _) => Place::Quoted,
                (_, byte) if is_end(byte) => Place::FieldBegins,
                (Place::QuoteInQuoted, _) => {
                    return Err(self.in_doubt("has text behind the quote that closes it"));
                }
                (Place::FieldBegins | Place::Bare, _) => Place::Bare,
            };
        }
        self.place = place;
        Ok(())
    }
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::other("a row of more than 16 MiB, perhaps a quote that is not closed"));
        }
        let length = self.input.read(buffer)?;
        if length == 0 && self.place == Place::Quoted {
            return Err(self.in_doubt("is not closed"));
        }
        self.follow(&buffer[..length])?;
        self.left = self.left.saturating_sub(length as u64);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Given in pieces of so many bytes.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(buffer.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    fn passes(input: &str, delimiter: u8) -> bool {
        let one = |piece| {
            let mut read = Vec::new();
            let ended = Guarded::new(Pieces(input.as_bytes(), piece), delimiter).read_to_end(&mut read);
            assert!(ended.is_err() || read == input.as_bytes(), "what passes is as it was");
            ended.is_ok()
        };
        let whole = one(1 << 20);
        assert!((1..9).all(|piece| one(piece) == whole), "however it comes: {input:?}");
        whole
    }

    #[test]
    fn a_quote_that_is_not_closed_is_told_from_one_that_is() {
        for good in [
            "",
            "a",
            "a,b\n",
            "a,\"b\"",
            "a,\"b\"\r\nc,\"d,\ne\"\n",
            "a,\"\"\n",
            "a,\"b\"\"c\"\n",
            "a,\"\"\"b\"\"\"\n",
            "5\" pipe,b\nc,7\"\n",
        ] {
            assert!(passes(good, b','), "{good:?}");
        }
        for bad in ["a,\"b", "a,\"b\nc,d\n", "a,\"b\nc,\"d\"\n", "a,\"b\" \n", "\"", "a,\"b\"\"\nc\n"] {
            assert!(!passes(bad, b','), "{bad:?}");
        }
        assert!(passes("a;\"b\";c\n", b';') && !passes("a;\"b\",c\n", b';'));
    }
}
