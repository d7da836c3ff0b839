//! Figures of the register for the operator.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use super::super::snapshot::Snapshot;
use super::super::words::Channel;
use super::CommandError;

/// Handles of the register's metrics. They count into whatever recorder is
/// installed when the register is opened.
pub(super) struct Measures {
    recorded: Counter,
    replayed: Counter,
    refused: Counter,
    overloaded: Counter,
    /// In the order of [`Channel::ALL`], with how many feeds wait.
    feed_gaps: Vec<(Counter, Gauge)>,
    unavailable: Counter,
    imported: Counter,
    scheduled: Counter,
    scheduled_late_seconds: Histogram,
    scheduled_pending: Gauge,
    histories_backlog: Gauge,
    commit_seconds: Histogram,
    commands_per_commit: Histogram,
    queue_depth: Gauge,
    sequence: Gauge,
    reserved: Gauge,
    entries: Gauge,
    snapshot_bytes: Gauge,
    writable: Gauge,
}

/// What a message came to, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    Recorded,
    Replayed,
    Refused,
    Unavailable,
}

impl Measures {
    pub(super) fn new() -> Self {
        describe();
        let commands = |outcome: &'static str| metrics::counter!("peselgate_register_commands_total", "outcome" => outcome);
        Self {
            recorded: commands("recorded"),
            replayed: commands("replayed"),
            refused: commands("refused"),
            overloaded: commands("overloaded"),
            unavailable: commands("unavailable"),
            feed_gaps: Channel::ALL
                .iter()
                .map(|channel| {
                    let waiting = metrics::gauge!("peselgate_feeds_waiting", "channel" => channel.name());
                    waiting.set(0.0);
                    (metrics::counter!("peselgate_feed_gaps_total", "channel" => channel.name()), waiting)
                })
                .collect(),
            imported: metrics::counter!("peselgate_register_imported_events_total"),
            scheduled: metrics::counter!("peselgate_register_scheduled_reservations_total"),
            scheduled_late_seconds: metrics::histogram!("peselgate_register_scheduled_late_seconds"),
            scheduled_pending: metrics::gauge!("peselgate_register_scheduled_pending"),
            histories_backlog: metrics::gauge!("peselgate_register_histories_backlog"),
            commit_seconds: metrics::histogram!("peselgate_register_commit_seconds"),
            commands_per_commit: metrics::histogram!("peselgate_register_commands_per_commit"),
            queue_depth: metrics::gauge!("peselgate_register_queue_depth"),
            sequence: metrics::gauge!("peselgate_register_sequence"),
            reserved: metrics::gauge!("peselgate_register_reserved"),
            entries: metrics::gauge!("peselgate_register_entries"),
            snapshot_bytes: metrics::gauge!("peselgate_register_snapshot_bytes"),
            writable: metrics::gauge!("peselgate_register_writable"),
        }
    }

    pub(super) fn overloaded(&self) {
        self.overloaded.increment(1);
    }

    pub(super) fn count(&self, counted: Counted) {
        match counted {
            Counted::Recorded => self.recorded.increment(1),
            Counted::Replayed => self.replayed.increment(1),
            Counted::Refused => self.refused.increment(1),
            Counted::Unavailable => self.unavailable.increment(1),
        }
    }

    /// A message of a feed came before another one.
    pub(super) fn feed_gap(&self, channel: Channel) {
        if let Some((gaps, _)) = self.feed(channel) {
            gaps.increment(1);
        }
    }

    /// So many feeds of the channel wait for a message.
    pub(super) fn feeds_waiting(&self, channel: Channel, count: usize) {
        if let Some((_, waiting)) = self.feed(channel) {
            waiting.set(count as f64);
        }
    }

    fn feed(&self, channel: Channel) -> Option<&(Counter, Gauge)> {
        let place = Channel::ALL.iter().position(|known| *known == channel);
        place.and_then(|place| self.feed_gaps.get(place))
    }

    pub(super) fn imported(&self, events: u64) {
        self.imported.increment(events);
    }

    /// Re-reservations that became visible, the earliest so many milliseconds
    /// after its moment.
    pub(super) fn scheduled(&self, count: usize, late_millis: i64) {
        self.scheduled.increment(count as u64);
        self.scheduled_late_seconds.record(late_millis.max(0) as f64 / 1_000.0);
    }

    pub(super) fn scheduled_pending(&self, count: usize) {
        self.scheduled_pending.set(count as f64);
    }

    /// Histories that are not in their places yet.
    pub(super) fn histories_backlog(&self, count: u64) {
        self.histories_backlog.set(count as f64);
    }

    pub(super) fn commit(&self, took: Duration, commands: usize) {
        self.commit_seconds.record(took.as_secs_f64());
        self.commands_per_commit.record(commands as f64);
    }

    pub(super) fn queue_depth(&self, commands: usize) {
        self.queue_depth.set(commands as f64);
    }

    pub(super) fn writable(&self, writable: bool) {
        self.writable.set(f64::from(u8::from(writable)));
    }

    pub(super) fn published(&self, snapshot: &Snapshot) {
        self.sequence.set(snapshot.sequence().value() as f64);
        self.reserved.set(snapshot.reserved_count() as f64);
        self.entries.set(snapshot.entry_count() as f64);
        self.snapshot_bytes.set(snapshot.resident_bytes() as f64);
    }
}

impl Counted {
    pub(super) const fn of(error: &CommandError) -> Self {
        match error {
            CommandError::Unavailable { .. } | CommandError::ClockBehind(_) | CommandError::Overloaded => {
                Self::Unavailable
            }
            _ => Self::Refused,
        }
    }
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!("peselgate_register_commands_total", "Register commands and import chunks by outcome");
    describe_counter!(
        "peselgate_feed_gaps_total",
        "Messages of feeds that were refused because others before them are missing"
    );
    describe_gauge!(
        "peselgate_feeds_waiting",
        "Feeds whose last message was refused because others before it are missing"
    );
    describe_counter!("peselgate_register_imported_events_total", "Events recorded by imports");
    describe_counter!(
        "peselgate_register_scheduled_reservations_total",
        "Re-reservations that the clock carried out"
    );
    describe_histogram!(
        "peselgate_register_scheduled_late_seconds",
        Unit::Seconds,
        "Time from the moment of a re-reservation until it was visible"
    );
    describe_gauge!("peselgate_register_scheduled_pending", "Temporary withdrawals that last");
    describe_gauge!(
        "peselgate_register_histories_backlog",
        "Histories continued by the clock that are not in their places in the file yet"
    );
    describe_histogram!(
        "peselgate_register_commit_seconds",
        Unit::Seconds,
        "Time of a durable commit of the register"
    );
    describe_histogram!("peselgate_register_commands_per_commit", "Commands that shared a commit");
    describe_gauge!("peselgate_register_queue_depth", "Register commands that wait for the writer");
    describe_gauge!("peselgate_register_sequence", "Last register event that verifications see");
    describe_gauge!("peselgate_register_reserved", "Numbers that are reserved");
    describe_gauge!("peselgate_register_entries", "Numbers that are or were reserved");
    describe_gauge!("peselgate_register_snapshot_bytes", Unit::Bytes, "Memory of the present snapshot");
    describe_gauge!("peselgate_register_writable", "1 while the register can be written, else 0");
}
