//! A progress bar on a terminal; silence anywhere else.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Redrawn this often at the most.
const REDRAW: Duration = Duration::from_millis(100);

pub(crate) struct Progress {
    bar: ProgressBar,
    started: Instant,
    drawn: Option<Instant>,
    /// Rows that were done before this run.
    before: u64,
    is_sized: bool,
}

impl Progress {
    /// A bar over this many bytes of input; without a length, a counter.
    pub(crate) fn new(bytes: Option<u64>, rows_before: u64) -> Self {
        let bar = ProgressBar::with_draw_target(bytes, ProgressDrawTarget::hidden());
        let template = match bytes {
            Some(_) => "{bar:32} {percent:>3} %  {msg}",
            None => "{spinner} {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        if std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        Self { bar, started: Instant::now(), drawn: None, before: rows_before, is_sized: bytes.is_some() }
    }

    /// So many bytes of the input and rows are done.
    pub(crate) fn show(&mut self, bytes: u64, rows: u64) {
        if self.bar.is_hidden() || self.drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW) {
            return;
        }
        self.drawn = Some(Instant::now());
        self.bar.set_position(bytes);
        let rate = rate(rows.saturating_sub(self.before), self.started.elapsed());
        let left =
            if self.is_sized { format!(", {} s left", self.bar.eta().as_secs()) } else { String::new() };
        self.bar.set_message(format!("{rows} rows, {rate:.0} a second{left}"));
    }

    /// A bar over bytes alone; how many they are may be told later.
    pub(crate) fn of_bytes(bytes: Option<u64>) -> Self {
        Self { is_sized: true, ..Self::new(Some(bytes.unwrap_or(0)), 0) }
    }

    /// So many bytes it will be, or about.
    pub(crate) fn expect(&self, bytes: u64) {
        self.bar.set_length(bytes);
    }

    /// So many bytes are done.
    pub(crate) fn show_bytes(&mut self, bytes: u64) {
        if self.bar.is_hidden() || self.drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW) {
            return;
        }
        self.drawn = Some(Instant::now());
        self.bar.set_position(bytes);
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        let rate = rate(bytes, self.started.elapsed());
        self.bar.set_message(format!("{:.0} MiB, {:.0} MiB a second", mib(bytes as f64), mib(rate)));
    }

    /// Since the beginning of this run.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Takes the bar away; the summary follows.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// Rows a second.
pub(crate) fn rate(rows: u64, elapsed: Duration) -> f64 {
    rows as f64 / elapsed.as_secs_f64().max(1e-9)
}
