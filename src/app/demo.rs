//! `peselgate demo`: the test environment in one go.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::blueprint::{Blueprint, TlsFiles};
use super::demo_data::MadeRegister;
pub use super::demo_data::RESERVED_MAX;
use super::instance::{InstanceError, Surroundings, run};
use super::process;
use super::serve::control_runtime;
use super::shell;
use super::sockets::{Addresses, Passed};
use crate::access::{AllowList, Institution, KeyLimits, Name, NewKey, NewToken};
use crate::audit::Durability;
use crate::clock::{Clock, Moment};
use crate::config::Place;
use crate::datadir::{self, DataDir, DemoFacts};
use crate::environment::Environment;
use crate::gate::FailureLimits;
use crate::http::plane::{PlaneSettings, Proxies};
use crate::limits::CLOCK_BEHIND_SECONDS_MAX;
use crate::register::{Channel, Registrant};
use crate::secret_file::SecretFile;
use crate::telemetry::{self, LogFormat};

/// What the command line says.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// Where all state lies; kept when it is there.
    pub data_directory: PathBuf,
    /// How many numbers are reserved; `None`: as the directory has it, or a million.
    pub reserved: Option<u32>,
    /// Seed of the made data; `None`: as the directory has it, or 1.
    pub seed: Option<u64>,
    /// Where the verification plane listens.
    pub listen: SocketAddr,
    /// Where the admin plane listens.
    pub admin_listen: SocketAddr,
    /// Where the operations plane listens.
    pub ops_listen: SocketAddr,
    /// Verification workers; `None`: one a core.
    pub threads: Option<NonZeroUsize>,
    /// Verification over TLS 1.3 with a certificate of the demo's own making.
    pub tls: bool,
}

const RESERVED_DEFAULT: u64 = 1_000_000;
const SEED_DEFAULT: u64 = 1;
/// Memory for the making of the register; given back before it is opened.
const LOAD_CACHE_BYTES: usize = 512 * 1024 * 1024;

/// Marks a directory whose making was begun by the demo, so that it may be begun again.
const MAKING_FILE: &str = "demo.making";

/// Runs the demo until it is asked to end.
///
/// # Errors
/// When the directory was made with another `--reserved` or `--seed`, holds
/// something else, or the instance cannot start.
pub fn demo(options: &DemoOptions) -> Result<(), InstanceError> {
    let _level =
        telemetry::install_logs("info", LogFormat::Text).map_err(|error| InstanceError::new("log", error))?;
    process::settle();
    let metrics = telemetry::install_metrics().map_err(|error| InstanceError::new("metrics", error))?;
    let data = DataDir::lock(&options.data_directory).map_err(|error| InstanceError::new("demo", error))?;
    let made = make_or_keep(&data, options)?;
    let blueprint = blueprint(&data, options)?;
    let announcement = Announcement::new(&data, options, made)?;
    let surroundings = Surroundings {
        passed: Passed::none(),
        metrics,
        clock: Clock::system(),
        listening: Box::new(move |addresses, _| {
            let text = announcement.text(addresses);
            // A closed standard output does not end the demo.
            drop(io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()));
        }),
        reload: None,
    };
    control_runtime()?.block_on(run(blueprint, data, surroundings))
}

