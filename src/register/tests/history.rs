//! Questions about the past, against a naive list of events.

use super::*;

/// The state at a moment by its definition.
fn naive(events: &[StoredEvent], ordinal: Ordinal, at: Moment) -> State {
    let earlier = events.iter().filter(|event| event.event().ordinal() == ordinal);
    let earlier = earlier.filter(|event| event.event().moment() <= at);
    states_of(earlier).get(&ordinal).copied().unwrap_or(State::Absent)
}

#[test]
fn the_past_agrees_with_a_list_of_events() {
    let dir = tempfile::tempdir().expect("a directory");
    let opened = Opened::at(&dir.path().join("register.redb"));
    let mut rng = Rng(0x0BAD_5EED_1234_5678);
    let people = 12;
    let mut now = 0;
    let mut lines = Vec::new();
    let mut reserved = vec![false; people as usize];
    let mut seen = std::collections::HashSet::new();
    for _ in 0..400 {
        // Often several events in one second.
        now += i64::from(rng.below(3) / 2);
        let n = rng.below(people);
        let (kind, channel) = match (reserved[n as usize], rng.below(4)) {
            (true, 0) => (EventKind::Reservation, Channel::IdCardRegister),
            (true, _) => (EventKind::Withdrawal, Channel::EService),
            (false, _) => (EventKind::Reservation, Channel::EService),
        };
        // An import takes the same event twice for one.
        if seen.insert((n, kind, now, channel)) {
            reserved[n as usize] = kind == EventKind::Reservation;
            lines.push(line(person(n), kind, now, channel));
        }
    }
    opened.hand.set(moment(now));
    for chunk in lines.chunks(37) {
        opened.import(chunk.to_vec()).expect("imported");
    }
    let events = opened.all_events();
    let snapshot = opened.reader.snapshot();
    let mut from_history = 0;
    for n in 0..=people {
        for at in -2..=now + 1 {
            let (ordinal, at) = (person(n), moment(at));
            let expected = naive(&events, ordinal, at);
            let read = opened.reader.state_from_history(ordinal, at, snapshot.sequence());
            assert_eq!(read.expect("readable"), expected);
            match snapshot.state_at(ordinal, at) {
                AsOf::Known(state) => assert_eq!(state, expected),
                AsOf::History => from_history += 1,
            }
        }
    }
    assert!(from_history > 100);
    // An answer of an older snapshot leaves newer events out.
    for (index, event) in events.iter().enumerate().step_by(17) {
        let expected = naive(&events[..=index], event.event().ordinal(), moment(now));
        let read = opened.reader.state_from_history(event.event().ordinal(), moment(now), event.sequence());
        assert_eq!(read.expect("readable"), expected);
    }
}

#[test]
fn pages_of_events_join_without_a_gap() {
    let dir = tempfile::tempdir().expect("a directory");
    let opened = Opened::at(&dir.path().join("register.redb"));
    for n in 0..50u32 {
        let lines = (0..n % 4 + 1).map(|k| line(person(n * 4 + k), EventKind::Reservation, 0, Channel::Post));
        opened.import(lines.collect()).expect("imported");
    }
    let all = opened.all_events();
    for limit in [1, 2, 3, 7, 1_000] {
        let mut joined: Vec<StoredEvent> = Vec::new();
        loop {
            let after = joined.last().map_or(Sequence::ZERO, StoredEvent::sequence);
            let page = opened.reader.events(after, limit).expect("readable");
            assert_eq!(page.last(), opened.reader.snapshot().sequence());
            assert!(page.events().len() <= limit);
            if page.events().is_empty() {
                break;
            }
            joined.extend(page.into_events());
        }
        assert_eq!(joined, all);
    }
    assert!(opened.reader.events(Sequence::ZERO, 0).expect("readable").events().is_empty());
    let ids: std::collections::HashSet<_> = all.iter().map(StoredEvent::id).collect();
    assert_eq!(ids.len(), all.len());
}

#[test]
fn an_entry_has_its_events_in_full() {
    let dir = tempfile::tempdir().expect("a directory");
    let opened = Opened::at(&dir.path().join("register.redb"));
    let mut command = command(person(1), Change::Reservation, Channel::Gmina);
    command.applicant = Some(Applicant::Proxy);
    command.obstacle = Some(Obstacle::Disability);
    command.document_seen = Some(DocumentSeen::Passport);
    opened.submit(filed(command)).expect("allowed");
    opened.submit(reserve(person(2))).expect("allowed");
    opened.submit(withdraw(person(1))).expect("allowed");
    let entry = opened.reader.entry(person(1)).expect("readable");
    assert_eq!(entry.state(), opened.reader.snapshot().state(person(1)));
    assert_eq!(entry.re_reservation_at(), None);
    let all = opened.all_events();
    assert_eq!(entry.events(), [all[0].clone(), all[2].clone()]);
    assert_eq!(entry.events()[0].event().filing().obstacle, Some(Obstacle::Disability));
}
