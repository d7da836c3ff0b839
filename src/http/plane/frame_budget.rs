//! A bound on HTTP/2 frames that ask for nothing: PING, SETTINGS, PRIORITY,
//! WINDOW_UPDATE, GOAWAY, unknown ones and RST_STREAM for a stream that is closed are
//! answered or skipped by the engine without end (CVE-2019-9512, CVE-2019-9515). Floods
//! that open streams, that break off heads or send empty data are the engine's own to
//! end.

use std::time::Instant;

/// Frames of this kind that a connection may send at once.
const BURST: u32 = 1_000;
/// How many are forgiven a second: a client that measures its round trip with a
/// PING every few milliseconds stays below it.
const PER_SECOND: u64 = 200;
/// Bytes of answers that forgive one: windows are opened for what was sent.
const ANSWER_BYTES_EACH: u64 = 1_024;

const HEADER_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;

/// Follows the frames of one connection by their headers.
#[derive(Debug)]
pub(super) struct FrameBudget {
    header: [u8; HEADER_BYTES],
    header_len: usize,
    /// Bytes of the present frame's payload still to come.
    payload_left: usize,
    left: u32,
    /// Streams that were opened and may still be reset, once each.
    resets_due: u32,
    /// When, and after how many bytes written, frames were last forgiven.
    forgiven: (Instant, u64),
}

/// The budget is spent: the connection is to end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flooded;

impl FrameBudget {
    pub(super) fn new(now: Instant) -> Self {
        let header = [0; HEADER_BYTES];
        Self { header, header_len: 0, payload_left: 0, left: BURST, resets_due: 0, forgiven: (now, 0) }
    }

    /// Counts the frames that begin in these bytes, which follow the preface and
    /// all bytes counted before. The clock is asked only when the budget is low.
    pub(super) fn count(
        &mut self,
        mut bytes: &[u8],
        written_bytes: u64,
        now: impl Fn() -> Instant,
    ) -> Result<(), Flooded> {
        while !bytes.is_empty() {
            let skipped = self.payload_left.min(bytes.len());
            self.payload_left -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEADER_BYTES - self.header_len).min(bytes.len());
            self.header[self.header_len..self.header_len + taken].copy_from_slice(&bytes[..taken]);
            self.header_len += taken;
            bytes = &bytes[taken..];
            if self.header_len == HEADER_BYTES {
                let [high, middle, low, kind, ..] = self.header;
                self.header_len = 0;
                self.payload_left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                if self.asks_for_nothing(kind) {
                    self.charge(written_bytes, &now)?;
                }
            }
        }
        Ok(())
    }

    /// Every kind but DATA, HEADERS and CONTINUATION, whose floods the engine ends, and
    /// a RST_STREAM for each HEADERS.
    fn asks_for_nothing(&mut self, kind: u8) -> bool {
        match kind {
            DATA | CONTINUATION => false,
            HEADERS => {
                self.resets_due = self.resets_due.saturating_add(1);
                false
            }
            RST_STREAM => match self.resets_due.checked_sub(1) {
                Some(due) => {
                    self.resets_due = due;
                    false
                }
                None => true,
            },
            _ => true,
        }
    }

    fn charge(&mut self, written_bytes: u64, now: impl Fn() -> Instant) -> Result<(), Flooded> {
        if self.left == 0 {
            let (since, written) = self.forgiven;
            let now = now();
            let millis = u64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX);
            let by_time = millis.saturating_mul(PER_SECOND) / 1_000;
            let by_answers = written_bytes.saturating_sub(written) / ANSWER_BYTES_EACH;
            let forgiven = by_time.saturating_add(by_answers).min(u64::from(BURST));
            self.left = u32::try_from(forgiven).unwrap_or(BURST);
            self.forgiven = (now, written_bytes);
        }
        self.left = self.left.checked_sub(1).ok_or(Flooded)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PING: u8 = 6;

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![0, (payload >> 8) as u8, payload as u8, kind, 0, 0, 0, 0, 0];
        // A payload that looks like the header of a PING, over and over.
        frame.extend(std::iter::repeat_n(PING, payload));
        frame
    }

    /// How many PINGs pass, cut into pieces of `piece` bytes.
    fn passed(budget: &mut FrameBudget, piece: usize, now: Instant, written: u64) -> u32 {
        let mut passed = 0;
        while passed < 10 * BURST {
            for part in frame(PING, 8).chunks(piece) {
                if budget.count(part, written, || now).is_err() {
                    // A real connection ends here, amid the frame.
                    budget.payload_left = 0;
                    return passed;
                }
            }
            passed += 1;
        }
        passed
    }

    #[test]
    fn a_flood_is_seen_however_it_is_cut() {
        let start = Instant::now();
        for piece in 1..=17 {
            assert_eq!(passed(&mut FrameBudget::new(start), piece, start, 0), BURST, "{piece}");
        }
    }

    #[test]
    fn requests_and_their_bodies_cost_nothing() {
        let start = Instant::now();
        let mut budget = FrameBudget::new(start);
        for _ in 0..10 * BURST {
            for kind in [HEADERS, CONTINUATION, DATA, RST_STREAM] {
                assert_eq!(budget.count(&frame(kind, 300), 0, || start), Ok(()));
            }
        }
        assert_eq!(passed(&mut budget, 17, start, 0), BURST);
    }

    /// The engine ignores them for ever, once one stream has been closed.
    #[test]
    fn resets_of_more_streams_than_there_were_are_a_flood() {
        let start = Instant::now();
        let mut budget = FrameBudget::new(start);
        let mut count = |kind| budget.count(&frame(kind, 4), 0, || start);
        for _ in 0..10 * BURST {
            assert_eq!((count(HEADERS), count(RST_STREAM)), (Ok(()), Ok(())));
        }
        let most = (0..10 * BURST).position(|_| count(RST_STREAM).is_err());
        assert_eq!(most, Some(BURST as usize));
    }

    #[test]
    fn time_and_answers_forgive() {
        let start = Instant::now();
        let mut budget = FrameBudget::new(start);
        assert_eq!(passed(&mut budget, 17, start, 0), BURST);
        let later = start + Duration::from_secs(2);
        assert_eq!(passed(&mut budget, 17, later, 0), 2 * PER_SECOND as u32);
        assert_eq!(passed(&mut budget, 17, later, 300 * ANSWER_BYTES_EACH), 300);
        // Never more than a burst.
        assert_eq!(passed(&mut budget, 17, later + Duration::from_secs(3_600), u64::MAX), BURST);
    }
}
