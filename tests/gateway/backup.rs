//! A backup of a gateway at work, restored and compared: what was answered
//! before it began is in it, and the new directory answers as the old one.

use std::collections::HashSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::client::Connection;
use crate::harness::{Demo, Home, dump, err, events, fictional, filing, out, program, run, wait_for};
use crate::load::{Load, Told, assert_on_record, reserve_on};

/// Numbers that tests of this file reserve.
const RESERVED_FROM: u32 = 330_000_000;
const PATH: &str = "/admin/v1/backup";

fn backup(admin_url: &str, demo: &Demo, output: &Path) -> Output {
    let mut command = program();
    command.arg("backup").arg("--json").arg("--output").arg(output).args(["--admin-url", admin_url]);
    command.arg("--admin-token-file").arg(demo.file("demo-admin-token")).output().expect("an end")
}

fn restore(file: &Path, data: &Path) -> Output {
    run(&["restore", &file.to_string_lossy(), "--json", "--data-dir", &data.to_string_lossy()])
}

fn summary(output: &Output) -> Value {
    assert!(output.status.success(), "{}", err(output));
    serde_json::from_str(out(output).trim()).expect("a summary")
}

/// Another home with the restored directory, and the secrets that no backup holds.
fn restored(file: &Path, original: &Home) -> (Home, Value) {
    let home = Home::new();
    let held = summary(&restore(file, &home.data()));
    for secret in ["demo-key", "demo-admin-token"] {
        assert!(!home.data().join(secret).exists());
        fs::copy(original.data().join(secret), home.data().join(secret)).expect("copied");
    }
    (home, held)
}

#[test]
fn a_backup_under_load_restores_to_a_gateway_that_answers_as_before() {
    let demo = Demo::new(3_000);
    let numbers = Arc::new([demo.numbers("reserved.csv"), demo.numbers("free.csv")].concat());
    let (_, issued) = demo.issue("Bank Drugi", &["127.0.0.0/8"], Some([10_000, 10_000, 10_000]));
    // Answered before the backup begins: all of it must be in it.
    let mut before: Vec<Told> = Vec::new();
    let mut caller = demo.caller();
    for pesel in numbers.iter().step_by(20) {
        let answer = caller.verify(pesel).good();
        let id = answer["verification_id"].as_str().expect("an identifier").to_owned();
        before.push((id, pesel.clone(), answer["reserved"] == true));
    }
    let filed: Vec<String> = (0..30).map(|place| fictional(RESERVED_FROM + place)).collect();
    for pesel in &filed {
        assert_eq!(demo.admin().post("/admin/v1/reservations", &filing(pesel)).status, 201);
    }
    let load = Load::start(demo.instance.verification, &demo.key(), &numbers, 3);
    let fresh = (0..).map(|place| fictional(RESERVED_FROM + 1_000 + place));
    let filer = reserve_on(demo.instance.admin, &demo.token(), fresh);
    wait_for("load", || (load.answered() >= 200).then_some(()));
    let file = demo.home().path().join("backup");
    let made = summary(&backup(&format!("http://{}", demo.instance.admin), &demo, &file));
    let answered = load.answered();
    wait_for("more load", || (load.answered() >= answered + 100).then_some(()));
    let all_events = events(&mut demo.admin(), 10_000);
    let original = demo.kill();
    let (told, _) = (load.told(), filer.join().expect("an official"));
    assert!(told.len() > 300);

    let mode = fs::metadata(&file).expect("a backup").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (home, held) = restored(&file, &original);
    for field in ["sequence", "as_of", "reserved", "entries", "trail_records", "trail_segments", "bytes"] {
        assert_eq!(held[field], made[field], "{field}");
    }
    let (status, said) = home.check();
    assert_eq!(status, Some(0), "{said}");
    let (dumped, whole) = (home.dump(), dump(&original.data()));
    assert_on_record(&before, &dumped);
    assert!(whole.len() > dumped.len() && whole.starts_with(&dumped), "the trail up to a place");
    let sequence = held["sequence"].as_u64().expect("a sequence");
    assert!(dumped.iter().all(|line| line["register_sequence"].as_u64() <= Some(sequence)));

    let demo = home.start(&[]);
    let recorded = events(&mut demo.admin(), 10_000);
    assert_eq!(recorded.len() as u64, sequence);
    assert!(all_events.starts_with(&recorded), "the events up to a place, each as it was");
    let in_register: HashSet<&str> = recorded.iter().filter_map(|event| event["pesel"].as_str()).collect();
    assert!(filed.iter().all(|pesel| in_register.contains(pesel.as_str())), "every 201 from before");
    let mut caller = demo.caller_with(&issued);
    for (_, pesel, reserved) in &before {
        assert_eq!(caller.verify(pesel).good()["reserved"], *reserved);
    }
    for pesel in &filed {
        assert_eq!(caller.verify(pesel).good()["reserved"], true);
    }
    for (id, pesel, _) in before.iter().step_by(10) {
        let evidence = demo.caller().get(&format!("/v1/verifications/{id}")).good();
        assert!(evidence.to_string().contains(pesel.as_str()));
    }
    // What comes after goes behind what was restored.
    let late = fictional(RESERVED_FROM + 900);
    let recorded = demo.admin().post("/admin/v1/reservations", &filing(&late)).good();
    assert_eq!(recorded["sequence"].as_u64(), Some(sequence + 1));
    let home = demo.stop();
    let (status, said) = home.check();
    assert_eq!((status, said.contains("closed in order")), (Some(0), true), "{said}");
    // People read Poland's time, in winter and in summer.
    let told = out(&run(&["restore", &file.to_string_lossy(), "--verify-only"]));
    for text in [said, told] {
        assert!(text.contains(":00)") && text.contains(" (+0"), "{text}");
    }
    let later = home.dump();
    assert!(later.starts_with(&dumped) && later.len() == dumped.len() + before.len() + filed.len());
}

