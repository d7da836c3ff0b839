//! Sockets that a service manager passes: taken by name, checked, and served like
//! those that the program binds itself.

use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::client::Caller;
use crate::harness::{Instance, clean, fictional, issue, skipped};
use crate::serve::init;

/// A configuration whose verification and admin planes wait for systemd.
fn configured(dir: &Path, verification: &str, admin: &str) -> PathBuf {
    let file = dir.join("peselgate.toml");
    let text = format!(
        "environment = \"test\"\n[data]\ndirectory = {:?}\n[verification]\nlisten = {verification}\nthreads = 1\n\
         [admin]\nlisten = {admin}\nallow_plain_remote = true\n[ops]\nlisten = \"127.0.0.1:0\"\n",
        dir.join("data"),
    );
    fs::write(&file, text).expect("written");
    file
}

/// `serve` with standard input and output passed as descriptors 3 and 4.
fn serve(file: &Path, environment: &str, stdin: Stdio, stdout: Stdio) -> Command {
    let mut command = clean(Command::new("sh"));
    let script = format!(
        "{environment} exec {} serve --config {} 3<&0 4<&1 </dev/null >/dev/null",
        env!("CARGO_BIN_EXE_peselgate"),
        file.display(),
    );
    command.arg("-c").arg(script).stdin(stdin).stdout(stdout);
    command
}

const BOTH: &str = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=verification:admin";

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

fn stdio(socket: impl Into<OwnedFd>) -> Stdio {
    Stdio::from(socket.into())
}

/// The planes answer on what was passed; between two processes the kernel holds
/// the callers, none is turned away.
#[test]
fn passed_sockets_are_served_across_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    init(&dir.path().join("data"), "test");
    let token = fs::read_to_string(dir.path().join("data/operator-token")).expect("a token");
    let file = configured(dir.path(), "[\"127.0.0.1:0\", \"systemd:verification\"]", "\"systemd:admin\"");
    let (verification, verification_address) = listener();
    let (admin, admin_address) = listener();
    let start = || {
        let again = |listener: &TcpListener| stdio(listener.try_clone().expect("a descriptor"));
        let command = serve(&file, BOTH, again(&verification), again(&admin));
        let mut instance = Instance::spawn_with_its_own(command, dir.path());
        instance.wait_until_ready();
        instance
    };
    let instance = start();
    assert_eq!(instance.admin, admin_address);
    let (_, key) = issue(&mut Caller::new(admin_address, token.trim()), "Bank", &["127.0.0.1"], None);
    Caller::new(verification_address, &key).verify(&fictional(71)).good();
    // The address beside it is bound by the program itself.
    Caller::new(instance.verification, &key).verify(&fictional(71)).good();
    instance.stop();

    // Nobody is there; the connection stands nevertheless.
    let mut waiting = Caller::new(verification_address, &key);
    let asked = json!({ "pesel": fictional(72) }).to_string();
    let headers = [("authorization", waiting.bearer.as_str()), ("content-type", "application/json")];
    waiting.connection.send("POST", "/v1/verify", &headers, Some(asked.as_bytes())).expect("sent");
    let instance = start();
    assert_eq!(waiting.connection.read(false).expect("an answer").good()["reserved"], false);
    instance.stop();
}

