//! Refusals of keys, timed in two classes that must not be told apart.

use std::num::NonZeroU32;

use dudect_bencher::{BenchRng, Class, CtRunner, ctbench_main};
use peselgate::access::{self, AllowList, Institution, KeyLimits, Name, NewKey};
use peselgate::clock::Clock;
use peselgate::environment::Environment;
use peselgate::gate::{FailureLimits, Gate, IdentityCache, Peer};
use peselgate::secret::{PlainCredential, Plane, Presented};
use rand::RngExt;

/// Characters of a key's checksum.
const CHECKSUM_CHARS: usize = 7;
/// Refusals of one run.
const REFUSALS: usize = 200_000;

ctbench_main!(
    unknown_identifier_or_wrong_secret,
    unknown_identifier_or_deactivated_key,
    wrong_secret_or_nearly_right_one
);

/// A gate that knows a few keys, and what it knows.
struct Known {
    gate: Gate,
    active: Vec<PlainCredential>,
    deactivated: Vec<PlainCredential>,
    _dir: tempfile::TempDir,
}

fn known() -> Known {
    let dir = tempfile::tempdir().expect("a directory");
    let limits = KeyLimits::new(1_000, 1_000, 1_000_000).expect("limits");
    let path = dir.path().join("access.redb");
    access::create(&path, Environment::Test).expect("made");
    let (directory, writer, _thread) =
        access::open(&path, Environment::Test, Clock::system(), limits).expect("opened");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let name = |text| Name::parse(text).expect("a name");
    let issue = || {
        let new = NewKey {
            institution: Institution { name: name("Bank"), regon: None, krs: None },
            system: name("Kredyty"),
            addresses: AllowList::parse(["127.0.0.0/8"], Environment::Test).expect("a list"),
            limits: None,
        };
        runtime.block_on(writer.issue_key(new, None)).expect("issued").plain.expect("shown once")
    };
    let active: Vec<_> = (0..64).map(|_| issue()).collect();
    let deactivated: Vec<_> = (0..64).map(|_| issue()).collect();
    for key in &deactivated {
        runtime.block_on(writer.deactivate_key(key.id())).expect("deactivated");
    }
    // Refusals must all come to the comparison.
    let failures = FailureLimits { burst: NonZeroU32::MAX, per_second: NonZeroU32::MAX };
    Known { gate: Gate::new(directory, failures), active, deactivated, _dir: dir }
}

fn stranger() -> PlainCredential {
    PlainCredential::generate(Plane::Verification, Environment::Test).expect("randomness")
}

/// As many that nobody has issued, each asked for as often as a known one.
fn strangers() -> Vec<PlainCredential> {
    (0..64).map(|_| stranger()).collect()
}

/// The text with another secret from character `from` of it on, and its checksum.
fn with_other_secret(key: &PlainCredential, from: usize) -> String {
    let known = key.reveal();
    let secret = known.rfind('_').expect("a secret") + 1;
    let body = known.len() - CHECKSUM_CHARS;
    let text = loop {
        let text = format!("{}{}", &known[..secret + from], &stranger().reveal()[secret + from..body]);
        // The last characters carry few bits: now and then another's are the same.
        if text != known[..body] {
            break text;
        }
    };
    let mut base32 = data_encoding::Specification::new();
    base32.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    let base32 = base32.encoding().expect("32 distinct symbols");
    let checksum = base32.encode(&crc32c::crc32c(text.as_bytes()).to_be_bytes());
    let text = text + &checksum;
    Presented::parse(Plane::Verification, text.as_bytes()).expect("well-formed");
    text
}

fn time(
    (runner, random): (&mut CtRunner, &mut BenchRng),
    known: &Known,
    left: impl Fn(usize) -> String,
    right: impl Fn(usize) -> String,
) {
    let peer = Peer::from_socket("127.0.0.1:1".parse().expect("an address"));
    // A fresh text each time, all made beforehand: what is told apart must be the
    // class, neither a text nor the making of it.
    let headers: Vec<_> = (0..REFUSALS)
        .map(|_| {
            let place = random.random_range(0..64);
            let (class, text) = match random.random() {
                true => (Class::Left, left(place)),
                false => (Class::Right, right(place)),
            };
            (class, format!("Bearer {text}").into_bytes())
        })
        .collect();
    for (class, header) in headers {
        // As if it had just been read from a socket.
        let header = std::hint::black_box(header.clone());
        runner.run_one(class, || {
            known.gate.identify(&peer, Some(&header), &mut IdentityCache::default()).is_err()
        });
    }
}

fn unknown_identifier_or_wrong_secret(runner: &mut CtRunner, random: &mut BenchRng) {
    let known = known();
    let unknown = strangers();
    let wrong = |place: usize| with_other_secret(&known.active[place], 0);
    time((runner, random), &known, |place| with_other_secret(&unknown[place], 0), wrong);
}

fn unknown_identifier_or_deactivated_key(runner: &mut CtRunner, random: &mut BenchRng) {
    let known = known();
    let unknown = strangers();
    let deactivated = |place: usize| with_other_secret(&known.deactivated[place], 0);
    time((runner, random), &known, |place| with_other_secret(&unknown[place], 0), deactivated);
}

fn wrong_secret_or_nearly_right_one(runner: &mut CtRunner, random: &mut BenchRng) {
    let known = known();
    let wrong = |place: usize| with_other_secret(&known.active[place], 0);
    let near = |place: usize| with_other_secret(&known.active[place], 50);
    time((runner, random), &known, wrong, near);
}