fn make_or_keep(data: &DataDir, options: &DemoOptions) -> Result<DemoFacts, InstanceError> {
    let io = |error: io::Error| InstanceError::new(&data.path().display().to_string(), error);
    if let Some(made) = DemoFacts::read(&data.demo()).map_err(io)? {
        let differs = options.reserved.is_some_and(|reserved| u64::from(reserved) != made.reserved)
            || options.seed.is_some_and(|seed| seed != made.seed);
        if differs {
            return Err(InstanceError::new(
                "demo",
                format!(
                    "{} was made with --reserved {} --seed {}; take another --data-dir for other data",
                    data.path().display(),
                    made.reserved,
                    made.seed
                ),
            ));
        }
        data.has_stores().map_err(|error| InstanceError::new("demo", error))?;
        if !data.path().join("free.csv").exists() {
            // Restored from a backup, which holds no samples.
            MadeRegister { reserved: made.reserved, seed: made.seed }
                .write_samples(data.path())
                .map_err(io)?;
        }
        return Ok(made);
    }
    let making = data.path().join(MAKING_FILE);
    if making.exists() {
        // An earlier making was cut short: all of it is the demo's own, made again.
        begin_again(data).map_err(io)?;
    } else if data.any_store().is_some() {
        return Err(InstanceError::new("demo", format!("{} is no demo directory", data.path().display())));
    }
    fs::write(&making, b"").map_err(io)?;
    let made = DemoFacts {
        reserved: options.reserved.map_or(RESERVED_DEFAULT, u64::from),
        seed: options.seed.unwrap_or(SEED_DEFAULT),
    };
    make(data, made)?;
    made.write(&data.demo()).map_err(io)?;
    fs::remove_file(&making).map_err(io)?;
    Ok(made)
}

fn begin_again(data: &DataDir) -> io::Result<()> {
    for name in ["demo-key", "demo-admin-token", "reserved.csv", "free.csv", "sample.csv"] {
        datadir::remove_file(&data.path().join(name))?;
    }
    data.remove_stores()
}

fn make(data: &DataDir, made: DemoFacts) -> Result<(), InstanceError> {
    if made.reserved > RESERVED_MAX {
        return Err(InstanceError::new("demo", format!("--reserved goes up to {RESERVED_MAX}")));
    }
    tracing::info!(reserved = made.reserved, seed = made.seed, "making fictional data, born 1800-1899");
    let register = MadeRegister { reserved: made.reserved, seed: made.seed };
    let registrant = Registrant::new("demo").map_err(|error| InstanceError::new("demo", error))?;
    crate::register::bulk_load(
        &data.register(),
        LOAD_CACHE_BYTES,
        Clock::system().now(),
        register.reservations(),
        Channel::EService,
        &registrant,
    )
    .map_err(|error| InstanceError::new("register", error))?;
    register
        .write_samples(data.path())
        .map_err(|error| InstanceError::new(&data.path().display().to_string(), error))?;
    let version = env!("CARGO_PKG_VERSION");
    crate::audit::create(data.trail(), Clock::system(), version, Environment::Test)
        .map_err(|error| InstanceError::new("audit trail", error))?;
    make_credentials(data)
}

/// The demo's key never meets a limit on one machine; its token has every role.
fn make_credentials(data: &DataDir) -> Result<(), InstanceError> {
    let word = |error: &dyn std::fmt::Display| InstanceError::new("demo", error);
    let limits = demo_limits()?;
    crate::access::create(&data.access(), Environment::Test)
        .map_err(|error| InstanceError::new("access store", error))?;
    let (reader, access, thread) =
        crate::access::open(&data.access(), Environment::Test, Clock::system(), limits)
            .map_err(|error| InstanceError::new("access store", error))?;
    let key = NewKey {
        institution: Institution {
            name: Name::parse("Bank Przykładowy SA").map_err(|error| word(&error))?,
            regon: None,
            krs: None,
        },
        system: Name::parse("demo").map_err(|error| word(&error))?,
        addresses: AllowList::parse(["127.0.0.0/8"], Environment::Test).map_err(|error| word(&error))?,
        limits: Some(limits),
    };
    let token = NewToken::every_role(Name::parse("demo").map_err(|error| word(&error))?);
    let issued = control_runtime()?.block_on(async {
        let key = access.issue_key(key, None).await?;
        let token = access.issue_token(token, None).await?;
        Ok::<_, crate::access::AccessError>((key.plain, token.plain))
    });
    drop((reader, access));
    thread.close();
    let (key, token) = issued.map_err(|error| InstanceError::new("access store", error))?;
    for (name, plain) in [("demo-key", key), ("demo-admin-token", token)] {
        let plain = plain.ok_or_else(|| InstanceError::new(name, "was not issued"))?;
        SecretFile::write(&data.path().join(name), &plain)
            .map_err(|error| InstanceError::new(name, error))?;
    }
    Ok(())
}

