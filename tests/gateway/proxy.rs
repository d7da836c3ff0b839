//! The PROXY protocol: required from listed networks, no header from anywhere
//! else, and never a reason to believe anybody else's word about an address.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Caller, Connection, connect_from};
use crate::harness::{Instance, dump, fictional, issue, skipped, wait_for};
use crate::serve::{Served, init};
use crate::tls;

/// The balancer's address; the tests' other connections come from 127.0.0.1.
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const TRUST: &str = "proxy_protocol_from = [\"127.0.0.9\", \"192.0.2.0/24\"]";

fn v1(address: &str) -> Vec<u8> {
    format!("PROXY TCP4 {address} 192.0.2.1 56324 443\r\n").into_bytes()
}

/// Command and family, then the body with its length before it.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(body.len()).expect("short").to_be_bytes());
    header.extend(body);
    header
}

fn v2_of(address: &str) -> Vec<u8> {
    let address: Ipv4Addr = address.parse().expect("an address");
    let ends = [&address.octets()[..], &[192, 0, 2, 1, 0xDC, 4, 1, 187]].concat();
    v2(0x21, 0x11, &ends)
}

/// A connection from the balancer that begins with these bytes.
fn through(instance: &Instance, header: &[u8]) -> Connection {
    let mut connection = Connection::open_from(PROXY, instance.verification).expect("a connection");
    connection.write(header).expect("written");
    connection
}

/// A key that is good from this address alone.
fn key_for(served: &Served, address: &str) -> String {
    issue(&mut served.admin(), "Bank", &[address], Some([1_000, 1_000, 1_000_000])).1
}

