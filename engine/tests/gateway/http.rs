//! HTTP/1.1 on the main port: bodies, keep-alive, limits, and who may ask.

use std::io::Write as _;

use super::support::http::{KeptAlive, ask, read_answer};
use super::support::raw::RawClient;
use super::support::{dial, eventually, for_each_setup};
use super::{Gateway, config};

#[test]
fn one_connection_carries_many_requests_however_they_are_cut() {
    for_each_setup(|driver, shards| {
        let gateway = Gateway::start(&config(driver, shards));
        let (_client, id) = gateway.connect();
        let counted = format!("POST /send?id={id} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
        let chunked = format!(
            "POST /send?id={id} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX: y\r\n\r\n"
        );
        let bare = format!("POST /send?id={id} HTTP/1.1\r\nHost: x\r\n\r\n");
        let all = [counted.as_str(), &chunked, &bare, &counted].concat();
        for step in [1, 7, 60, all.len()] {
            let mut control = gateway.control();
            for piece in all.as_bytes().chunks(step) {
                control.stream.write_all(piece).unwrap();
            }
            for _ in 0..4 {
                let answer = control.read_answer(false);
                assert_eq!((answer.status, &*answer.body), (200, "1"), "pieces of {step}");
                assert_eq!(answer.header("connection"), Some("keep-alive"));
            }
        }
        let mut control = gateway.control();
        let answer = control.ask("HEAD", "/status", "", b"");
        assert_eq!((answer.status, answer.header("content-length")), (200, Some("59")), "{answer:?}");
        assert_eq!(control.get("/status").len(), 59);
        for (method, target, allow) in
            [("GET", "/send", "POST"), ("PUT", "/close", "POST"), ("POST", "/tree", "GET,HEAD")]
        {
            let answer = control.ask(method, target, "", b"x");
            assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{method} {target}");
        }
        assert!(control.get("/metrics").contains("\nconnections_counter 1\n"));
        // After a request the connection may still become a WebSocket.
        let mut client = RawClient::upgrade(control.stream, "/connect");
        client.send(super::support::raw::TEXT, b"hello").unwrap();
        assert!(gateway.event().starts_with("open ") && gateway.event().ends_with(" hello"));
    });
}

#[test]
fn the_end_of_the_connection_is_the_clients_choice() {
    for_each_setup(|driver, shards| {
        let gateway = Gateway::start(&config(driver, shards));
        for request in [
            "POST /send?foo=bar HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
            "POST /send?foo=bar HTTP/1.0\r\nContent-Length: 1\r\n\r\nx",
        ] {
            let answer = ask(gateway.address(), request);
            assert_eq!((answer.status, &*answer.body, answer.header("connection")), (200, "0", Some("close")));
        }
        // One that half-closes gets its answers too.
        let mut control = gateway.control();
        let request = b"POST /send HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
        control.stream.write_all(&request.repeat(3)).unwrap();
        control.stream.shutdown(std::net::Shutdown::Write).unwrap();
        for _ in 0..3 {
            assert_eq!(control.read_answer(false).status, 200);
        }
        assert_eq!(std::io::Read::read(&mut control.stream, &mut [0; 9]).unwrap(), 0, "then the end");
        eventually("all are gone", || gateway.server.counters().sum(|shard| &shard.connections) == 0);
    });
}

#[test]
fn requests_may_be_long_and_many_at_once() {
    for_each_setup(|driver, shards| {
        let gateway = Gateway::start(&config(driver, shards));
        let (_client, id) = gateway.connect();
        let mut control = gateway.control();
        // Longer than what an http::Uri takes, in two pieces.
        let nobody = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        let request = format!("POST /send?id={}{id}<> HTTP/1.1\r\nHost: x\r\n\r\n", format!("{nobody},").repeat(2000));
        let (first, second) = request.as_bytes().split_at(70_000);
        control.stream.write_all(first).unwrap();
        assert_eq!(gateway.control().get("/status").len(), 59, "the first piece is there");
        control.stream.write_all(second).unwrap();
        assert_eq!(control.read_answer(false).body, "0", "the last id has <> behind it");
        // More than is read ahead, while the answers are read by another thread.
        let pad = "x".repeat(5000);
        let many = format!("POST /send?id={id} HTTP/1.1\r\nHost: x\r\nPad: {pad}\r\n\r\n").repeat(500);
        let mut writer = control.stream.try_clone().unwrap();
        let writing = std::thread::spawn(move || writer.write_all(many.as_bytes()).unwrap());
        for _ in 0..500 {
            assert_eq!(control.read_answer(false).body, "1");
        }
        writing.join().unwrap();
    });
}

#[test]
fn a_head_that_is_not_finished_after_an_answer_is_given_up_in_time() {
    for_each_setup(|driver, shards| {
        let mut config = config(driver, shards);
        config.server.handshake_timeout_ms = 200;
        let gateway = Gateway::start(&config);
        let mut control = gateway.control();
        assert_eq!(control.get("/status"), "");
        let began = std::time::Instant::now();
        control.stream.write_all(b"GET /status HTTP/1.1\r\n").unwrap();
        assert_eq!(control.read_answer(false).status, 408);
        assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
    });
}

#[test]
fn who_does_not_read_answers_is_not_asked_for_more_requests() {
    for_each_setup(|driver, shards| {
        let gateway = Gateway::start(&config(driver, shards));
        let stalled = dial(gateway.address());
        stalled.set_nonblocking(true).unwrap();
        let requests = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
        let mut written = 0;
        let mut rests = 0;
        // It takes what buffers hold, and then no more.
        while rests < 50 {
            match (&stalled).write(&requests) {
                Ok(bytes) => (written, rests) = (written + bytes, 0),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    rests += 1;
                    assert_eq!(gateway.control().get("/status"), "", "others are answered");
                }
                Err(error) => panic!("{error}"),
            }
            assert!(written < 64 << 20, "{written} bytes of requests were taken");
        }
    });
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on() {
    for_each_setup(|driver, shards| {
        let gateway = Gateway::start(&config(driver, shards));
        let mut control = gateway.control();
        let head = "POST /send?foo=bar HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
        control.stream.write_all(head.as_bytes()).unwrap();
        let mut interim = [0; 25];
        std::io::Read::read_exact(&mut control.stream, &mut interim).unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        control.stream.write_all(b"abc").unwrap();
        assert_eq!(control.read_answer(false).body, "0");
    });
}

#[test]
fn bodies_have_a_limit_and_a_deadline() {
    for_each_setup(|driver, shards| {
        let mut config = config(driver, shards);
        config.control_body_bytes_max = 100_000;
        config.server.handshake_timeout_ms = 300;
        let gateway = Gateway::start(&config);
        let (_client, _) = gateway.connect();
        assert_eq!(gateway.control().post("/send?foo=bar", vec![b'x'; 100_000]), "1");
        let too_long = "POST /send?foo=bar HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n";
        assert_eq!(ask(gateway.address(), too_long).status, 413);
        let chunks = format!(
            "POST /send?foo=bar HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nc350\r\n{}\r\nc351\r\n",
            "x".repeat(50_000)
        );
        assert_eq!(ask(gateway.address(), chunks).status, 413);
        let malformed = "POST /send?foo=bar HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n";
        assert_eq!(ask(gateway.address(), malformed).status, 400);
        let slow = "POST /send?foo=bar HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel";
        assert_eq!(ask(gateway.address(), slow).status, 408);
    });
}

#[test]
fn the_admin_port_refuses_a_long_body_before_it_is_sent_and_after() {
    for_each_setup(|driver, shards| {
        let mut config = config(driver, shards);
        config.control_body_bytes_max = 100_000;
        let gateway = Gateway::start(&config);
        let admin = gateway.server.admin_address().unwrap();
        let asked = "POST /send?foo=bar HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 100001\r\n\r\n";
        assert_eq!(ask(admin, asked).status, 413, "no 100 Continue");
        assert_eq!(ask(admin, "GET /status HTTP/1.1\r\n\r\n").status, 400, "without Host");
        // More than the kernel holds between the two.
        let body = vec![b'x'; 20 << 20];
        let refused = KeptAlive::dial(admin).ask("POST", "/send?foo=bar", "", &body);
        assert_eq!(refused.status, 413);
        let mut stream = KeptAlive::dial(admin).stream;
        let head = "POST /send?foo=bar HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(format!("{head}{:x}\r\n", body.len()).as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        assert_eq!(read_answer(&mut stream).status, 413);
    });
}

#[test]
fn only_allowed_networks_may_ask_and_on_the_admin_port_only_with_the_token() {
    for_each_setup(|driver, shards| {
        let mut strict = config(driver, shards);
        strict.internal_endpoint_access_whitelist = vec!["10.1.2.3/8".to_owned()];
        let gateway = Gateway::start(&strict);
        for target in ["/send?foo=bar", "/settags?foo=bar", "/close?foo=bar", "/status", "/tree", "/metrics"] {
            for address in [gateway.address(), gateway.server.admin_address().unwrap()] {
                let answer = ask(address, format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
                let open = target == "/metrics" && address != gateway.address();
                assert_eq!(answer.status, if open { 200 } else { 403 }, "{target}");
            }
        }
        let mut guarded = config(driver, shards);
        guarded.metrics.token = "secret".to_owned();
        let gateway = Gateway::start(&guarded);
        let mut admin = KeptAlive::dial(gateway.server.admin_address().unwrap());
        assert_eq!(admin.ask("GET", "/status", "", b"").status, 401);
        assert_eq!(admin.ask("GET", "/status", "Authorization: Bearer secret\r\n", b"").status, 200);
        assert_eq!(gateway.control().get("/status"), "");
    });
}

#[test]
fn a_server_without_a_gateway_has_no_control_routes() {
    for_each_setup(|driver, shards| {
        let server = super::support::start(&super::support::config(driver, shards));
        assert_eq!(ask(server.address(), "GET /status HTTP/1.1\r\nHost: x\r\n\r\n").status, 404);
        let mut admin = KeptAlive::dial(server.admin_address().unwrap());
        assert_eq!(admin.ask("GET", "/status", "", b"").status, 404);
    });
}

#[test]
fn requests_that_stop_anywhere_cost_only_themselves() {
    for_each_setup(|driver, shards| {
        let mut config = config(driver, shards);
        config.server.shutdown_timeout_ms = 1000;
        let gateway = Gateway::start(&config);
        let request =
            "POST /send?foo=bar HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n0\r\n\r\n";
        for cut in (0..request.len()).step_by(3) {
            let mut stream = dial(gateway.address());
            stream.write_all(&request.as_bytes()[..cut]).unwrap();
            if cut % 2 == 0 {
                super::support::raw::reset_on_close(&stream);
            }
        }
        let (_client, id) = gateway.connect();
        assert_eq!(gateway.control().get("/status"), format!("id={id} foo=bar version=2 \n"));
        gateway.server.shutdown();
        gateway.server.wait();
    });
}
