//! A limit on everything, in one place; the relations between them are checked
//! when the program is compiled.

use std::num::NonZeroU32;
use std::time::Duration;

/// Numbers in a JSON batch, at the most.
pub const BATCH_NUMBERS_MAX: usize = 1_000;
/// Bytes of the body of a single verification.
pub const SINGLE_BODY_BYTES_MAX: usize = 4 * 1024;
/// Bytes of the body of a JSON batch.
pub const BATCH_BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a request's head on any plane; HTTP/2 counts them as RFC 9113, 6.5.2.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a head that HTTP/2 still hands over, so that the refusal of one above
/// [`HEAD_BYTES_MAX`] is ours, with a document; beyond, the engine's bare 431.
pub const HTTP2_HEAD_BYTES_READ_MAX: u32 = 16 * 1024;
/// Bytes of a request target; no path of any plane has a tenth of it.
pub const TARGET_BYTES_MAX: usize = 1024;
/// Bytes of a body of the admin plane, imports apart.
pub const ADMIN_BODY_BYTES_MAX: usize = 64 * 1024;
/// Lines of an NDJSON stream of verifications.
pub const STREAM_LINES_MAX: u64 = 1_000_000;
/// Bytes of one line of an NDJSON stream.
pub const STREAM_LINE_BYTES_MAX: usize = 4 * 1024;
/// Lines that a stream answers from one state of the register, under one record.
pub const STREAM_CHUNK_LINES_MAX: usize = 4_096;
/// Connections open at once on the admin plane, and on the operations plane; officials
/// and scrapers are few.
pub const CONTROL_CONNECTIONS_MAX: usize = 128;
/// Connections open at once on either of them from one address, of IPv6 from one /64.
pub const CONTROL_CONNECTIONS_PER_ADDRESS_MAX: u32 = 64;
/// Open files kept for stores, segments, listeners and workers.
pub const FILES_OF_STORES: usize = 256;
/// Open files that no connection of the verification plane may take: whoever fills the
/// other planes, who need no credential for it, takes nothing of that plane.
pub const FILES_RESERVED: usize = FILES_OF_STORES + 2 * CONTROL_CONNECTIONS_MAX;

/// Connections of the verification plane that so many open files allow: half of them
/// where they are few.
#[must_use]
pub const fn connections_of_files(files: u64) -> usize {
    let files = if files > usize::MAX as u64 { usize::MAX } else { files as usize };
    if files < 2 * FILES_RESERVED { files / 2 } else { files - FILES_RESERVED }
}

/// Connections of each control plane that so many open files allow: an eighth of them
/// where they are few.
#[must_use]
pub const fn control_connections_of_files(files: u64) -> usize {
    if files < 8 * CONTROL_CONNECTIONS_MAX as u64 { files as usize / 8 } else { CONTROL_CONNECTIONS_MAX }
}

