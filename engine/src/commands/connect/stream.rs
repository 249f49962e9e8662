//! The bytes below the WebSocket: TCP, or TLS by rustls over it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned};

/// Which servers' certificates are believed.
#[derive(Debug, Clone)]
pub(super) struct Trust(Arc<ClientConfig>);

impl Trust {
    /// `ca`: the certificates to trust instead of the system's. `insecure`: trust any.
    ///
    /// # Errors
    /// Which file is wrong, or that the system has no certificates, in one line.
    pub(super) fn new(ca: Option<&Path>, insecure: bool) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| format!("TLS: {error}"))?;
        let config = if insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(algorithms))).with_no_client_auth()
        } else {
            builder.with_root_certificates(roots(ca)?).with_no_client_auth()
        };
        Ok(Self(Arc::new(config)))
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let (certificates, place) = match ca {
        Some(file) => {
            let shown = file.display();
            let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            (read.map_err(|error| format!("cannot read {shown}: {error}"))?, shown.to_string())
        }
        None => (rustls_native_certs::load_native_certs().certs, "this system".to_owned()),
    };
    let mut roots = RootCertStore::empty();
    match roots.add_parsable_certificates(certificates) {
        (0, _) => Err(format!("there is no certificate in {place}; give --ca FILE or --insecure")),
        _ => Ok(roots),
    }
}

/// A connection's bytes.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// TLS to `host`; the handshake takes place with the first bytes.
    ///
    /// # Errors
    /// The host cannot be named in a certificate.
    pub(super) fn tls(tcp: TcpStream, host: &str, trust: &Trust) -> Result<Self, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("{host:?} is no name for TLS"))?;
        let session = ClientConnection::new(Arc::clone(&trust.0), name).map_err(|error| format!("TLS: {error}"))?;
        Ok(Self::Tls(Box::new(StreamOwned::new(session, tcp))))
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &tls.sock,
        }
    }

    /// Says in TLS that nothing more comes. What cannot be sent at once is not: the WebSocket has ended before.
    pub(super) fn finish(&mut self) {
        if let Self::Tls(tls) = self {
            tls.conn.send_close_notify();
            _ = tls.flush();
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

/// For `--insecure`: any certificate will do, but the signatures must be right.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
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
