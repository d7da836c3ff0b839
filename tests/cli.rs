//! The client commands as a shell sees them: exit statuses, standard output,
//! standard error, files. The gateway is the one of the library's own tests.

#[path = "../src/cli/testing.rs"]
mod testing;

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::Ordering;
use std::time::Instant;

use assert_cmd::assert::OutputAssertExt as _;
use peselgate::environment::Environment;
use peselgate::secret::{PlainCredential, Plane};
use testing::{Fault, Gateway};

const NUMBER: &str = "44051401359";
const VERDICT: &str = r#"{"verification_id":"01936f5e-7c1a-7e6b-8f00-0123456789ab","reserved":false,"at":"2026-11-21T21:51:42Z","answered_at":"2026-11-21T21:51:42Z","register":{"sequence":1,"as_of":"2026-11-21T21:51:40Z"}}"#;

struct Shell {
    dir: tempfile::TempDir,
    gateway: Gateway,
}

impl Shell {
    fn new() -> Self {
        Self::with(Gateway::start())
    }

    fn with(gateway: Gateway) -> Self {
        let shell = Self { dir: tempfile::tempdir().expect("directory"), gateway };
        for (name, plane) in [("key", Plane::Verification), ("token", Plane::Admin)] {
            let plain = PlainCredential::generate(plane, Environment::Test).expect("randomness");
            std::fs::write(shell.path(name), format!("{}\n", plain.reveal())).expect("written");
        }
        shell
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_peselgate"));
        command.env_remove("PESELGATE_KEY").env_remove("PESELGATE_ADMIN_TOKEN").current_dir(self.dir.path());
        command
    }

    /// A command of the verification plane.
    fn ask(&self, arguments: &[&str]) -> Command {
        let mut command = self.command();
        command.args(arguments).args(["--url", &self.gateway.url(), "--key-file", "key"]);
        command
    }

    /// A command of the admin plane.
    fn administer(&self, arguments: &[&str]) -> Command {
        let mut command = self.command();
        command.args(arguments).args(["--admin-url", &self.gateway.url(), "--admin-token-file", "token"]);
        command
    }
}

