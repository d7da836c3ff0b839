//! TLS 1.3 for a listener: the certificate can be exchanged while connections
//! stay, and handshakes have a time-out and a limit of their own.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::server::{Acceptor, ParsedCertificate};
use rustls::{CertificateError, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use super::PlaneSettings;
use crate::clock::Moment;

/// Where a plane's handshakes find the certificate of the moment.
#[derive(Clone)]
pub struct TlsSource(Arc<ArcSwap<InForce>>);

struct InForce {
    config: Arc<ServerConfig>,
    leaf: CertificateDer<'static>,
}

/// A certificate with its key, read and found to fit: the two are swapped as one.
pub struct Certificate {
    config: ServerConfig,
    /// The chain's first one.
    leaf: CertificateDer<'static>,
    file: PathBuf,
    /// `None` where it cannot be read.
    validity: Option<Validity>,
}

/// The first and the last second of a certificate, of the chain's first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Validity {
    not_before: Moment,
    not_after: Moment,
}

/// Why a certificate or its key cannot be used.
#[derive(Debug)]
pub enum TlsError {
    /// One of the two files is at fault by itself.
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Each may be good: it is not known which of the two is the wrong one.
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong with them.
        why: String,
    },
    /// Its last second has passed.
    Expired {
        /// The certificate's file.
        certificate: PathBuf,
        /// Its last second.
        not_after: Moment,
        /// What the clock said.
        now: Moment,
    },
    /// Its first second has not come.
    NotYetValid {
        /// The certificate's file.
        certificate: PathBuf,
        /// Its first second.
        not_before: Moment,
        /// What the clock said.
        now: Moment,
    },
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, why } => write!(f, "{}: {why}", file.display()),
            Self::Pair { certificate, key, why } => {
                write!(f, "{} and {} {why}", certificate.display(), key.display())
            }
            Self::Expired { certificate, not_after, now } => {
                write!(f, "{}: expired at {not_after}, it is {now} now", certificate.display())
            }
            Self::NotYetValid { certificate, not_before, now } => {
                write!(f, "{}: not valid before {not_before}, it is {now} now", certificate.display())
            }
        }
    }
}

impl std::error::Error for TlsError {}

/// HTTP/2 and HTTP/1.1, for the verification plane.
pub const ALPN_H2_AND_HTTP1: &[&[u8]] = &[b"h2", b"http/1.1"];
/// HTTP/1.1 alone, for the admin plane.
pub const ALPN_HTTP1: &[&[u8]] = &[b"http/1.1"];

impl Certificate {
    /// Reads certificate chain and private key (PEM).
    ///
    /// # Errors
    /// When a file cannot be read or the two do not fit. Whether it is valid by now
    /// is another question: [`Self::judged`].
    pub fn read(
        certificate_file: &Path,
        key_file: &Path,
        alpn: &'static [&'static [u8]],
    ) -> Result<Self, TlsError> {
        let chain = read_chain(certificate_file)?;
        let leaf = chain[0].clone();
        let validity = Validity::of(&leaf);
        let config = server_config(chain, (certificate_file, key_file), alpn)?;
        Ok(Self { config, leaf, file: certificate_file.to_owned(), validity })
    }

    /// Whether it is valid at this moment.
    ///
    /// # Errors
    /// [`TlsError::Expired`] or [`TlsError::NotYetValid`]; [`TlsError::File`] where it
    /// does not say since and until when it is valid.
    pub fn judged(&self, now: Moment) -> Result<(), TlsError> {
        let Some(Validity { not_before, not_after }) = self.validity else {
            let why = "since and until when it is valid cannot be read".to_owned();
            return Err(TlsError::File { file: self.file.clone(), why });
        };
        if now > not_after {
            return Err(TlsError::Expired { certificate: self.file.clone(), not_after, now });
        }
        if now < not_before {
            return Err(TlsError::NotYetValid { certificate: self.file.clone(), not_before, now });
        }
        Ok(())
    }

    /// Its last second, where it says one.
    #[must_use]
    pub fn not_after(&self) -> Option<Moment> {
        self.validity.map(|validity| validity.not_after)
    }
}

