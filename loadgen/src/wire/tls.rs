//! TLS 1.2 and 1.3 by rustls, without its I/O: bytes in, bytes out.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};

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
        let trusted = if is_insecure { Trusted::Any } else { Trusted::read(ca, &provider)? };
        let verifier = Verifier { trusted, algorithms: provider.signature_verification_algorithms };
        let config = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
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

/// Which certificates will do.
#[derive(Debug)]
enum Trusted {
    /// For `--insecure`: any, but the signatures must be right.
    Any,
    /// Those that the listed ones have signed, and the listed ones themselves.
    Listed { by_roots: Arc<WebPkiServerVerifier>, listed: Vec<CertificateDer<'static>> },
}

impl Trusted {
    fn read(ca: Option<&Path>, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let system = || SYSTEM_BUNDLES.iter().map(Path::new).find(|path| path.exists());
        let path = ca.or_else(system).ok_or("this system has no certificate bundle; use --ca F or --insecure")?;
        let shown = path.display();
        let listed = CertificateDer::pem_file_iter(path).map_err(|e| format!("cannot read {shown}: {e}"))?;
        let listed = listed.collect::<Result<Vec<_>, _>>().map_err(|e| format!("cannot read {shown}: {e}"))?;
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(listed.iter().cloned());
        if added == 0 {
            return Err(format!("there is no certificate in {shown}"));
        }
        let by_roots = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let by_roots = by_roots.build().map_err(|e| format!("{shown}: {e}"))?;
        Ok(Self::Listed { by_roots, listed })
    }
}

/// What rustls asks about the server's certificate.
#[derive(Debug)]
struct Verifier {
    trusted: Trusted,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Trusted::Listed { by_roots, listed } = &self.trusted else { return Ok(ServerCertVerified::assertion()) };
        match by_roots.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // `openssl req -x509` makes certificates that sign for themselves as authorities: no chain leads to them.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_))) if listed.contains(certificate) => {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
