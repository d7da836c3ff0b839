//! The trail's metrics; handles are held, nothing is looked up per group.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};

/// What the writer measures, per group.
pub(super) struct Meters {
    group_records: Histogram,
    sync_seconds: Histogram,
    lag_seconds: Histogram,
    records_total: Counter,
    bytes_total: Counter,
    pending_bytes: Gauge,
}

impl Meters {
    /// Takes the handles; the process's metrics recorder must be installed.
    pub(super) fn new() -> Self {
        describe();
        let meters = Self {
            group_records: histogram!("peselgate_trail_group_records"),
            sync_seconds: histogram!("peselgate_trail_sync_seconds"),
            lag_seconds: histogram!("peselgate_trail_lag_seconds"),
            records_total: counter!("peselgate_trail_records_total"),
            bytes_total: counter!("peselgate_trail_bytes_total"),
            pending_bytes: gauge!("peselgate_trail_pending_bytes"),
        };
        meters.pending_bytes.set(0.0);
        meters
    }

    /// One group is durable.
    pub(super) fn group(&self, records: u32, bytes: usize, lag: Option<Duration>) {
        self.group_records.record(f64::from(records));
        self.records_total.increment(u64::from(records));
        self.bytes_total.increment(bytes as u64);
        if let Some(lag) = lag {
            self.lag_seconds.record(lag);
        }
    }

    pub(super) fn sync(&self, took: Duration) {
        self.sync_seconds.record(took);
    }

    pub(super) fn pending(&self, bytes: usize) {
        self.pending_bytes.set(bytes as f64);
    }
}

/// Counts prepared segments.
pub(super) fn segments_prepared_total() -> Counter {
    counter!("peselgate_trail_segments_prepared_total")
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_histogram!("peselgate_trail_group_records", Unit::Count, "Records written and synced together.");
    describe_histogram!(
        "peselgate_trail_sync_seconds",
        Unit::Seconds,
        "Duration of one sync of the audit trail."
    );
    describe_histogram!(
        "peselgate_trail_lag_seconds",
        Unit::Seconds,
        "From staging the oldest record of a group until the group is durable."
    );
    describe_counter!("peselgate_trail_records_total", Unit::Count, "Records written to the audit trail.");
    describe_counter!("peselgate_trail_bytes_total", Unit::Bytes, "Bytes written to the audit trail.");
    describe_gauge!(
        "peselgate_trail_pending_bytes",
        Unit::Bytes,
        "Bytes of records that wait to be written."
    );
    describe_counter!(
        "peselgate_trail_segments_prepared_total",
        Unit::Count,
        "Segments of the audit trail prepared ahead."
    );
}