#[test]
fn without_changes_in_between_the_restored_register_is_the_same_file_for_exchange() {
    let demo = Demo::new(1_000);
    let url = format!("http://{}", demo.instance.admin);
    // As a pipe: into standard output and out of standard input.
    let piped = backup(&url, &demo, Path::new("-"));
    let told: Value = serde_json::from_str(err(&piped).trim()).expect("a summary");
    assert_eq!(told["bytes"].as_u64(), Some(piped.stdout.len() as u64));
    let file = demo.home().path().join("backup");
    let made = summary(&backup(&url, &demo, &file));
    let again = backup(&url, &demo, &file);
    assert_eq!(again.status.code(), Some(2), "a backup is never written over");
    let original = demo.stop();
    let judged = summary(&run(&["restore", &file.to_string_lossy(), "--verify-only", "--json"]));
    assert_eq!(
        (&judged["sequence"], &judged["keys"], &judged["tokens"]),
        (&json!(1_000), &json!(1), &json!(1))
    );
    assert_eq!(judged["bytes"], made["bytes"]);

    let home = Home::new();
    let mut command = program();
    command.args(["restore", "-", "--data-dir"]).arg(home.data());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("a process");
    child.stdin.take().expect("a pipe").write_all(&piped.stdout).expect("taken");
    assert!(child.wait().expect("an end").success());
    let exported = |home: &Home| {
        let set = home.path().join("set");
        let (data, set_name) = (home.data(), set.to_string_lossy().into_owned());
        let output =
            run(&["snapshot", "export", "--data-dir", &data.to_string_lossy(), "--output", &set_name]);
        assert!(output.status.success(), "{}", err(&output));
        fs::read(set).expect("a set")
    };
    assert_eq!(exported(&home), exported(&original));
    let refused = restore(&file, &home.data());
    assert_eq!(refused.status.code(), Some(2));
    assert!(err(&refused).contains("not empty"), "{}", err(&refused));
}

/// A gateway of one answer: this head, this body, and the end.
fn answer_once(head: String, body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut asked = Vec::new();
        let mut byte = [0];
        while !asked.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|got| got == 1) {
            asked.push(byte[0]);
        }
        // Whoever asked may have gone.
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).ok();
    });
    url
}