impl From<Certificate> for InForce {
    fn from(Certificate { config, leaf, .. }: Certificate) -> Self {
        Self { config: Arc::new(config), leaf }
    }
}

impl TlsSource {
    /// Begins with this certificate.
    #[must_use]
    pub fn new(certificate: Certificate) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(certificate.into())))
    }

    /// New handshakes use this one; connections that stand go on.
    pub fn exchange(&self, certificate: Certificate) {
        self.0.store(Arc::new(certificate.into()));
    }

    /// Is it the one in force?
    #[must_use]
    pub fn has(&self, certificate: &Certificate) -> bool {
        self.0.load().leaf == certificate.leaf
    }

    /// An acceptor with the certificate of this moment.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config())
    }

    fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.load().config)
    }
}

impl Validity {
    /// Asks the library that judges certificates for callers, in the place of one more
    /// parser: of one that is too early or too late it names the second, and it looks
    /// there before it looks for an issuer, of which it is given none.
    ///
    /// Of the chain's others nothing is asked: a caller takes the path that it trusts,
    /// which may lead past one that has expired.
    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = ParsedCertificate::try_from(certificate).ok()?;
        let refused_at = |seconds: u64| {
            let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            verify_server_cert_signed_by_trust_anchor(&parsed, &RootCertStore::empty(), &[], at, &[]).err()
        };
        let moment =
            |time: UnixTime| Moment::from_unix_seconds(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
        let Some(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) =
            refused_at(u64::MAX)
        else {
            return None;
        };
        let not_before = match refused_at(0) {
            Some(rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext {
                not_before,
                ..
            })) => moment(not_before),
            // Valid since the first second that the library knows.
            _ => Moment::from_unix_seconds(0),
        };
        Some(Self { not_before, not_after: moment(not_after) })
    }
}

/// The certificates of a file, one at least, the plane's own first.
fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fail = |why: String| TlsError::File { file: file.to_owned(), why };
    let chain = CertificateDer::pem_file_iter(file)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
        .map_err(|error| fail(error.to_string()))?;
    if chain.is_empty() {
        return Err(fail("holds no certificate".to_owned()));
    }
    Ok(chain)
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    (certificate_file, key_file): (&Path, &Path),
    alpn: &[&[u8]],
) -> Result<ServerConfig, TlsError> {
    let fail = |file: &Path, why: String| TlsError::File { file: file.to_owned(), why };
    let fail_both = |why: String| TlsError::Pair {
        certificate: certificate_file.to_owned(),
        key: key_file.to_owned(),
        why,
    };
    let key = PrivateKeyDer::from_pem_file(key_file)
        .map_err(|error| fail(key_file, format!("no private key: {error}")))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => fail_both("are not of one pair".to_owned()),
            rustls::Error::InvalidCertificate(_) => fail(certificate_file, error.to_string()),
            error => fail_both(format!("cannot be used: {error}")),
        })?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    // Resumption spares returning institutions the costly half of a handshake;
    // early data stays off: it can be replayed.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()
        .map_err(|error| fail_both(format!("cannot be used: {error}")))?;
    config.max_early_data_size = 0;
    Ok(config)
}

/// Handshakes of the verification plane: bounded in time, and no more of them worked
/// on at once than leave time for the requests of standing connections.
#[derive(Clone)]
pub(super) struct Handshakes {
    source: TlsSource,
    /// To be worked on at once.
    places: Arc<Semaphore>,
    timeout: Duration,
}

impl Handshakes {
    pub(super) fn new(source: TlsSource, settings: &PlaneSettings) -> Self {
        Self {
            source,
            places: Arc::new(Semaphore::new(settings.tls_handshakes_max)),
            timeout: settings.tls_handshake_timeout,
        }
    }

