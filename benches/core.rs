//! The parts by themselves: the number, the set against a flat bitset, the
//! decision without socket and trail, a publish under readers, the trail.
//!
//! `cargo bench --features measuring`; `PESELGATE_BENCH_RESERVED` sets the number
//! of reserved numbers (6 500 000 if absent). Born 1800-1899, all of them.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput};
use peselgate::access::{self, AllowList, Institution, KeyLimits, Name, NewKey};
use peselgate::audit::{self, Durability, Item, LocalRecorder, Receipt, Told, TrailConfig, Verification};
use peselgate::clock::{Clock, Moment};
use peselgate::environment::Environment;
use peselgate::gate::{FailureLimits, Gate, IdentityCache, Peer};
use peselgate::http::verify::decision::decide;
use peselgate::pesel::{Ordinal, Pesel};
use peselgate::register::{
    self, Applicant, Change, Channel, Command, DocumentSeen, Reader, RegisterConfig, Registrant, Submission,
};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

// The program's own: where keys and pages lie in memory decides what they cost.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Ordinals of 1800-1899.
const ORDINALS: u32 = 36_524 * 10_000;
/// Numbers asked in turn: far more than a cache holds.
const ASKED: usize = 1 << 20;

fn main() {
    let reserved = std::env::var("PESELGATE_BENCH_RESERVED").ok();
    let reserved = reserved.map_or(6_500_000, |text| text.parse().expect("a count"));
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
    let mut criterion = Criterion::default().configure_from_args();
    numbers(&mut criterion);
    let all = spread(reserved);
    set(&mut criterion, dir.path(), &all);
    trail(&mut criterion, dir.path());
    criterion.final_summary();
}

/// That many ordinals, evenly spread with some chance.
fn spread(count: u32) -> Vec<Ordinal> {
    let mut random = SmallRng::seed_from_u64(1);
    let step = ORDINALS / count;
    (0..count).filter_map(|place| Ordinal::new(place * step + random.random_range(0..step))).collect()
}

/// As many numbers as are asked in turn, half of them reserved.
fn asked(all: &[Ordinal]) -> Vec<Ordinal> {
    let mut random = SmallRng::seed_from_u64(2);
    let any = |random: &mut SmallRng| Ordinal::new(random.random_range(0..ORDINALS)).expect("in range");
    (0..ASKED)
        .map(|turn| match turn % 2 {
            0 => all[random.random_range(0..all.len())],
            _ => any(&mut random),
        })
        .collect()
}

fn numbers(criterion: &mut Criterion) {
    let texts: Vec<Pesel> = spread(1_000).into_iter().map(Ordinal::pesel).collect();
    let mut group = criterion.benchmark_group("number");
    group.throughput(Throughput::Elements(texts.len() as u64));
    group.bench_function("parse", |bench| {
        bench.iter(|| {
            for text in &texts {
                black_box(Pesel::parse(black_box(text.digit_bytes())).expect("valid"));
            }
        });
    });
    group.bench_function("to and from its ordinal", |bench| {
        bench.iter(|| {
            for text in &texts {
                black_box(black_box(text.ordinal()).pesel());
            }
        });
    });
    group.finish();
}

/// The set, the decision on it, and changes to it.
fn set(criterion: &mut Criterion, dir: &Path, all: &[Ordinal]) {
    let opened = moment(1_700_175_600);
    let path = dir.join("register.redb");
    let registrant = Registrant::new("bench").expect("a name");
    let reservations = all.iter().map(|ordinal| (*ordinal, opened));
    register::bulk_load(&path, 1 << 30, opened, reservations, Channel::EService, &registrant)
        .expect("loaded");
    let config = RegisterConfig { path, cache_bytes: RegisterConfig::CACHE_BYTES_DEFAULT };
    let (reader, commander, _thread) = register::open(&config, Clock::system()).expect("opened");
    let asked = asked(all);
    look_ups(criterion, &reader, all, &asked);
    decision(criterion, dir, &reader, &asked);
    publish(criterion, &reader, commander, &asked);
}

fn look_ups(criterion: &mut Criterion, reader: &Reader, all: &[Ordinal], asked: &[Ordinal]) {
    let mut flat = vec![0u64; ORDINALS.div_ceil(64) as usize];
    for ordinal in all {
        flat[ordinal.value() as usize / 64] |= 1 << (ordinal.value() % 64);
    }
    let mut group = criterion.benchmark_group("set");
    group.throughput(Throughput::Elements(1));
    let mut turn = 0;
    let mut next = || {
        turn = (turn + 1) % asked.len();
        asked[turn]
    };
    let snapshot = reader.snapshot();
    group.bench_function("state of a number", |bench| bench.iter(|| black_box(snapshot.state(next()))));
    group.bench_function("state as of a moment", |bench| {
        let at = moment(1_750_000_000);
        bench.iter(|| black_box(snapshot.state_at(next(), at)));
    });
    group.bench_function("flat bitset, yardstick", |bench| {
        bench.iter(|| {
            let ordinal = next().value();
            black_box(flat[ordinal as usize / 64] >> (ordinal % 64) & 1)
        });
    });
    group.finish();
}

