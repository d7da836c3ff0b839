//! TLS on the verification plane: both protocols by ALPN, version 1.3 alone, and
//! another certificate without a connection lost.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use peselgate::limits::TURNS_AT_ONCE;
use rustix::process::Signal;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;

use crate::certificates::write_certificate_of;
use crate::client::{Caller, Connection};
use crate::harness::{Home, err, fictional, out, program, wait_for};
use crate::http2::{Http2, assert_served_in_turns, block_on};
use crate::serve::{Served, init};

pub(crate) fn config(authority: &Path, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).expect("a certificate")).expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.expect("versions").with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").expect("a name")
}

/// A handshake of its own; the certificate that was shown.
pub(crate) fn open(address: SocketAddr, config: &Arc<ClientConfig>) -> (Connection, Vec<u8>) {
    over(TcpStream::connect(address).expect("a connection"), config)
}

pub(crate) fn over(mut stream: TcpStream, config: &Arc<ClientConfig>) -> (Connection, Vec<u8>) {
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
    let mut tls = ClientConnection::new(Arc::clone(config), name()).expect("a client");
    while tls.is_handshaking() {
        tls.complete_io(&mut stream).expect("a handshake");
    }
    assert_eq!(tls.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let shown = tls.peer_certificates().expect("a certificate")[0].to_vec();
    (Connection::over(StreamOwned::new(tls, stream)), shown)
}

#[test]
fn both_protocols_by_alpn_with_the_demos_authority() {
    let demo = Home::new().start(&["--reserved", "1000", "--tls"]);
    let (address, key) = (demo.instance.verification, demo.key());
    let authority = demo.file("demo-ca.pem");
    let pesel = &demo.numbers("reserved.csv")[0];
    for alpn in [&[][..], &[&b"http/1.1"[..]]] {
        let (connection, _) = open(address, &config(&authority, alpn));
        let mut caller = Caller::with(connection, &key);
        let reply = caller.verify(pesel);
        assert_eq!(reply.good()["reserved"], true);
        assert!(reply.header("strict-transport-security").is_some());
        caller.get("/v1/none").code();
    }
    block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let connector = tokio_rustls::TlsConnector::from(config(&authority, &[b"h2", b"http/1.1"]));
        let stream = connector.connect(name(), stream).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut http2 = Http2::over(stream).await;
        let bearer = format!("Bearer {key}");
        let body = json!({ "pesel": pesel }).to_string();
        let headers = [("authorization", bearer.as_str())];
        let reply = http2.ask(Method::POST, "/v1/verify", &headers, &body).await.expect("an answer");
        assert_eq!(reply.good()["reserved"], true);
    });
    // The client command, with the authority and without.
    let verify = |more: &[&str]| {
        let mut command = program();
        command.args(["verify", pesel, "--url", &format!("https://{address}"), "--key-file"]);
        command.arg(demo.file("demo-key")).args(more).stdin(Stdio::null()).output().expect("an end")
    };
    let output = verify(&["--ca-file", &authority.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    assert!(out(&output).starts_with("reserved since"));
    assert_eq!(verify(&[]).status.code(), Some(2));
    // Whoever speaks in the clear gets no answer.
    let mut plain = Connection::open(address).expect("a connection");
    plain.write(b"GET /v1/status HTTP/1.1\r\nhost: g\r\n\r\n").expect("written");
    assert!(plain.read(false).is_err());
    // A second start keeps the authority.
    let before = fs::read(&authority).expect("a certificate");
    let demo = demo.stop().start(&["--tls"]);
    assert_eq!(fs::read(demo.file("demo-ca.pem")).expect("a certificate"), before);
    open(demo.instance.verification, &config(&authority, &[]));
}

/// A hello of TLS 1.2, as old clients send it: refused with an alert.
#[test]
fn tls_1_2_is_refused() {
    let demo = Home::new().start(&["--reserved", "1000", "--tls"]);
    let mut hello = vec![3, 3];
    hello.extend_from_slice(&[7; 32]);
    hello.push(0);
    // ECDHE with AES-GCM and with ChaCha20, then no compression.
    hello.extend_from_slice(&[0, 6, 0xC0, 0x2B, 0xC0, 0x2F, 0xCC, 0xA9, 1, 0]);
    let mut extensions = vec![0, 10, 0, 4, 0, 2, 0, 23];
    extensions.extend_from_slice(&[0, 13, 0, 6, 0, 4, 4, 3, 8, 4]);
    hello.extend_from_slice(&(extensions.len() as u16).to_be_bytes());
    hello.extend_from_slice(&extensions);
    let mut message = vec![1, 0];
    message.extend_from_slice(&(hello.len() as u16).to_be_bytes());
    message.extend_from_slice(&hello);
    let mut record = vec![22, 3, 1];
    record.extend_from_slice(&(message.len() as u16).to_be_bytes());
    record.extend_from_slice(&message);

    let mut stream = TcpStream::connect(demo.instance.verification).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
    stream.write_all(&record).expect("written");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an end");
    assert_eq!(answer.first(), Some(&21), "an alert: {answer:?}");
    assert_eq!(answer.get(5..7), Some(&[2, 70][..]), "fatal, protocol_version: {answer:?}");
}

/// An address may shake hands many times at once; beyond that it is served in turns.
/// Who says nothing takes none.
#[test]
fn many_handshakes_of_one_address_are_served_in_turns() {
    let demo = Home::new().start(&["--reserved", "1000", "--tls"]);
    let (silent, at_once, waiting) = (150, TURNS_AT_ONCE.get(), 100);
    let config = config(&demo.file("demo-ca.pem"), &[]);
    let connect = || {
        let stream = TcpStream::connect(demo.instance.verification).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
        stream
    };
    let _silent: Vec<_> = (0..silent).map(|_| connect()).collect();
    let mut all: Vec<_> = (0..at_once + waiting).map(|_| connect()).collect();
    let began = Instant::now();
    for stream in &mut all {
        let mut tls = ClientConnection::new(Arc::clone(&config), name()).expect("a client");
        tls.write_tls(stream).expect("a hello");
    }
    for stream in &mut all {
        let mut record = [0; 1];
        stream.read_exact(&mut record).expect("an answer");
        assert_eq!(record, [22], "a handshake's");
    }
    assert_served_in_turns(&demo.instance, began, waiting);
}

/// A certificate of its own authority, written where the configuration says.
pub(crate) fn write_certificate(dir: &Path) -> Vec<u8> {
    write_certificate_of(dir, [1975, 4096])
}

#[test]
fn a_reload_shows_the_new_certificate_and_drops_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    init(&dir.path().join("data"), "test");
    let first = write_certificate(dir.path());
    let file = dir.path().join("tls.pem");
    let tables = format!(
        "[verification.tls]\ncertificate_file = {file:?}\nkey_file = {:?}",
        dir.path().join("tls.key")
    );
    let served = Served::start_in(dir, "test", "", &tables);
    let key = served.key();
    let (connection, shown) = open(served.instance.verification, &config(&file, &[]));
    assert_eq!(shown, first);
    let mut standing = Caller::with(connection, &key);
    standing.verify(&fictional(1)).good();

    let second = write_certificate(served.dir.path());
    reload(&served, "done");
    standing.verify(&fictional(2)).good();
    let (connection, shown) = open(served.instance.verification, &config(&file, &[]));
    assert_eq!(shown, second);
    Caller::with(connection, &key).verify(&fictional(3)).good();

    // What cannot be read, and a key that is another certificate's, change nothing.
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    for key_file in ["no key".to_owned(), other.signing_key.serialize_pem()] {
        fs::write(served.dir.path().join("tls.key"), key_file).expect("written");
        reload(&served, "failed");
        let (connection, shown) = open(served.instance.verification, &config(&file, &[]));
        assert_eq!(shown, second);
        Caller::with(connection, &key).verify(&fictional(4)).good();
        standing.verify(&fictional(5)).good();
    }
    served.instance.stop();
}