#[test]
fn a_backup_that_broke_or_was_changed_is_kept_nowhere() {
    let demo = Demo::shared();
    let archive = demo.admin().get(PATH).body;
    let dir = tempfile::tempdir().expect("a directory");
    let (file, data) = (dir.path().join("backup"), dir.path().join("data"));
    let is_untouched = || fs::read_dir(dir.path()).expect("a directory").next().is_none();
    let head = |length: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    let mut flipped = archive.clone();
    flipped[archive.len() / 2] ^= 1;
    let half = archive[..archive.len() / 2].to_vec();
    for (head, body, says) in [
        (head(archive.len()), half.clone(), "connection"),
        (head(half.len()), half.clone(), "ends early"),
        (head(archive.len()), flipped.clone(), "damaged"),
        (head(2), b"{}".to_vec(), "not a peselgate backup"),
    ] {
        let output = backup(&answer_once(head, body), &demo, &file);
        assert_eq!(output.status.code(), Some(2));
        assert!(err(&output).contains(says), "{says}: {}", err(&output));
        assert!(is_untouched(), "{says}");
    }
    for (bytes, says) in [
        (half, "missing"),
        (flipped, "damaged"),
        (archive[..archive.len() - 1].to_vec(), "the closing frame"),
        ([archive.as_slice(), b"x"].concat(), "something follows"),
    ] {
        fs::write(&file, bytes).expect("written");
        for output in [restore(&file, &data), run(&["restore", &file.to_string_lossy(), "--verify-only"])] {
            assert_eq!(output.status.code(), Some(2));
            assert!(err(&output).contains(says), "{says}: {}", err(&output));
        }
        fs::remove_file(&file).expect("there");
        assert!(is_untouched(), "{says}");
    }
    // A restore that was cut off is not built upon, nor removed unasked.
    fs::write(&file, &archive).expect("written");
    let partial = dir.path().join("data.partial");
    fs::create_dir(&partial).expect("made");
    assert_eq!(restore(&file, &data).status.code(), Some(2));
    assert!(partial.is_dir());
    fs::remove_dir(&partial).expect("empty");
    fs::create_dir(&data).expect("made");
    assert!(restore(&file, &data).status.success(), "an empty directory is as good as none");
}

/// A reader that takes nothing holds the one place, for as long as it is there;
/// it holds up neither the answers nor the end.
#[test]
fn there_is_one_backup_at_a_time() {
    let demo = Demo::new(200_000);
    let stuck = || {
        let mut connection = Connection::open(demo.instance.admin).expect("a connection");
        let bearer = format!("Bearer {}", demo.token());
        connection.send("GET", PATH, &[("authorization", &bearer)], None).expect("sent");
        let head = connection.read_head().expect("a head");
        (connection, head)
    };
    let (first, head) = stuck();
    assert_eq!((head.status, head.header("content-type")), (200, Some("application/octet-stream")));
    assert_eq!(demo.admin().get(PATH).problem(), (409, "backup-running".to_owned()));
    let refused = backup(&format!("http://{}", demo.instance.admin), &demo, &demo.home().path().join("b"));
    assert_eq!(refused.status.code(), Some(2));
    assert!(err(&refused).contains("backup-running"), "{}", err(&refused));
    let pesel = fictional(RESERVED_FROM + 5_000);
    demo.admin().post("/admin/v1/reservations", &filing(&pesel)).good();
    assert_eq!(demo.caller().verify(&pesel).good()["reserved"], true);
    drop(first);
    let (second, head) = wait_for("the place", || Some(stuck()).filter(|(_, head)| head.status == 200));
    assert_eq!(head.status, 200);
    wait_for("the count", || {
        let metrics = demo.instance.metrics();
        metrics.contains("peselgate_backups_total{outcome=\"abandoned\"} 1").then_some(())
    });
    // The drain's deadline cuts it.
    let home = demo.stop();
    drop(second);
    assert_eq!(home.check().0, Some(0));
}

/// A look at the head begins nothing: no place is taken, nothing is made for nobody.
#[test]
fn a_head_request_begins_no_backup() {
    let demo = Demo::new(100);
    let mut admin = demo.admin();
    for method in ["HEAD", "DELETE", "POST"] {
        let refused = admin.call(method, PATH, None);
        assert_eq!((refused.status, refused.header("allow")), (405, Some("GET")), "{method}");
    }
    assert!(!demo.instance.stderr().contains("a backup begins"));
    let bearer = admin.bearer.clone();
    let headers = [("authorization", bearer.as_str()), ("connection", "close")];
    let backup = admin.connection.request("GET", PATH, &headers, None).expect("an answer");
    assert_eq!(backup.status, 200, "{}", backup.text());
    let ended =
        |outcome: &str| demo.instance.count(&format!("peselgate_backups_total{{outcome=\"{outcome}\"}}"));
    wait_for("the backup's count", || (ended("complete") == 1).then_some(()));
    assert_eq!(ended("abandoned"), 0);
    demo.stop();
}
