//! wss against a server that nobody here wrote (tungstenite on rustls): trusted by `--ca`, trusted blindly, refused.

mod common;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use common::{number, run};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const SHORT: [&str; 6] = ["--warmup", "100ms", "--duration", "400ms", "--connections", "4"];

/// An echo server with a certificate for `localhost`, and a file with that certificate.
fn serve(name: &str) -> (SocketAddr, PathBuf) {
    serve_with(name, IsCa::NoCa)
}

/// The same, with a certificate that may be an authority's, as `openssl req -x509` makes them.
fn serve_with(name: &str, is_ca: IsCa) -> (SocketAddr, PathBuf) {
    let signing_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
    params.is_ca = is_ca;
    let certificate = params.self_signed(&signing_key).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), socket.unwrap());
            std::thread::spawn(move || echo(stream));
        }
    });
    let path = std::env::temp_dir().join(format!("loadgen-{name}-{}.pem", std::process::id()));
    std::fs::write(&path, certificate.pem()).unwrap();
    (address, path)
}

/// Echoes until the other side has had enough, however it says so.
fn echo(stream: StreamOwned<ServerConnection, std::net::TcpStream>) -> Option<()> {
    let mut socket = tungstenite::accept(stream).ok()?;
    loop {
        let message = socket.read().ok()?;
        if message.is_binary() {
            socket.send(message).ok()?;
        }
    }
}

#[test]
fn wss_works_with_the_right_certificate_and_blindly() {
    let (address, ca) = serve("trusted");
    let url = format!("wss://localhost:{}/", address.port());
    let blindly = format!("wss://{address}/");
    for (url, trust) in [(&url, &["--ca", ca.to_str().unwrap()][..]), (&blindly, &["--insecure"])] {
        for size in ["64", "100000"] {
            let (_, report, errors) = run(&[&["echo", "--url", url, "--size", size], &SHORT[..], trust].concat());
            assert!(report.is_object(), "{errors}");
            assert!(number(&report, "/received") > 10.0);
            assert_eq!(number(&report, "/reach"), 1.0);
        }
    }
    std::fs::remove_file(ca).unwrap();
}

#[test]
fn a_certificate_that_signed_itself_as_an_authority_is_trusted_for_its_names_only() {
    let (address, ca) = serve_with("authority", IsCa::Ca(BasicConstraints::Unconstrained));
    let ask = |host: String| run(&[&["echo", "--url", &host, "--ca", ca.to_str().unwrap()], &SHORT[..]].concat());
    let (_, report, errors) = ask(format!("wss://localhost:{}/", address.port()));
    assert!(report["failure"].is_null() && number(&report, "/reach") == 1.0, "{errors}");
    let (code, _, errors) = ask(format!("wss://{address}/"));
    assert!(code == 4 && errors.contains("certificate"), "{code} {errors}");
    std::fs::remove_file(&ca).unwrap();
}

#[test]
fn a_certificate_that_is_not_trusted_is_exit_4_with_the_reason() {
    let (address, ca) = serve("refused");
    let unknown = format!("wss://localhost:{}/", address.port());
    let other_name = format!("wss://{address}/");
    for (url, trust) in [(&unknown, &[][..]), (&other_name, &["--ca", ca.to_str().unwrap()])] {
        let (code, _, errors) = run(&[&["echo", "--url", url], &SHORT[..], trust].concat());
        assert!(code == 4 && errors.contains("certificate"), "{code} {errors}");
    }
    std::fs::remove_file(ca).unwrap();
}

#[test]
fn trust_that_cannot_be_read_is_exit_2() {
    let empty = std::env::temp_dir().join(format!("loadgen-empty-{}.pem", std::process::id()));
    std::fs::write(&empty, "nothing").unwrap();
    for (ca, said) in [("/does/not/exist", "/does/not/exist"), (empty.to_str().unwrap(), "no certificate")] {
        let (code, _, errors) = run(&["echo", "--url", "wss://localhost/", "--ca", ca]);
        assert!(code == 2 && errors.contains(said), "{code} {errors}");
    }
    let (code, _, errors) = run(&["echo", "--url", "ws://localhost/", "--insecure"]);
    assert!(code == 2 && errors.contains("wss"), "{code} {errors}");
    std::fs::remove_file(empty).unwrap();
}
