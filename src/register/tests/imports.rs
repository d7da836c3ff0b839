//! Imports: all of a chunk or nothing, and again without harm.

use super::*;
use crate::limits::{HISTORY_EVENTS_MAX, IMPORT_CHUNK_LINES};
use EventKind::{Reservation, Withdrawal};

fn opened() -> (tempfile::TempDir, Opened) {
    let dir = tempfile::tempdir().expect("a directory");
    let opened = Opened::at(&dir.path().join("register.redb"));
    (dir, opened)
}

fn feed() -> Vec<ImportLine> {
    vec![
        line(person(5), Reservation, -900, Channel::Gmina),
        line(person(3), Reservation, -800, Channel::EService),
        line(person(5), Withdrawal, -700, Channel::Gmina),
        line(person(3), Reservation, -600, Channel::PeselRegister),
        line(person(5), Reservation, -700, Channel::IdCardRegister),
        line(person(4), Reservation, -500, Channel::Bank),
    ]
}

#[test]
fn a_feed_is_recorded_in_its_order() {
    let (_dir, opened) = opened();
    let outcome = opened.import(feed()).expect("imported");
    assert_eq!(outcome, ImportOutcome { recorded: 6, already_there: 0, last: Sequence::new(6) });
    let events = opened.all_events();
    for (line, event) in feed().iter().zip(&events) {
        let event = event.event();
        assert_eq!((event.ordinal(), event.kind(), event.moment()), (line.ordinal, line.kind, line.moment));
        assert_eq!(event.registrant(), &line.registrant);
    }
    assert_eq!(opened.states(), states_of(&events));
    assert_eq!(opened.reader.entry(person(5)).expect("readable").events().len(), 3);
}

#[test]
fn the_register_is_as_of_the_latest_moment_not_the_last_line() {
    let (_dir, opened) = opened();
    opened.import(feed()).expect("imported");
    assert_eq!(opened.reader.snapshot().as_of(), moment(-500));
    opened.import(vec![line(person(7), Reservation, -950, Channel::Gmina)]).expect("imported");
    assert_eq!(opened.reader.snapshot().as_of(), moment(-500));
}

#[test]
fn a_feed_sent_again_changes_nothing() {
    let (_dir, opened) = opened();
    // Cut at any line, as after a crash, and sent again from the beginning.
    for cut in 0..=feed().len() {
        opened.import(feed()[..cut].to_vec()).expect("imported");
        assert_eq!(opened.all_events().len(), cut);
    }
    let again = opened.import(feed()).expect("imported");
    assert_eq!(again, ImportOutcome { recorded: 0, already_there: 6, last: Sequence::new(6) });
    let doubled = [feed()[5].clone(), line(person(9), Reservation, -1, Channel::Post)];
    let outcome = opened.import([&doubled[..], &doubled[..]].concat()).expect("imported");
    assert_eq!((outcome.recorded, outcome.already_there), (1, 3));
}

#[test]
fn one_bad_line_refuses_its_chunk_with_the_reason() {
    let (_dir, opened) = opened();
    opened.import(feed()).expect("imported");
    let before = (opened.all_events(), opened.states());
    let cases = [
        (line(person(3), Reservation, -100, Channel::EService), LineReason::AlreadyReserved),
        (line(person(8), Withdrawal, -100, Channel::EService), LineReason::NotReserved),
        (line(person(3), Withdrawal, -601, Channel::EService), LineReason::OutOfOrder),
        (line(person(8), Reservation, 1, Channel::EService), LineReason::FutureMoment),
        (line(person(8), EventKind::Renumbering, -9, Channel::PeselRegister), LineReason::KindNotImported),
        (line(person(8), Reservation, -START - 1, Channel::EService), LineReason::MomentOutOfRange),
        (line(person(8), Reservation, 1 << 32, Channel::EService), LineReason::MomentOutOfRange),
    ];
    for (bad, reason) in cases {
        let good = line(person(7), Reservation, -100, Channel::EService);
        let refused = opened.import(vec![good.clone(), bad.clone(), feed()[0].clone()]);
        let refusals = vec![LineRefusal { index: 1, reason }];
        assert_eq!(refused, Err(CommandError::ImportRefused(refusals)));
        assert_eq!((opened.all_events(), opened.states()), before, "nothing of it is recorded");
    }
    // Lines are judged after the ones before them, of other numbers in between.
    let chunk = vec![
        line(person(8), Reservation, -50, Channel::EService),
        line(person(7), Reservation, -50, Channel::EService),
        line(person(8), Withdrawal, -60, Channel::EService),
        line(person(7), Withdrawal, -50, Channel::EService),
        line(person(8), Reservation, -40, Channel::EService),
    ];
    let refusals = vec![
        LineRefusal { index: 2, reason: LineReason::OutOfOrder },
        LineRefusal { index: 4, reason: LineReason::AlreadyReserved },
    ];
    assert_eq!(opened.import(chunk), Err(CommandError::ImportRefused(refusals)));
}