/// Keys with ten networks each, and what their holders send.
struct Holders {
    gate: Gate,
    authorizations: Vec<Vec<u8>>,
    _thread: access::AccessThread,
}

impl Holders {
    fn new(runtime: &LocalRuntime, path: &Path, keys: usize) -> Self {
        let limits = KeyLimits::new(1_000_000_000, 1_000_000_000, 1_000_000_000_000).expect("limits");
        access::create(path, Environment::Test).expect("made");
        let (directory, writer, thread) =
            access::open(path, Environment::Test, Clock::system(), limits).expect("opened");
        let name = |text| Name::parse(text).expect("a name");
        let networks = (0..9).map(|n| format!("172.{}.0.0/24", 16 + n)).chain(["127.0.0.0/8".to_owned()]);
        let new = NewKey {
            institution: Institution { name: name("Bank"), regon: None, krs: None },
            system: name("Kredyty"),
            addresses: AllowList::parse(networks, Environment::Test).expect("a list"),
            limits: None,
        };
        let authorizations = runtime.block_on(async {
            let mut plain = Vec::with_capacity(keys);
            for part in vec![(); keys].chunks(512) {
                let issued = part.iter().map(|()| {
                    let (writer, new) = (writer.clone(), new.clone());
                    tokio::task::spawn_local(async move { writer.issue_key(new, None).await })
                });
                for issued in issued.collect::<Vec<_>>() {
                    plain.push(issued.await.expect("no panic").expect("issued").plain.expect("shown once"));
                }
            }
            plain.iter().map(|key| format!("Bearer {}", key.reveal()).into_bytes()).collect()
        });
        Self { gate: Gate::new(directory, FailureLimits::default()), authorizations, _thread: thread }
    }
}

/// One decision, of one key and of a hundred thousand. Before the clock runs, what
/// a request brings along is brought into the processor's cache, as a socket read
/// just has; what lies in the directory and in the set is as cold as it is.
fn decision(criterion: &mut Criterion, dir: &Path, reader: &Reader, asked: &[Ordinal]) {
    const AT_ONCE: usize = 64;
    let runtime = runtime();
    let peer = Peer::from_socket("127.0.0.1:1".parse().expect("an address"));
    let receipt = receipt(&runtime, &dir.join("receipt"));
    let clock = Clock::system();
    let mut group = criterion.benchmark_group("decision");
    group.throughput(Throughput::Elements(1));
    for keys in [1, 100_000] {
        let holders = Holders::new(&runtime, &dir.join(format!("access-{keys}.redb")), keys);
        let mut connections: Vec<IdentityCache> =
            (0..keys.max(AT_ONCE)).map(|_| IdentityCache::default()).collect();
        for (words, kept) in [("on a kept connection", true), ("on a new connection", false)] {
            let mut out = BytesMut::with_capacity(1 << 16);
            let mut turn = 0;
            group.bench_function(format!("{words}, keys: {keys}"), |bench| {
                bench.iter_custom(|decisions| {
                    let mut took = Duration::ZERO;
                    for _ in 0..decisions.div_ceil(AT_ONCE as u64) {
                        let mut arrived: Vec<_> = (0..AT_ONCE)
                            .map(|_| {
                                // A prime stride: callers come in no order of memory.
                                turn += 7_919;
                                let place = turn % connections.len();
                                let body =
                                    format!("{{\"pesel\":\"{}\"}}", asked[turn % ASKED].pesel().digits());
                                let cache = if kept {
                                    std::mem::take(&mut connections[place])
                                } else {
                                    IdentityCache::default()
                                };
                                (place, holders.authorizations[place % keys].clone(), body, cache)
                            })
                            .collect();
                        let began = Instant::now();
                        for (_, authorization, body, cache) in &mut arrived {
                            out.clear();
                            let decided = decide(
                                (&holders.gate, &peer, cache),
                                &reader.snapshot(),
                                (clock.now(), &receipt),
                                (authorization, body.as_bytes()),
                                &mut out,
                            );
                            black_box(decided.expect("answered"));
                        }
                        took += began.elapsed();
                        for (place, _, _, cache) in arrived.into_iter().filter(|_| kept) {
                            connections[place] = cache;
                        }
                    }
                    took.mul_f64(
                        decisions as f64 / (decisions.div_ceil(AT_ONCE as u64) * AT_ONCE as u64) as f64,
                    )
                });
            });
        }
    }
    group.finish();
}

