//! What was answered stays: after a kill in the middle, and after an orderly end.

use std::sync::Arc;

use rand::RngExt as _;
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Demo, Home, events, fictional, wait_for};
use crate::history::{assert_ends, compare_answers, moment, text, unix_millis, unknown_numbers, whole};
use crate::load::{Filed, Filing, Load, Told, assert_on_record, file_on, reserve_on};

/// Numbers that tests of this file reserve.
const RESERVED_FROM: u32 = 100_000_000;

/// Offices that file at the same time.
const OFFICES: u32 = 2;

/// Rounds of load, SIGKILL at a random moment, restart; one directory for all.
fn kill_and_look(rounds: u32) {
    let demo = Demo::new(2_000);
    let numbers = Arc::new([demo.numbers("reserved.csv"), demo.numbers("free.csv")].concat());
    let mut recorded = events(&mut demo.admin(), 10_000);
    let mut all_told: Vec<Told> = Vec::new();
    let mut home = Some(demo.stop());
    // Nothing that is filed here for a time ends meanwhile.
    let until = moment(unix_millis() / 1_000 + 30 * 86_400);
    for round in 0..rounds {
        let demo = home.take().expect("a directory").start(&[]);
        let load = Load::start(demo.instance.verification, &demo.key(), &numbers, 3);
        let offices: Vec<_> = (0..OFFICES)
            .map(|office| {
                let first = RESERVED_FROM + (round * OFFICES + office) * 10_000;
                let fresh = unknown_numbers(&recorded, first);
                file_on(demo.instance.admin, &demo.token(), fresh, until.clone())
            })
            .collect();
        let enough = rand::rng().random_range(1..1_000);
        wait_for("answers", || (load.answered() >= enough).then_some(()));
        let killed = demo.kill();
        let told = load.told();
        let filed: Vec<Filed> = offices.into_iter().map(|office| office.join().expect("an office")).collect();
        assert!(told.len() >= enough);
        // Before anything has mended it, too: the dump reads what is there.
        assert_on_record(&told, &killed.dump());
        all_told.extend(told);
        let demo = killed.start(&[]);
        recorded = look_at_the_register(&demo, &recorded, &filed);
        home = Some(look_at_the_trail(demo, &all_told));
    }
    assert!(all_told.len() as u32 > rounds);
}

/// Are the changes that were confirmed there, once, and nothing else but those that
/// were not answered? Gives all events.
fn look_at_the_register(demo: &Demo, before: &[Value], filed: &[Filed]) -> Vec<Value> {
    let found = whole(demo, before);
    let mut told: Vec<&Value> = filed.iter().flat_map(|office| &office.told).collect();
    told.sort_by_key(|event| event["sequence"].as_u64());
    let in_doubt: Vec<&Filing> = filed.iter().filter_map(|office| office.in_doubt.as_ref()).collect();
    let new: Vec<Value> = found[before.len()..].iter().map(without_hash).collect();
    let unanswered = new.len().checked_sub(told.len()).expect("a 201 is not in the register");
    assert!(unanswered <= in_doubt.len(), "{unanswered} events that nobody asked for");
    for event in &told {
        let place = new.binary_search_by_key(&event["sequence"].as_u64(), |new| new["sequence"].as_u64());
        assert_eq!(place.ok().map(|place| &new[place]), Some(*event), "not as it was told");
    }
    // What was not answered is asked for again and counts once.
    let replayed = in_doubt.iter().map(|filing| {
        let reply = filing.send(&mut demo.admin()).expect("an answer");
        let event = reply.good();
        assert_eq!(reply.status == 200, new.contains(&event), "{}", reply.text());
        usize::from(reply.status == 200)
    });
    assert_eq!(replayed.sum::<usize>(), unanswered);
    let all = whole(demo, &found);
    assert_eq!(all.len(), before.len() + told.len() + in_doubt.len());
    assert_ends(&all, &moment(unix_millis() / 1_000));
    let mut numbers: Vec<String> =
        all.iter().rev().take(100).map(|event| text(event, "pesel").to_owned()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    compare_answers(demo, &all, &numbers);
    all
}

fn without_hash(event: &Value) -> Value {
    let mut event = event.clone();
    event.as_object_mut().expect("an object").remove("hash").expect("a hash");
    event
}

/// Is all that was told on the trail?
fn look_at_the_trail(demo: Demo, told: &[Told]) -> Home {
    // Evidence given before the kill is still had.
    let mut caller = demo.caller();
    for (id, _, _) in told.iter().rev().take(5) {
        caller.get(&format!("/v1/verifications/{id}")).good();
    }
    let home = demo.stop();
    assert_on_record(told, &home.dump());
    let (status, said) = home.check();
    assert_eq!(status, Some(0), "{said}");
    home
}

#[test]
fn three_kills_lose_nothing() {
    kill_and_look(3);
}

#[test]
#[ignore = "takes minutes: cargo test --test gateway -- --ignored a_hundred_kills_lose_nothing"]
fn a_hundred_kills_lose_nothing() {
    kill_and_look(100);
}

/// SIGTERM under load: what is under way is answered, the end is good, and the
/// trail is closed with every answer on it.
#[test]
fn an_orderly_end_under_load_drains() {
    for signal in [Signal::TERM, Signal::INT] {
        let demo = Demo::new(1_000);
        let numbers = Arc::new(demo.numbers("reserved.csv"));
        let load = Load::start(demo.instance.verification, &demo.key(), &numbers, 4);
        let fresh = (0..).map(|place| fictional(RESERVED_FROM + 50_000_000 + place));
        let filer = reserve_on(demo.instance.admin, &demo.token(), fresh);
        wait_for("answers", || (load.answered() >= 300).then_some(()));
        demo.instance.signal(signal);
        let (mut instance, home) = demo.parts();
        let status = instance.ended();
        assert_eq!(status.code(), Some(0), "{}", instance.stderr());
        assert!(!instance.stderr().contains("panicked"), "{}", instance.stderr());
        let (told, filed) = (load.told(), filer.join().expect("an official"));
        assert_on_record(&told, &home.dump());
        let (status, said) = home.check();
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains("closed in order"), "{said}");
        let demo = home.start(&[]);
        let recorded = events(&mut demo.admin(), 10_000);
        assert!(recorded.len() >= 1_000 + filed.len());
        for pesel in filed.iter().rev().take(20) {
            assert_eq!(demo.caller().verify(pesel).good()["reserved"], true);
        }
    }
}
