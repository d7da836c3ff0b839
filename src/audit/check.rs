//! Verifies a whole trail offline.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::codec::{Body, VerificationView};
use super::damage::{ReadError, TornTail};
use super::disk::{Directory, Disk};
use super::record::{Item, Opened};
use super::segment::Group;
use super::walk::{Last, walk};
use crate::clock::Moment;
use crate::environment::Environment;

/// What a check saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Segments that have begun.
    pub segments: u64,
    /// Groups in them.
    pub groups: u64,
    /// Records of every kind.
    pub records: u64,
    /// Records of verifications.
    pub verifications: u64,
    /// Numbers looked up in them.
    pub numbers: u64,
    /// When the first answer was made.
    pub first_answered_at: Option<Moment>,
    /// When the last answer was made.
    pub last_answered_at: Option<Moment>,
    /// Runs of the gateway: records that open one.
    pub runs: u64,
    /// When the last run began.
    pub last_opened_at: Option<Moment>,
    /// The version that the last run was of.
    pub last_version: Option<String>,
    /// The environment the trail belongs to.
    pub environment: Option<Environment>,
    /// Bytes of torn tails that starts have set aside.
    pub recovered_bytes: u64,
    /// The highest sequence of the register that an answer names.
    pub register_sequence_max: u64,
    /// How the trail ends.
    pub ending: Ending,
}

impl CheckReport {
    /// Whether every byte is what the gateway wrote.
    #[must_use]
    pub const fn is_intact(&self) -> bool {
        !matches!(self.ending, Ending::TornTail(_))
    }

    fn verification(&mut self, view: &VerificationView<'_>) {
        let verified = view.items().filter(|item| matches!(item, Item::Verified { .. }));
        self.numbers += verified.count() as u64;
        self.verifications += 1;
        self.register_sequence_max = self.register_sequence_max.max(view.verification.register.sequence);
        self.first_answered_at.get_or_insert(view.verification.answered_at);
        self.last_answered_at = Some(view.verification.answered_at);
    }

    fn opened(&mut self, opened: &Opened<'_>) {
        self.runs += 1;
        self.last_opened_at = Some(opened.moment);
        self.last_version = Some(opened.version.to_owned());
        self.environment = Some(opened.environment);
        self.recovered_bytes += opened.recovered_bytes;
    }
}

/// How a trail ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Ending {
    /// Nothing was ever written.
    #[default]
    Empty,
    /// With a closing record: the gateway was stopped in order.
    Closed {
        /// When.
        at: Moment,
    },
    /// Without one: the gateway runs, or was killed.
    Open,
    /// With bytes that are no sound group.
    TornTail(TornTail),
    /// With a group that a gateway was writing while the trail was read: what
    /// stood last at one look was sound at the next one.
    InTheMaking,
}

/// Verifies every byte of the trail in `dir`: checksums, chain, sequences, the
/// links between segments, the zeros after them. Takes no lock and writes
/// nothing. While `is_written` says that a gateway writes, a place that is not
/// sound is looked at again: what moves on is a group in the making, what stays
/// is torn or damaged.
///
/// # Errors
/// [`ReadError::Damage`] with the first place that is not what a gateway wrote.
pub fn check(dir: &Path, is_written: &dyn Fn() -> bool) -> Result<CheckReport, ReadError> {
    check_beside(&Directory::at(dir), is_written)
}

pub(super) fn check_beside(disk: &dyn Disk, is_written: &dyn Fn() -> bool) -> Result<CheckReport, ReadError> {
    let mut checked = check_disk(disk);
    let mut looks = 1;
    while let Some(place) = unsound(&checked)
        && looks < LOOKS_MAX
        && is_written()
    {
        std::thread::sleep(LOOK_AGAIN_AFTER);
        checked = check_disk(disk);
        looks += 1;
        if let Ok(report) = &mut checked
            && let Ending::TornTail(torn) = &report.ending
            && (torn.file.clone(), torn.offset) != place
        {
            report.ending = Ending::InTheMaking;
        }
    }
    checked
}

/// Looks at a place that a gateway may be writing. A group takes milliseconds
/// from its first byte to its last.
const LOOKS_MAX: u32 = 5;
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// The place that is not what a gateway wrote, or not yet.
fn unsound(checked: &Result<CheckReport, ReadError>) -> Option<(PathBuf, u64)> {
    match checked {
        Ok(CheckReport { ending: Ending::TornTail(torn), .. }) => Some((torn.file.clone(), torn.offset)),
        Err(ReadError::Damage(damage)) => Some((damage.file.clone(), damage.offset)),
        Ok(_) | Err(ReadError::Io { .. }) => None,
    }
}

pub(super) fn check_disk(disk: &dyn Disk) -> Result<CheckReport, ReadError> {
    let mut tally = Tally::default();
    let walked = walk(disk, u64::MAX, &mut |group| {
        tally.group(group);
        ControlFlow::Continue(())
    })?;
    let torn = walked.torn.map(|torn| torn.public(disk));
    Ok(tally.report(walked.spans.len() as u64, walked.end.map(|end| end.last), torn))
}

/// Collects a report, group by group.
#[derive(Default)]
pub(super) struct Tally {
    report: CheckReport,
    closed_at: Option<Moment>,
}

impl Tally {
    pub(super) fn group(&mut self, group: &Group<'_>) {
        self.report.groups += 1;
        for (_, body) in group.records() {
            self.report.records += 1;
            match body {
                Body::Verification(view) => self.report.verification(&view),
                Body::Opened(opened) => self.report.opened(&opened),
                Body::Closed(moment) => self.closed_at = Some(moment),
                Body::Sealed => {}
            }
        }
    }

    /// The whole report; `last` is the last record's kind, if there is one.
    pub(super) fn report(mut self, segments: u64, last: Option<Last>, torn: Option<TornTail>) -> CheckReport {
        self.report.segments = segments;
        self.report.ending = match (torn, last, self.closed_at) {
            (Some(torn), ..) => Ending::TornTail(torn),
            (None, None, _) => Ending::Empty,
            (None, Some(Last::Closed), Some(at)) => Ending::Closed { at },
            (None, Some(_), _) => Ending::Open,
        };
        self.report
    }
}