/// One durable change, while another thread looks numbers up without a pause.
fn publish(criterion: &mut Criterion, reader: &Reader, commander: register::Commander, asked: &[Ordinal]) {
    let runtime = runtime();
    let stop = Arc::new(AtomicBool::new(false));
    let looking = {
        let (reader, stop, asked) = (reader.clone(), Arc::clone(&stop), asked.to_vec());
        std::thread::spawn(move || {
            for ordinal in asked.iter().cycle() {
                black_box(reader.snapshot().state(*ordinal));
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        })
    };
    let snapshot = reader.snapshot();
    let free = asked.iter().filter(|ordinal| !snapshot.state(**ordinal).is_reserved());
    let free: Vec<Ordinal> = free.copied().collect();
    let mut turn = 0;
    criterion.bench_function("change, durable and published, under a reader", |bench| {
        bench.iter_batched(
            || {
                turn += 1;
                reservation(free[turn % free.len()], turn > free.len())
            },
            |submission| runtime.block_on(commander.submit(submission)).expect("recorded"),
            BatchSize::PerIteration,
        );
    });
    stop.store(true, Ordering::Relaxed);
    looking.join().expect("no panic");
}

/// A person's reservation at a gmina; ex officio once all numbers had one.
fn reservation(ordinal: Ordinal, again: bool) -> Submission {
    let channel = if again { Channel::IdCardRegister } else { Channel::Gmina };
    let command = Command {
        ordinal,
        change: Change::Reservation,
        channel,
        registrant: Registrant::new("bench").expect("a name"),
        applicant: (!again).then_some(Applicant::Own),
        obstacle: None,
        document_seen: (!again).then_some(DocumentSeen::IdCard),
        majority_by_marriage: false,
    };
    Submission { command, idempotency: None, delivery: None }
}

/// From a record staged to its receipt, one at a time and 64 at once.
fn trail(criterion: &mut Criterion, dir: &Path) {
    let mut group = criterion.benchmark_group("trail");
    for durability in [Durability::Flush, Durability::Write] {
        let runtime = runtime();
        let (trail, thread, _) = audit::open(
            trail_config(&dir.join(format!("{durability:?}")), durability),
            Clock::system(),
            "bench",
            Environment::Test,
        )
        .expect("opened");
        let recorder = recorder(&runtime, &trail);
        for at_once in [1usize, 64] {
            group.throughput(Throughput::Elements(at_once as u64));
            group.bench_function(format!("{durability:?}, {at_once} at once"), |bench| {
                bench.iter(|| {
                    let pending: Vec<_> = (0..at_once).map(|_| staged(&recorder)).collect();
                    runtime.block_on(async {
                        for pending in pending {
                            black_box(pending.await.expect("durable"));
                        }
                    });
                });
            });
        }
        thread.close().expect("closed");
    }
    group.finish();
}

fn receipt(runtime: &LocalRuntime, dir: &Path) -> Receipt {
    let (trail, thread, _) =
        audit::open(trail_config(dir, Durability::Flush), Clock::system(), "bench", Environment::Test)
            .expect("opened");
    let recorder = recorder(runtime, &trail);
    let receipt = runtime.block_on(async { staged(&recorder).await }).expect("durable");
    thread.close().expect("closed");
    receipt
}

fn recorder(runtime: &LocalRuntime, trail: &audit::Trail) -> LocalRecorder {
    let recorder = LocalRecorder::new(trail.recorder()).expect("randomness");
    let pump = recorder.clone();
    runtime.spawn_local(async move { pump.pump().await });
    recorder
}

fn staged(recorder: &LocalRecorder) -> audit::Pending {
    let verification = Verification {
        answered_at: moment(1_795_000_000),
        asked_at: None,
        key_id: peselgate::secret::KeyId::parse(b"aaaaaaaaaa").expect("an identifier"),
        institution: "Bank",
        address: std::net::Ipv4Addr::LOCALHOST,
        register: audit::RegisterState { sequence: 1, as_of: moment(1_794_000_000) },
        reference: None,
    };
    let told = Told { reserved: false, reserved_at: None, withdrawn_at: None };
    let item = Item::verified(Ordinal::new(4).expect("in range"), told);
    recorder.record_single(&verification, item).expect("taken")
}

fn trail_config(dir: &Path, durability: Durability) -> TrailConfig {
    TrailConfig {
        dir: dir.to_owned(),
        durability,
        segment_bytes: 64 * 1024 * 1024,
        pending_bytes_max: 16 * 1024 * 1024,
        start_check_bytes: 1 << 30,
    }
}

fn runtime() -> LocalRuntime {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).expect("a runtime")
}

const fn moment(unix_seconds: i64) -> Moment {
    Moment::from_unix_seconds(unix_seconds)
}