#[test]
fn a_refused_chunk_leaves_its_neighbours_in_the_same_commit_alone() {
    let (dir, opened) = opened();
    let outcomes = opened.runtime.block_on(async {
        let good = import(&opened.commander, feed());
        let bad = import(&opened.commander, vec![line(person(8), Withdrawal, -1, Channel::Gmina)]);
        let more = import(&opened.commander, vec![line(person(5), Withdrawal, -1, Channel::Gmina)]);
        let command = opened.commander.submit(reserve(person(8)));
        let (good, bad, more, command) = tokio::join!(good, bad, more, command);
        command.expect("allowed");
        (good.map(|o| o.recorded), bad.is_err(), more.map(|o| o.recorded))
    });
    assert_eq!(outcomes, (Ok(6), true, Ok(1)));
    let events = opened.all_events();
    assert_eq!(opened.states(), states_of(&events));
    opened.reader.verify_chain().expect("whole");
    let path = dir.path().join("register.redb");
    opened.stop();
    assert_eq!(Opened::at(&path).states(), states_of(&events));
}

#[test]
fn chunks_have_a_limit() {
    let (_dir, opened) = opened();
    let lines = |count: usize| -> Vec<_> {
        (0..count as u32).map(|n| line(person(n), Reservation, -1, Channel::Gmina)).collect()
    };
    let max = crate::limits::IMPORT_CHUNK_LINES;
    assert_eq!(opened.import(lines(max + 1)), Err(CommandError::ChunkTooLarge));
    let outcome = opened.import(lines(max)).expect("imported");
    assert_eq!(outcome.recorded, max as u64);
    assert_eq!(opened.import(Vec::new()).expect("nothing to do").recorded, 0);
    assert_eq!(opened.reader.events(Sequence::new(9_995), 100).expect("readable").events().len(), 5);
}

fn reservations(from: u32, count: u32) -> Vec<ImportLine> {
    (from..from + count).map(|n| line(person(n), Reservation, -900, Channel::Bank)).collect()
}

fn withdrawals(from: u32, count: u32) -> Vec<ImportLine> {
    (from..from + count).map(|n| line(person(n), Withdrawal, -800, Channel::Gmina)).collect()
}

#[test]
fn one_import_changes_only_so_much() {
    let (_dir, opened) = opened();
    let run = |chunks: Vec<Vec<ImportLine>>, allowed: bool| {
        let run = opened.commander.import_run(allowed);
        opened.runtime.block_on(async {
            let mut in_flight = Vec::new();
            for chunk in chunks {
                in_flight.push(run.send(chunk).await.expect("sent"));
            }
            let mut outcomes = Vec::new();
            for chunk in in_flight {
                outcomes.push(chunk.outcome().await.map(|outcome| outcome.recorded));
            }
            outcomes
        })
    };
    assert_eq!(run(vec![reservations(0, 600), reservations(600, 400)], false), [Ok(600), Ok(400)]);
    // 20 % of a thousand in three chunks, then one more; a chunk behind does not
    // pass the refused one by.
    let grown = run(
        vec![
            reservations(1_000, 100),
            reservations(1_000, 100),
            reservations(1_100, 100),
            reservations(1_200, 1),
            Vec::new(),
        ],
        false,
    );
    let refused = CommandError::MassChange { reserved_before: 1_000, removed: 0, added: 201 };
    assert_eq!(grown, [Ok(100), Ok(0), Ok(100), Err(refused), Err(CommandError::ImportEnded)]);
    assert_eq!(opened.reader.snapshot().reserved_count(), 1_200);
    let refused = CommandError::MassChange { reserved_before: 1_200, removed: 13, added: 0 };
    assert_eq!(run(vec![withdrawals(0, 12), withdrawals(12, 1)], false), [Ok(12), Err(refused)]);
    // What a run adds makes up for nothing that it takes away.
    let exchanged =
        run(vec![[withdrawals(100, 11), reservations(1_300, 11)].concat(), withdrawals(111, 1)], false);
    assert!(matches!(exchanged[..], [Ok(22), Err(CommandError::MassChange { .. })]), "{exchanged:?}");
    assert_eq!(run(vec![withdrawals(200, 700)], true), [Ok(700)]);
    // Lines that change nothing are no change.
    let repeated = line(person(1_000), Reservation, -1, Channel::PeselRegister);
    assert_eq!(run(vec![vec![repeated]], false), [Ok(1)]);
}

