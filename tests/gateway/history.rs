//! What the register should hold and say, by a naive list of its events.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{SystemTime, UNIX_EPOCH};

use peselgate::clock::Moment;
use serde_json::{Value, json};

use crate::harness::{Demo, err, events, fictional, program, run, wait_for};

/// Numbers of one question.
const BATCH: usize = 1_000;

/// Milliseconds since 1970, as the machine's clock has it.
pub(crate) fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the end of time")
}

pub(crate) fn moment(unix_seconds: i64) -> String {
    Moment::from_unix_seconds(unix_seconds).to_string()
}

pub(crate) fn text<'a>(event: &'a Value, name: &str) -> &'a str {
    event[name].as_str().unwrap_or_else(|| panic!("no {name}"))
}

/// Fictional numbers from an ordinal on that no event names: the made register has
/// numbers anywhere.
pub(crate) fn unknown_numbers(known: &[Value], first: u32) -> impl Iterator<Item = String> + use<> {
    let known: HashSet<String> = known.iter().map(|event| text(event, "pesel").to_owned()).collect();
    (first..).map(fictional).filter(move |pesel| !known.contains(pesel))
}

/// Lists the register's events and fails unless they are `before`, byte for byte
/// with the chain's hashes, and more behind them: each sequence and each
/// identifier once, the chain whole.
pub(crate) fn whole(demo: &Demo, before: &[Value]) -> Vec<Value> {
    let all = events(&mut demo.admin(), 10_000);
    let sequences = all.iter().map(|event| event["sequence"].as_u64().expect("a sequence"));
    assert!(sequences.eq(1..=all.len() as u64), "no sequence twice, none left out");
    let ids: HashSet<&str> = all.iter().map(|event| text(event, "event_id")).collect();
    assert_eq!(ids.len(), all.len(), "no event twice");
    assert!(all.starts_with(before), "an event that was listed has changed or is gone");
    assert_chain(demo);
    all
}

/// Every hash made again, by the program itself: of an archive of what is there.
fn assert_chain(demo: &Demo) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("archive");
    let mut backup = program();
    backup.arg("backup").arg("--output").arg(&file);
    backup.args(["--admin-url", &format!("http://{}", demo.instance.admin)]);
    let made = backup.arg("--admin-token-file").arg(demo.file("demo-admin-token")).output().expect("an end");
    assert!(made.status.success(), "{}", err(&made));
    let judged = run(&["restore", &file.to_string_lossy(), "--verify-only"]);
    assert!(judged.status.success(), "{}", err(&judged));
}

/// Fails unless each temporary withdrawal was followed by one re-reservation of
/// its chosen second, or by another change before it, or by nothing because that
/// second lies behind `now`; and unless nothing else was reserved by the clock.
pub(crate) fn assert_ends(all: &[Value], now: &str) {
    let mut ended = HashSet::new();
    for (pesel, own) in &by_number(all) {
        for (place, event) in own.iter().enumerate() {
            if event["scheduled"] == true {
                let withdrawal = &own[place.checked_sub(1).expect("a withdrawal before it")];
                assert_eq!(event["withdrawal_sequence"], withdrawal["sequence"], "{pesel}");
                assert_eq!(event["moment"], withdrawal["reserve_again_at"], "{pesel}");
                assert_eq!(event["kind"], "reservation");
                assert!(ended.insert(event["withdrawal_sequence"].as_u64()), "{pesel} reserved twice");
            }
            let Some(until) = event["reserve_again_at"].as_str() else { continue };
            match own.get(place + 1) {
                Some(next) => assert!(text(next, "moment") <= until, "{pesel}: nothing came at {until}"),
                None => assert!(until > now, "{pesel}: due at {until}, not there at {now}"),
            }
        }
    }
}

fn by_number(all: &[Value]) -> HashMap<&str, Vec<&Value>> {
    let mut numbers: HashMap<_, Vec<_>> = HashMap::new();
    for event in all {
        numbers.entry(text(event, "pesel")).or_default().push(event);
    }
    numbers
}

/// The answer about a number at a moment, by walking through its events.
fn expected(pesel: &str, own: &[&Value], at: &str) -> Value {
    let mut answer = json!({ "pesel": pesel, "reserved": false });
    // Moments of one form, in UTC: their text is in their order.
    for event in own.iter().filter(|event| text(event, "moment") <= at) {
        match (text(event, "kind"), answer["reserved"] == true) {
            ("reservation", false) => {
                answer = json!({ "pesel": pesel, "reserved": true, "reserved_at": event["moment"] });
            }
            ("withdrawal", true) => {
                answer["reserved"] = json!(false);
                answer["withdrawn_at"] = event["moment"].clone();
            }
            _ => {}
        }
    }
    answer
}

/// Asks about the numbers at every second in which one of them changed, one
/// before and one after; compares each answer with the list of events.
pub(crate) fn compare_answers(demo: &Demo, all: &[Value], numbers: &[String]) {
    let histories = by_number(all);
    let none = Vec::new();
    let mut caller = demo.caller();
    for part in numbers.chunks(BATCH) {
        let own = |pesel: &String| histories.get(pesel.as_str()).unwrap_or(&none);
        let moments: BTreeSet<i64> = part
            .iter()
            .flat_map(own)
            .map(|event| Moment::parse(text(event, "moment")).expect("a moment").unix_seconds())
            .flat_map(|second| [second - 1, second, second + 1])
            .collect();
        for at in moments.into_iter().map(moment) {
            let question = json!({ "pesels": part, "at": at });
            // The second after an event may be still to come.
            let answer = wait_for("the second asked about", || {
                let reply = caller.post("/v1/verify/batch", &question);
                (reply.status != 422).then(|| reply.good())
            });
            let results = answer["results"].as_array().expect("results");
            for (pesel, result) in part.iter().zip(results) {
                assert_eq!(*result, expected(pesel, own(pesel), &at), "at {at}");
            }
            assert_eq!(results.len(), part.len());
        }
    }
}
