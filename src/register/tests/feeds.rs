//! Feeds: in order, at least once, against a naive model; wherever the power goes.

use std::collections::BTreeMap;

use super::disk::{Disk, Left};
use super::*;
use crate::limits::FEED_ANSWERS_KEPT;

fn at(sequence: u64) -> FeedSequence {
    FeedSequence::new(sequence).expect("positive")
}

/// What a sender has in its outbox at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Reserve(u32),
    Withdraw(u32),
    Renumber(u32, u32),
    /// Nothing that could be read.
    Rubbish(u32),
}

fn feed(registrant: &str) -> Feed {
    let registrant = Registrant::new(registrant).expect("a name");
    Feed { channel: Channel::PeselRegister, registrant }
}

/// The answer, as far as the sender can tell answers apart.
type Answer = Result<Option<StoredEvent>, CommandError>;

fn deliver(opened: &Opened, feed: &Feed, sequence: u64, asked: Asked) -> Answer {
    let delivery = Delivery::new(at(sequence), format!("{asked:?}").as_bytes());
    let Feed { channel, registrant } = feed.clone();
    let of =
        |n: u32, change| Command { registrant: registrant.clone(), ..command(person(n), change, channel) };
    let submit = |command| opened.submit(Submission { command, idempotency: None, delivery: Some(delivery) });
    let outcome = match asked {
        Asked::Reserve(n) => submit(of(n, Change::Reservation)),
        Asked::Withdraw(n) => submit(of(n, Change::Withdrawal { reserve_again_at: None })),
        Asked::Renumber(old, new) => {
            let at = Stamp::try_from(moment(-60)).expect("a stamp");
            let told = Renumbering {
                old: person(old),
                new: person(new),
                at,
                channel,
                registrant: registrant.clone(),
            };
            opened.runtime.block_on(opened.commander.renumber(told, None, Some(delivery)))
        }
        Asked::Rubbish(_) => {
            let taken = opened.runtime.block_on(opened.commander.pass_over(feed.clone(), delivery));
            return taken.map(|()| None);
        }
    };
    outcome.map(|outcome| Some(outcome.event().clone()))
}

fn random(rng: &mut Rng) -> Asked {
    match rng.below(8) {
        0..=3 => Asked::Reserve(rng.below(40)),
        // The registers may not: a refusal of the law.
        4 => Asked::Withdraw(rng.below(40)),
        // Now and then to itself: another refusal.
        5..=6 => Asked::Renumber(rng.below(6), rng.below(6)),
        _ => Asked::Rubbish(rng.below(9)),
    }
}

/// A feed as it should be: the messages taken, with their answers, in order.
#[derive(Default)]
struct Model(Vec<(Asked, Answer)>);

impl Model {
    /// What this delivery must be answered with; `None` for the next message.
    fn expects(&self, sequence: u64, asked: Asked) -> Option<Answer> {
        let expected = self.0.len() as u64 + 1;
        match self.0.get(sequence as usize - 1) {
            Some((known, answer)) if *known == asked => Some(answer.clone()),
            Some(_) => Some(Err(CommandError::FeedConflict)),
            None if sequence == expected => None,
            None => Some(Err(CommandError::FeedGap { expected: at(expected) })),
        }
    }
}

fn standings(opened: &Opened) -> BTreeMap<Feed, u64> {
    let feeds = opened.reader.feeds().expect("readable");
    feeds.iter().map(|standing| (standing.feed().clone(), standing.last().value())).collect()
}

#[test]
fn redelivered_reordered_and_missing_messages_agree_with_a_list_of_what_was_taken() {
    let mut rng = Rng(0x00FE_ED0F_FEED_5EED);
    let disk = Disk::default();
    let mut opened = Opened::with(disk.opener()).expect("it opens");
    let feeds = [feed("Rejestr A"), feed("Rejestr B")];
    let mut models = [Model::default(), Model::default()];
    let mut seen = [0; 4];
    for round in 0..3_000 {
        if rng.below(150) == 0 {
            opened.stop();
            opened = Opened::with(disk.opener()).expect("it opens");
        }
        let place = rng.below(2) as usize;
        let (feed, model) = (&feeds[place], &mut models[place]);
        let last = model.0.len() as u64;
        let sequence = match rng.below(4) {
            0 => 1 + u64::from(rng.below(last as u32 + 1)),
            1 => last + 1 + u64::from(rng.below(3)),
            _ => last + 1,
        };
        // Mostly what it was the first time.
        let asked = match model.0.get(sequence as usize - 1) {
            Some((known, _)) if rng.below(5) != 0 => *known,
            _ => random(&mut rng),
        };
        let events = opened.reader.snapshot().sequence();
        let answer = deliver(&opened, feed, sequence, asked);
        match model.expects(sequence, asked) {
            Some(expected) => {
                assert_eq!(answer, expected, "round {round}: {asked:?} at {sequence}");
                assert_eq!(opened.reader.snapshot().sequence(), events, "round {round}: nothing changes");
                seen[usize::from(matches!(answer, Err(CommandError::FeedGap { .. })))] += 1;
            }
            None => {
                assert!(
                    matches!(answer, Ok(_) | Err(CommandError::Refused(_))),
                    "round {round}: {asked:?} at {sequence}: {answer:?}"
                );
                seen[2 + usize::from(answer.is_err())] += 1;
                model.0.push((asked, answer));
            }
        }
        if round % 100 == 0 {
            let taken = feeds.iter().cloned().zip(models.iter().map(|model| model.0.len() as u64));
            assert!(standings(&opened).into_iter().eq(taken.filter(|(_, last)| *last > 0)));
        }
    }
    assert!(seen.iter().all(|count| *count > 100), "again, gaps, taken, refused: {seen:?}");
    opened.reader.verify_chain().expect("whole");
}

