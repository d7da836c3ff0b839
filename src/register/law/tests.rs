//! The law as a table, one line a case.

use super::super::entry::State;
use super::*;
use crate::clock::Moment;

const NOW: u32 = 1_795_000_000; // 2026-11-18
const MINUTE: u32 = 60;

/// What happened to the number before, in minutes before now.
#[derive(Clone, Copy)]
enum Past {
    Never,
    Reserved(u32),
    Withdrawn(u32),
    /// Withdrawn so long ago, to be reserved again an hour from now.
    Temporary(u32),
}

fn entry(past: Past) -> Entry {
    let ago = |minutes: u32| Stamp::from_seconds(NOW - minutes * MINUTE);
    let mut entry = Entry::ABSENT;
    match past {
        Past::Never => {}
        Past::Reserved(minutes) => entry.apply(EventKind::Reservation, ago(minutes), None),
        Past::Withdrawn(minutes) => {
            entry.apply(EventKind::Reservation, ago(minutes + 1), None);
            entry.apply(EventKind::Withdrawal, ago(minutes), None);
        }
        Past::Temporary(minutes) => {
            entry.apply(EventKind::Reservation, ago(minutes + 1), None);
            let again_at = Stamp::from_seconds(NOW + 60 * MINUTE);
            entry.apply(EventKind::Withdrawal, ago(minutes), Some(again_at));
        }
    }
    entry
}

/// A number born on this day.
fn born(year: i16, month: i8, day: i8) -> Ordinal {
    let days = Date::new(1800, 1, 1).expect("a day").until(Date::new(year, month, day).expect("a day"));
    Ordinal::new(days.expect("days").get_days() as u32 * 10_000 + 1_234).expect("in range")
}

fn command(change: Change, channel: Channel, applicant: Option<Applicant>) -> Command {
    Command {
        ordinal: born(1850, 5, 5),
        change,
        channel,
        registrant: Registrant::new("Urząd").expect("a name"),
        applicant,
        obstacle: None,
        document_seen: None,
        majority_by_marriage: false,
    }
}

fn code(entry: &Entry, command: &Command) -> &'static str {
    decide(entry, command, Stamp::from_seconds(NOW)).map_or_else(Refusal::code, |_| "ok")
}

const IN: Change = Change::Reservation;
const OUT: Change = Change::Withdrawal { reserve_again_at: None };
const fn out_for(minutes: u32) -> Change {
    Change::Withdrawal { reserve_again_at: Some(Stamp::from_seconds(NOW + minutes * MINUTE)) }
}

