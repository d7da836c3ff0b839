//! Lines out of frames: a connection cuts bytes where it likes.

use memchr::memchr;

/// Puts lines together again.
#[derive(Debug)]
pub(crate) struct Lines {
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
    bytes_max: usize,
}

/// A line is longer than agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LineTooLong;

impl Lines {
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Self { begun: Vec::new(), bytes_max }
    }

    /// Hands each complete line to `each`, without its end and without empty
    /// lines, until it fails.
    pub(crate) fn feed<E: From<LineTooLong>>(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(at) = memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..at], &bytes[at + 1..]);
            bytes = rest;
            if self.begun.is_empty() {
                given(line, &mut each)?;
            } else {
                self.begun.extend_from_slice(line);
                let whole = std::mem::take(&mut self.begun);
                given(&whole, &mut each)?;
            }
        }
        if self.begun.len() + bytes.len() > self.bytes_max {
            return Err(LineTooLong.into());
        }
        self.begun.extend_from_slice(bytes);
        Ok(())
    }

    /// Whether a line has begun and not ended.
    pub(crate) fn is_cut(&self) -> bool {
        !self.begun.is_empty()
    }
}

fn given<E>(line: &[u8], each: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() { Ok(()) } else { each(line) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_gives_the_same_lines() {
        let text = b"one\n\ntwo\r\nthree and more\nfour";
        for first in 0..text.len() {
            for second in first..text.len() {
                let (mut lines, mut found) = (Lines::new(100), Vec::new());
                for part in [&text[..first], &text[first..second], &text[second..]] {
                    let fed: Result<(), LineTooLong> = lines.feed(part, |line| {
                        found.push(line.to_vec());
                        Ok(())
                    });
                    fed.expect("short lines");
                }
                assert_eq!(found, [&b"one"[..], b"two", b"three and more"]);
                assert!(lines.is_cut());
            }
        }
    }

    #[test]
    fn a_line_without_an_end_is_not_kept_for_ever() {
        let mut lines = Lines::new(8);
        assert_eq!(lines.feed(b"12345678", |_| Ok::<_, LineTooLong>(())), Ok(()));
        assert_eq!(lines.feed(b"9", |_| Ok(())), Err(LineTooLong));
    }
}
