//! What a permit costs: the limits of a key, and what is given back.

use super::*;

/// A key with 10 a second, 20 at once, 100 a day, and a fresh permit for it.
struct Limited {
    world: World,
    gate: Gate,
    plain: PlainCredential,
}

impl Limited {
    fn new() -> Self {
        let world = test_world();
        let mut new = world.new_key(&["127.0.0.0/8"]);
        new.limits = Some(limits(10, 20, 100));
        let (_, plain) = world.issue(new);
        Self { gate: gate(&world), world, plain }
    }

    fn admit(&self, n: u32) -> Result<Permit, Denied> {
        let identity = identify(&self.gate, "127.0.0.1", &bearer(&self.plain)).expect("known");
        self.gate.admit(&peer("127.0.0.1"), identity, cells(n))
    }

    fn left(&self) -> LimitsView {
        let identity = identify(&self.gate, "127.0.0.1", &bearer(&self.plain)).expect("known");
        self.gate.visit(&peer("127.0.0.1"), identity).expect("allowed").remaining()
    }

    fn spend(&self, n: u32) {
        self.admit(n).expect("within").spend();
    }
}

#[test]
fn each_limit_is_refused_by_name_and_changes_nothing() {
    let limited = Limited::new();
    let before = limited.left();
    assert_eq!(limited.admit(21).err(), Some(Denied::BatchLargerThanBurst { burst: 20, left: before }));
    assert_eq!(limited.left(), before);
    limited.spend(15);
    let before = limited.left();
    let retry_after = Duration::from_millis(500);
    assert_eq!(limited.admit(10).err(), Some(Denied::RateLimited { retry_after, left: before }));
    assert_eq!(limited.left(), before);
    for _ in 0..4 {
        limited.world.ticks.advance(Duration::from_secs(2));
        limited.spend(20);
    }
    limited.world.ticks.advance(Duration::from_secs(2));
    let before = limited.left();
    assert_eq!((before.day_remaining, before.burst_remaining), (5, 20));
    let retry_after = Duration::from_secs(12 * 3_600);
    assert_eq!(limited.admit(6).err(), Some(Denied::QuotaExceeded { retry_after, left: before }));
    assert_eq!(limited.left(), before);
    limited.spend(5);
    let refusals: Vec<_> = limited.world.reader.load().refusals().collect();
    assert_eq!(refusals, [(limited.plain.id(), 3)]);
    limited.world.hand.set(moment("2026-11-21T23:00:00Z"));
    limited.spend(5);
}

#[test]
fn a_refused_request_costs_nothing_and_an_answered_one_what_it_asked() {
    let limited = Limited::new();
    let whole = limited.left();
    drop(limited.admit(7).expect("within"));
    assert_eq!(limited.left(), whole, "refused later on: given back");
    limited.spend(7);
    let left = limited.left();
    assert_eq!((left.day_remaining, left.burst_remaining), (93, 13));
    // A batch is charged one number at the door and the rest when it is read.
    let mut permit = limited.admit(1).expect("within");
    permit.charge_more(cells(9)).expect("within");
    assert_eq!(permit.remaining().day_remaining, 83);
    assert!(matches!(permit.charge_more(cells(5)), Err(Denied::RateLimited { .. })));
    let larger = permit.charge_more(cells(11));
    assert!(matches!(larger, Err(Denied::BatchLargerThanBurst { burst: 20, .. })), "{larger:?}");
    drop(permit);
    assert_eq!(limited.left(), left);
    let mut permit = limited.admit(1).expect("within");
    permit.charge_more(cells(9)).expect("within");
    // Not put on record after all.
    let spent = permit.spend();
    permit.give_back(spent);
    drop(permit);
    assert_eq!(limited.left(), left);
    let mut permit = limited.admit(10).expect("within");
    permit.spend();
    drop(permit);
    assert_eq!(limited.left().day_remaining, 83);
}

