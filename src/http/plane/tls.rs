//! TLS 1.3 for a listener: the certificate can be exchanged while connections
//! stay, and handshakes have a time-out and a limit of their own.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use super::PlaneSettings;

/// Where a plane's handshakes find the certificate of the moment.
#[derive(Clone)]
pub struct TlsSource(Arc<ArcSwap<ServerConfig>>);

/// A certificate with its key, read and found to fit: the two are swapped as one.
pub struct Certificate(ServerConfig);

/// Why a certificate or its key cannot be used.
#[derive(Debug)]
pub struct TlsError {
    file: PathBuf,
    why: String,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.why)
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
    /// When a file cannot be read or the two do not fit.
    pub fn read(
        certificate_file: &Path,
        key_file: &Path,
        alpn: &'static [&'static [u8]],
    ) -> Result<Self, TlsError> {
        server_config(certificate_file, key_file, alpn).map(Self)
    }
}

impl TlsSource {
    /// Begins with this certificate.
    #[must_use]
    pub fn new(certificate: Certificate) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(certificate.0)))
    }

    /// New handshakes use this one; connections that stand go on.
    pub fn exchange(&self, certificate: Certificate) {
        self.0.store(Arc::new(certificate.0));
    }

    /// An acceptor with the certificate of this moment.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.load_full())
    }
}

fn server_config(certificate_file: &Path, key_file: &Path, alpn: &[&[u8]]) -> Result<ServerConfig, TlsError> {
    let fail = |file: &Path, why: String| TlsError { file: file.to_owned(), why };
    let chain = CertificateDer::pem_file_iter(certificate_file)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
        .map_err(|error| fail(certificate_file, error.to_string()))?;
    if chain.is_empty() {
        return Err(fail(certificate_file, "holds no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| fail(key_file, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| fail(certificate_file, error.to_string()))?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    // Resumption spares returning institutions the costly half of a handshake;
    // early data stays off: it can be replayed.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()
        .map_err(|error| fail(certificate_file, error.to_string()))?;
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
                let answered = hello.into_stream(self.source.0.load_full());
                // The place is free when everybody else on this thread has had one.
                tokio::task::yield_now().await;
                answered
            };
            answered.await
        };
        tokio::time::timeout(self.timeout, handshake).await.map_err(|_| io::ErrorKind::TimedOut)?
    }
}