/// Bytes of a stream that are read ahead while a chunk waits for its rate, its record or
/// its reader.
pub const STREAM_AHEAD_BYTES_MAX: usize = 256 * 1024;
/// Requests that a connection over HTTP/2 may have under way.
pub const HTTP2_STREAMS_MAX: u32 = 100;
/// Bytes of the body of one request over HTTP/2 that may lie unread: the protocol's
/// default. What a client sent under that, before it knew of a smaller one, would leave
/// its stream without a window for ever.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 65_535;
/// NDJSON streams that may lie unread in their shortest lines, a frame each, on one
/// connection over HTTP/2.
pub const HTTP2_STREAMS_BY_LINES: u32 = 4;
/// Bytes of all of them on one connection. What may lie there is bounded by the streams'
/// own windows; this one is wider than their sum, so that streams that wait keep none of
/// it from others. Half of it is what the engine lets the overhead of small frames take
/// before it ends the connection: [`HTTP2_STREAMS_BY_LINES`] stay below that, and more
/// would be memory that one client may take.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 10 * 1024 * 1024;
/// How long a connection over HTTP/2 may ask nothing before it is told to end; longer
/// than most clients keep one in their pools unused.
pub const HTTP2_IDLE_MAX: Duration = Duration::from_secs(120);
/// NDJSON streams of verifications at work on one connection over HTTP/2; each may
/// hold a chunk asked, a chunk ahead and answers, some MiB together.
pub const STREAMS_PER_CONNECTION_MAX: usize = 16;
/// Lines of one chunk of an import: all of them or none.
pub const IMPORT_CHUNK_LINES: usize = 10_000;
/// Characters of a caller's own reference.
pub const REFERENCE_CHARS_MAX: usize = 64;
/// Bytes those characters may take in UTF-8.
pub const REFERENCE_BYTES_MAX: usize = REFERENCE_CHARS_MAX * 4;
/// Characters of a caller's own request identifier.
pub const REQUEST_ID_CHARS_MAX: usize = 64;
/// Bytes of the name of an institution, a system or a registrant.
pub const NAME_BYTES_MAX: usize = 200;
/// Networks in the allow-list of one key.
pub const ADDRESSES_PER_KEY_MAX: usize = 256;
/// Networks of trusted proxies in the configuration.
pub const PROXY_NETWORKS_MAX: usize = 64;

/// Events of the register that one answer lists.
pub const EVENTS_PAGE_MAX: usize = 10_000;

/// Bytes of one trail record: a full stream chunk in which every line has a
/// moment and a reference of its own.
pub const RECORD_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of one group of records, written and synced together.
pub const GROUP_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Bytes of records that wait for the trail's writer before new ones are refused
/// as `overloaded`.
pub const TRAIL_PENDING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Records of one worker that wait for the trail before new ones are refused as
/// `overloaded`: what is accepted then waits for tens of milliseconds, not for
/// seconds, however many connections and streams ask.
pub const TRAIL_PENDING_RECORDS_MAX: usize = 1_024;
/// Readings of history or evidence that one worker has under way or waiting for a
/// thread before new ones are refused as `overloaded`.
pub const STORE_READS_PENDING_MAX: usize = 256;
/// The smallest trail segment that may be configured.
pub const SEGMENT_BYTES_MIN: u64 = 4 * 1024 * 1024;
/// The largest trail segment that may be configured.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Commands that wait for the register's writer before new ones are refused.
pub const REGISTER_COMMANDS_PENDING_MAX: usize = 8_192;
/// Commands that the register's writer puts into one transaction.
pub const REGISTER_COMMANDS_PER_COMMIT_MAX: usize = 2_048;
/// Re-reservations that the register's writer puts into one transaction.
pub const SCHEDULED_PER_COMMIT_MAX: usize = 10_000;
/// Re-reservations of one transaction from which on their histories go into the
/// backlog and into their places later: fewer are written in no time. (In tests few,
/// so that whatever is due together goes this way.)
pub const HISTORIES_IN_HASTE_MIN: usize = if cfg!(test) { 3 } else { 64 };
/// Re-reservations that the register's writer makes ready before their second; some
/// 300 bytes each.
pub const SCHEDULED_PREPARED_MAX: usize = 2 * SCHEDULED_PER_COMMIT_MAX;
/// Histories that the backlog takes; what is beyond goes to its place at once.
pub const HISTORIES_BACKLOG_MAX: u64 = 4 * SCHEDULED_PER_COMMIT_MAX as u64;
/// Histories of the backlog that one transaction puts in their places.
pub const HISTORIES_SETTLED_PER_COMMIT: usize = if cfg!(test) { 2 } else { 64 };
/// Imports under way at once; one more is refused. Each may hold the lines of a chunk,
/// some 4 MiB, and as much again of what it is to tell.
pub const IMPORTS_MAX: usize = 16;
/// Chunks of imports that wait for the register's writer or are in its hands;
/// the sender of the next one waits. Each takes some 2 MiB while it is on its way.
pub const IMPORT_CHUNKS_PENDING_MAX: usize = 32;
/// Chunks that share one transaction at the most.
pub const IMPORT_CHUNKS_PER_COMMIT_MAX: usize = 16;
/// How long chunks that share one may take, by what the last ones took: what is due
/// by the clock and other people's commands wait for them.
pub const IMPORT_COMMIT_TARGET: Duration = Duration::from_secs(1);
/// Per cent of the reserved numbers by which one import may shrink their set.
pub const IMPORT_SHRINK_PERCENT_MAX: u64 = 1;
/// Per cent by which one import may grow it, unless it was empty.
pub const IMPORT_GROWTH_PERCENT_MAX: u64 = 20;
/// Seconds after an import broke off, or after a restart that broke it off, in which
/// the ends of temporary withdrawals that it told wait for it to be sent again.
pub const IMPORT_ENDS_HELD_SECONDS: u32 = 10 * 60;
/// Numbers held so that a store names for the next start; of more it says only that
/// there were some. A quarter of a MiB or, of numbers strewn thinly, one.
pub const HELD_NUMBERS_STORED_MAX: u64 = 128 * 1024;
/// Longest wait of a question for the register to record the end of a temporary
/// withdrawal; ten thousand of one second are recorded within a third of one.
pub const OVERDUE_WAIT_MAX: Duration = Duration::from_millis(500);
/// Seconds after such an end in which it is waited for at all: what was not recorded by
/// then waits for more than the writer's turn.
pub const OVERDUE_FRESH_SECONDS: i64 = 2;
/// How often it is looked at meanwhile.
pub const OVERDUE_LOOK: Duration = Duration::from_millis(2);
/// Events of one number that imports and ex officio reservations without effect may
/// bring it to; a person would have to file every half hour for years. A history is
/// read and written whole.
pub const HISTORY_EVENTS_MAX: usize = 100_000;
/// Renumberings that a number is the old or the new one of. A life brings one or two;
/// each is compared with those before, to know what is told again.
pub const RENUMBERINGS_MAX: usize = 100;
/// Seconds for which the answer to an `Idempotency-Key` is remembered.
pub const IDEMPOTENCY_SECONDS: u32 = 24 * 60 * 60;
/// Remembered keys that one transaction forgets: more than it can remember, so
/// that they never pile up.
pub const IDEMPOTENCY_PURGE_MAX: usize = 2 * REGISTER_COMMANDS_PER_COMMIT_MAX;

