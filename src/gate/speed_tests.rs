//! How long a decision takes. Run by hand:
//! `cargo test --release --lib gate::speed -- --ignored --nocapture`

use std::hint::black_box;
use std::io::Write;
use std::num::NonZeroU32;
use std::time::Instant;

use super::*;
use crate::access::testing::{limits, wait};
use crate::access::{AllowList, DirectoryReader, Institution, Name, NewKey};
use crate::clock::Clock;
use crate::environment::Environment;
use crate::secret::PlainCredential;

const ROUNDS: usize = 400_000;

struct Caller {
    header: Vec<u8>,
    peer: Peer,
}

fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("stderr");
}

/// A directory of this many keys with ten networks each, and their holders.
fn callers(count: usize) -> (DirectoryReader, crate::access::AccessThread, Vec<Caller>, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("access.redb");
    let never_binds = limits(1_000_000_000, 1_000_000_000, 1_000_000_000_000);
    let (reader, writer, thread) =
        crate::access::open(&path, Environment::Test, Clock::system(), never_binds).expect("opens");
    let started = Instant::now();
    let mut callers = Vec::with_capacity(count);
    wait(async {
        for chunk in (0..count).collect::<Vec<_>>().chunks(2_048) {
            let tasks: Vec<_> = chunk
                .iter()
                .map(|&n| {
                    let (writer, new) = (writer.clone(), new_key(n));
                    tokio::spawn(async move { writer.issue_key(new, None).await })
                })
                .collect();
            for (&n, task) in chunk.iter().zip(tasks) {
                let plain: PlainCredential =
                    task.await.expect("no panic").expect("issued").plain.expect("shown once");
                callers.push(Caller {
                    header: format!("Bearer {}", plain.reveal()).into_bytes(),
                    peer: Peer::from_socket(
                        format!("10.{}.{}.77:1", n / 256 % 256, n % 256).parse().expect("socket"),
                    ),
                });
            }
        }
    });
    say(&format!("{count} keys issued in {:?}", started.elapsed()));
    (reader, thread, callers, directory)
}

fn new_key(n: usize) -> NewKey {
    let own = format!("10.{}.{}.0/24", n / 256 % 256, n % 256);
    let networks = (0..9).map(|m| format!("172.{}.{}.0/24", 16 + m, n % 256)).chain([own]);
    NewKey {
        institution: Institution { name: Name::parse("Bank").expect("name"), regon: None, krs: None },
        system: Name::parse("Kredyty").expect("name"),
        addresses: AllowList::parse(networks, Environment::Test).expect("list"),
        limits: None,
    }
}

/// Median nanoseconds of a decision over five runs; each caller in turn, with a
/// connection of its own if `cached`.
fn decide(gate: &Gate, callers: &[Caller], cached: bool) -> f64 {
    let mut caches: Vec<IdentityCache> = callers.iter().map(|_| IdentityCache::default()).collect();
    let mut runs: Vec<f64> = (0..5)
        .map(|_| {
            let started = Instant::now();
            for round in 0..ROUNDS {
                // A stride that is prime: callers come in no order of memory.
                let at = round * 7_919 % callers.len();
                let caller = &callers[at];
                let mut fresh = IdentityCache::default();
                let cache = if cached { &mut caches[at] } else { &mut fresh };
                let identity = gate.identify(&caller.peer, Some(&caller.header), cache).expect("known");
                let mut permit = gate.admit(&caller.peer, identity, NonZeroU32::MIN).expect("admitted");
                permit.spend();
                black_box(&permit);
            }
            started.elapsed().as_nanos() as f64 / ROUNDS as f64
        })
        .collect();
    runs.sort_unstable_by(f64::total_cmp);
    runs[2]
}

#[test]
#[ignore = "a measurement: cargo test --release --lib gate::speed -- --ignored --nocapture"]
fn a_decision_takes_less_than_a_microsecond_with_one_key_and_with_many() {
    let mut figures = Vec::new();
    for count in [1, 10_000, 100_000] {
        let (reader, thread, callers, _directory) = callers(count);
        let gate = Gate::new(reader, FailureLimits::default());
        let hashed = decide(&gate, &callers, false);
        let cached = decide(&gate, &callers, true);
        say(&format!("{count} keys: {hashed:.0} ns with hashing, {cached:.0} ns on a kept connection"));
        figures.push((hashed, cached));
        thread.close();
    }
    assert!(figures[0].0 < 1_000.0 && figures[0].1 < 400.0, "{figures:?}");
    assert!(figures[2].0 < 1.5 * figures[0].0, "{figures:?}");
}