/// The address in the header is the peer: for allow-lists, in the 403, on the
/// trail; each connection has its own.
#[test]
fn the_named_address_is_the_peer() {
    let served = Served::start("test", TRUST, "");
    let key = key_for(&served, "203.0.113.7");
    let ask = |header: &[u8]| Caller::with(through(&served.instance, header), &key).verify(&fictional(61));
    for header in [v1("203.0.113.7"), v2_of("203.0.113.7")] {
        ask(&header).good();
    }
    let mapped = b"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 443\r\n";
    ask(mapped).good();
    for (header, seen) in [
        (v1("203.0.113.8"), "203.0.113.8"),
        (v2_of("203.0.113.8"), "203.0.113.8"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 1 443\r\n".to_vec(), "2001:db8::7"),
        // Who speaks for itself is who the socket says.
        (b"PROXY UNKNOWN 203.0.113.7 192.0.2.1 1 443\r\n".to_vec(), "127.0.0.9"),
        (v2(0x20, 0x00, &[]), "127.0.0.9"),
        (v2(0x20, 0x11, &[203, 0, 113, 7, 192, 0, 2, 1, 0, 1, 0, 1]), "127.0.0.9"),
        (v2(0x21, 0x00, &[]), "127.0.0.9"),
    ] {
        let reply = ask(&header);
        assert_eq!(reply.problem(), (403, "address-not-allowed".to_owned()), "{seen}");
        assert_eq!(reply.json()["address"], seen);
    }
    let data = served.data();
    served.instance.stop();
    let trail = dump(&data);
    assert_eq!(trail.len(), 3);
    for line in trail {
        assert_eq!(line["address"], "203.0.113.7");
    }
}

/// Not one byte is answered to a trusted network without a header.
#[test]
fn without_a_good_header_a_proxy_gets_nothing() {
    let served = Served::start("test", TRUST, "");
    let request = b"GET /v1/status HTTP/1.1\r\nhost: g\r\n\r\n";
    let mut wrong_checksum = v2_of("203.0.113.7");
    wrong_checksum[15] += 7;
    wrong_checksum.extend([3, 0, 4, 1, 2, 3, 4]);
    let cases: [(&str, Vec<u8>); 9] = [
        ("proxy-missing", Vec::new()),
        ("proxy-missing", b"\x16\x03\x01\x02\x00".to_vec()),
        ("proxy-missing", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("proxy-malformed", b"PROXY TCP4 203.0.113.07 192.0.2.1 1 2\r\n".to_vec()),
        ("proxy-malformed", b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\n".to_vec()),
        ("proxy-malformed", v2(0x21, 0x11, &[1; 11])),
        ("proxy-malformed", v2(0x21, 0x11, &[1; 600])),
        ("proxy-malformed", wrong_checksum),
        ("proxy-unsupported", v2(0x21, 0x31, &[1; 216])),
    ];
    for (turn, (reason, mut bytes)) in cases.into_iter().enumerate() {
        let before = served.instance.refused(reason);
        bytes.extend(request);
        let mut connection = through(&served.instance, &bytes);
        assert!(connection.read(false).is_err(), "case {turn} was answered");
        assert!(connection.is_closed());
        assert_eq!(served.instance.refused(reason), before + 1, "case {turn}");
    }
    // Whoever leaves without a word was refused nothing; a second header is no
    // header.
    let sum = || {
        let reasons = ["missing", "malformed", "unsupported", "late"];
        reasons.map(|reason| served.instance.refused(&format!("proxy-{reason}"))).iter().sum::<u64>()
    };
    let before = sum();
    drop(through(&served.instance, b""));
    let mut twice = through(&served.instance, &[v1("203.0.113.7"), v1("203.0.113.8")].concat());
    assert_eq!(twice.read(false).expect("an answer").problem(), (400, "malformed-request".to_owned()));
    assert_eq!(sum(), before);
    served.instance.stop();
}

/// From anywhere else a header is a malformed request, whatever it says; and no
/// header of a request says who asks.
#[test]
fn from_anybody_else_it_has_no_effect() {
    let served = Served::start("test", TRUST, "");
    let open = || Connection::open(served.instance.verification).expect("a connection");
    let key = key_for(&served, "203.0.113.7");
    for header in [v1("203.0.113.7"), v2_of("203.0.113.7"), v2(0x20, 0, &[])] {
        let mut connection = open();
        let mut bytes = header;
        bytes.extend(b"GET /v1/status HTTP/1.1\r\nhost: g\r\n\r\n");
        connection.write(&bytes).expect("written");
        let reply = connection.read(false).expect("an answer");
        reply.check_promises();
        assert_eq!(reply.problem(), (400, "malformed-request".to_owned()));
        assert!(connection.is_closed(), "one answer to bytes that two could read");
    }
    let spoofs = [
        ("x-forwarded-for", "203.0.113.7"),
        ("forwarded", "for=203.0.113.7"),
        ("x-real-ip", "203.0.113.7"),
        ("true-client-ip", "203.0.113.7"),
        ("cf-connecting-ip", "203.0.113.7"),
        ("via", "1.1 203.0.113.7"),
    ];
    let body = json!({ "pesel": fictional(62) });
    let named = || through(&served.instance, &v1("203.0.113.8"));
    for (mut caller, seen) in
        [(Caller::with(open(), &key), "127.0.0.1"), (Caller::with(named(), &key), "203.0.113.8")]
    {
        for spoof in spoofs {
            let reply = caller.try_call("POST", "/v1/verify", &[spoof], Some(&body)).expect("an answer");
            assert_eq!(reply.problem(), (403, "address-not-allowed".to_owned()), "{spoof:?}");
            assert_eq!(reply.json()["address"], seen);
        }
    }
    served.instance.stop();
}

/// Bytes that trickle are put together; what comes in one piece with the header
/// is the client's; and who does not finish is cut.
#[test]
fn the_header_has_a_clock_of_its_own() {
    let served = Served::start("test", &format!("{TRUST}\nproxy_header_timeout_ms = 400"), "");
    let key = key_for(&served, "203.0.113.7");
    for header in [v1("203.0.113.7"), v2_of("203.0.113.7")] {
        // Byte by byte; each write is a segment of its own or joins the next.
        let mut connection = through(&served.instance, b"");
        for byte in header {
            connection.write(&[byte]).expect("written");
        }
        Caller::with(connection, &key).verify(&fictional(63)).good();
    }
    let mut glued = v2_of("203.0.113.7");
    glued.extend(b"GET /v1/status HTTP/1.1\r\nhost: g\r\n\r\n");
    through(&served.instance, &glued).read(false).expect("an answer").good();
    let mut idle = Caller::with(through(&served.instance, &v1("203.0.113.7")), &key);
    idle.verify(&fictional(63)).good();
    for beginning in [&b""[..], b"PROXY TCP4 203.0.113.7 ", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C"] {
        let before = served.instance.refused("proxy-late");
        let start = Instant::now();
        let mut connection = through(&served.instance, beginning);
        assert!(connection.is_closed());
        let took = start.elapsed();
        assert!((Duration::from_millis(390)..Duration::from_secs(5)).contains(&took), "{took:?}");
        wait_for("the count", || (served.instance.refused("proxy-late") == before + 1).then_some(()));
    }
    // It ended with the header: a connection older than those that were cut lives on.
    idle.verify(&fictional(63)).good();
    served.instance.stop();
}

/// The header comes before TLS, and says who the caller within is.
#[test]
fn tls_begins_behind_the_header() {
    let dir = tempfile::tempdir().expect("a directory");
    init(&dir.path().join("data"), "test");
    tls::write_certificate(dir.path());
    let (certificate, key_file) = (dir.path().join("tls.pem"), dir.path().join("tls.key"));
    let tables = format!("[verification.tls]\ncertificate_file = {certificate:?}\nkey_file = {key_file:?}");
    let served = Served::start_in(dir, "test", TRUST, &tables);
    let key = key_for(&served, "203.0.113.7");
    let config = tls::config(&certificate, &[]);
    for header in [v1("203.0.113.7"), v2_of("203.0.113.7")] {
        let mut stream = connect_from(PROXY, served.instance.verification).expect("a connection");
        stream.write_all(&header).expect("written");
        Caller::with(tls::over(stream, &config).0, &key).verify(&fictional(65)).good();
    }
    let direct = tls::open(served.instance.verification, &config).0;
    let reply = Caller::with(direct, &key).verify(&fictional(65));
    assert_eq!(reply.json()["address"], "127.0.0.1");
    // A hello without a header, and a header without the right to send one.
    let mut connection = through(&served.instance, b"\x16\x03\x01\x00\x05hello");
    assert!(connection.is_closed());
    assert_eq!(served.instance.refused("proxy-missing"), 1);
    let mut connection = Connection::open(served.instance.verification).expect("a connection");
    connection.write(&v1("203.0.113.7")).expect("written");
    assert!(connection.read(false).is_err());
    served.instance.stop();
}

/// Connections and failures are counted for the address that is named, never for
/// the proxy's.
#[test]
fn limits_are_those_of_the_named_address() {
    let limits = "[limits]\nauth_failures_burst = 5\nauth_failures_per_second = 1";
    let served = Served::start("test", &format!("{TRUST}\nconnections_per_address_max = 2"), limits);
    let ask = |connection: &mut Connection| connection.request("GET", "/v1/status", &[], None);
    let open_with = |header: &[u8]| {
        let mut connection = through(&served.instance, header);
        ask(&mut connection).ok().map(|_| connection)
    };
    let open = |address: &str| open_with(&v1(address));
    let mut kept: Vec<Connection> = Vec::new();
    for address in ["203.0.113.1", "203.0.113.2", "203.0.113.3"] {
        for _ in 0..2 {
            kept.push(open(address).expect("within the bound"));
        }
        assert!(open(address).is_none(), "a third one of {address}");
    }
    assert_eq!(served.instance.refused("per-address"), 3);
    // Of IPv6 a /64 is one address: one host may own it whole.
    let open_v6 = |address: &str| open_with(format!("PROXY TCP6 {address} ::1 1 443\r\n").as_bytes());
    kept.push(open_v6("2001:db8:0:1::1").expect("within the bound"));
    kept.push(open_v6("2001:db8:0:1:ffff::2").expect("within the bound"));
    assert!(open_v6("2001:db8:0:1::3").is_none(), "a third one of a /64");
    kept.push(open_v6("2001:db8:0:2::1").expect("another /64"));
    assert_eq!(served.instance.refused("per-address"), 4);
    // Health checks are the proxy's own, and without a bound.
    for _ in 0..4 {
        let mut check = through(&served.instance, &v2(0x20, 0, &[]));
        ask(&mut check).expect("an answer").good();
        kept.push(check);
    }
    // A place is given back; a direct caller has the same bound.
    drop(kept.remove(0));
    wait_for("a place", || open("203.0.113.1"));
    let direct = || Connection::open(served.instance.verification).expect("a connection");
    let (mut one, mut two) = (direct(), direct());
    ask(&mut one).expect("an answer");
    ask(&mut two).expect("an answer");
    assert!(ask(&mut direct()).is_err());
    drop((kept, one, two));

    let guess = |address: &str| {
        let unknown = peselgate::secret::PlainCredential::generate(
            peselgate::secret::Plane::Verification,
            peselgate::environment::Environment::Test,
        );
        let guessed = unknown.expect("randomness").reveal().to_owned();
        let connection = through(&served.instance, &v2_of(address));
        Caller::with(connection, &guessed).get("/v1/limits").status
    };
    wait_for("a refusal unheard", || (guess("203.0.113.66") == 429).then_some(()));
    assert_eq!(guess("203.0.113.67"), 401, "another address pays for it");
    served.instance.stop();
}

struct Haproxy {
    process: Child,
    stats: std::path::PathBuf,
}

impl Haproxy {
    /// In front of the gateway, from [`PROXY`], listening on a socket of ours.
    fn start(dir: &Path, front: TcpListener, gateway: &Instance, options: &str) -> Self {
        let (file, stats) = (dir.join("haproxy.cfg"), dir.join("stats"));
        // Earlier one of the same directory.
        fs::remove_file(&stats).ok();
        let text = format!(
            "global\n  stats socket {}\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  \
             timeout server 60s\nlisten gateway\n  bind fd@0\n  option httpchk GET /v1/status\n  server g {} \
             source {PROXY} {options} check inter 100ms\n",
            stats.display(),
            gateway.verification,
        );
        fs::write(&file, text).expect("written");
        let log = fs::File::create(dir.join("haproxy.log")).expect("a file");
        let process = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(&file)
            .stdin(Stdio::from(OwnedFd::from(front)))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("haproxy");
        Self { process, stats }
    }

    /// What its health check says last.
    fn check(&self) -> Option<String> {
        let mut socket = UnixStream::connect(&self.stats).ok()?;
        socket.write_all(b"show stat\n").ok()?;
        let mut table = String::new();
        socket.read_to_string(&mut table).ok()?;
        let column = table.lines().next()?.split(',').position(|name| name == "check_status")?;
        let server = table.lines().find(|line| line.starts_with("gateway,g,"))?;
        Some(server.split(',').nth(column)?.to_owned())
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// What a real balancer sends: both versions, a checksum, its health checks.
#[test]
fn haproxy_is_understood() {
    if Command::new("haproxy").arg("-v").stdout(Stdio::null()).status().is_err() {
        return skipped("no haproxy");
    }
    let served = Served::start("test", TRUST, "");
    let key = key_for(&served, "127.0.0.77");
    for options in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"] {
        let front = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = front.local_addr().expect("an address");
        let haproxy = Haproxy::start(served.dir.path(), front, &served.instance, options);
        let log = || fs::read_to_string(served.dir.path().join("haproxy.log")).unwrap_or_default();
        wait_for(&format!("a good check with {options}: {}", log()), || {
            (haproxy.check()? == "L7OK").then_some(())
        });
        let from = |local: u8| {
            let connection = Connection::open_from(Ipv4Addr::new(127, 0, 0, local), address);
            Caller::with(connection.expect("a connection"), &key).verify(&fictional(64))
        };
        from(77).good();
        let other = from(78);
        assert_eq!(other.problem(), (403, "address-not-allowed".to_owned()));
        assert_eq!(other.json()["address"], "127.0.0.78");
    }
    for reason in ["proxy-missing", "proxy-malformed", "proxy-unsupported"] {
        assert_eq!(served.instance.refused(reason), 0, "{reason}");
    }
    let data = served.data();
    served.instance.stop();
    let addresses: Vec<_> = dump(&data).into_iter().map(|line| line["address"].clone()).collect();
    assert_eq!(addresses, ["127.0.0.77"; 3]);
}
