//! TLS to the database, as `sslmode` asks for.

use crate::config::PostgresTls;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio_postgres_rustls::MakeRustlsConnect;

/// How to connect; `None`: in the clear.
///
/// # Errors
/// The file of authorities cannot be read, or there is none in it.
pub(super) fn connector(tls: &PostgresTls) -> io::Result<Option<MakeRustlsConnect>> {
    let provider = Arc::new(ring::default_provider());
    let builder = || {
        ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)
    };
    let config = match tls {
        PostgresTls::Disable => return Ok(None),
        PostgresTls::Require => builder()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider.clone())))
            .with_no_client_auth(),
        PostgresTls::VerifyFull { ca_file } => {
            let roots = match ca_file {
                Some(path) => from_file(path)?,
                None => of_this_machine()?,
            };
            builder()?.with_root_certificates(roots).with_no_client_auth()
        }
    };
    Ok(Some(MakeRustlsConnect::new(config)))
}

fn from_file(path: &Path) -> io::Result<RootCertStore> {
    let said = |what: &dyn std::fmt::Display| io::Error::other(format!("{}: {what}", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| said(&error))? {
        roots.add(certificate.map_err(|error| said(&error))?).map_err(|error| said(&error))?;
    }
    if roots.is_empty() { Err(said(&"there is no certificate in it")) } else { Ok(roots) }
}

fn of_this_machine() -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    match found.errors.into_iter().next() {
        Some(error) if added == 0 => Err(io::Error::other(error)),
        _ if added == 0 => Err(io::Error::other("this machine trusts no authority")),
        _ => Ok(roots),
    }
}

/// Takes every certificate: what is said is encrypted for whoever it is that answers, who at least has the certificate's key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