#[test]
fn who_may_do_what_through_which_channel() {
    use Applicant::{Curator, Guardian, Own, Proxy};
    use Channel::{Bank, EService, Gmina, IdCardRegister, PeselRegister, Post, Skok};
    use Past::{Never, Reserved, Temporary, Withdrawn};
    #[rustfmt::skip]
    let cases = [
        // channel, applicant, past, change -> outcome
        (EService, None, Never, IN, "ok"),
        (EService, Some(Own), Never, IN, "ok"),
        (EService, Some(Guardian), Never, IN, "applicant-needs-gmina"),
        (EService, Some(Curator), Never, IN, "applicant-needs-gmina"),
        (EService, Some(Proxy), Never, IN, "applicant-needs-gmina"),
        (Gmina, None, Never, IN, "ok"),
        (Gmina, Some(Own), Never, IN, "ok"),
        (Gmina, Some(Guardian), Never, IN, "ok"),
        (Gmina, Some(Curator), Never, IN, "ok"),
        (Gmina, Some(Proxy), Never, IN, "obstacle-required"),
        (Bank, None, Never, IN, "ok"),
        (Bank, Some(Guardian), Never, IN, "applicant-needs-gmina"),
        (Skok, Some(Own), Never, IN, "ok"),
        (Skok, Some(Curator), Never, IN, "applicant-needs-gmina"),
        (Post, Some(Own), Never, IN, "ok"),
        (Post, Some(Proxy), Never, IN, "applicant-needs-gmina"),
        (IdCardRegister, None, Never, IN, "ok"),
        (PeselRegister, None, Never, IN, "ok"),
        (PeselRegister, Some(Guardian), Never, IN, "applicant-needs-gmina"),
        // withdrawing
        (EService, None, Reserved(0), OUT, "ok"),
        (EService, Some(Guardian), Reserved(9), OUT, "applicant-needs-gmina"),
        (Gmina, None, Reserved(9), OUT, "ok"),
        (Gmina, Some(Guardian), Reserved(9), OUT, "ok"),
        (Gmina, Some(Curator), Reserved(9), OUT, "ok"),
        (Gmina, Some(Proxy), Reserved(9), OUT, "applicant-may-not-withdraw"),
        (Bank, None, Reserved(9), OUT, "channel-may-not-withdraw"),
        (Skok, None, Reserved(9), OUT, "channel-may-not-withdraw"),
        (Post, None, Reserved(9), OUT, "channel-may-not-withdraw"),
        (IdCardRegister, None, Reserved(9), OUT, "channel-may-not-withdraw"),
        (PeselRegister, None, Reserved(9), OUT, "channel-may-not-withdraw"),
        (EService, None, Never, OUT, "not-reserved"),
        (EService, None, Withdrawn(90), OUT, "not-reserved"),
        (Gmina, None, Withdrawn(90), OUT, "not-reserved"),
        // temporary withdrawal, art. 23d(3)
        (EService, None, Reserved(9), out_for(30), "ok"),
        (EService, None, Reserved(9), out_for(29), "re-reservation-too-soon"),
        (EService, None, Reserved(9), out_for(0), "re-reservation-too-soon"),
        (Gmina, None, Reserved(9), out_for(60), "temporary-withdrawal-by-e-service-only"),
        (Gmina, Some(Guardian), Reserved(9), out_for(60), "temporary-withdrawal-by-e-service-only"),
        (Bank, None, Reserved(9), out_for(60), "channel-may-not-withdraw"),
        (EService, None, Never, out_for(60), "not-reserved"),
        (EService, None, Temporary(9), out_for(90), "not-reserved"),
        (EService, None, Temporary(9), OUT, "ok"),
        (Gmina, None, Temporary(9), OUT, "ok"),
        // already reserved
        (EService, None, Reserved(9), IN, "already-reserved"),
        (Gmina, None, Reserved(9), IN, "already-reserved"),
        (Bank, None, Reserved(9), IN, "already-reserved"),
        (IdCardRegister, None, Reserved(9), IN, "ok"),
        (PeselRegister, None, Reserved(0), IN, "ok"),
        // 30 minutes after a withdrawal, art. 23d(5)
        (EService, None, Withdrawn(0), IN, "filing-too-soon"),
        (EService, None, Withdrawn(29), IN, "filing-too-soon"),
        (EService, None, Withdrawn(30), IN, "ok"),
        (Gmina, None, Withdrawn(29), IN, "filing-too-soon"),
        (Post, None, Withdrawn(29), IN, "filing-too-soon"),
        (IdCardRegister, None, Withdrawn(0), IN, "ok"),
        (PeselRegister, None, Withdrawn(29), IN, "ok"),
        // bringing a re-reservation forward
        (EService, None, Temporary(29), IN, "filing-too-soon"),
        (EService, None, Temporary(30), IN, "ok"),
        (PeselRegister, None, Temporary(1), IN, "ok"),
    ];
    for (line, (channel, applicant, past, change, expected)) in cases.into_iter().enumerate() {
        let outcome = code(&entry(past), &command(change, channel, applicant));
        assert_eq!(outcome, expected, "case {line}: {channel} {applicant:?} {change:?}");
    }
}

#[test]
fn a_proxy_needs_an_obstacle_and_it_is_written_down() {
    for obstacle in Obstacle::ALL {
        let mut asked = command(IN, Channel::Gmina, Some(Applicant::Proxy));
        asked.obstacle = Some(*obstacle);
        asked.document_seen = Some(DocumentSeen::Passport);
        let event = decide(&Entry::ABSENT, &asked, Stamp::from_seconds(NOW)).expect("allowed");
        assert_eq!(event.filing().obstacle, Some(*obstacle));
        assert_eq!(event.filing().applicant, Some(Applicant::Proxy));
        assert_eq!(event.filing().document_seen, Some(DocumentSeen::Passport));
    }
}

#[test]
fn no_more_is_written_down_than_the_rules_ask_for() {
    let mut asked = command(IN, Channel::Bank, None);
    asked.obstacle = Some(Obstacle::Illness);
    asked.document_seen = Some(DocumentSeen::IdCard);
    asked.majority_by_marriage = true;
    let event = decide(&Entry::ABSENT, &asked, Stamp::from_seconds(NOW)).expect("allowed");
    assert_eq!(*event.filing(), Filing { applicant: Some(Applicant::Own), ..Filing::NONE });
    asked.channel = Channel::PeselRegister;
    let event = decide(&Entry::ABSENT, &asked, Stamp::from_seconds(NOW)).expect("allowed");
    assert_eq!(*event.filing(), Filing::NONE);
}

