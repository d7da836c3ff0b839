//! Certificates that are not valid, or fit no key: what a check of the configuration, a
//! start and a reload make of them.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

use crate::client::Caller;
use crate::harness::{err, fictional, out, run};
use crate::serve::{Served, init};
use crate::tls::{config, open, reload, write_certificate};

/// A certificate of its own authority, valid from the first day of one year to that of another.
pub(crate) fn write_certificate_of(dir: &Path, [from, to]: [i32; 2]) -> Vec<u8> {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut made = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    made.not_before = rcgen::date_time_ymd(from, 1, 1);
    made.not_after = rcgen::date_time_ymd(to, 1, 1);
    let made = made.self_signed(&key).expect("a certificate");
    fs::write(dir.join("tls.key"), key.serialize_pem()).expect("written");
    fs::write(dir.join("tls.pem"), made.pem()).expect("written");
    made.der().to_vec()
}

/// Not valid by any clock of ours, and what is said of it.
const OUT_OF_TIME: [([i32; 2], &str); 2] = [
    ([2020, 2021], "tls.pem: expired at 2021-01-01T00:00:00Z, it is 2"),
    ([3000, 3001], "tls.pem: not valid before 3000-01-01T00:00:00Z, it is 2"),
];

/// The seconds of the first days of these years.
const IN_2021: &str = "1609459200";
const IN_2040: &str = "2208988800";
const IN_4096: &str = "67090118400";

/// What the metrics say about the end of a plane's certificate.
fn expiry(served: &Served, plane: &str) -> String {
    let sample = format!("peselgate_certificate_expiry_timestamp_seconds{{plane=\"{plane}\"}} ");
    let metrics = served.instance.metrics();
    metrics.lines().find_map(|line| line.strip_prefix(&sample)).unwrap_or("none").to_owned()
}

/// What a reload would refuse, and a start warn of, is not called good.
#[test]
fn a_check_of_the_configuration_reads_certificates_as_a_reload_does() {
    let dir = tempfile::tempdir().expect("a directory");
    write_certificate(dir.path());
    let at = |name: &str| dir.path().join(name);
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    fs::write(at("other.key"), other.signing_key.serialize_pem()).expect("written");
    fs::write(at("no.key"), "pg_test_").expect("written");
    for plane in ["verification", "admin"] {
        let check = |certificate: &str, key: &str| {
            let (certificate, key) = (at(certificate), at(key));
            let table = format!("[{plane}.tls]\ncertificate_file = {certificate:?}\nkey_file = {key:?}\n");
            let file = crate::serve::write_config(dir.path(), "test", "", &table);
            run(&["serve", "--check-config", "--config", &file.to_string_lossy()])
        };
        let good = check("tls.pem", "tls.key");
        assert!(good.status.success(), "{}", err(&good));
        // Which of two good files is the wrong one nobody knows: both are named.
        let pair =
            format!("{} and {} are not of one pair", at("tls.pem").display(), at("other.key").display());
        for (certificate, key, says) in [
            ("tls.pem", "other.key", pair.as_str()),
            ("tls.pem", "no.key", "no.key: no private key"),
            ("tls.pem", "none", "none: no private key"),
            ("tls.key", "tls.key", "tls.key: holds no certificate"),
            (".", "tls.key", ""),
        ] {
            let refused = check(certificate, key);
            assert_eq!(refused.status.code(), Some(2), "{plane}: {certificate} {key}: {}", out(&refused));
            assert!(err(&refused).contains(&format!("{plane}.tls: ")), "{}", err(&refused));
            assert!(err(&refused).contains(says), "{}", err(&refused));
        }
        for (years, says) in OUT_OF_TIME {
            write_certificate_of(dir.path(), years);
            let refused = check("tls.pem", "tls.key");
            assert_eq!(refused.status.code(), Some(2), "{plane}: {}", out(&refused));
            let says = format!("{plane}.tls: {}/{says}", dir.path().display());
            assert!(err(&refused).contains(&says), "{}", err(&refused));
        }
        write_certificate(dir.path());
    }
    assert!(!at("data").exists(), "a check makes nothing");
}