/// SIGHUP, and what it comes to: the metrics and the log say the same.
pub(crate) fn reload(served: &Served, outcome: &str) {
    let sample = |outcome: &str| format!("peselgate_reloads_total{{outcome=\"{outcome}\"}}");
    let told = |says: &str| served.instance.stderr().matches(says).count();
    let counts = || ["done", "failed"].map(|outcome| served.instance.count(&sample(outcome)));
    let log = || [told("configuration and certificates reloaded"), told("nothing is reloaded")];
    let (before, log_before) = (counts(), log());
    served.instance.signal(Signal::HUP);
    let expected = if outcome == "done" { [1, 0] } else { [0, 1] };
    wait_for("a reload", || (counts() != before).then_some(()));
    let [done, failed] = counts();
    assert_eq!([done - before[0], failed - before[1]], expected, "{}", served.instance.stderr());
    let successful = u64::from(outcome == "done");
    assert_eq!(served.instance.count("peselgate_last_reload_successful"), successful);
    let [done, failed] = log();
    assert_eq!([done - log_before[0], failed - log_before[1]], expected.map(|count| count as usize));
}

/// The certificates are where the configuration says by now, on both planes that have
/// one; a configuration that leads nowhere leaves everything as it was.
#[test]
fn a_reload_takes_the_certificates_from_where_the_configuration_says_now() {
    let dir = tempfile::tempdir().expect("a directory");
    init(&dir.path().join("data"), "test");
    let [first_dir, second_dir] = ["first", "second"].map(|name| dir.path().join(name));
    fs::create_dir(&first_dir).expect("made");
    fs::create_dir(&second_dir).expect("made");
    let (first, second) = (write_certificate(&first_dir), write_certificate(&second_dir));
    let configure = |home: &Path, certificates: &Path, more: &str| {
        let (certificate, key) = (certificates.join("tls.pem"), certificates.join("tls.key"));
        let table =
            |plane: &str| format!("[{plane}.tls]\ncertificate_file = {certificate:?}\nkey_file = {key:?}\n");
        let tables = format!("{}{}{more}", table("verification"), table("admin"));
        crate::serve::write_config(home, "test", "", &tables);
        tables
    };
    let tables = configure(dir.path(), &first_dir, "");
    let served = Served::start_in(dir, "test", "", &tables);
    let (home, instance) = (served.dir.path(), &served.instance);
    let shown = |authority: &Path| {
        let trusted = config(&authority.join("tls.pem"), &[]);
        [instance.verification, instance.admin].map(|address| open(address, &trusted).1)
    };
    assert_eq!(shown(&first_dir), [first.clone(), first.clone()]);

    configure(home, &home.join("nowhere"), "");
    reload(&served, "failed");
    assert_eq!(shown(&first_dir), [first.clone(), first.clone()]);
    // Good certificates beside a wrong value are not taken alone.
    configure(home, &second_dir, "[limits]\nper_second = 0\n");
    reload(&served, "failed");
    assert_eq!(shown(&first_dir), [first.clone(), first]);
    // TLS that comes or goes would be half a plane's.
    crate::serve::write_config(home, "test", "", "");
    reload(&served, "failed");

    configure(home, &second_dir, "");
    reload(&served, "done");
    assert_eq!(shown(&second_dir), [second.clone(), second]);
    served.instance.stop();
}