fn demo_limits() -> Result<KeyLimits, InstanceError> {
    KeyLimits::new(100_000_000, 100_000_000, 1_000_000_000_000)
        .map_err(|error| InstanceError::new("demo", error))
}

fn blueprint(data: &DataDir, options: &DemoOptions) -> Result<Blueprint, InstanceError> {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let nonzero = |n: u32| std::num::NonZeroU32::new(n).unwrap_or(std::num::NonZeroU32::MIN);
    Ok(Blueprint {
        environment: Environment::Test,
        data_directory: data.path().to_owned(),
        clock_behind_max: Duration::from_secs(CLOCK_BEHIND_SECONDS_MAX),
        verification_listen: vec![Place::Address(options.listen)],
        plane: PlaneSettings {
            threads: options.threads.unwrap_or(cores),
            connections_max: process::connections_max(10_000),
            connections_per_address_max: 10_000,
            header_read_timeout: Duration::from_secs(10),
            body_read_timeout: Duration::from_secs(2),
            stream_idle_timeout: Duration::from_secs(10),
            write_stall_timeout: Duration::from_secs(10),
            connection_age: Duration::from_secs(600),
            tls_handshake_timeout: Duration::from_secs(5),
            tls_handshakes_max: 4,
            proxies: Proxies::default(),
            proxy_header_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(10),
        },
        verification_tls: options.tls.then(|| make_certificate(data.path())).transpose()?,
        admin_listen: vec![Place::Address(options.admin_listen)],
        admin_tls: None,
        import_idle_timeout: Duration::from_secs(30),
        ops_listen: vec![Place::Address(options.ops_listen)],
        durability: Durability::Flush,
        segment_bytes: 16 * 1024 * 1024,
        start_check_bytes: 256 * 1024 * 1024,
        register_cache_bytes: 32 * 1024 * 1024,
        default_limits: KeyLimits::new(200, 1_000, 1_000_000)
            .map_err(|error| InstanceError::new("demo", error))?,
        auth_failures: FailureLimits { burst: nonzero(200), per_second: nonzero(20) },
    })
}

