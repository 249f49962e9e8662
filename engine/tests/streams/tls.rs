//! Targets over TLS, with a certificate that the system trusts; users with the least rights; and no password in the log.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use engine::config::{Config, Driver};
use nix::sys::signal::Signal;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tungstenite::Message;

use crate::brokers::{Broker, Certificate};
use crate::consumers::{Group, Subscriber};
use crate::heard::Event;
use crate::support::process::Process;
use crate::support::{PATIENCE, connect, eventually};
use crate::{config, send_and_close};

/// The binary on a system that trusts this certificate and no other.
pub(crate) fn start_trusting(certificate: &Certificate, test: &str, config: &Config) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringrelay"));
    command.env("SSL_CERT_FILE", &certificate.certificate).env_remove("SSL_CERT_DIR");
    Process::start_command(command, test, config)
}

/// An https server that takes events, one connection after the other.
fn https_server(certificate: &Certificate) -> (SocketAddr, Receiver<Event>) {
    let chain = CertificateDer::pem_file_iter(&certificate.certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&certificate.key).unwrap();
    let config = Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, events) = channel();
    // Ends with the test's process: it waits for connections.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = BufReader::new(StreamOwned::new(connection, stream.unwrap()));
            // A connection that only looks whether somebody is there ends here.
            while let Some(body) = read_request(&mut stream) {
                stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
                let _ = sender.send(Event::of_json(&body));
            }
        }
    });
    (address, events)
}

/// The body of the next request; `None` at the end.
fn read_request(stream: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            return Some(body);
        }
    }
}

#[test]
fn events_go_over_tls_and_no_password_is_logged() {
    let certificate = Certificate::make("tls");
    let redis = Broker::redis_with_tls("tls-redis", certificate.clone());
    let nats = Broker::nats_with_tls("tls-nats", certificate.clone());
    let (https, posted) = https_server(&certificate);
    let group = Group::create(&redis, "connectionevents");
    let subscriber = Subscriber::subscribe(&nats);
    let mut config = config(Driver::Auto, 1);
    config.stream_redis.addr = redis.tls_url();
    config.stream_nats.addr = nats.tls_url();
    config.stream_webhook.url = format!("https://limited:secret@localhost:{}/hook", https.port());
    // A user who may not write states.
    config.connection_redis_sync.addr = redis.tls_url();
    let mut process = start_trusting(&certificate, "tls-server", &config);
    let messages = (0..50).map(|number| Message::text(format!("0 {number}")));
    send_and_close(connect(process.address, "/connect"), messages);
    for target in ["redis", "nats", "webhook"] {
        let written = format!("relay_events_total{{target=\"{target}\",result=\"written\"}}");
        eventually(&format!("all is written to {target}"), || process.metric(&written) == 52.0);
    }
    let numbered = (0..50).map(|number| format!("0 {number}"));
    let expected: Vec<String> = [String::new()].into_iter().chain(numbered).chain([String::new()]).collect();
    let texts = |events: Vec<Event>| events.iter().map(|event| event.text().to_owned()).collect::<Vec<_>>();
    assert_eq!(texts(group.read_all()), expected);
    assert_eq!(texts((0..52).map(|_| subscriber.next().1).collect()), expected);
    // One connection after the other, so one at a time.
    assert_eq!(texts((0..52).map(|_| posted.recv_timeout(PATIENCE).unwrap()).collect()), expected);
    process.wait_for_line("this user has no permissions");
    process.signal(Signal::SIGTERM);
    let (status, log) = process.wait_with_log();
    assert!(status.success());
    let log = log.join("\n");
    assert!(log.contains("limited:***@localhost") && !log.contains("secret"), "{log}");
    // What their clients would log beside it is left out.
    assert!(!log.contains("connected successfully") && !log.contains("event: "), "{log}");
}
