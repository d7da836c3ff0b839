//! Disks that fail and disks that are full: no answer without a record, ever.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use http::Method;
use peselgate::clock::Moment;
use serde_json::{Value, json};

use crate::client::{Caller, Reply};
use crate::harness::{Demo, Instance, binary, clean, dump, fictional, issue, program, skipped, wait_for};
use crate::http2::{Http2, block_on};
use crate::load::{Told, assert_on_record};
use crate::serve::{init, write_config};

/// The exit status of a gateway whose trail could not be written.
const TRAIL_FAILED: i32 = 74;

fn can_trace() -> bool {
    let tried = Command::new("strace")
        .args(["-D", "-f", "-o", "/dev/null", "-e", "inject=fdatasync:error=EIO:when=20+", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}

/// A demo of 1 000 whose system calls strace meddles with.
fn demo_on_a_disk_with(injection: &str) -> Demo {
    let home = Demo::new(1_000).stop();
    let mut command = Command::new("strace");
    // -D: the program is our child, strace its grandchild; the status is ours.
    command.args(["-D", "-f", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", injection]).arg(binary());
    home.arguments(&mut command, &[]);
    home.start_command(clean(command))
}

/// From the 20th sync on the disk takes seconds: as much waits as may, and whatever
/// comes then is refused (1 024 wait on each of two workers), a stranger before anybody
/// asks who it is. Nothing that waits is lost.
#[test]
fn when_as_much_waits_as_may_the_rest_is_refused() {
    if !can_trace() {
        return skipped("no strace that may trace here");
    }
    let demo = demo_on_a_disk_with("inject=fdatasync:delay_enter=4000000:when=20+");
    let pesel = demo.numbers("reserved.csv").remove(0);
    let mut caller = demo.caller();
    let is_slow = (0..1_000).any(|_| {
        let asked = Instant::now();
        caller.verify(&pesel).good();
        asked.elapsed() > Duration::from_secs(2)
    });
    assert!(is_slow, "no sync was delayed");
    let (bearer, body) = (format!("Bearer {}", demo.key()), json!({ "pesel": pesel }).to_string());
    block_on(async {
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..24 {
            let http2 = Http2::open(demo.instance.verification).await;
            for _ in 0..100 {
                let (mut http2, bearer, body) = (http2.clone(), bearer.clone(), body.clone());
                asking.spawn(async move {
                    let good = [("authorization", bearer.as_str()), ("content-type", "application/json")];
                    http2.ask(Method::POST, "/v1/verify", &good, &body).await.expect("an answer")
                });
            }
        }
        let (mut answered, mut refused) = (0, 0);
        let mut told = |reply: Reply| match reply.status {
            200 => answered += 1,
            _ => {
                assert_eq!(reply.problem(), (503, "overloaded".to_owned()));
                assert_eq!(reply.header("retry-after"), Some("1"));
                refused += 1;
            }
        };
        // So many that both workers refuse: 1 200 have come to each.
        for _ in 0..=1_200 - 1_024 {
            told(asking.join_next().await.expect("asked").expect("no panic"));
        }
        let mut stranger = Http2::open(demo.instance.verification).await;
        let reply = stranger.ask(Method::POST, "/v1/verify", &[], &body).await.expect("an answer");
        assert_eq!(reply.problem(), (503, "overloaded".to_owned()));
        while let Some(reply) = asking.join_next().await {
            told(reply.expect("no panic"));
        }
        assert!(refused > 0);
        assert!((2_048..2_400).contains(&answered), "{answered}");
    });
}

/// From the 20th sync on the disk fails: then there is no 200 any more, the
/// process says why and ends, and everything answered before is on record.
#[test]
fn after_a_failed_sync_nothing_is_answered() {
    if !can_trace() {
        return skipped("no strace that may trace here");
    }
    let demo = demo_on_a_disk_with("inject=fdatasync:error=EIO:when=20+");
    let numbers = demo.numbers("reserved.csv");
    let (mut caller, address, key) = (demo.caller(), demo.instance.verification, demo.key());
    let mut told: Vec<Told> = Vec::new();
    let mut refused = 0;
    for turn in 0.. {
        assert!(turn < 1_000, "the disk never failed");
        let pesel = &numbers[turn % numbers.len()];
        let asked = json!({ "pesel": pesel });
        match caller.try_call("POST", "/v1/verify", &[], Some(&asked)) {
            Ok(reply) if reply.status == 200 => {
                assert_eq!(refused, 0, "a 200 after the disk failed");
                let id = reply.json()["verification_id"].as_str().expect("an identifier").to_owned();
                told.push((id, pesel.clone(), true));
            }
            Ok(reply) => {
                assert!(
                    matches!(reply.code().as_str(), "audit-unavailable" | "draining"),
                    "{}",
                    reply.text()
                );
                assert!(reply.code() != "audit-unavailable" || reply.json()["unavailable_since"].is_string());
                refused += 1;
            }
            Err(_) => match crate::client::Connection::open(address) {
                Ok(connection) => caller = Caller::with(connection, &key),
                Err(_) => break,
            },
        }
    }
    assert!(!told.is_empty(), "it failed before the first answer");
    let (mut instance, home) = demo.parts();
    let status = instance.ended();
    assert_eq!(status.code(), Some(TRAIL_FAILED), "{status}");
    assert!(instance.stderr().contains("audit trail"), "{}", instance.stderr());
    let unit = include_str!("../../config/peselgate.service");
    assert!(unit.contains(&format!("\nRestartPreventExitStatus={TRAIL_FAILED}\n")));
    assert_on_record(&told, &home.dump());
    // On a sound disk it starts again.
    let demo = home.start(&[]);
    demo.caller().verify(&numbers[0]).good();
    let home = demo.stop();
    assert_on_record(&told, &home.dump());
    assert_eq!(home.check().0, Some(0));
}

/// A small file system of its own, given back at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir(at).ok()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs"]).arg(at);
        let status = mount.stdin(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success()).then(|| Self(at.to_owned()))
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("filler")).expect("a file");
        let block = vec![1; 64 * 1024];
        while file.write_all(&block).is_ok() {}
        while file.write_all(&[1]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

/// Asks in streams of fat lines until one is refused; everything told goes on
/// the list. `None` when the refusal cut the connection while lines were sent.
fn ask_until_refused(caller: &mut Caller, told: &mut Vec<Told>) -> Option<Value> {
    // A stream that fits into the buffers of both ends.
    let lines: String = (0..500)
        .map(|place| json!({"pesel": fictional(place), "reference": "😀".repeat(64)}).to_string() + "\n")
        .collect();
    let bearer = caller.bearer.clone();
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/x-ndjson")];
    for _ in 0..1_000 {
        let body = Some(lines.as_bytes());
        let reply = caller.connection.request("POST", "/v1/verify/batch", &headers, body).ok()?;
        for line in crate::client::json_lines(&reply.body) {
            if line.get("verification_id").is_none() {
                return Some(line);
            }
            let text = |name: &str| line[name].as_str().expect("a text").to_owned();
            told.push((text("verification_id"), text("pesel"), line["reserved"] == true));
        }
    }
    panic!("the disk never filled up");
}

/// A full disk: 503 and not ready, nothing lost, and it goes on once there is room.
#[test]
fn a_full_disk_is_waited_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(disk) = SmallDisk::mount(&dir.path().join("data")) else {
        return skipped("no right to mount a small file system");
    };
    init(&disk.0, "test");
    let file = write_config(dir.path(), "test", "", "[audit]\nsegment_bytes = 4194304");
    let mut command = program();
    command.arg("serve").arg("--config").arg(file);
    let instance = Instance::start(command, dir.path());
    let token = fs::read_to_string(disk.0.join("operator-token")).expect("a token");
    let mut admin = Caller::new(instance.admin, token.trim());
    let key = issue(&mut admin, "Bank", &["127.0.0.1"], Some([1_000_000, 1_000_000, 1_000_000_000])).1;
    let mut caller = Caller::new(instance.verification, &key);
    caller.verify(&fictional(1)).good();
    assert_eq!(instance.ask_ops("/readyz").status, 200);

    disk.fill();
    let mut told = Vec::new();
    let refusal = ask_until_refused(&mut caller, &mut told);
    if let Some(refusal) = refusal {
        let code = refusal.get("error").or_else(|| refusal.get("code"));
        assert_eq!(code, Some(&json!("audit-unavailable")), "{refusal}");
        // What was under way to the disk was not answered, and cost nothing.
        let left = Caller::new(instance.verification, &key).get("/v1/limits").good();
        let spent = 1_000_000_000 - left["remaining"]["day"].as_u64().expect("a number");
        assert!(spent <= told.len() as u64 + 1, "{spent} for {} answers", told.len());
    }
    assert!(!told.is_empty());
    let mut caller = Caller::new(instance.verification, &key);
    for _ in 0..3 {
        let reply = caller.verify(&fictional(2));
        assert_eq!(reply.problem(), (503, "audit-unavailable".to_owned()));
        assert!(reply.json()["unavailable_since"].is_string());
    }
    let ready = instance.ask_ops("/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("audit"), "{}", ready.text());
    assert_eq!(caller.get("/v1/status").good()["audit"]["writable"], false);
    assert!(instance.metrics().contains("peselgate_ready 0"));
    assert_on_record(&told, &dump(&disk.0));
    let logged = |word: &str| instance.stderr().matches(word).count();
    wait_for("a word about it", || (logged("not ready: ") == 1).then_some(()));
    // Long enough for four more tries of the preparer.
    std::thread::sleep(Duration::from_millis(2_100));
    assert_eq!((logged("\"audit trail\""), logged("not ready: ")), (1, 1), "{}", instance.stderr());

    fs::remove_file(disk.0.join("filler")).expect("removed");
    wait_for("answers again", || (caller.verify(&fictional(3)).status == 200).then_some(()));
    wait_for("readiness", || (instance.ask_ops("/readyz").status == 200).then_some(()));
    wait_for("a word about it", || (logged("ready again") == 1).then_some(()));
    assert_eq!((logged("prepared again"), logged("\"audit trail\"")), (1, 1), "{}", instance.stderr());
    instance.stop();
    assert_on_record(&told, &dump(&disk.0));
}

/// What shows programs another time than the machine's.
fn libfaketime() -> Option<PathBuf> {
    let dirs = ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime"];
    dirs.iter().map(|dir| Path::new(dir).join("libfaketimeMT.so.1")).find(|path| path.exists())
}

/// Set back in a run, the clock takes readiness away until it is right again; the log
/// tells both once, and how long it was.
#[test]
fn a_clock_that_is_set_back_in_a_run_is_in_the_log() {
    let Some(library) = libfaketime() else { return skipped("no libfaketime") };
    let home = crate::harness::Home::new();
    let shown = home.path().join("shown");
    let show = |offset: &str| fs::write(&shown, offset).expect("written");
    show("+0");
    let mut command = home.command(&["--reserved", "100"]);
    command.env("LD_PRELOAD", library).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    command.env("FAKETIME_TIMESTAMP_FILE", &shown).env("FAKETIME_NO_CACHE", "1");
    let demo = home.start_command(command);
    let mut caller = demo.caller();
    caller.verify(&fictional(1)).good();
    let logged = |word: &str| {
        let log = demo.instance.stderr();
        log.lines().filter(|line| line.contains(word)).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(logged("ready").is_empty(), "{}", demo.instance.stderr());

    let began = Instant::now();
    show("-1d");
    let told = wait_for("a word about the outage", || logged("not ready: ").pop());
    assert!(told.contains("ERROR") && told.contains("something was recorded at"), "{told}");
    assert_eq!(caller.verify(&fictional(2)).problem(), (503, "register-unavailable".to_owned()));
    std::thread::sleep(Duration::from_millis(2_100));
    show("+0");
    let told = wait_for("a word about its end", || logged("ready again").pop());
    let longest = began.elapsed().as_secs() as i64 + 1;
    let moment = |name: &str| {
        let word = told.split(&format!("{name}=")).nth(1).and_then(|rest| rest.split(' ').next());
        Moment::parse(word.expect("a moment").trim()).expect("a moment").unix_seconds()
    };
    let lasted = moment("until") - moment("since");
    assert!((2..=longest).contains(&lasted), "{lasted} of {longest}: {told}");
    caller.verify(&fictional(3)).good();
    assert_eq!(logged("ready").len(), 2, "{}", demo.instance.stderr());
    demo.stop();
}

/// The clock ran a day ahead while a change was filed, and was set right since: nobody
/// knows which of both was wrong, until an operator says so. The change is in force then,
/// and no answer tells a moment after its own.
#[test]
fn a_clock_that_was_a_day_ahead_leaves_answers_that_agree_with_themselves() {
    let Some(library) = libfaketime() else { return skipped("no libfaketime") };
    let home = crate::harness::Home::new();
    let mut command = home.command(&["--reserved", "100"]);
    command.env("LD_PRELOAD", library).env("FAKETIME", "+1d").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let demo = home.start_command(command);
    let (ahead, other) = (fictional(25_000_000), fictional(25_000_001));
    let filed = demo.admin().post("/admin/v1/reservations", &crate::harness::filing(&ahead)).good();
    let day_ahead = filed["moment"].clone();
    let demo = demo.stop().start(&[]);
    assert_eq!(demo.caller().verify(&other).problem(), (503, "register-unavailable".to_owned()));
    assert_eq!(demo.instance.ask_ops("/readyz").status, 503);
    let home = demo.stop();
    let mut command = program();
    command.arg("serve").arg("--config").arg(write_config(home.path(), "test", "", ""));
    command.env("PESELGATE_DATA__CLOCK_BEHIND_MAX_S", "172800");
    let demo = home.start_command(command);
    let mut caller = demo.caller();
    let now = caller.verify(&other).good();
    assert!(now["answered_at"].as_str() < day_ahead.as_str(), "the clock did not run ahead");

    let answer = caller.verify(&ahead).good();
    assert_eq!(answer["reserved"], true);
    for field in ["reserved_at", "at", "answered_at"] {
        assert_eq!(answer[field], day_ahead, "{field}");
    }
    let id = answer["verification_id"].as_str().expect("an id");
    let evidence = caller.get(&format!("/v1/verifications/{id}")).good();
    assert_eq!(evidence["answered_at"], day_ahead);
    let batch = caller.post("/v1/verify/batch", &json!({"pesels": [other, ahead]})).good();
    assert_eq!((&batch["answered_at"], &batch["at"]), (&day_ahead, &day_ahead));
    let lines = caller.stream(&format!("\"{other}\"\n\"{ahead}\"\n"));
    assert_eq!((&lines[0]["answered_at"], &lines[1]["reserved_at"]), (&day_ahead, &day_ahead));
    // When it happened is not known, so neither is what was so at a moment.
    let at = |pesel: &str| json!({"pesel": pesel, "at": now["answered_at"]});
    let unsure = caller.post("/v1/verify", &at(&ahead));
    assert_eq!(unsure.problem(), (503, "register-unavailable".to_owned()));
    assert!(unsure.json().get("unavailable_since").is_none(), "since when, nobody knows");
    assert_eq!(caller.post("/v1/verify", &at(&other)).good()["reserved"], false);
}

/// Two answers of one outage name one beginning; another outage has its own.
#[test]
fn an_outage_of_the_evidence_has_one_beginning() {
    let demo = Demo::new(100);
    let mut caller = demo.caller();
    let verified = caller.verify(&demo.numbers("free.csv")[0]).good();
    let path = format!("/v1/verifications/{}", verified["verification_id"].as_str().expect("an id"));
    let segment = demo.home().segments().remove(0);
    let aside = segment.with_extension("aside");
    let since = |caller: &mut Caller| {
        let reply = caller.get(&path);
        assert_eq!(reply.problem(), (503, "audit-unavailable".to_owned()));
        reply.json()["unavailable_since"].as_str().expect("a moment").to_owned()
    };
    let passed = |moment: &str| {
        let mut status = demo.caller();
        wait_for("the next second", || {
            let now = status.get("/v1/status").good()["now"].as_str().expect("a moment").to_owned();
            (now.as_str() > moment).then_some(())
        });
    };
    caller.get(&path).good();
    fs::rename(&segment, &aside).expect("moved");
    let first = since(&mut caller);
    passed(&first);
    assert_eq!(since(&mut caller), first);
    fs::rename(&aside, &segment).expect("moved");
    caller.get(&path).good();
    passed(&first);
    fs::rename(&segment, &aside).expect("moved");
    assert!(since(&mut caller) > first);
    fs::rename(&aside, &segment).expect("moved");
    demo.stop();
}
