//! The client commands against a real gateway: exit statuses, counts, resuming.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Demo, err, fictional, out, program, wait_for};

fn with_input(command: &mut Command, input: &str) -> Output {
    use std::io::Write as _;
    let piped = || Stdio::piped();
    let mut child = command.stdin(piped()).stdout(piped()).stderr(piped()).spawn().expect("a process");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("written");
    child.wait_with_output().expect("an end")
}

fn ask(demo: &Demo, arguments: &[&str], key_file: &Path) -> Command {
    let mut command = program();
    command.args(arguments).args(["--url", &format!("http://{}", demo.instance.verification)]);
    command.arg("--key-file").arg(key_file);
    command
}

#[test]
fn verify_tells_by_its_exit_status() {
    let demo = Demo::shared();
    let key = demo.file("demo-key");
    for (list, status, says) in [("reserved.csv", 1, "reserved since "), ("free.csv", 0, "not reserved")] {
        let pesel = &demo.numbers(list)[3];
        let output = with_input(&mut ask(&demo, &["verify", "-"], &key), &format!("{pesel}\n"));
        assert_eq!(output.status.code(), Some(status), "{}", err(&output));
        assert!(out(&output).starts_with(says), "{}", out(&output));
        let output = ask(&demo, &["verify", pesel, "--json"], &key).output().expect("an end");
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(answer["reserved"], status == 1);
        let past = ask(&demo, &["verify", pesel, "--at", "2010-01-01T00:00:00Z"], &key).output();
        assert_eq!(past.expect("an end").status.code(), Some(0), "nothing was reserved then");
    }
    let output = ask(&demo, &["verify", "44051401358"], &key).output().expect("an end");
    assert_eq!(output.status.code(), Some(2));
    assert!(!err(&output).contains("4405140135"));
    let token =
        ask(&demo, &["verify", &fictional(1)], &demo.file("demo-admin-token")).output().expect("an end");
    assert_eq!(token.status.code(), Some(2));
}

/// The sample against the two lists, row by row.
#[test]
fn bulk_checks_the_sample() {
    let demo = Demo::shared();
    let dir = tempfile::tempdir().expect("a directory");
    let result = dir.path().join("checked.csv");
    let (sample, key) = (demo.file("sample.csv"), demo.file("demo-key"));
    let mut command = ask(&demo, &["bulk", &sample.to_string_lossy(), "--json"], &key);
    let output = command.arg("--output").arg(&result).output().expect("an end");
    assert_eq!(output.status.code(), Some(1), "some rows are mistyped: {}", err(&output));
    let summary: serde_json::Value = serde_json::from_str(err(&output).trim()).expect("a summary");

    let reserved: HashSet<String> = demo.numbers("reserved.csv").into_iter().collect();
    let mut asked = csv::Reader::from_path(&sample).expect("the sample");
    let mut told = csv::Reader::from_path(&result).expect("the result");
    let header: Vec<String> = told.headers().expect("a header").iter().map(str::to_owned).collect();
    let added = ["reserved", "reserved_at", "withdrawn_at", "verification_id", "index", "error"];
    assert_eq!(header[3..], added);
    let mut counts = [0, 0, 0];
    let mut rows = told.records();
    for before in asked.records() {
        let (before, after) = (before.expect("a row"), rows.next().expect("a row").expect("a row"));
        assert!(before.iter().eq(after.iter().take(3)), "every column is kept");
        let is_wrong = peselgate::pesel::Pesel::parse(before[1].as_bytes()).is_err();
        let is_reserved = reserved.contains(&before[1]);
        let kind = if is_wrong { 2 } else { usize::from(!is_reserved) };
        counts[kind] += 1;
        assert_eq!(&after[3], ["true", "false", ""][kind], "{after:?}");
        assert_eq!(
            (!after[4].is_empty(), !after[6].is_empty(), !after[8].is_empty()),
            [(true, true, false), (false, true, false), (false, false, true),][kind]
        );
    }
    assert!(rows.next().is_none() && counts.iter().all(|count| *count > 0));
    for (name, count) in
        [("rows", 10_000), ("reserved", counts[0]), ("not_reserved", counts[1]), ("wrong", counts[2])]
    {
        assert_eq!(summary[name], count, "{name}");
    }
}

/// Interrupted in the middle of a slow run, the same command goes on.
#[test]
fn bulk_goes_on_where_it_was_interrupted() {
    let demo = Demo::shared();
    let dir = tempfile::tempdir().expect("a directory");
    let (key_file, result) = (dir.path().join("key"), dir.path().join("checked.csv"));
    // Slow enough that an interruption falls into the middle.
    let (_, key) = demo.issue("Bank Wolny", &["127.0.0.1"], Some([2_500, 1_000, 1_000_000]));
    fs::write(&key_file, key).expect("written");
    let sample = demo.file("sample.csv");
    let bulk = || {
        let mut command = ask(&demo, &["bulk", &sample.to_string_lossy(), "--json"], &key_file);
        command.arg("--output").arg(&result);
        command
    };
    let part = dir.path().join("checked.csv.part");
    let mut child = bulk().stderr(Stdio::null()).spawn().expect("a process");
    wait_for("the first rows", || fs::metadata(&part).ok().filter(|part| part.len() > 100_000).map(drop));
    kill_process(Pid::from_child(&child), Signal::INT).expect("a signal");
    assert_eq!(child.wait().expect("an end").code(), Some(2));
    assert!(part.exists() && !result.exists());
    let output = bulk().output().expect("an end");
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    let summary: serde_json::Value = serde_json::from_str(err(&output).trim()).expect("a summary");
    assert_eq!(summary["rows"], 10_000);
    let resumed = summary["rows_resumed"].as_u64().expect("a number");
    assert!((1..10_000).contains(&resumed), "{resumed}");
    let first_columns = |path: &Path| -> Vec<Vec<String>> {
        let mut reader = csv::Reader::from_path(path).expect("a table");
        let rows = reader.records().map(|row| row.expect("a row"));
        rows.map(|row| row.iter().take(3).map(str::to_owned).collect()).collect()
    };
    assert_eq!(first_columns(&result), first_columns(&sample));
    assert!(!part.exists());
}