fn fed(command: &mut Command, input: &str) -> Output {
    use std::io::Write as _;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a process");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("written");
    child.wait_with_output().expect("an end")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn verify_tells_by_its_exit_status() {
    let shell = Shell::new();
    shell.gateway.reply(200, VERDICT);
    let output = fed(&mut shell.ask(&["verify", "-"]), &format!("{NUMBER}\n"));
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(out(&output).starts_with("not reserved (at 2026-11-21T21:51:42Z, verification 01936f5e-"));
    let (method, path, agent, body) = shell.gateway.request(0);
    assert_eq!((method.as_str(), path.as_str()), ("POST", "/v1/verify"));
    assert_eq!(agent, concat!("peselgate/", env!("CARGO_PKG_VERSION")));
    assert_eq!(body, format!(r#"{{"pesel":"{NUMBER}"}}"#));

    shell.gateway.reply(200, &VERDICT.replace("false", r#"true,"reserved_at":"2026-10-02T08:15:30Z""#));
    let mut reserved =
        shell.ask(&["verify", NUMBER, "--json", "--at", "2026-11-01T12:00:00+01:00", "--reference", "r"]);
    let output = reserved.output().expect("an end");
    assert_eq!(output.status.code(), Some(1));
    assert!(out(&output).contains(r#""reserved_at":"2026-10-02T08:15:30Z""#));
    let (.., body) = shell.gateway.request(1);
    assert_eq!(body, format!(r#"{{"at":"2026-11-01T11:00:00Z","pesel":"{NUMBER}","reference":"r"}}"#));
}

#[test]
fn verify_without_an_answer_says_why_and_never_the_number() {
    let shell = Shell::new();
    let problem = r#"{"type":"urn:peselgate:problem:audit-unavailable","title":"t","status":503,"code":"audit-unavailable","detail":"no trail","request_id":"r-1"}"#;
    shell.gateway.reply(503, problem);
    shell.gateway.reply(502, "<html>");
    shell.gateway.reply(200, "{}");
    for says in ["audit-unavailable: no trail (request id r-1)", "502: ", "not as agreed"] {
        let output = shell.ask(&["verify", NUMBER]).output().expect("an end");
        assert_eq!(output.status.code(), Some(2));
        assert!(err(&output).contains(says), "{}", err(&output));
        assert!(!err(&output).contains(NUMBER) && out(&output).is_empty());
    }
    for arguments in [
        &["verify", "44051401358"][..],
        &["verify", NUMBER, "--at", "yesterday"],
        &["verify", NUMBER, "44051401358"],
        &["verify", NUMBER, "--key", "pg_test_x"],
        &["verify", NUMBER, "--url", "http://127.0.0.1:1"],
    ] {
        let output = shell.ask(arguments).output().expect("an end");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            !err(&output).contains("4405140135") && !err(&output).contains("pg_test_"),
            "{}",
            err(&output)
        );
    }
}

#[test]
fn a_key_may_come_from_the_environment() {
    let shell = Shell::new();
    shell.gateway.reply(200, VERDICT);
    let key = std::fs::read_to_string(shell.path("key")).expect("a key");
    let mut command = shell.command();
    command.args(["verify", NUMBER, "--url", &shell.gateway.url()]);
    command.assert().code(2);
    command.env("PESELGATE_KEY", key.trim()).assert().code(0);
    // The wrong plane's credential is not sent.
    command.args(["--key-file", "token"]).assert().code(2);
    assert_eq!(shell.gateway.seen.requests.lock().expect("requests").len(), 1);
    let help =
        shell.command().env("PESELGATE_KEY", key.trim()).args(["verify", "--help"]).output().expect("an end");
    assert!(out(&help).contains("Exit status: 0 not reserved, 1 reserved, 2 no answer"));
    assert!(out(&help).contains("PESELGATE_KEY") && !out(&help).contains(key.trim()));
}

#[test]
fn every_command_documents_its_exit_status() {
    let shell = Shell::new();
    for command in [
        "demo",
        "serve",
        "init",
        "verify",
        "bulk",
        "import",
        "reserve",
        "withdraw",
        "entry",
        "key issue",
        "key list",
        "snapshot export",
        "snapshot inspect",
        "audit dump",
        "audit check",
    ] {
        let output = shell.command().args(command.split(' ')).arg("--help").output().expect("an end");
        assert_eq!(output.status.code(), Some(0));
        assert!(out(&output).contains("Exit status: 0"), "{command}");
    }
    shell.command().arg("--version").assert().code(0);
    shell.command().assert().code(2);
    let output = shell.command().args(["completions", "bash"]).output().expect("an end");
    assert!(out(&output).contains("peselgate"));
}

#[test]
fn a_private_authority_is_trusted_by_word_only() {
    let (gateway, pem) = Gateway::start_tls();
    let shell = Shell::with(gateway);
    std::fs::write(shell.path("ca.pem"), pem).expect("written");
    std::fs::write(shell.path("empty.pem"), "").expect("written");
    let url = format!("https://{}", shell.gateway.address);
    let verify = |ca_file: &str| {
        let mut command = shell.command();
        command.args(["verify", NUMBER, "--url", &url, "--key-file", "key", "--ca-file", ca_file]);
        command.output().expect("an end")
    };
    shell.gateway.reply(200, VERDICT);
    assert_eq!(verify("ca.pem").status.code(), Some(0));
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    std::fs::write(shell.path("other.pem"), other.cert.pem()).expect("written");
    for (file, says) in [("other.pem", "TLS"), ("empty.pem", "no certificate"), ("none.pem", "none.pem")] {
        let output = verify(file);
        assert_eq!(output.status.code(), Some(2));
        assert!(err(&output).contains(says), "{}", err(&output));
    }
    assert_eq!(shell.gateway.seen.requests.lock().expect("requests").len(), 1);
    // And a stream over it.
    std::fs::write(shell.path("in.csv"), sample(10_000)).expect("written");
    let mut bulk = shell.command();
    bulk.args([
        "bulk",
        "in.csv",
        "--output",
        "out.csv",
        "--url",
        &url,
        "--key-file",
        "key",
        "--ca-file",
        "ca.pem",
    ]);
    bulk.assert().code(0);
}

fn sample(rows: u64) -> String {
    let mut text = String::from("name,pesel\n");
    for row in 0..rows {
        writeln!(text, "Osoba {row},{}", 10_000_000_000 + row * 3).expect("a string");
    }
    text
}

#[test]
fn bulk_is_a_filter() {
    let shell = Shell::new();
    let output = fed(&mut shell.ask(&["bulk", "-", "--json"]), &sample(20_000));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(out(&output).lines().count(), 20_001);
    assert!(
        out(&output)
            .starts_with("name,pesel,reserved,reserved_at,withdrawn_at,verification_id,index,error\n")
    );
    let summary: serde_json::Value = serde_json::from_str(&err(&output)).expect("a summary as JSON");
    assert_eq!((&summary["rows"], &summary["wrong"]), (&20_000.into(), &0.into()));
    let output = fed(&mut shell.ask(&["bulk", "-"]), "pesel\nx\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).starts_with("1 rows: 0 reserved, 0 not reserved, 1 wrong"));
    shell.ask(&["bulk", "nothing.csv"]).assert().code(2);
    shell.ask(&["bulk", "."]).assert().code(2);
    assert_eq!(
        fed(&mut shell.ask(&["bulk", "-", "--output", "piped.csv"]), "pesel\n1\n").status.code(),
        Some(1)
    );
    assert!(shell.path("piped.csv").exists() && !shell.path("piped.csv.part").exists());
}

/// Ctrl-C or a sudden end in the middle, then the same command: the file is as
/// if nothing had been.
#[test]
fn bulk_goes_on_after_a_signal() {
    use rustix::process::{Pid, Signal, kill_process};
    let shell = Shell::new();
    std::fs::write(shell.path("in.csv"), sample(30_000)).expect("written");
    for (signal, status) in [(Signal::INT, Some(2)), (Signal::TERM, Some(2)), (Signal::KILL, None)] {
        let bulk = || shell.ask(&["bulk", "in.csv", "--output", "out.csv"]);
        shell.gateway.misbehave([Fault::Stall(10_000)]);
        let before = shell.gateway.seen.lines.load(Ordering::SeqCst);
        let mut child = bulk().stderr(Stdio::null()).spawn().expect("a process");
        let is_begun = || shell.gateway.seen.lines.load(Ordering::SeqCst) - before >= 10_000;
        while !is_begun() || !shell.path("out.csv.resume").exists() {
            std::thread::yield_now();
        }
        kill_process(Pid::from_child(&child), signal).expect("a signal");
        assert_eq!(child.wait().expect("an end").code(), status);
        assert!(shell.path("out.csv.part").exists() && !shell.path("out.csv").exists());
        bulk().assert().code(0);
        let output = std::fs::read_to_string(shell.path("out.csv")).expect("the result");
        assert_eq!(output.lines().count(), 30_001);
        let names = output.lines().skip(1).map(|line| line.split(',').next().expect("a name").to_owned());
        assert!(names.eq((0..30_000).map(|row| format!("Osoba {row}"))), "after {signal:?}");
        assert!(!shell.path("out.csv.resume").exists());
        std::fs::remove_file(shell.path("out.csv")).expect("removed");
    }
}

#[test]
fn import_reports_what_was_refused() {
    let shell = Shell::new();
    shell.gateway.reply(
        200,
        "{\"chunk\":0,\"lines\":2,\"accepted\":1,\"already_there\":1,\"sequence\":7}\n\
         {\"chunk\":1,\"lines\":1,\"accepted\":0,\"errors\":[{\"line\":3,\"error\":\"not-reserved\"}]}\n",
    );
    let lines = format!("{{\"pesel\":\"{NUMBER}\"}}\n").repeat(3);
    let output = fed(&mut shell.administer(&["import", "-", "--json"]), &lines);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(err(&output), "chunk 1 refused, 1 lines\nline 3: not-reserved\n");
    let summary: serde_json::Value = serde_json::from_str(&out(&output)).expect("a summary");
    assert_eq!((&summary["accepted"], &summary["chunks_refused"]), (&1.into(), &1.into()));
    let (_, path, _, body) = shell.gateway.request(0);
    assert_eq!((path.as_str(), body), ("/admin/v1/import", lines.clone()));

    shell.gateway.reply(
        200,
        "{\"chunk\":0,\"lines\":1,\"accepted\":1}\n\
         {\"chunk\":1,\"lines\":2,\"accepted\":0,\"errors\":[{\"line\":2,\"error\":\"not-reserved\"}]}\n",
    );
    let options = ["import", "-", "--allow-mass-change", "--rejected", "rejected.csv"];
    let output = fed(&mut shell.administer(&options), &format!("\n{lines}"));
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    let rejected = std::fs::read_to_string(shell.path("rejected.csv")).expect("written");
    assert_eq!(rejected, "line,code\n3,chunk-refused\n4,not-reserved\n");
    let (_, path, _, _) = shell.gateway.request(1);
    assert_eq!(path, "/admin/v1/import?allow_mass_change=true");

    shell.gateway.reply(200, "{\"chunk\":0,\"lines\":3,\"accepted\":3}\n");
    assert_eq!(fed(&mut shell.administer(&["import", "-"]), &lines).status.code(), Some(0));
    for (status, reply) in [
        (200, "{\"chunk\":0,\"lines\":2,\"accepted\":2}\n"),
        (200, "{\"error\":\"register-unavailable\",\"detail\":\"later\"}\n"),
        (403, "{\"code\":\"forbidden\",\"detail\":\"another role\"}"),
    ] {
        shell.gateway.reply(status, reply);
        let output = fed(&mut shell.administer(&["import", "-"]), &lines);
        assert_eq!(output.status.code(), Some(2));
        assert!(!err(&output).contains(NUMBER));
    }
}

const EVENT: &str = r#"{"event_id":"01936f5e-7c1a-8e6b-8f00-0123456789ab","sequence":12,"pesel":"44051401359","kind":"withdrawal","moment":"2026-11-21T21:51:42Z","channel":"e-service","registrant":"mObywatel","reserve_again_at":"2026-11-21T23:00:00Z"}"#;

#[test]
fn a_withdrawal_for_a_time_says_when_it_ends() {
    let shell = Shell::new();
    let withdraw = |more: &[&str]| {
        let fixed = ["withdraw", "-", "--channel", "e-service", "--registrant", "mObywatel"];
        let until = ["--until", "2026-11-22T00:00:00+01:00"];
        fed(&mut shell.administer(&[&fixed[..], &until[..], more].concat()), NUMBER)
    };
    shell.gateway.reply(201, EVENT);
    let output = withdraw(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(
        out(&output),
        "Cofnięto zastrzeżenie numeru PESEL: 2026-11-21 22:51:42 (+01:00). Ponowne zastrzeżenie nastąpi samo: \
         2026-11-22 00:00:00 (+01:00). Zdarzenie 12 (01936f5e-7c1a-8e6b-8f00-0123456789ab).\n"
    );
    let (method, path, _, body) = shell.gateway.request(0);
    assert_eq!((method.as_str(), path.as_str()), ("POST", "/admin/v1/withdrawals"));
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let expected = serde_json::json!({
        "pesel": NUMBER, "channel": "e-service", "registrant": "mObywatel", "reserve_again_at": "2026-11-21T23:00:00Z",
    });
    assert_eq!(body, expected);
    shell.gateway.reply(201, EVENT);
    let output = withdraw(&["--json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&out(&output)).expect("JSON")["sequence"], 12);
}

#[test]
fn a_refusal_is_polish_for_people_and_a_code_for_programs() {
    let shell = Shell::new();
    let problem = r#"{"code":"filing-too-soon","detail":"wait","allowed_from":"2026-07-01T10:00:00Z"}"#;
    let reserve = |more: &[&str]| {
        let fixed = ["reserve", NUMBER, "--registrant", "Gmina Wąchock"];
        shell.gateway.reply(409, problem);
        shell.administer(&[&fixed[..], more].concat()).output().expect("an end")
    };
    let output = reserve(&[]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(1), ""));
    assert_eq!(
        err(&output),
        "Od cofnięcia zastrzeżenia nie minęło jeszcze 30 minut. Numer PESEL można zastrzec od \
         2026-07-01 12:00:00 (+02:00).\n"
    );
    assert_eq!(
        err(&reserve(&["--lang", "en"])),
        "filing-too-soon: wait; allowed from 2026-07-01T10:00:00Z\n"
    );
    let told: serde_json::Value = serde_json::from_str(&out(&reserve(&["--json"]))).expect("JSON");
    assert_eq!(
        (&told["error"], &told["allowed_from"]),
        (&"filing-too-soon".into(), &"2026-07-01T10:00:00Z".into())
    );
    let output = shell.administer(&["reserve", "44051401358", "--registrant", "x"]).output().expect("an end");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        err(&output),
        "peselgate: To nie jest prawidłowy numer PESEL: nie zgadza się cyfra kontrolna.\n"
    );
    shell.gateway.reply(503, r#"{"code":"register-unavailable","detail":"disk"}"#);
    let output = fed(&mut shell.administer(&["reserve", "-", "--registrant", "x"]), NUMBER);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn an_entry_is_shown_with_its_history() {
    let shell = Shell::new();
    let entry = format!(
        r#"{{"pesel":"{NUMBER}","reserved":true,"reserved_at":"2026-11-21T23:00:00Z","withdrawn_at":null,"reserve_again_at":null,"events":[{EVENT},{{"event_id":"x","sequence":13,"pesel":"{NUMBER}","kind":"reservation","moment":"2026-11-21T23:00:00Z","channel":"e-service","registrant":"mObywatel","scheduled":true,"withdrawal_sequence":12}}]}}"#
    );
    shell.gateway.reply(200, &entry);
    let output = fed(&mut shell.administer(&["entry", "-"]), NUMBER);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(
        out(&output),
        "Numer PESEL jest zastrzeżony od 2026-11-22 00:00:00 (+01:00)\n\
         2026-11-21 22:51:42 (+01:00)  cofnięcie zastrzeżenia  usługa elektroniczna, mObywatel \
         [czasowo, do 2026-11-22 00:00:00 (+01:00)]\n\
         2026-11-22 00:00:00 (+01:00)  zastrzeżenie  usługa elektroniczna, mObywatel \
         [samo, po czasowym cofnięciu]\n"
    );
}

const RECORD: &str = r#"{"id":"abcdefghij","environment":"test","institution":{"name":"Bank Żółty"},"system":"loans","addresses":["192.0.2.7/32"],"limits":{"per_second":1,"burst":2,"per_day":3},"created_at":"2026-11-21T21:51:42Z"}"#;

fn issued() -> String {
    RECORD.replace(r#""id""#, r#""key":"pg_test_the_key","id""#)
}

#[test]
fn an_issued_key_goes_to_a_file_of_its_own() {
    let shell = Shell::new();
    let issue = |more: &[&str]| {
        let fixed =
            ["key", "issue", "--institution", "Bank Żółty", "--system", "loans", "--address", "192.0.2.7"];
        shell.administer(&[&fixed[..], more].concat()).output().expect("an end")
    };
    shell.gateway.reply(201, &issued());
    let output = issue(&["--output", "new-key", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(!out(&output).contains("the_key") && out(&output).contains("abcdefghij"));
    assert_eq!(std::fs::read_to_string(shell.path("new-key")).expect("a key"), "pg_test_the_key\n");
    let mode = std::fs::metadata(shell.path("new-key")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (_, path, _, body) = shell.gateway.request(0);
    assert_eq!(path, "/admin/v1/keys");
    assert_eq!(
        body,
        r#"{"addresses":["192.0.2.7/32"],"institution":{"name":"Bank Żółty"},"system":"loans"}"#
    );

    // A file that is there is kept, and no key is issued that nobody could keep.
    assert_eq!(issue(&["--output", "new-key"]).status.code(), Some(2));
    assert_eq!(shell.gateway.seen.requests.lock().expect("requests").len(), 1);
    shell.gateway.reply(409, r#"{"code":"conflict","detail":"no"}"#);
    assert_eq!(issue(&["--output", "other-key"]).status.code(), Some(2));
    assert!(!shell.path("other-key").exists());

    shell.gateway.reply(201, &issued());
    let output = issue(&["--regon", "123456785", "--per-second", "1", "--burst", "2", "--per-day", "3"]);
    assert_eq!(out(&output), "pg_test_the_key\n");
    assert!(!err(&output).contains("the_key"));
    let (.., body) = shell.gateway.request(2);
    assert!(
        body.contains(r#""limits":{"burst":2,"per_day":3,"per_second":1}"#) && body.contains("123456785"),
        "{body}"
    );
}

#[test]
fn keys_are_listed_deactivated_and_moved() {
    let shell = Shell::new();
    shell.gateway.reply(200, &format!("[{RECORD}]"));
    let output = shell.administer(&["key", "list"]).output().expect("an end");
    let table = out(&output);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("ID          STATE   ENVIRONMENT"), "{table}");
    assert!(lines[1].contains("abcdefghij  active") && lines[1].contains("1/s 2 3/day"), "{table}");
    shell.gateway.reply(200, &format!(r#"{{"keys":[{RECORD}]}}"#));
    let output = shell.administer(&["key", "list", "--json"]).output().expect("an end");
    assert!(serde_json::from_str::<serde_json::Value>(&out(&output)).expect("JSON")["keys"].is_array());

    shell.gateway.reply(200, RECORD);
    shell.administer(&["key", "deactivate", "abcdefghij"]).assert().code(0);
    shell.gateway.reply(200, RECORD);
    shell.administer(&["key", "addresses", "abcdefghij", "192.0.2.0/24", "198.51.100.1"]).assert().code(0);
    let (method, path, _, body) = shell.gateway.request(3);
    assert_eq!((method.as_str(), path.as_str()), ("PUT", "/admin/v1/keys/abcdefghij/addresses"));
    assert_eq!(body, r#"{"addresses":["192.0.2.0/24","198.51.100.1/32"]}"#);
    assert_eq!(shell.gateway.request(2).1, "/admin/v1/keys/abcdefghij/deactivate");
    for id in ["../tokens", "ABCDEFGHIJ", "abc"] {
        shell.administer(&["key", "deactivate", id]).assert().code(2);
    }
}

/// Rows a second of `bulk`, end to end against a gateway that does next to
/// nothing.
#[test]
#[expect(clippy::print_stdout, reason = "a measurement is there to be read")]
#[ignore = "a measurement: cargo test --release --test cli -- --ignored --nocapture bulk_speed"]
fn bulk_speed() {
    let shell = Shell::new();
    let rows = 5_000_000;
    let mut plain = String::from("pesel\n");
    for row in 0..rows {
        writeln!(plain, "{}", 10_000_000_000_u64 + row * 3).expect("a string");
    }
    for (name, text) in [("one column", plain), ("with names", sample(rows))] {
        std::fs::write(shell.path("in.csv"), text).expect("written");
        for _ in 0..3 {
            let started = Instant::now();
            // The shell's `time` tells the processor's seconds of the client alone.
            let bulk = shell.ask(&["bulk", "in.csv", "--output", "out.csv"]);
            let mut timed = Command::new("bash");
            timed.current_dir(shell.dir.path()).args(["-c", "TIMEFORMAT='%U %S'; time \"$@\"", "-"]);
            let output = timed.arg(bulk.get_program()).args(bulk.get_args()).output().expect("an end");
            let wall = started.elapsed().as_secs_f64();
            assert_eq!(output.status.code(), Some(0), "{}", err(&output));
            let times = err(&output);
            println!(
                "{name}: {:.2} M rows a second; processor seconds of the client, user and system: {}",
                rows as f64 / wall / 1e6,
                times.lines().last().unwrap_or_default()
            );
        }
    }
}