    /// The caller's address has its `turn` first, then the caller a place at work:
    /// for the costly half alone, between the caller's first message and our answer
    /// to it. Who says nothing, or never finishes, keeps nobody else waiting.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
        turn: impl Future<Output = io::Result<()>>,
    ) -> io::Result<TlsStream<TcpStream>> {
        let handshake = async {
            let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            turn.await?;
            let answered = {
                let _place = self.places.acquire().await.map_err(io::Error::other)?;
                let answered = hello.into_stream(self.source.config());
                // The place is free when everybody else on this thread has had one.
                tokio::task::yield_now().await;
                answered
            };
            answered.await
        };
        tokio::time::timeout(self.timeout, handshake).await.map_err(|_| io::ErrorKind::TimedOut)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> Moment {
        Moment::parse(text).expect("a moment")
    }

    /// A certificate and what it says, made as `change` wants it.
    fn validity(change: impl FnOnce(&mut rcgen::CertificateParams)) -> Option<Validity> {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        certificate.not_before = rcgen::date_time_ymd(2020, 2, 29);
        certificate.not_after = rcgen::date_time_ymd(2049, 12, 31);
        change(&mut certificate);
        Validity::of(certificate.self_signed(&key).expect("a certificate").der())
    }

    #[test]
    fn validity_is_read_of_any_certificate() {
        let expected = Validity {
            not_before: moment("2020-02-29T00:00:00Z"),
            not_after: moment("2049-12-31T00:00:00Z"),
        };
        assert_eq!(validity(|_| {}), Some(expected));
        // What an authority, a client or nobody may use says as much.
        assert_eq!(
            validity(|made| made.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained)),
            Some(expected)
        );
        assert_eq!(
            validity(|made| made.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth]),
            Some(expected)
        );
        // From 2050 on dates are written in another way (RFC 5280, 4.1.2.5).
        let far = validity(|made| made.not_after = rcgen::date_time_ymd(9999, 12, 31));
        assert_eq!(far.map(|far| far.not_after), Some(moment("9999-12-31T00:00:00Z")));
        let old = validity(|made| made.not_before = rcgen::date_time_ymd(1970, 1, 1));
        assert_eq!(old.map(|old| old.not_before), Some(moment("1970-01-01T00:00:00Z")));
        // An end before the beginning is none.
        assert_eq!(validity(|made| made.not_after = rcgen::date_time_ymd(2019, 1, 1)), None);
        assert_eq!(Validity::of(&CertificateDer::from(&b"no certificate"[..])), None);
    }

    #[test]
    fn the_first_and_the_last_second_are_valid() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, key_file) = (dir.path().join("tls.pem"), dir.path().join("tls.key"));
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut made = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        made.not_before = rcgen::date_time_ymd(2026, 1, 1);
        made.not_after = rcgen::date_time_ymd(2027, 1, 1);
        let pem = made.self_signed(&key).expect("a certificate").pem();
        std::fs::write(&file, pem)
            .and_then(|()| std::fs::write(&key_file, key.serialize_pem()))
            .expect("written");
        let certificate = Certificate::read(&file, &key_file, ALPN_HTTP1).map_err(|error| error.to_string());
        let certificate = certificate.expect("a pair");
        let judged = |now: &str| certificate.judged(moment(now)).map_err(|error| error.to_string());
        let refused = |why: &str| Err(format!("{}: {why} now", file.display()));
        assert_eq!(
            judged("2025-12-31T23:59:59Z"),
            refused("not valid before 2026-01-01T00:00:00Z, it is 2025-12-31T23:59:59Z")
        );
        assert_eq!(judged("2026-01-01T00:00:00Z"), Ok(()));
        assert_eq!(judged("2027-01-01T00:00:00Z"), Ok(()));
        assert_eq!(
            judged("2027-01-01T00:00:01Z"),
            refused("expired at 2027-01-01T00:00:00Z, it is 2027-01-01T00:00:01Z")
        );
    }
}