/// Such limits are not given any more; keys that have them are still on record.
#[test]
fn what_no_day_holds_is_never_told_to_come_back_tomorrow() {
    let limited = Limited::new();
    wait(limited.world.writer.set_limits(limited.plain.id(), limits(10, 20, 5))).expect("changed");
    let larger = limited.admit(6);
    assert!(matches!(larger, Err(Denied::BatchLargerThanBurst { burst: 5, .. })), "{larger:?}");
    let mut permit = limited.admit(1).expect("within");
    let larger = permit.charge_more(cells(5));
    assert!(matches!(larger, Err(Denied::BatchLargerThanBurst { burst: 5, .. })), "{larger:?}");
    permit.charge_more(cells(4)).expect("the whole day");
    permit.spend();
    assert!(matches!(limited.admit(5), Err(Denied::QuotaExceeded { .. })), "a day would hold these");
}

#[test]
fn a_permit_outlives_midnight_and_changes_of_its_key() {
    let limited = Limited::new();
    let mut permit = limited.admit(5).expect("within");
    limited.world.hand.set(moment("2026-11-21T23:00:00Z"));
    permit.charge_more(cells(3)).expect("within");
    assert_eq!(limited.left().day_remaining, 97);
    drop(permit);
    assert_eq!(limited.left().day_remaining, 100);
    let permit = limited.admit(5).expect("within");
    wait(limited.world.writer.set_limits(limited.plain.id(), limits(10, 40, 50))).expect("changed");
    assert_eq!((limited.left().burst_remaining, limited.left().day_remaining), (35, 45));
    drop(permit);
    assert_eq!((limited.left().burst_remaining, limited.left().day_remaining), (40, 50));
}

#[test]
fn a_stream_has_what_is_there_waits_for_the_rate_and_stops_at_the_quota() {
    let limited = Limited::new();
    let ask = |wanted| {
        let identity = identify(&limited.gate, "127.0.0.1", &bearer(&limited.plain)).expect("known");
        let second = Duration::from_secs(1);
        limited.gate.admit_paced(&peer("127.0.0.1"), identity, cells(wanted), second)
    };
    let (mut waited, mut portions) = (Duration::ZERO, Vec::new());
    let stopped = loop {
        match ask(4_096) {
            Ok(Pace::Charged(mut permit)) => {
                portions.push(permit.numbers());
                permit.spend();
            }
            Ok(Pace::Wait(pause)) => {
                assert!(pause <= Duration::from_secs(1), "no longer than what is asked for in it");
                limited.world.ticks.advance(pause);
                waited += pause;
            }
            Err(denied) => break denied,
        }
    };
    // The burst, then ten a second, whatever is wanted; then nothing more of the day.
    assert_eq!(portions, [20, 10, 10, 10, 10, 10, 10, 10, 10]);
    assert_eq!(waited, Duration::from_secs(8));
    assert!(matches!(stopped, Denied::QuotaExceeded { .. }));
    assert_eq!(limited.left().day_remaining, 0);
    let refused: u64 = limited.world.reader.load().refusals().map(|(_, refused)| refused).sum();
    assert_eq!(refused, 1, "waiting is no refusal");
}

#[test]
fn the_last_of_the_day_is_had_whole_and_what_is_not_spent_is_given_back() {
    let limited = Limited::new();
    let ask = |wanted| {
        let identity = identify(&limited.gate, "127.0.0.1", &bearer(&limited.plain)).expect("known");
        let asked = limited.gate.admit_paced(&peer("127.0.0.1"), identity, cells(wanted), Duration::ZERO);
        match asked.expect("within the day") {
            Pace::Charged(permit) => permit,
            Pace::Wait(pause) => panic!("{pause:?} to wait"),
        }
    };
    limited.spend(13);
    assert_eq!(ask(3).numbers(), 3, "no more than wanted");
    assert_eq!(ask(4_096).numbers(), 7, "of the burst");
    for _ in 0..4 {
        limited.world.ticks.advance(Duration::from_secs(2));
        limited.spend(20);
    }
    limited.world.ticks.advance(Duration::from_secs(2));
    assert_eq!(ask(4_096).numbers(), 7, "of the day");
    assert_eq!(limited.left().day_remaining, 7);
}