/// Makes an authority and a server certificate for this machine's loopback,
/// unless an earlier start did; the authority's certificate is `demo-ca.pem`.
fn make_certificate(dir: &Path) -> Result<TlsFiles, InstanceError> {
    let files =
        TlsFiles { certificate: dir.join("demo-tls-certificate.pem"), key: dir.join("demo-tls-key.pem") };
    if files.key.exists() && is_fresh(&files.certificate) {
        return Ok(files);
    }
    let failed = |error: &dyn std::fmt::Display| InstanceError::new("demo certificate", error);
    let authority_key = rcgen::KeyPair::generate().map_err(|error| failed(&error))?;
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    set_validity(&mut authority, Clock::system().now());
    authority.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    authority.distinguished_name.push(rcgen::DnType::CommonName, "peselgate demo authority");
    let authority_certificate = authority.self_signed(&authority_key).map_err(|error| failed(&error))?;
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().map_err(|error| failed(&error))?;
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let mut server = rcgen::CertificateParams::new(names).map_err(|error| failed(&error))?;
    server.distinguished_name.push(rcgen::DnType::CommonName, "peselgate demo");
    set_validity(&mut server, Clock::system().now());
    server.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = server.signed_by(&key, &issuer).map_err(|error| failed(&error))?;
    let write = |path: &Path, text: &str, mode| {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write(&dir.join("demo-ca.pem"), &authority_certificate.pem(), 0o644)
        .and_then(|()| write(&files.key, &key.serialize_pem(), 0o600))
        .and_then(|()| write(&files.certificate, &certificate.pem(), 0o644))
        .map_err(|error| failed(&error))?;
    Ok(files)
}

/// Good from yesterday, for clients whose clock is behind, for a year and a month.
fn set_validity(certificate: &mut rcgen::CertificateParams, now: Moment) {
    let date = |days: i64| {
        let day = Moment::from_unix_seconds(now.unix_seconds() + days * 86_400).rfc3339();
        let number = |digits: &[u8]| digits.iter().fold(0u16, |n, digit| n * 10 + u16::from(digit - b'0'));
        rcgen::date_time_ymd(
            i32::from(number(&day[..4])),
            number(&day[5..7]) as u8,
            number(&day[8..10]) as u8,
        )
    };
    (certificate.not_before, certificate.not_after) = (date(-1), date(396));
}

/// Made less than ten months ago: the certificate is good for a year.
fn is_fresh(certificate: &Path) -> bool {
    let made = fs::metadata(certificate).and_then(|file| file.modified()).ok();
    made.and_then(|made| made.elapsed().ok()).is_some_and(|age| age < Duration::from_secs(300 * 86_400))
}

/// What is printed once all planes answer.
struct Announcement {
    dir: PathBuf,
    tls: bool,
    reserved: u64,
    /// A number that is reserved (or free, in an empty register), and one that is not.
    example: String,
    free: String,
}

impl Announcement {
    fn new(data: &DataDir, options: &DemoOptions, made: DemoFacts) -> Result<Self, InstanceError> {
        let first = |name: &str| {
            let text = fs::read_to_string(data.path().join(name));
            let text = text.map_err(|error| InstanceError::new(name, error))?;
            Ok(text.lines().nth(1).map(str::to_owned))
        };
        let free = first("free.csv")?.unwrap_or_default();
        let example = first("reserved.csv")?.unwrap_or_else(|| free.clone());
        Ok(Self { dir: data.path().to_owned(), tls: options.tls, reserved: made.reserved, example, free })
    }

    /// The text; its last line begins with `ready`.
    fn text(&self, addresses: &Addresses) -> String {
        let Self { example, free, reserved, .. } = self;
        let file = |name: &str| shell::word(&self.dir.join(name).display().to_string()).into_owned();
        let [key, token, sample, checked, authority] =
            ["demo-key", "demo-admin-token", "sample.csv", "sample-checked.csv", "demo-ca.pem"].map(file);
        let (scheme, trust, ca) = if self.tls {
            ("https", format!(" --cacert {authority}"), format!(" --ca-file {authority}"))
        } else {
            ("http", String::new(), String::new())
        };
        let shown =
            |addresses: &[SocketAddr]| addresses.first().map(SocketAddr::to_string).unwrap_or_default();
        let (url, admin, ops) =
            (shown(&addresses.verification), shown(&addresses.admin), shown(&addresses.ops));
        let program = std::env::args().next().unwrap_or_else(|| "peselgate".to_owned());
        let program = shell::word(&program);
        format!(
            r#"peselgate {version}, test environment: {reserved} fictional numbers are reserved (nobody alive: born 1800-1899)

Try it from a second terminal, in this directory:

  one number
    curl -s{trust} {scheme}://{url}/v1/verify -H "authorization: Bearer $(cat {key})" -H 'content-type: application/json' -d '{{"pesel":"{example}"}}'

  a batch
    curl -s{trust} {scheme}://{url}/v1/verify/batch -H "authorization: Bearer $(cat {key})" -H 'content-type: application/json' -d '{{"pesels":["{example}","{free}"]}}'

  a whole file of people
    {program} bulk {sample} --url {scheme}://{url}{ca} --key-file {key} --output {checked}

  reserve a number, and see it reserved at once
    curl -s http://{admin}/admin/v1/reservations -H "authorization: Bearer $(cat {token})" -H 'content-type: application/json' -d '{{"pesel":"{free}","channel":"gmina","registrant":"Urząd Gminy Przykładów"}}'
    echo {free} | {program} verify - --url {scheme}://{url}{ca} --key-file {key}

  health and metrics
    curl -s http://{ops}/readyz
    curl -s http://{ops}/metrics

ready: verification {scheme}://{url}, admin http://{admin}, operations http://{ops}
"#,
            version = env!("CARGO_PKG_VERSION"),
        )
    }
}