/// What is not passed, not wanted or no listening TCP socket ends the start with
/// a word about it.
#[test]
fn sockets_that_do_not_fit_are_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    init(&dir.path().join("data"), "test");
    let systemd = configured(dir.path(), "\"systemd:verification\"", "\"127.0.0.1:0\"");
    let refused = |command: Command, says: &str| {
        let shown = format!("{command:?}");
        let mut instance = Instance::spawn_with_its_own(command, dir.path());
        assert_eq!(instance.ended().code(), Some(2), "{shown}");
        assert!(instance.stderr().contains(says), "{shown}: {}", instance.stderr());
    };
    let one = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=verification";
    let tcp = || stdio(listener().0);
    let udp = stdio(UdpSocket::bind("127.0.0.1:0").expect("a socket"));
    let (server, address) = listener();
    let connected = std::net::TcpStream::connect(address).expect("a connection");
    let unix = std::os::unix::net::UnixListener::bind(dir.path().join("unix")).expect("a socket");
    let no_fd = fs::File::open(&systemd).expect("a file");
    let cases = [
        ("", tcp(), "systemd passed no socket of this name"),
        // Meant for another process.
        ("LISTEN_PID=1 LISTEN_FDS=1 LISTEN_FDNAMES=verification", tcp(), "systemd passed no socket"),
        ("LISTEN_FDS=1 LISTEN_FDNAMES=verification", tcp(), "systemd passed no socket"),
        ("LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=admin", tcp(), "systemd passed no socket"),
        ("LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=peselgate.socket", tcp(), "passed no socket"),
        (BOTH, tcp(), "`admin`"),
        ("LISTEN_PID=$$ LISTEN_FDS=1", tcp(), "LISTEN_FDNAMES"),
        ("LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=verification", tcp(), "LISTEN_FDNAMES"),
        ("LISTEN_PID=$$ LISTEN_FDS=x LISTEN_FDNAMES=verification", tcp(), "LISTEN_FDS is no number"),
        ("LISTEN_PID=$$ LISTEN_FDS=4000000000 LISTEN_FDNAMES=verification", tcp(), "too many"),
        (&format!("{one} LISTEN_FDS_FIRST_FD=0"), tcp(), "LISTEN_FDS_FIRST_FD"),
        (one, udp, "`verification`"),
        (one, stdio(connected), "does not listen"),
        (one, stdio(unix), "`verification`"),
        (one, stdio(no_fd), "not a socket"),
    ];
    for (environment, stdin, says) in cases {
        refused(serve(&systemd, environment, stdin, tcp()), says);
    }
    drop(server);
    // Wanted by nobody: whoever called it would wait for ever.
    let plain = configured(dir.path(), "\"127.0.0.1:0\"", "\"127.0.0.1:0\"");
    refused(serve(&plain, one, tcp(), tcp()), "no `listen` of the configuration takes");
    // A check asks for no sockets.
    let check = Command::new(env!("CARGO_BIN_EXE_peselgate"))
        .args(["serve", "--check-config", "--config"])
        .arg(&systemd)
        .output();
    assert!(check.expect("an end").status.success());
}

/// systemd's own tool speaks the protocol as the manager does.
#[test]
fn systemds_own_activation_is_understood() {
    if Command::new("systemd-socket-activate").arg("--version").stdout(Stdio::null()).status().is_err() {
        return skipped("no systemd-socket-activate");
    }
    let dir = tempfile::tempdir().expect("a directory");
    init(&dir.path().join("data"), "test");
    let token = fs::read_to_string(dir.path().join("data/operator-token")).expect("a token");
    let file = configured(dir.path(), "\"systemd:verification\"", "\"127.0.0.1:0\"");
    // It takes no port 0: one that was free a moment ago.
    let address = listener().1;
    let mut command = clean(Command::new("systemd-socket-activate"));
    command.args(["--fdname=verification", "-l", &address.to_string(), env!("CARGO_BIN_EXE_peselgate")]);
    command.args(["serve", "--config"]).arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
    let mut instance = Instance::spawn_with_its_own(command, dir.path());
    // The first caller starts it, and is answered.
    let mut first = crate::harness::wait_for("the socket", || crate::client::Connection::open(address).ok());
    instance.wait_until_ready();
    assert_eq!(instance.verification, address);
    let status = first.request("GET", "/v1/status", &[], None).expect("an answer");
    assert_eq!(status.good()["environment"], "test");
    let (_, key) = issue(&mut Caller::new(instance.admin, token.trim()), "Bank", &["127.0.0.1"], None);
    Caller::with(first, &key).verify(&fictional(73)).good();
    instance.stop();
}