#[test]
fn a_refused_chunk_does_not_end_its_import() {
    let (_dir, opened) = opened();
    let run = opened.commander.import_run(false);
    let outcomes = opened.runtime.block_on(async {
        let bad = run.send(withdrawals(5, 1)).await.expect("sent");
        let good = run.send(reservations(0, 5)).await.expect("sent");
        (bad.outcome().await, good.outcome().await.map(|outcome| outcome.recorded))
    });
    let refusals = vec![LineRefusal { index: 0, reason: LineReason::NotReserved }];
    assert_eq!(outcomes, (Err(CommandError::ImportRefused(refusals)), Ok(5)));
}

/// Recorded, they would make the refused ones out of order for ever.
#[test]
fn lines_behind_a_refused_one_wait_for_it() {
    let (_dir, opened) = opened();
    let event = |n, kind, at| line(person(n), kind, at, Channel::Gmina);
    let history = |third| {
        [
            vec![event(1, Reservation, -900), event(1, Withdrawal, -800), third],
            vec![event(4, Reservation, -700), event(1, Reservation, -700)],
            vec![event(4, Withdrawal, -600), event(5, Reservation, -600)],
            vec![event(6, Reservation, -500)],
        ]
    };
    let refused = |index, reason| vec![LineRefusal { index, reason }];
    let send = |chunks: [Vec<ImportLine>; 4], unreadable: Vec<Ordinal>| {
        let run = opened.commander.import_run(true);
        opened
            .runtime
            .block_on(async {
                let mut outcomes = vec![run.refuse(unreadable).await.expect("sent").outcome().await];
                for chunk in chunks {
                    outcomes.push(run.send(chunk).await.expect("sent").outcome().await);
                }
                run.finish();
                outcomes.into_iter().map(|outcome| match outcome {
                    Ok(outcome) => Ok(outcome.recorded),
                    Err(CommandError::ImportRefused(refusals)) => Err(refusals),
                    Err(other) => panic!("{other}"),
                })
            })
            .collect::<Vec<_>>()
    };
    let bad = || event(2, Withdrawal, -800);
    let expected = [
        Ok(0),
        Err(refused(2, LineReason::NotReserved)),
        Err(refused(1, LineReason::BehindRefused)),
        Err(refused(0, LineReason::BehindRefused)),
        Ok(1),
    ];
    assert_eq!(send(history(bad()), Vec::new()), expected);
    assert_eq!(opened.all_events().len(), 1);
    let corrected = || event(2, Reservation, -800);
    // The last one alone is behind a line that could not be read.
    let expected = [Ok(0), Ok(3), Ok(2), Err(refused(1, LineReason::BehindRefused)), Ok(0)];
    assert_eq!(send(history(corrected()), vec![person(5)]), expected);
    assert_eq!(send(history(corrected()), Vec::new()), [Ok(0), Ok(0), Ok(0), Ok(2), Ok(0)]);
    assert_eq!(opened.states(), states_of(&opened.all_events()));
    assert_eq!(opened.reader.entry(person(1)).expect("readable").events().len(), 3);
}

