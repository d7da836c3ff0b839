//! Kills around the seconds at which temporary withdrawals end.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{FAR, File, NUMBERS_FROM, Sending, line, linger, random};
use crate::harness::{Demo, Instance, events, filing, wait_for};
use crate::history::{assert_ends, compare_answers, moment, text, unix_millis, unknown_numbers, whole};
use crate::load::file_on;

/// Numbers whose temporary withdrawal is about to end, a part of them with another
/// change before that.
struct Withdrawn {
    numbers: Vec<String>,
    /// The first of the seconds at which they are to be reserved again, by 1970.
    first: i64,
    last: i64,
}

/// Of the numbers of a round this many each are made lasting, brought forward and
/// reserved ex officio, by command.
const OVERTAKEN: usize = 5;

impl Withdrawn {
    /// Imports temporary withdrawals of an hour ago that end within some seconds, and
    /// files what overtakes a few of them; `None` when that took until the first end.
    fn new(demo: &Demo, numbers: Vec<String>, seconds: i64, in_seconds: i64) -> Option<Self> {
        let now = unix_millis() / 1_000;
        let (first, last) = (now + in_seconds, now + in_seconds + seconds - 1);
        let lines = numbers.iter().zip(0..).flat_map(|(pesel, place)| {
            let until = json!({ "reserve_again_at": moment(first + place % seconds) });
            let reserved = line(pesel, "reservation", &moment(now - 7_200), json!({}));
            [reserved, line(pesel, "withdrawal", &moment(now - 3_600), until)]
        });
        let text = lines.map(|line| format!("{line}\n")).collect();
        let lines = 2 * numbers.len();
        let file = File { numbers, ended_by_clock: Vec::new(), lines: Vec::new(), text };
        assert_eq!(Sending::start(demo, &file).confirmed(), lines);
        let File { numbers, .. } = file;
        let mut admin = demo.admin();
        for (place, pesel) in numbers.iter().take(3 * OVERTAKEN).enumerate() {
            let (path, channel) = [
                ("/admin/v1/withdrawals", "e-service"),
                ("/admin/v1/reservations", "e-service"),
                ("/admin/v1/reservations", "id-card-register"),
            ][place % 3];
            let mut body = filing(pesel);
            body["channel"] = json!(channel);
            let status = admin.post(path, &body).status;
            if unix_millis() >= first * 1_000 {
                return None;
            }
            assert_eq!(status, 201);
        }
        Some(Self { numbers, first, last })
    }

    /// Fails unless the clock has reserved again what it was to, and nothing else.
    fn assert_ended(&self, all: &[Value]) {
        let own: HashSet<&str> = self.numbers.iter().map(String::as_str).collect();
        let by_clock = all.iter().filter(|event| event["scheduled"] == true);
        let count = by_clock.filter(|event| own.contains(text(event, "pesel"))).count();
        assert_eq!(count, self.numbers.len() - 3 * OVERTAKEN);
    }
}

/// Kills while re-reservations are carried out, and at the start that makes up for
/// them; then all is there, each at its own second and once.
fn ends_over_kills(rounds: u32, count: usize, seconds: i64, in_seconds: i64) {
    let demo = Demo::new(1_000);
    let mut before = events(&mut demo.admin(), 10_000);
    let mut home = Some(demo.stop());
    for round in 0..rounds {
        let demo = home.take().expect("a directory").start(&[]);
        let mut numbers = unknown_numbers(&before, NUMBERS_FROM + 50_000_000 + round * 1_000_000);
        let mut attempts = (0..4).map(|attempt| in_seconds << attempt);
        let withdrawn = attempts.find_map(|in_seconds| {
            Withdrawn::new(&demo, numbers.by_ref().take(count).collect(), seconds, in_seconds)
        });
        let withdrawn = withdrawn.expect("a machine that is quick enough");
        let listed = events(&mut demo.admin(), 10_000);
        assert!(listed.starts_with(&before));
        // Changes go on meanwhile: a commit has something of both.
        let fresh = unknown_numbers(&listed, NUMBERS_FROM + 90_000_000 + round * 100_000);
        let office = file_on(demo.instance.admin, &demo.token(), fresh, FAR.to_owned());
        // Around the beginning of a second, when the clock has its work.
        let moment_of_kill = withdrawn.first * 1_000 - 10 + random(60 + count as u64 / 10) as i64;
        wait_for("a moment", || (unix_millis() >= moment_of_kill).then_some(()));
        let killed = demo.kill();
        let filed = office.join().expect("an office");
        // Sometimes nobody is there when the others fall due.
        if round % 2 == 0 {
            wait_for("the last second", || (unix_millis() / 1_000 >= withdrawn.last).then_some(()));
        }
        for _ in 0..random(3) {
            let starting = Instance::spawn(killed.command(&[]), killed.path());
            linger(400);
            starting.kill();
        }
        let due = moment(unix_millis() / 1_000);
        let demo = killed.start(&[]);
        let all = whole(&demo, &listed);
        // Ready means that whatever fell due meanwhile has happened.
        assert_ends(&all, &due);
        for event in &filed.told {
            let place = event["sequence"].as_u64().expect("a sequence") as usize - 1;
            assert_eq!(all[place]["event_id"], event["event_id"], "a 201 is not in the register");
        }
        wait_for("the last second", || (unix_millis() / 1_000 > withdrawn.last).then_some(()));
        let mut caller = demo.caller();
        let last = withdrawn.numbers.last().expect("numbers");
        wait_for("the last end", || (caller.verify(last).good()["reserved"] == true).then_some(()));
        before = whole(&demo, &all);
        assert_ends(&before, &moment(withdrawn.last));
        withdrawn.assert_ended(&before);
        compare_answers(&demo, &before, &withdrawn.numbers);
        home = Some(demo.stop());
    }
}

#[test]
fn re_reservations_over_kills_happen_once_at_their_second() {
    ends_over_kills(2, 900, 2, 3);
}

#[test]
#[ignore = "takes some ten minutes: cargo test --test gateway -- --ignored re_reservations_over_many_kills"]
fn re_reservations_over_many_kills() {
    ends_over_kills(2, 25_000, 1, 8);
    ends_over_kills(8, 3_000, 3, 2);
}
