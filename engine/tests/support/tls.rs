//! A certificate for localhost, and TLS streams of clients that trust it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use engine::config::Config;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use std::net::TcpStream;

use super::dial;

/// A client's end of a TLS connection.
pub(crate) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A self-signed certificate for localhost.
pub(crate) struct Certificate {
    der: CertificateDer<'static>,
}

impl Certificate {
    /// Makes a new one, writes `cert.pem` and `key.pem` into the directory, and has the configuration use them.
    pub(crate) fn install(directory: &Path, config: &mut Config) -> Self {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let tls = &mut config.server.tls;
        for (file, name, pem) in
            [(&mut tls.cert_file, "cert.pem", cert.pem()), (&mut tls.key_file, "key.pem", signing_key.serialize_pem())]
        {
            let path = directory.join(name);
            std::fs::write(&path, pem).unwrap();
            *file = path.to_str().unwrap().to_owned();
        }
        tls.enabled = true;
        Self { der: cert.der().clone() }
    }

    /// Connects by TLS 1.3.
    pub(crate) fn dial(&self, address: SocketAddr) -> TlsStream {
        self.dial_version(address, &TLS13)
    }

    /// Connects by TLS 1.2.
    pub(crate) fn dial_1_2(&self, address: SocketAddr) -> TlsStream {
        self.dial_version(address, &TLS12)
    }

    fn dial_version(&self, address: SocketAddr, version: &'static SupportedProtocolVersion) -> TlsStream {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), dial(address))
    }
}