#[test]
fn key_commands_and_import_reach_the_admin_plane() {
    let demo = Demo::new(1_000);
    let dir = tempfile::tempdir().expect("a directory");
    let key_file = dir.path().join("key");
    let administer = |arguments: &[&str]| {
        let mut command = program();
        command.args(arguments).args(["--admin-url", &format!("http://{}", demo.instance.admin)]);
        command.arg("--admin-token-file").arg(demo.file("demo-admin-token")).output().expect("an end")
    };
    let output = administer(&[
        "key",
        "issue",
        "--institution",
        "Bank",
        "--system",
        "s",
        "--address",
        "127.0.0.1",
        "--json",
        "--output",
        &key_file.to_string_lossy(),
    ]);
    assert!(output.status.success(), "{}", err(&output));
    let record: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a record");
    let id = record["id"].as_str().expect("an id");
    let pesel = fictional(60_000_000);
    let line = format!(
        "{{\"pesel\":\"{pesel}\",\"kind\":\"reservation\",\"moment\":\"2024-05-01T00:00:00Z\",\"channel\":\"gmina\",\"registrant\":\"Urząd\"}}\n"
    );
    let lines = dir.path().join("lines.ndjson");
    fs::write(&lines, &line).expect("written");
    let verify = || ask(&demo, &["verify", &pesel], &key_file).output().expect("an end").status.code();
    assert_eq!(verify(), Some(0));
    assert!(administer(&["import", &lines.to_string_lossy()]).status.success());
    assert_eq!(verify(), Some(1));
    fs::write(&lines, line.replace("reservation", "withdrawal").replace("2024", "2023")).expect("written");
    assert_eq!(administer(&["import", &lines.to_string_lossy()]).status.code(), Some(1));
    assert!(administer(&["key", "addresses", id, "10.0.0.1"]).status.success());
    assert_eq!(verify(), Some(2));
    assert!(administer(&["key", "addresses", id, "127.0.0.1"]).status.success());
    assert_eq!(verify(), Some(1));
    let limits = ["key", "limits", id, "--per-second", "7", "--burst", "8", "--per-day", "9000", "--json"];
    let record: serde_json::Value = serde_json::from_slice(&administer(&limits).stdout).expect("a record");
    assert_eq!(record["limits"], serde_json::json!({"per_second": 7, "burst": 8, "per_day": 9000}));
    assert!(administer(&["key", "deactivate", id]).status.success());
    assert_eq!(verify(), Some(2));
}

/// Each role's token is issued, does its work and no other's, and ends.
#[test]
fn token_commands_reach_the_admin_plane() {
    let demo = Demo::new(1_000);
    let dir = tempfile::tempdir().expect("a directory");
    let administer = |token: &Path, arguments: &[&str]| {
        let mut command = program();
        command.args(arguments).args(["--admin-url", &format!("http://{}", demo.instance.admin)]);
        command.arg("--admin-token-file").arg(token).output().expect("an end")
    };
    let operator = demo.file("demo-admin-token");
    let (pesel, registrant) = (fictional(60_000_001), "Urząd Gminy Przykładów");
    let source = ["--registrant", registrant, "--channel", "gmina"];
    for (role, bound_to, reads, files) in [
        ("operator", &[][..], true, false),
        ("auditor", &[], true, false),
        ("official", &["--registrant", registrant, "--teryt", "1465011"], false, true),
        ("source", &source, false, true),
    ] {
        let file = dir.path().join(role);
        let path = file.to_string_lossy();
        let issue = ["token", "issue", "--role", role, "--label", "próba", "--json", "--output", &path];
        let issued = administer(&operator, &[&issue, bound_to].concat());
        assert!(issued.status.success(), "{role}: {}", err(&issued));
        let record: serde_json::Value = serde_json::from_slice(&issued.stdout).expect("a record");
        let id = record["id"].as_str().expect("an id");
        let reserve = ["reserve", &pesel, "--registrant", registrant, "--json"];
        let (list, filed) = (administer(&file, &["token", "list"]), administer(&file, &reserve));
        assert_eq!(list.status.success(), reads, "{role}: {}", err(&list));
        assert_eq!(!out(&filed).contains("forbidden"), files, "{role}: {}", out(&filed));
        assert!(administer(&operator, &["token", "deactivate", id]).status.success());
        let refused = administer(&file, &["token", "list"]);
        assert!(err(&refused).contains("unauthenticated"), "{role}: {}", err(&refused));
        let listed = out(&administer(&operator, &["token", "list"]));
        assert!(listed.contains(&format!("{id}  deactivated")), "{listed}");
    }
}