/// Who says nothing before, amid or after a handshake keeps nobody else waiting
/// and is not waited for.
#[test]
fn a_silent_client_keeps_nobody_out() {
    let dir = tempfile::tempdir().expect("a directory");
    init(&dir.path().join("data"), "test");
    write_certificate(dir.path());
    let file = dir.path().join("tls.pem");
    let tables = format!(
        "[verification.tls]\ncertificate_file = {file:?}\nkey_file = {:?}",
        dir.path().join("tls.key")
    );
    // One turn in all, and more patience with the silent than the newcomer has.
    let verification =
        "tls_handshakes_max = 1\ntls_handshake_timeout_ms = 60000\nheader_read_timeout_ms = 300";
    let served = Served::start_in(dir, "test", verification, &tables);
    let address = served.instance.verification;
    let (plain, h2) = (config(&file, &[]), config(&file, &[b"h2"]));
    let silent: Vec<_> = (0..3).map(|_| TcpStream::connect(address).expect("a connection")).collect();
    let half: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = TcpStream::connect(address).expect("a connection");
            let mut tls = ClientConnection::new(Arc::clone(&plain), name()).expect("a client");
            tls.write_tls(&mut stream).expect("a hello");
            // Its answer is there, and stays without one.
            assert_eq!(stream.peek(&mut [0]).expect("an answer"), 1);
            stream
        })
        .collect();
    let (connection, _) = open(address, &plain);
    Caller::with(connection, &served.key()).verify(&fictional(1)).good();
    // After the handshake the head's time-out counts, over HTTP/2 as well.
    for config in [&plain, &h2] {
        let (mut connection, _) = open(address, config);
        let began = Instant::now();
        assert!(connection.is_closed());
        assert!(began.elapsed() < Duration::from_secs(15), "it was our own patience that ended");
    }
    drop((silent, half));
    served.instance.stop();
}

#[test]
fn the_admin_plane_over_tls_says_to_stay_there() {
    let dir = tempfile::tempdir().expect("a directory");
    init(&dir.path().join("data"), "test");
    write_certificate(dir.path());
    let file = dir.path().join("tls.pem");
    let key_file = dir.path().join("tls.key");
    let tables = format!("[admin.tls]\ncertificate_file = {file:?}\nkey_file = {key_file:?}");
    let served = Served::start_in(dir, "test", "", &tables);
    let (mut connection, _) = open(served.instance.admin, &config(&file, &[]));
    let says = |reply: &crate::client::Reply| reply.header("strict-transport-security").is_some();
    for path in ["/admin/v1/keys", "/none"] {
        assert!(says(&connection.request("GET", path, &[], None).expect("an answer")), "{path}");
    }
    assert!(!says(&served.instance.ask_ops("/livez")), "in the clear it would be believed by nobody");
    served.instance.stop();
}
