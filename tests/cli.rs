//! The client commands as a shell sees them: exit statuses, standard output,
//! standard error, files. The gateway is the one of the library's own tests.

#[path = "cli/admin.rs"]
mod admin;
#[path = "cli/bulk.rs"]
mod bulk;
#[path = "../src/cli/testing.rs"]
mod testing;
#[path = "cli/tokens.rs"]
mod tokens;

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

const NUMBER: &str = "44851401353";
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
    let at = "(at 2026-11-21 22:51:42 (+01:00), verification 01936f5e-";
    assert!(out(&output).starts_with(&format!("not reserved {at}")), "{}", out(&output));
    let (method, path, agent, body) = shell.gateway.request(0);
    assert_eq!((method.as_str(), path.as_str()), ("POST", "/v1/verify"));
    assert_eq!(agent, concat!("peselgate/", env!("CARGO_PKG_VERSION")));
    assert_eq!(body, format!(r#"{{"pesel":"{NUMBER}"}}"#));

    let reserved = VERDICT.replace("false", r#"true,"reserved_at":"2026-10-02T08:15:30Z""#);
    let withdrawn = reserved.replace("true", r#"false,"withdrawn_at":"2026-11-02T08:15:30Z""#);
    for (verdict, says) in [
        (&reserved, "reserved since 2026-10-02 10:15:30 (+02:00)"),
        (&withdrawn, "not reserved, withdrawn 2026-11-02 09:15:30 (+01:00)"),
    ] {
        shell.gateway.reply(200, verdict);
        let output = shell.ask(&["verify", NUMBER]).output().expect("an end");
        assert!(out(&output).starts_with(&format!("{says} {at}")), "{}", out(&output));
    }

    shell.gateway.reply(200, &reserved);
    let mut reserved =
        shell.ask(&["verify", NUMBER, "--json", "--at", "2026-11-01T12:00:00+01:00", "--reference", "r"]);
    let output = reserved.output().expect("an end");
    assert_eq!(output.status.code(), Some(1));
    assert!(out(&output).contains(r#""reserved_at":"2026-10-02T08:15:30Z""#));
    let (.., body) = shell.gateway.request(3);
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
        &["verify", "44851401358"][..],
        &["verify", NUMBER, "--at", "yesterday"],
        &["verify", NUMBER, "44851401358"],
        &["verify", NUMBER, "--key", "pg_test_x"],
        &["verify", NUMBER, "--url", "http://127.0.0.1:1"],
    ] {
        let output = shell.ask(arguments).output().expect("an end");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            !err(&output).contains("4485140135") && !err(&output).contains("pg_test_"),
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
        "feeds",
        "key issue",
        "key list",
        "key deactivate",
        "key addresses",
        "key limits",
        "token issue",
        "token list",
        "token deactivate",
        "token recover",
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
    std::fs::write(shell.path("in.csv"), bulk::sample(10_000)).expect("written");
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
