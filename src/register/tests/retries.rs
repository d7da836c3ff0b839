//! Requests under an idempotency key that the law refused: answered so again, whatever
//! has changed meanwhile; after a restart, wherever the power goes, from a backup.

use redb::{Database, ReadableTable, TableDefinition};

use super::disk::{Disk, Left};
use super::*;

const NOT_RESERVED: CommandError = CommandError::Refused(Refusal::NotReserved);

fn keyed(submission: Submission, key: &str, request: &[u8]) -> Submission {
    Submission { idempotency: Some(Idempotency::new("token", key, request)), ..submission }
}

fn late() -> Submission {
    keyed(withdraw(person(1)), "late", b"withdraw 1")
}

#[test]
fn what_was_refused_is_not_done_by_a_repetition_on_its_way() {
    let disk = Disk::default();
    let opened = Opened::with(disk.opener()).expect("it opens");
    // In one commit: the reservation must not be taken away by what was refused before it.
    let outcomes = opened.submit_all(vec![late(), reserve(person(1)), late()]);
    let errors: Vec<_> = outcomes.into_iter().map(Result::err).collect();
    assert_eq!(errors, [Some(NOT_RESERVED), None, Some(NOT_RESERVED)]);
    let early = keyed(reserve(person(2)), "early", b"reserve 2");
    opened.submit(reserve(person(2))).expect("allowed");
    opened.submit(withdraw(person(2))).expect("allowed");
    let allowed_from = moment(1_800);
    let too_soon = CommandError::Refused(Refusal::FilingTooSoon { allowed_from });
    assert_eq!(opened.submit(early.clone()).err(), Some(too_soon.clone()));
    opened.hand.set(moment(86_399));
    opened.stop();
    let opened = Opened::with_clock(disk.opener(), 86_399).expect("it opens");
    let before = opened.states();
    assert_eq!(opened.submit(late()).err(), Some(NOT_RESERVED));
    assert_eq!(opened.submit(early.clone()).err(), Some(too_soon));
    let other = opened.submit(keyed(reserve(person(3)), "late", b"reserve 3"));
    assert_eq!(other.err(), Some(CommandError::IdempotencyConflict));
    assert_eq!(opened.states(), before);
    // For as long as any other answer.
    opened.hand.set(moment(86_400));
    assert!(!opened.submit(late()).expect("allowed").replayed());
    assert!(!opened.submit(early).expect("allowed").replayed());
    opened.reader.verify_chain().expect("whole");
}

#[test]
fn a_renumbering_ahead_of_the_clock_may_come_again() {
    let disk = Disk::default();
    let opened = Opened::with(disk.opener()).expect("it opens");
    let told = Renumbering {
        old: person(1),
        new: person(2),
        at: Stamp::try_from(moment(10)).expect("a stamp"),
        channel: Channel::PeselRegister,
        registrant: registrant(),
    };
    let tell = |key: Option<&str>| {
        let idempotency = key.map(|key| Idempotency::new("token", key, b"renumber"));
        opened.runtime.block_on(opened.commander.renumber(told.clone(), idempotency, None))
    };
    let ahead = Some(CommandError::Refused(Refusal::FutureMoment));
    assert_eq!(tell(Some("key")).err(), ahead);
    opened.hand.set(moment(60));
    assert!(!tell(Some("key")).expect("its moment has come").replayed());
    assert!(tell(Some("key")).expect("known").replayed());
}

/// Without a key a refusal costs the disk nothing, and is no answer to anybody else.
#[test]
fn a_refusal_without_a_key_is_not_remembered() {
    let disk = Disk::default();
    let opened = Opened::with(disk.opener()).expect("it opens");
    opened.submit(reserve(person(2))).expect("allowed");
    let before = disk.operations();
    assert_eq!(opened.submit(withdraw(person(1))).err(), Some(NOT_RESERVED));
    assert_eq!(disk.operations(), before);
    opened.submit(reserve(person(1))).expect("allowed");
    opened.submit(withdraw(person(1))).expect("allowed");
}