/// Answers to messages of one feed that are remembered, the last ones.
pub const FEED_ANSWERS_KEPT: u64 = 10_000;

/// API keys and admin tokens on record, deactivated ones included.
pub const CREDENTIALS_MAX: usize = 1_000_000;
/// Commands that wait for the writer of access before new ones are refused.
pub const ACCESS_COMMANDS_PENDING_MAX: usize = 4_096;
/// Commands that the writer of access puts into one transaction.
pub const ACCESS_COMMANDS_PER_COMMIT_MAX: usize = 512;
/// Characters of a caller's `Idempotency-Key`.
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;
/// The highest rate of one key, in numbers a second.
pub const KEY_PER_SECOND_MAX: u32 = 1_000_000_000;
/// The largest daily budget of one key, in numbers.
pub const KEY_PER_DAY_MAX: u64 = 1_000_000_000_000;

/// Connections over TLS or HTTP/2 that an address may open at once before they wait
/// for turns; also messages in plain HTTP/1.1 without a certain end that are refused at once.
pub const TURNS_AT_ONCE: NonZeroU32 = NonZeroU32::MIN.saturating_add(255);
/// Turns of an address a second.
pub const TURNS_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(199);
/// Longest wait for a turn; a connection whose turn lies beyond it is closed, a refusal
/// said then. By then its caller has often given up, and turns of those who are gone
/// would be waited for by those who come after them.
pub const TURN_WAIT_MAX: Duration = Duration::from_secs(2);

/// Buckets for one thing that is counted by address; addresses share them by a keyed
/// hash, so that no flood of addresses grows memory.
pub const ADDRESS_BUCKETS: u16 = 32_768;

