//! What was answered stays: after a kill in the middle, and after an orderly end.

use std::collections::HashSet;
use std::sync::Arc;

use rand::RngExt as _;
use rustix::process::Signal;

use crate::harness::{Demo, Home, events, fictional, wait_for};
use crate::load::{Load, Told, assert_on_record, reserve_on};

/// Numbers that tests of this file reserve.
const RESERVED_FROM: u32 = 100_000_000;

/// Rounds of load, SIGKILL at a random moment, restart; one directory for all.
fn kill_and_look(rounds: u32) {
    let demo = Demo::new(2_000);
    let numbers = Arc::new([demo.numbers("reserved.csv"), demo.numbers("free.csv")].concat());
    let mut all_told: Vec<Told> = Vec::new();
    let mut all_filed: Vec<String> = Vec::new();
    let mut home = Some(demo.stop());
    for round in 0..rounds {
        let demo = home.take().expect("a directory").start(&[]);
        let load = Load::start(demo.instance.verification, &demo.key(), &numbers, 3);
        let fresh = (0..).map(move |place| fictional(RESERVED_FROM + round * 10_000 + place));
        let filer = reserve_on(demo.instance.admin, &demo.token(), fresh);
        let enough = rand::rng().random_range(1..1_000);
        wait_for("answers", || (load.answered() >= enough).then_some(()));
        let killed = demo.kill();
        let (told, filed) = (load.told(), filer.join().expect("an official"));
        assert!(told.len() >= enough);
        // Before anything has mended it, too: the dump reads what is there.
        assert_on_record(&told, &killed.dump());
        all_told.extend(told);
        all_filed.extend(filed);
        home = Some(look(killed, &all_told, &all_filed));
    }
    assert!(all_told.len() as u32 > rounds);
}

/// Starts again and looks whether all is there.
fn look(home: Home, told: &[Told], filed: &[String]) -> Home {
    let demo = home.start(&[]);
    let recorded = events(&mut demo.admin(), 10_000);
    let sequences: Vec<u64> = recorded.iter().map(|event| event["sequence"].as_u64().expect("one")).collect();
    assert!(sequences.iter().copied().eq(1..=sequences.len() as u64), "no sequence twice, none left out");
    let in_register: HashSet<&str> = recorded.iter().filter_map(|event| event["pesel"].as_str()).collect();
    let mut caller = demo.caller();
    for pesel in filed {
        assert!(in_register.contains(pesel.as_str()), "a 201 is not in the register");
    }
    for pesel in filed.iter().rev().take(50) {
        assert_eq!(caller.verify(pesel).good()["reserved"], true);
    }
    // Evidence given before the kill is still had.
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