/// A certificate that is not valid takes the place of none, on either plane; the metrics
/// tell the end of the one in force.
#[test]
fn a_reload_takes_no_certificate_that_is_not_valid() {
    let dir = tempfile::tempdir().expect("a directory");
    init(&dir.path().join("data"), "test");
    let [public, office] = ["public", "office"].map(|name| dir.path().join(name));
    fs::create_dir(&public).expect("made");
    fs::create_dir(&office).expect("made");
    let table = |plane: &str, home: &Path| {
        let (certificate, key) = (home.join("tls.pem"), home.join("tls.key"));
        format!("[{plane}.tls]\ncertificate_file = {certificate:?}\nkey_file = {key:?}\n")
    };
    let tables = table("verification", &public) + &table("admin", &office);
    let first = write_certificate_of(&public, [2020, 4096]);
    write_certificate_of(&office, [2020, 2040]);
    fs::copy(public.join("tls.pem"), dir.path().join("first.pem")).expect("copied");
    let authority = config(&dir.path().join("first.pem"), &[]);
    let served = Served::start_in(dir, "test", "", &tables);
    assert_eq!([expiry(&served, "verification"), expiry(&served, "admin")], [IN_4096, IN_2040]);
    assert!(!served.instance.stderr().contains("callers will not trust"), "{}", served.instance.stderr());

    for (years, says) in OUT_OF_TIME {
        write_certificate_of(&public, years);
        // A good one beside it is not taken alone.
        write_certificate_of(&office, [2020, 4096]);
        reload(&served, "failed");
        let log = served.instance.stderr();
        let says = format!("verification.tls: {}/{says}", public.display());
        assert!(
            log.lines().any(|line| line.contains("nothing is reloaded") && line.contains(&says)),
            "{log}"
        );
        assert_eq!(open(served.instance.verification, &authority).1, first);
        assert_eq!([expiry(&served, "verification"), expiry(&served, "admin")], [IN_4096, IN_2040]);
    }
    write_certificate_of(&public, [2020, 2040]);
    reload(&served, "done");
    assert_eq!([expiry(&served, "verification"), expiry(&served, "admin")], [IN_2040, IN_4096]);
    served.instance.stop();
}

/// A caller whose clock stands in the first of these years.
fn believing(authority: &Path, [from, _]: [i32; 2]) -> Arc<ClientConfig> {
    let midsummer = peselgate::clock::Moment::parse(&format!("{from}-07-01T00:00:00Z")).expect("a moment");
    let seconds = midsummer.unix_seconds().try_into().expect("after 1970");
    let mut config = ClientConfig::clone(&config(authority, &[]));
    config.time_provider = Arc::new(StandingClock(seconds));
    Arc::new(config)
}

#[derive(Debug)]
struct StandingClock(u64);

impl TimeProvider for StandingClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}

/// The clock may be wrong, and whoever trusts the certificate all the same is answered.
#[test]
fn a_start_warns_of_a_certificate_that_is_not_valid_and_serves() {
    for (years, says) in OUT_OF_TIME {
        let dir = tempfile::tempdir().expect("a directory");
        init(&dir.path().join("data"), "test");
        let shown = write_certificate_of(dir.path(), years);
        let (file, key_file) = (dir.path().join("tls.pem"), dir.path().join("tls.key"));
        let tables = format!("[verification.tls]\ncertificate_file = {file:?}\nkey_file = {key_file:?}");
        let served = Served::start_in(dir, "test", "", &tables);
        let log = served.instance.stderr();
        let warned = |line: &str| line.contains("callers will not trust") && line.contains(says);
        assert!(log.lines().any(warned), "{log}");
        if years == [2020, 2021] {
            assert_eq!(expiry(&served, "verification"), IN_2021);
        }
        assert_eq!(expiry(&served, "admin"), "none", "it has no TLS");
        let (connection, certificate) = open(served.instance.verification, &believing(&file, years));
        assert_eq!(certificate, shown);
        Caller::with(connection, &served.key()).verify(&fictional(1)).good();
        // It is in force already, and keeps nothing else from being reloaded.
        reload(&served, "done");
        served.instance.stop();
    }
}
