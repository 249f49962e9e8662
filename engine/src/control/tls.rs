//! Certificate and key: from two PEM files to a `rustls::ServerConfig`, and again at SIGHUP.
//!
//! [`Tls`] belongs to the control thread, which reloads; every shard has a [`TlsView`] and pays one atomic load per
//! accepted connection for it. A pair that cannot be used is an error that says which file and why; on reload the old
//! pair stays. Sessions resume by tickets, which the client keeps: no memory per session here.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use tokio::sync::watch;

pub use super::tls_error::TlsError;

/// Bytes of a PEM file; a chain of three certificates has about 6 KiB.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// The pair in use and where it came from.
#[derive(Debug)]
pub struct Tls {
    cert_file: PathBuf,
    key_file: PathBuf,
    current: watch::Sender<Arc<ServerConfig>>,
}

impl Tls {
    /// Loads the pair for the first time.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn open(cert_file: &Path, key_file: &Path) -> Result<Self, TlsError> {
        let current = watch::Sender::new(load(cert_file, key_file)?);
        Ok(Self { cert_file: cert_file.to_owned(), key_file: key_file.to_owned(), current })
    }

    /// Reads both files again; connections accepted from now on get the new pair.
    ///
    /// # Errors
    /// See [`TlsError`]; the old pair stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.current.send_replace(load(&self.cert_file, &self.key_file)?);
        Ok(())
    }

    /// A view for one shard.
    #[must_use]
    pub fn view(&self) -> TlsView {
        let mut newest = self.current.subscribe();
        let config = newest.borrow_and_update().clone();
        TlsView { newest, config }
    }
}

/// A shard's view of the pair in use.
#[derive(Debug, Clone)]
pub struct TlsView {
    newest: watch::Receiver<Arc<ServerConfig>>,
    config: Arc<ServerConfig>,
}

impl TlsView {
    /// The configuration for the next connection. Takes a lock only when there is a new one.
    pub fn config(&mut self) -> &Arc<ServerConfig> {
        // An error says that `Tls` is gone, as it is at the end of a shutdown: what we have is what there is.
        if self.newest.has_changed().unwrap_or(false) {
            self.config = self.newest.borrow_and_update().clone();
        }
        &self.config
    }
}

/// Loads a certificate chain, the server's own certificate first, and its key (PKCS#8, PKCS#1 or SEC1), for TLS 1.2 and
/// 1.3 with ALPN `http/1.1` and no client certificates.
///
/// # Errors
/// See [`TlsError`].
pub fn load(cert_file: &Path, key_file: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = read_chain(cert_file)?;
    let key = read_key(key_file)?;
    let rejected = |error| TlsError::rejected(cert_file, key_file, error);
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(rejected)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(rejected)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = ring::Ticketer::new().map_err(rejected)?;
    Ok(Arc::new(config))
}

fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(file)?;
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|error| TlsError::pem(file, &error))?;
    if chain.is_empty() {
        return Err(TlsError::absent(file, "certificate", &pem));
    }
    Ok(chain)
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = read(file)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        PemError::NoItemsFound => TlsError::absent(file, "private key", &pem),
        error => TlsError::pem(file, &error),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|source| TlsError::Read { file: path.to_owned(), source })?;
    if bytes.len() as u64 > PEM_BYTES_MAX {
        return Err(TlsError::Pem { file: path.to_owned(), reason: format!("longer than {PEM_BYTES_MAX} bytes") });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
    use rustls::client::{ClientConfig, ClientConnection};
    use rustls::server::ServerConnection;
    use rustls::version::{TLS12, TLS13};
    use rustls::{HandshakeKind, ProtocolVersion, RootCertStore, SupportedProtocolVersion};

    use super::*;

    /// A directory for one test, removed at its end.
    struct Files(PathBuf);

    impl Files {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ringrelay-{test}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
            fs::write(self.path(name), text).unwrap();
            self.path(name)
        }

        /// A new certificate for `localhost` and its key, over those of before.
        fn write_pair(&self) -> CertifiedKey<KeyPair> {
            let pair = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            self.write("cert.pem", pair.cert.pem());
            self.write("key.pem", pair.signing_key.serialize_pem());
            pair
        }

        fn load(&self) -> Result<Arc<ServerConfig>, String> {
            load(&self.path("cert.pem"), &self.path("key.pem")).map_err(|error| error.to_string())
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn client_config(root: &CertificateDer<'_>, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }

    /// Moves bytes both ways until neither side has more to say.
    fn handshake(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> Result<ClientConnection, rustls::Error> {
        let mut server = ServerConnection::new(server.clone()).unwrap();
        let mut client = ClientConnection::new(client.clone(), "localhost".try_into().unwrap()).unwrap();
        while client.wants_write() || server.wants_write() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            let mut input = &bytes[..];
            while !input.is_empty() {
                server.read_tls(&mut input).unwrap();
                server.process_new_packets()?;
            }
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            let mut input = &bytes[..];
            while !input.is_empty() {
                client.read_tls(&mut input).unwrap();
                client.process_new_packets()?;
            }
        }
        Ok(client)
    }

    #[test]
    fn both_versions_handshake_with_http1_and_resume_by_ticket() {
        let files = Files::new("tls-handshake");
        let pair = files.write_pair();
        let server = files.load().unwrap();
        for (version, number) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
            let config = client_config(pair.cert.der(), version);
            let first = handshake(&server, &config).unwrap();
            assert!(!first.is_handshaking());
            assert_eq!(first.protocol_version(), Some(number));
            assert_eq!(first.alpn_protocol(), Some(&b"http/1.1"[..]));
            assert_eq!(first.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(handshake(&server, &config).unwrap().handshake_kind(), Some(HandshakeKind::Resumed));
        }
        assert!(!server.session_storage.can_cache(), "sessions would take memory here");
    }

    #[test]
    fn keys_of_all_three_formats_load() {
        let files = Files::new("tls-formats");
        let pair = files.write_pair();
        // RFC 5958: the octet string at the end of an elliptic-curve PKCS#8 key is the SEC1 key.
        let pkcs8 = pair.signing_key.serialized_der();
        let start = pkcs8.windows(5).position(|bytes| bytes[0] == 0x30 && bytes[2..] == [2, 1, 1]).unwrap();
        let sec1 = pem("EC PRIVATE KEY", &pkcs8[start..start + 2 + usize::from(pkcs8[start + 1])]);
        for (key, cert) in [
            (sec1.as_bytes(), pair.cert.pem().as_bytes()),
            (pair.signing_key.serialize_pem().as_bytes(), pair.cert.pem().as_bytes()),
            (include_bytes!("testdata/rsa-pkcs1.key"), include_bytes!("testdata/rsa.crt")),
        ] {
            files.write("key.pem", key);
            files.write("cert.pem", cert);
            let root = CertificateDer::from_pem_slice(cert).unwrap();
            assert!(!handshake(&files.load().unwrap(), &client_config(&root, &TLS13)).unwrap().is_handshaking());
        }
    }

    fn pem(label: &str, der: &[u8]) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    }

    #[test]
    fn one_file_may_hold_chain_and_key() {
        let files = Files::new("tls-one-file");
        let pair = files.write_pair();
        let both = files.write("both.pem", pair.signing_key.serialize_pem() + &pair.cert.pem());
        let server = load(&both, &both).unwrap();
        assert!(!handshake(&server, &client_config(pair.cert.der(), &TLS12)).unwrap().is_handshaking());
    }

    #[test]
    fn each_fault_names_its_file_and_what_is_wrong() {
        let files = Files::new("tls-faults");
        let pair = files.write_pair();
        let (cert, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
        let other = KeyPair::generate().unwrap().serialize_pem();
        let encrypted = pem("ENCRYPTED PRIVATE KEY", b"secret");
        let no_key = pem("PRIVATE KEY", b"no key at all");
        let no_cert = pem("CERTIFICATE", b"no certificate at all");
        let long = " ".repeat(PEM_BYTES_MAX as usize + 1);
        for (cert_text, key_text, file, what) in [
            (&cert, &other, "key.pem", "does not belong to the certificate"),
            (&key, &cert, "cert.pem", "swapped"),
            (&cert, &cert, "key.pem", "swapped"),
            (&cert, &encrypted, "key.pem", "encrypted"),
            (&cert, &String::new(), "key.pem", "not a PEM file"),
            (&"hello".to_owned(), &key, "cert.pem", "not a PEM file"),
            (&cert[..cert.len() / 2].to_owned(), &key, "cert.pem", "cut off"),
            (&cert, &key[..key.len() / 2].to_owned(), "key.pem", "cut off"),
            (&cert, &no_key, "key.pem", "cannot use"),
            (&no_cert, &key, "cert.pem", "cannot use"),
            (&cert.replace('M', "!"), &key, "cert.pem", "base64"),
            (&long, &key, "cert.pem", "longer than"),
        ] {
            files.write("cert.pem", cert_text);
            files.write("key.pem", key_text);
            let error = files.load().unwrap_err();
            assert!(error.contains(files.path(file).to_str().unwrap()) && error.contains(what), "{what:?}: {error}");
        }
        fs::remove_file(files.path("key.pem")).unwrap();
        files.write("cert.pem", &cert);
        let error = files.load().unwrap_err();
        assert!(error.contains("key.pem") && error.contains("No such file"), "{error}");
    }

    #[test]
    fn a_reload_reaches_every_view_and_a_bad_pair_leaves_the_old_one() {
        let files = Files::new("tls-reload");
        let old = files.write_pair();
        let tls = Tls::open(&files.path("cert.pem"), &files.path("key.pem")).unwrap();
        let mut views = [tls.view(), tls.view()];
        let accepts = |view: &mut TlsView, root: &CertificateDer<'_>| {
            handshake(view.config(), &client_config(root, &TLS13)).is_ok()
        };

        files.write("key.pem", KeyPair::generate().unwrap().serialize_pem());
        assert!(matches!(tls.reload(), Err(TlsError::Mismatch { .. })));
        assert!(views.iter_mut().all(|view| accepts(view, old.cert.der())));

        let new = files.write_pair();
        tls.reload().unwrap();
        assert!(views.iter_mut().all(|view| accepts(view, new.cert.der()) && !accepts(view, old.cert.der())));

        drop(tls);
        assert!(views.iter_mut().all(|view| accepts(view, new.cert.der())), "views outlive their source");
    }
}
