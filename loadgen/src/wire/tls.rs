//! TLS 1.2 and 1.3 by rustls, without its I/O: bytes in, bytes out.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// Where Linux distributions keep the certificates that they trust.
const SYSTEM_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// How to speak TLS to one server.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// One connection's TLS.
#[derive(Debug)]
pub(crate) struct Session(ClientConnection);

impl Tls {
    /// `ca`: the certificates to trust instead of the system's. `is_insecure`: trust any.
    ///
    /// # Errors
    /// A sentence that says which file or name is wrong.
    pub(crate) fn new(host: &str, ca: Option<&Path>, is_insecure: bool) -> Result<Self, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("{host:?} is no name for TLS"))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().map_err(|e| format!("TLS: {e}"))?;
        let config = if is_insecure {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(TrustAny::new(&provider)))
                .with_no_client_auth()
        } else {
            builder.with_root_certificates(roots(ca)?).with_no_client_auth()
        };
        Ok(Self { config: Arc::new(config), name })
    }

    /// Begins a connection; the first bytes to send come from [`Session::encrypt`].
    pub(crate) fn session(&self) -> Session {
        let session = ClientConnection::new(self.config.clone(), self.name.clone());
        let mut session = session.expect("the configuration and the name were checked when they were made");
        session.set_buffer_limit(None);
        Session(session)
    }
}

impl Session {
    /// Takes what has arrived and appends what it says to `plain`.
    ///
    /// # Errors
    /// When the other side breaks TLS or its certificate is not trusted; what to send then is the alert.
    pub(crate) fn decrypt(&mut self, mut wire: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
        while !wire.is_empty() {
            self.0.read_tls(&mut wire)?;
            self.0.process_new_packets().map_err(io::Error::other)?;
            match self.0.reader().read_to_end(plain) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Appends `plain`, which is then empty, and what TLS itself has to say, to `wire`.
    ///
    /// # Errors
    /// Never in memory; the signature is that of the traits underneath.
    pub(crate) fn encrypt(&mut self, plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> io::Result<()> {
        self.0.writer().write_all(plain)?;
        plain.clear();
        while self.0.wants_write() {
            self.0.write_tls(wire)?;
        }
        Ok(())
    }

    /// TLS itself has something to say.
    pub(crate) fn wants_write(&self) -> bool {
        self.0.wants_write()
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let system = || SYSTEM_BUNDLES.iter().map(Path::new).find(|path| path.exists());
    let path = ca.or_else(system).ok_or("this system has no certificate bundle; use --ca F or --insecure")?;
    let shown = path.display();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|e| format!("cannot read {shown}: {e}"))?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(|e| format!("cannot read {shown}: {e}"))?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 { Err(format!("there is no certificate in {shown}")) } else { Ok(roots) }
}

/// For `--insecure`: any certificate will do, but the signatures must be right.
#[derive(Debug)]
struct TrustAny(WebPkiSupportedAlgorithms);

impl TrustAny {
    fn new(provider: &CryptoProvider) -> Self {
        Self(provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for TrustAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