/// Bytes that a backup reads, frames and sends at once.
pub const BACKUP_PIECE_BYTES: usize = 256 * 1024;
/// Bytes of one frame of a backup: the largest row of any table fits.
pub const BACKUP_FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Segments of the trail that one backup may hold.
pub const BACKUP_SEGMENTS_MAX: u64 = 1 << 24;

/// Seconds that the clock may lie behind what is on record, where nothing else is said.
/// A clock that is kept right steps back by a second or two at the most, and two machines
/// are seconds apart; the end of a temporary withdrawal, the first thing to go wrong,
/// would be missed by no more than this.
pub const CLOCK_BEHIND_SECONDS_MAX: u64 = 60;

const _: () = {
    // What is few is few for all planes.
    assert!(2 * FILES_RESERVED == 8 * CONTROL_CONNECTIONS_MAX);
    assert!(CONTROL_CONNECTIONS_PER_ADDRESS_MAX as usize * 2 <= CONTROL_CONNECTIONS_MAX);
    assert!(TARGET_BYTES_MAX < HEAD_BYTES_MAX);
    assert!(HEAD_BYTES_MAX < HTTP2_HEAD_BYTES_READ_MAX as usize);
    // Before a client has acknowledged our settings each stream has the default window.
    assert!(HTTP2_CONNECTION_WINDOW_BYTES > HTTP2_STREAMS_MAX * 65_535);
    // The engine charges an unread frame what it is short of 256 bytes.
    const LINE_BYTES: u32 = 14;
    let of_lines = HTTP2_STREAM_WINDOW_BYTES / LINE_BYTES * (256 - LINE_BYTES);
    assert!(of_lines * HTTP2_STREAMS_BY_LINES <= HTTP2_CONNECTION_WINDOW_BYTES / 2);
    assert!(HTTP2_STREAM_WINDOW_BYTES >= 65_535);
    assert!(BATCH_BODY_BYTES_MAX >= BATCH_NUMBERS_MAX * 16);
    assert!(STREAM_CHUNK_LINES_MAX * (REFERENCE_BYTES_MAX + 64) < RECORD_BYTES_MAX);
    assert!(RECORD_BYTES_MAX + 1024 <= GROUP_BYTES_MAX);
    assert!(GROUP_BYTES_MAX <= TRAIL_PENDING_BYTES_MAX);
    assert!(GROUP_BYTES_MAX as u64 + 64 * 1024 <= SEGMENT_BYTES_MIN);
    assert!(SEGMENT_BYTES_MIN <= SEGMENT_BYTES_MAX);
    assert!(REGISTER_COMMANDS_PER_COMMIT_MAX <= REGISTER_COMMANDS_PENDING_MAX);
    assert!(ACCESS_COMMANDS_PER_COMMIT_MAX <= ACCESS_COMMANDS_PENDING_MAX);
    // Tag, stamp, sequence and end of an event take no more than this.
    assert!(HISTORY_EVENTS_MAX * (1 + 4 + 10 + 4) * 2 < BACKUP_FRAME_BYTES_MAX);
    assert!(IMPORT_CHUNKS_PENDING_MAX <= REGISTER_COMMANDS_PER_COMMIT_MAX);
    assert!(IMPORT_CHUNKS_PER_COMMIT_MAX <= IMPORT_CHUNKS_PENDING_MAX);
    // The register's rows count the bytes of a name in one byte.
    assert!(NAME_BYTES_MAX <= u8::MAX as usize);
    // Every event of a row with a registrant of its own and all that it may have.
    assert!(IMPORT_CHUNK_LINES * (NAME_BYTES_MAX + 1 + 40) + 1024 <= BACKUP_FRAME_BYTES_MAX);
    assert!(BACKUP_PIECE_BYTES <= BACKUP_FRAME_BYTES_MAX);
    // ... and the registrants of a row in two.
    assert!(IMPORT_CHUNK_LINES <= u16::MAX as usize);
};