/// Ex officio, withdrawn and ex officio again, all within a second: the last one counts.
#[test]
fn a_reservation_behind_a_withdrawal_of_its_second_is_another_one() {
    let (_dir, opened) = opened();
    let of_a_second = |n| {
        let line = |kind, channel| line(person(n), kind, -900, channel);
        vec![
            line(Reservation, Channel::IdCardRegister),
            line(Withdrawal, Channel::EService),
            line(Reservation, Channel::IdCardRegister),
        ]
    };
    let is_reserved = |n| opened.reader.snapshot().state(person(n)).is_reserved();
    // Whole, and cut behind each line; then sent again.
    for (n, cut) in [(1, 3), (2, 1), (3, 2)] {
        opened.import(of_a_second(n)[..cut].to_vec()).expect("imported");
        for _ in 0..2 {
            opened.import(of_a_second(n)).expect("imported");
            assert!(is_reserved(n), "cut behind {cut}");
            assert_eq!(opened.reader.entry(person(n)).expect("readable").events().len(), 3);
        }
    }
    assert_eq!(opened.states(), states_of(&opened.all_events()));
    opened.import(of_a_second(4)[..2].to_vec()).expect("imported");
    assert_eq!(opened.import(of_a_second(4)[..2].to_vec()).map(|told| told.recorded), Ok(0));
    assert!(!is_reserved(4));
}

/// Whatever is told twice, by a file that was joined or sent again: what its last line
/// tells of a second is so, and what is known is not told anew.
#[test]
fn lines_of_a_second_told_twice_end_as_the_last_one_says() {
    let (_dir, opened) = opened();
    let told = |n, lines: &[(EventKind, Channel)]| {
        lines.iter().map(|(kind, channel)| line(person(n), *kind, -900, *channel)).collect::<Vec<_>>()
    };
    let is_reserved = |n| opened.reader.snapshot().state(person(n)).is_reserved();
    let events_of = |n| opened.reader.entry(person(n)).expect("readable").events().len();
    let (taken, given_back) = ((Reservation, Channel::Gmina), (Withdrawal, Channel::Gmina));
    let pair = [taken, given_back];
    opened.import(told(1, &[pair, pair].concat())).expect("imported");
    opened.import(told(2, &pair)).expect("imported");
    opened.import(told(2, &[pair, pair].concat())).expect("imported");
    let ex_officio = (Reservation, Channel::IdCardRegister);
    let four = [ex_officio, (Withdrawal, Channel::EService), ex_officio, given_back];
    for n in [3, 3] {
        opened.import(told(n, &four)).expect("imported");
        assert_eq!(events_of(n), 4, "all of them, and once");
    }
    assert_eq!([1, 2, 3].map(is_reserved), [false; 3]);
    for (n, times) in [(1, 2), (2, 2)] {
        let before = events_of(n);
        opened.import(told(n, &pair.repeat(times))).expect("known");
        assert_eq!((events_of(n), is_reserved(n)), (before, false));
    }
    // Repeated and not anew: nothing lies between.
    opened.import(told(4, &[taken, taken, given_back, given_back])).expect("imported");
    assert_eq!((events_of(4), is_reserved(4)), (2, false));
    // A second that is told again later in the file is the same one.
    let later = vec![line(person(5), Reservation, -800, Channel::Gmina)];
    let twice = [told(5, &pair), later.clone(), told(5, &pair), later].concat();
    opened.import(twice).expect("imported");
    assert_eq!((events_of(5), is_reserved(5)), (3, true));
    assert_eq!(opened.states(), states_of(&opened.all_events()));
}

/// A history is read and written whole, and must fit into a backup.
#[test]
fn a_history_does_not_grow_without_end() {
    let (_dir, opened) = opened();
    let max = HISTORY_EVENTS_MAX as i64;
    let again = |seconds| line(person(1), Reservation, seconds - max, Channel::PeselRegister);
    let lines: Vec<_> = (0..max).map(again).collect();
    for chunk in lines.chunks(IMPORT_CHUNK_LINES) {
        opened.import(chunk.to_vec()).expect("imported");
    }
    let refusals = vec![LineRefusal { index: 0, reason: LineReason::HistoryFull }];
    assert_eq!(opened.import(vec![again(max)]), Err(CommandError::ImportRefused(refusals)));
    assert_eq!(opened.import(lines[..9].to_vec()).map(|told| told.already_there), Ok(9));
    let refused = opened.submit(ex_officio(person(1)));
    assert_eq!(refused.err(), Some(CommandError::Refused(Refusal::AlreadyReserved)));
    // Nobody is kept from what has an effect.
    opened.submit(withdraw(person(1))).expect("allowed");
    opened.submit(ex_officio(person(1))).expect("it was not reserved");
    let mut import = RegisterImport::judging();
    let export = opened.reader.export().expect("readable");
    export.each_chunk(&mut |chunk| import.chunk(chunk)).expect("what a backup takes");
    assert_eq!(import.finish().expect("whole").sequence.value(), max as u64 + 2);
}