#[test]
fn messages_in_one_commit_see_each_other() {
    let disk = Disk::default();
    let opened = Opened::with(disk.opener()).expect("it opens");
    let of = |n: u32, sequence: u64| Submission {
        delivery: Some(Delivery::new(at(sequence), format!("{n}").as_bytes())),
        ..ex_officio(person(n))
    };
    let outcomes = opened.submit_all(vec![of(1, 1), of(1, 1), of(2, 2), of(3, 4), of(3, 3), of(9, 2)]);
    let replayed: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().map(Outcome::replayed)).collect();
    let gap = CommandError::FeedGap { expected: at(3) };
    let expected = [Ok(false), Ok(true), Ok(false), Err(&gap), Ok(false), Err(&CommandError::FeedConflict)];
    assert_eq!(replayed, expected);
    assert_eq!(opened.all_events().len(), 3);
    let standings = opened.reader.feeds().expect("readable");
    assert_eq!(standings.len(), 1);
    assert_eq!((standings[0].last(), standings[0].taken_at()), (at(3), moment(0)));
}

#[test]
fn a_mistake_beside_the_message_takes_no_place() {
    let disk = Disk::default();
    let opened = Opened::with(disk.opener()).expect("it opens");
    let keyed = |sequence: u64, request: &[u8]| Submission {
        idempotency: Some(Idempotency::new("token", "key", request)),
        delivery: Some(Delivery::new(at(sequence), request)),
        ..ex_officio(person(1))
    };
    opened.submit(keyed(1, b"1")).expect("allowed");
    assert_eq!(opened.submit(keyed(2, b"2")).err(), Some(CommandError::IdempotencyConflict));
    let again = Submission { idempotency: None, ..keyed(2, b"2") };
    assert!(!opened.submit(again).expect("the place is free").replayed());
}

#[test]
fn the_last_answers_are_kept_and_an_older_message_is_not_guessed_at() {
    let disk = Disk::default();
    let opened = Opened::with(disk.opener()).expect("it opens");
    let of = |sequence: u64| Submission {
        delivery: Some(Delivery::new(at(sequence), &sequence.to_le_bytes())),
        ..ex_officio(person((sequence % 100) as u32))
    };
    let sent: Vec<u64> = (1..=FEED_ANSWERS_KEPT + 5).collect();
    for part in sent.chunks(2_000) {
        let outcomes = opened.submit_all(part.iter().map(|sequence| of(*sequence)).collect());
        assert!(outcomes.iter().all(Result::is_ok));
    }
    let expected = at(FEED_ANSWERS_KEPT + 6);
    for forgotten in [1, 5] {
        assert_eq!(opened.submit(of(forgotten)).err(), Some(CommandError::FeedForgotten { expected }));
    }
    for known in [6, FEED_ANSWERS_KEPT + 5] {
        let again = opened.submit(of(known)).expect("remembered");
        assert_eq!((again.replayed(), again.event().sequence().value()), (true, known));
    }
}

const OUTBOX: [Asked; 7] = [
    Asked::Reserve(1),
    Asked::Withdraw(1),
    Asked::Renumber(1, 2),
    Asked::Rubbish(1),
    Asked::Reserve(2),
    Asked::Reserve(1),
    Asked::Renumber(1, 1),
];

/// Sends what is in the outbox from a place on, until the disk fails.
fn send(opened: &Opened, feed: &Feed, from: usize) -> Vec<Answer> {
    let mut answers = Vec::new();
    for (place, asked) in OUTBOX.iter().enumerate().skip(from) {
        match deliver(opened, feed, place as u64 + 1, *asked) {
            Err(CommandError::Unavailable { .. }) => break,
            answer => answers.push(answer),
        }
    }
    answers
}

#[test]
fn a_redelivery_is_answered_as_the_first_time_wherever_the_power_goes() {
    let feed = feed("Rejestr");
    let (made, total, expected) = {
        let disk = Disk::default();
        let opened = Opened::with(disk.opener()).expect("it opens");
        let made = disk.operations();
        let expected = send(&opened, &feed, 0);
        assert_eq!(expected.len(), OUTBOX.len());
        (made, disk.operations(), expected)
    };
    for cut in made..total {
        let disk = Disk::default();
        let opened = Opened::with(disk.opener()).expect("it opens");
        disk.fail_from(cut);
        let told = send(&opened, &feed, 0);
        assert_eq!(told, expected[..told.len()]);
        for left in [Left::Nothing, Left::Everything, Left::EverySecond] {
            let context = format!("power gone at operation {cut} of {total}, {left:?} left");
            let found = disk.after_power_loss(left);
            let reopened = Opened::with(found.opener()).unwrap_or_else(|error| panic!("{context}: {error}"));
            let last = standings(&reopened).get(&feed).copied().unwrap_or(0) as usize;
            assert!((told.len()..=told.len() + 1).contains(&last), "{context}: {last}");
            // The sender begins anew at any place that it knows was taken.
            for from in [0, told.len().saturating_sub(1)] {
                assert_eq!(send(&reopened, &feed, from), expected[from..], "{context}, from {from}");
            }
            assert_eq!(reopened.all_events().len(), 4, "{context}");
            reopened.reader.verify_chain().expect("whole");
        }
    }
}