#[test]
fn age_is_told_from_the_number_by_the_date_in_warsaw() {
    // A moment, a birth, majority by marriage as stated, the channel, and the outcome.
    let cases = [
        ("2026-11-21T12:00:00Z", (2008, 11, 21), false, Channel::EService, "ok"),
        ("2026-11-21T12:00:00Z", (2008, 11, 22), false, Channel::EService, "not-of-age"),
        // Midnight in Warsaw is 23:00 UTC in winter, 22:00 in summer.
        ("2026-11-20T22:59:59Z", (2008, 11, 21), false, Channel::EService, "not-of-age"),
        ("2026-11-20T23:00:00Z", (2008, 11, 21), false, Channel::EService, "ok"),
        ("2026-07-20T21:59:59Z", (2008, 7, 21), false, Channel::EService, "not-of-age"),
        ("2026-07-20T22:00:00Z", (2008, 7, 21), false, Channel::EService, "ok"),
        // Born on 29 February: the 28th in common years.
        ("2026-02-27T12:00:00Z", (2008, 2, 29), false, Channel::EService, "not-of-age"),
        ("2026-02-28T12:00:00Z", (2008, 2, 29), false, Channel::EService, "ok"),
        // Marriage counts at 16 and 17, and only as an official states it.
        ("2026-11-21T12:00:00Z", (2010, 11, 21), true, Channel::Gmina, "ok"),
        ("2026-11-21T12:00:00Z", (2010, 11, 22), true, Channel::Gmina, "not-of-age"),
        ("2026-11-21T12:00:00Z", (2010, 11, 21), false, Channel::Gmina, "not-of-age"),
        ("2026-11-21T12:00:00Z", (2010, 11, 21), true, Channel::EService, "not-of-age"),
        ("2026-11-21T12:00:00Z", (2010, 11, 21), true, Channel::Bank, "not-of-age"),
        // Not born yet, and long dead.
        ("2026-11-21T12:00:00Z", (2199, 1, 1), true, Channel::Gmina, "not-of-age"),
        ("2026-11-21T12:00:00Z", (2299, 12, 31), true, Channel::Gmina, "not-of-age"),
        ("2026-11-21T12:00:00Z", (1800, 1, 1), false, Channel::EService, "ok"),
    ];
    for (line, (now, (year, month, day), married, channel, expected)) in cases.into_iter().enumerate() {
        let now = Stamp::try_from(Moment::parse(now).expect("a moment")).expect("a stamp");
        let mut asked = command(IN, channel, None);
        asked.ordinal = born(year, month, day);
        asked.majority_by_marriage = married;
        let outcome = decide(&Entry::ABSENT, &asked, now).map_or_else(Refusal::code, |_| "ok");
        assert_eq!(outcome, expected, "case {line}");
    }
}

#[test]
fn refusals_say_from_when() {
    let withdrawn = entry(Past::Withdrawn(10));
    let refusal = decide(&withdrawn, &command(IN, Channel::EService, None), Stamp::from_seconds(NOW));
    let from = Stamp::from_seconds(NOW + 20 * MINUTE).moment();
    assert_eq!(refusal.expect_err("too soon").allowed_from(), Some(from));
    let reserved = entry(Past::Reserved(10));
    let refusal = decide(&reserved, &command(out_for(5), Channel::EService, None), Stamp::from_seconds(NOW));
    let from = Stamp::from_seconds(NOW + 30 * MINUTE).moment();
    assert_eq!(refusal.expect_err("too soon").allowed_from(), Some(from));
}

#[test]
fn a_clock_that_steps_back_does_not_reorder() {
    let reserved = entry(Past::Reserved(0));
    let back = Stamp::from_seconds(NOW - 3_600);
    let event = decide(&reserved, &command(OUT, Channel::EService, None), back).expect("allowed");
    assert_eq!(event.moment(), Stamp::from_seconds(NOW).moment());
}

#[test]
fn effects_on_an_entry() {
    let at = |minutes: u32| Stamp::from_seconds(NOW + minutes * MINUTE);
    let mut entry = entry(Past::Reserved(5));
    let first = entry.state();
    entry.apply(EventKind::Reservation, at(0), None);
    assert_eq!(entry.state(), first, "ex officio on top");
    assert_eq!(entry.last_event_at(), Some(at(0)));
    entry.apply(EventKind::Withdrawal, at(1), Some(at(60)));
    assert_eq!(entry.re_reservation_at(), Some(at(60)));
    let withdrawn = entry.state();
    entry.apply(EventKind::Withdrawal, at(2), None);
    assert_eq!((entry.state(), entry.re_reservation_at()), (withdrawn, None), "made lasting");
    assert!(!entry.has_earlier());
    entry.apply(EventKind::Reservation, at(40), None);
    assert_eq!(entry.state(), State::Reserved { reserved_at: at(40).moment() });
    assert!(entry.has_earlier());
}