#[test]
fn a_refusal_that_was_told_stands_wherever_the_power_goes() {
    let (made, total) = {
        let disk = Disk::default();
        let opened = Opened::with(disk.opener()).expect("it opens");
        let made = disk.operations();
        assert_eq!(opened.submit(late()).err(), Some(NOT_RESERVED));
        (made, disk.operations())
    };
    assert!(made < total, "a refusal is durable when it is told");
    // Behind the last operation, too: told, and the power goes.
    for cut in made..=total {
        let disk = Disk::default();
        let opened = Opened::with(disk.opener()).expect("it opens");
        disk.fail_from(cut);
        let told = opened.submit(late()).expect_err("refused, or not carried out");
        let was_refused = told == NOT_RESERVED;
        assert!(was_refused || matches!(told, CommandError::Unavailable { .. }), "{told}");
        for left in [Left::Nothing, Left::Everything, Left::EverySecond] {
            let context = format!("power gone at operation {cut} of {total}, {left:?} left");
            let found = disk.after_power_loss(left);
            let reopened = Opened::with(found.opener()).unwrap_or_else(|error| panic!("{context}: {error}"));
            reopened.submit(reserve(person(1))).expect("allowed");
            let again = reopened.submit(late());
            // What nobody was told may have been kept or not, and stays as it is found.
            let is_refused = again.as_ref().err() == Some(&NOT_RESERVED);
            assert!(is_refused || !was_refused, "{context}: carried out");
            assert!(is_refused || again.is_ok(), "{context}");
            assert_eq!(reopened.submit(late()).is_ok(), !is_refused, "{context}");
            assert_eq!(reopened.all_events().len(), 1 + usize::from(!is_refused), "{context}");
        }
    }
}

/// A failed disk is no answer: the same request is carried out once it is whole.
#[test]
fn a_passing_failure_is_not_remembered() {
    let disk = Disk::default();
    let opened = Opened::with(disk.opener()).expect("it opens");
    let asked = keyed(reserve(person(1)), "key", b"reserve 1");
    disk.fail_from(disk.operations());
    let failed = opened.submit(asked.clone()).expect_err("the disk fails");
    assert!(matches!(failed, CommandError::Unavailable { .. }), "{failed}");
    disk.heal();
    until(|| *opened.commander.health() == Health::Ok);
    opened.submit(asked).expect("carried out");
    assert_eq!(opened.all_events().len(), 1);
}

const IDEMPOTENCY: TableDefinition<'static, &[u8; 32], &[u8]> = TableDefinition::new("idempotency");

/// Changes the one row of a refusal.
fn alter(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let database = Database::open(path).expect("it opens");
    let txn = database.begin_write().expect("a transaction");
    {
        let mut table = txn.open_table(IDEMPOTENCY).expect("a table");
        let (key, mut value) = {
            let (key, value) = table.first().expect("readable").expect("a row");
            (*key.value(), value.value().to_vec())
        };
        change(&mut value);
        table.insert(&key, value.as_slice()).expect("written");
    }
    txn.commit().expect("committed");
}

#[test]
fn a_backup_has_the_refusals_and_judges_their_rows() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, restored) = (dir.path().join("register.redb"), dir.path().join("restored.redb"));
    let opened = Opened::at(&path);
    assert_eq!(opened.submit(late()).err(), Some(NOT_RESERVED));
    let mut import = RegisterImport::into_new(&restored).expect("a new store");
    let export = opened.reader.export().expect("readable");
    export.each_chunk(&mut |chunk| import.chunk(chunk)).expect("each row is whole");
    import.finish().expect("whole");
    drop(export);
    opened.stop();
    let of_backup = Opened::at(&restored);
    of_backup.submit(reserve(person(1))).expect("allowed");
    assert_eq!(of_backup.submit(late()).err(), Some(NOT_RESERVED));
    of_backup.stop();
    let is_judged_good = || {
        let opened = Opened::at(&path);
        let mut import = RegisterImport::judging();
        let export = opened.reader.export().expect("readable");
        let chunks = export.each_chunk(&mut |chunk| import.chunk(chunk));
        let is_good = chunks.is_ok() && import.finish().is_ok();
        drop(export);
        opened.stop();
        is_good
    };
    assert!(is_judged_good());
    // The refusal's code: with another one it would be another answer.
    alter(&path, |row| row[37] ^= 1);
    assert!(!is_judged_good(), "an altered row");
    // A row of before, of an event that is not there.
    alter(&path, |row| {
        row.truncate(36);
        row.extend_from_slice(&1u64.to_le_bytes());
    });
    assert!(!is_judged_good(), "an event beyond the head");
}
