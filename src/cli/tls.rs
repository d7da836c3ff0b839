//! Whom a client command trusts: the system's roots, or one private authority.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio_rustls::TlsConnector;

/// No authority can be trusted.
#[derive(Debug)]
pub(crate) struct NoTrust(String);

impl fmt::Display for NoTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// TLS 1.3 over HTTP/1.1, trusting this file's authorities alone or, without
/// one, the system's.
pub(crate) fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, NoTrust> {
    let roots = match ca_file {
        Some(path) => roots_of_file(path)?,
        None => roots_of_system()?,
    };
    // The provider is named here, so that none has to be installed for the
    // process and a second one in the program cannot matter.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| NoTrust(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn roots_of_file(path: &Path) -> Result<RootCertStore, NoTrust> {
    let wrong = |reason: &dyn fmt::Display| NoTrust(format!("{}: {reason}", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
        let certificate = certificate.map_err(|error| wrong(&error))?;
        roots.add(certificate).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() {
        return Err(wrong(&"no certificate in it"));
    }
    Ok(roots)
}

fn roots_of_system() -> Result<RootCertStore, NoTrust> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some systems carry certificates that nothing modern can read; the rest
    // still serves.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(NoTrust("this system has no trusted authorities: name one with --ca-file".into()));
    }
    Ok(roots)
}
