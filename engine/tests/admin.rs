//! The admin port from outside: its routes, its guard, its limits and its end, on both runtimes.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod admin_support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use admin_support::{Ledger, Running, Setup, header, request, status, wait};
use axum::Router;
use axum::routing::{get, post};
use engine::control::access::Access;
use engine::control::health::State;
use engine::control::http::{Limits, bind};
use tokio::sync::Notify;

#[test]
fn the_open_routes_answer_on_both_runtimes() {
    for prefer_io_uring in [true, false] {
        let server = Running::start(Setup { prefer_io_uring, ..Setup::default() });
        let answer = server.get("/healthz");
        assert_eq!((status(&answer), answer.ends_with("\r\n\r\nok")), (200, true), "{answer}");

        let answer = server.get("/readyz");
        assert_eq!((status(&answer), answer.ends_with("\r\n\r\nstarting")), (503, true), "{answer}");
        server.health.advance(State::Ready);
        let answer = server.get("/readyz");
        assert_eq!((status(&answer), answer.ends_with("\r\n\r\nready")), (200, true), "{answer}");
        server.health.advance(State::Draining);
        let answer = server.get("/readyz");
        assert_eq!((status(&answer), answer.ends_with("\r\n\r\ndraining")), (503, true), "{answer}");

        let answer = server.get("/metrics");
        assert_eq!(header(&answer, "content-type"), Some("text/plain; version=0.0.4; charset=utf-8"), "{answer}");
        server.stop();
    }
}

#[test]
fn the_ledger_is_json_or_a_503_with_the_reason() {
    let server = Running::start(Setup::default());
    let answer = server.get("/ledger");
    assert_eq!((status(&answer), header(&answer, "content-type")), (200, Some("application/json")));
    assert!(answer.ends_with(r#"{"topics":[]}"#), "{answer}");
    server.stop();

    let server = Running::start(Setup { ledger: Ledger::Fails("shard 1 does not answer"), ..Setup::default() });
    let answer = server.get("/ledger");
    assert_eq!(status(&answer), 503);
    assert!(answer.ends_with("shard 1 does not answer\n"), "{answer}");
    server.stop();
}

#[test]
fn unknown_paths_are_404_and_wrong_methods_405_with_allow() {
    let server = Running::start(Setup::default());
    for path in ["/", "/metrics/", "/Metrics", "/ledger/x", "/%2e%2e/metrics"] {
        assert_eq!(status(&server.get(path)), 404, "{path}");
    }
    for path in ["/metrics", "/healthz", "/readyz", "/ledger"] {
        for method in ["POST", "DELETE", "BREW"] {
            let answer = server.send(&request(method, path));
            assert_eq!((status(&answer), header(&answer, "allow")), (405, Some("GET,HEAD")), "{method} {path}");
        }
        let answer = server.send(&request("HEAD", path));
        assert!(answer.ends_with("\r\n\r\n") && status(&answer) != 405, "{answer}");
    }
    server.stop();
}

#[test]
fn strangers_get_the_open_routes_only() {
    let access = Access::new(vec!["10.0.0.0/8".parse().unwrap()], "");
    let server = Running::start(Setup { access, ..Setup::default() });
    for path in ["/ledger", "/", "/unknown", "/extra"] {
        for method in ["GET", "POST"] {
            let answer = server.send(&request(method, path));
            assert_eq!((status(&answer), header(&answer, "allow")), (403, None), "{method} {path}");
        }
    }
    // What a client says of itself does not count.
    let forged = "GET /ledger HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.0.0.1\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&server.send(forged)), 403);
    assert_eq!(status(&server.get("/metrics")), 200);
    assert_eq!(status(&server.get("/healthz")), 200);
    server.stop();
}

#[test]
fn a_token_is_asked_for_behind_the_allow_list() {
    let server = Running::start(Setup { access: Access::loopback("s3cret"), ..Setup::default() });
    let with = |authorization: &str| {
        let head = format!("Host: x\r\nConnection: close\r\nAuthorization: {authorization}");
        server.send(&format!("GET /ledger HTTP/1.1\r\n{head}\r\n\r\n"))
    };
    for refused in [server.get("/ledger"), server.get("/unknown"), with("Bearer s3cre"), with("Basic czNjcmV0")] {
        assert_eq!((status(&refused), header(&refused, "www-authenticate")), (401, Some("Bearer")), "{refused}");
    }
    assert_eq!(status(&with("Bearer s3cret")), 200);
    assert_eq!(status(&server.get("/metrics")), 200);
    server.stop();
}

#[test]
fn routes_of_a_mode_stand_behind_the_guard_too() {
    let routes =
        || Router::new().route("/extra", get(|| async { "more" })).route("/echo", post(|body: String| async { body }));
    let server = Running::start(Setup { routes: routes(), ..Setup::default() });
    assert!(server.get("/extra").ends_with("\r\n\r\nmore"));
    assert_eq!(header(&server.get("/echo"), "allow"), Some("POST"));
    server.stop();

    let server = Running::start(Setup { routes: routes(), access: Access::loopback("s3cret"), ..Setup::default() });
    assert_eq!(status(&server.get("/extra")), 401);
    server.stop();
}

#[test]
fn http_is_spoken_whole() {
    let server = Running::start(Setup {
        routes: Router::new().route("/echo", post(|body: String| async { body })),
        ..Setup::default()
    });
    // Keep-alive and pipelining: three requests in one write, the last one ends the connection.
    let three = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2) + &request("GET", "/healthz");
    assert_eq!(server.send(&three).matches("HTTP/1.1 200 OK").count(), 3);
    let chunked = "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n";
    assert!(server.send(chunked).ends_with("abcdefg"));
    assert_eq!(status(&server.send("GET /healthz HTTP/1.0\r\n\r\n")), 200);
    assert_eq!(status(&server.send("nonsense\r\n\r\n")), 400);
    let long = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(200_000));
    assert_eq!(status(&server.send(&long)), 431);

    let mut waiting = server.connect();
    waiting.write_all(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n").unwrap();
    let mut interim = [0; 25];
    waiting.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    waiting.write_all(b"hi").unwrap();
    waiting.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nhi"), "{answer}");
    server.stop();
}

#[test]
fn curl_works() {
    let server = Running::start(Setup { access: Access::loopback("s3cret"), ..Setup::default() });
    let url = |path: &str| format!("http://{}{path}", server.address);
    let (code, output) = curl(&["--fail", "--verbose", &url("/healthz"), &url("/metrics")]);
    assert!(code == 0 && output.contains("websocket_connections 0\n"), "{output}");
    assert!(output.contains("Re-using existing"), "the connection was not kept alive: {output}");
    assert_eq!(curl(&["--fail", &url("/ledger")]).0, 22);
    let (code, output) = curl(&["--fail", "--oauth2-bearer", "s3cret", &url("/ledger")]);
    assert_eq!((code, output.as_str()), (0, r#"{"topics":[]}"#));
    server.stop();
}

/// curl's exit code, and all it wrote.
fn curl(arguments: &[&str]) -> (i32, String) {
    let output = Command::new("curl")
        .args(["--silent", "--noproxy", "*", "--max-time", "20"])
        .args(arguments)
        .output()
        .expect("curl is installed (apt-get install curl)");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn a_client_that_is_slow_with_its_head_or_idle_is_cut_off() {
    let limits = Limits { head_timeout: Duration::from_millis(300), ..Limits::default() };
    let server = Running::start(Setup { limits, ..Setup::default() });
    let half = "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ";
    let whole = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    for (sent, answers) in [("", 0), (half, 0), (whole, 1)] {
        let started = Instant::now();
        let mut client = server.connect();
        client.write_all(sent.as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        let waited = started.elapsed();
        assert!((Duration::from_millis(250)..Duration::from_secs(5)).contains(&waited), "{sent:?}: {waited:?}");
        assert_eq!(answer.matches("200 OK").count(), answers, "{sent:?}: {answer}");
    }
    server.stop();
}

#[test]
fn a_slow_body_is_408_and_a_slow_route_503() {
    let limits = Limits { request_timeout: Duration::from_millis(200), ..Limits::default() };
    let routes = Router::new()
        .route("/echo", post(|body: String| async { body }))
        .route("/never", get(std::future::pending::<&'static str>));
    let server = Running::start(Setup { routes, limits, ..Setup::default() });
    let answer = server.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf");
    assert_eq!((status(&answer), header(&answer, "connection")), (408, Some("close")));
    let answer = server.send("GET /never HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((status(&answer), header(&answer, "connection")), (503, Some("close")));
    server.stop();
}

#[test]
fn a_client_that_never_reads_loses_its_place() {
    let limits = Limits {
        lifetime: Duration::from_millis(200),
        lifetime_grace: Duration::from_millis(200),
        connections_max: 1,
        connections_reserved: 0,
        ..Limits::default()
    };
    let routes = Router::new().route("/large", get(|| async { "x".repeat(64 << 20) }));
    let server = Running::start(Setup { routes, limits, ..Setup::default() });
    let mut deaf = server.connect();
    deaf.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    // The first bytes of the answer say that it has the only place.
    deaf.read_exact(&mut [0; 1]).unwrap();
    let refused = server.get("/healthz");
    assert!(refused.is_empty() || status(&refused) == 503, "{refused}");
    server.until_ok("/healthz");
    server.stop();
}

#[test]
fn strangers_cannot_take_the_places_of_the_allow_list() {
    let limits = Limits { connections_max: 8, connections_reserved: 4, ..Limits::default() };
    let access = Access::new(vec!["127.0.0.2/32".parse().unwrap()], "");
    let server = Running::start(Setup { access, limits, ..Setup::default() });
    let mut strangers: Vec<TcpStream> = (0..4).map(|_| server.connect()).collect();
    for stranger in &mut strangers {
        stranger.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        stranger.read_exact(&mut [0; 1]).unwrap();
    }
    let refused = server.send("");
    assert!(refused.starts_with("HTTP/1.1 503 ") && header(&refused, "retry-after") == Some("1"), "{refused}");
    let url = format!("http://{}/ledger", server.address);
    assert_eq!(curl(&["--fail", "--interface", "127.0.0.2", &url]), (0, r#"{"topics":[]}"#.to_owned()));
    drop(strangers);
    server.until_ok("/healthz");
    server.stop();
}

#[test]
fn one_stranger_cannot_take_the_places_of_the_others() {
    let limits = Limits { connections_per_ip_max: 2, ..Limits::default() };
    let access = Access::new(vec!["127.0.0.2/32".parse().unwrap()], "");
    let server = Running::start(Setup { access, limits, ..Setup::default() });
    let mut hoard = [(); 2].map(|()| server.connect());
    for stranger in &mut hoard {
        stranger.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        stranger.read_exact(&mut [0; 1]).unwrap();
    }
    let refused = server.send("");
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    let url = format!("http://{}/healthz", server.address);
    assert_eq!(curl(&["--fail", "--interface", "127.0.0.3", &url]), (0, "ok".to_owned()));
    drop(hoard);
    server.until_ok("/healthz");
    server.stop();
}

#[test]
fn a_stop_finishes_what_is_being_answered_and_takes_nothing_new() {
    let [entered, release] = [(); 2].map(|()| Arc::new(Notify::new()));
    let route = {
        let (entered, release) = (entered.clone(), release.clone());
        move || async move {
            entered.notify_one();
            release.notified().await;
            "finished"
        }
    };
    let mut server = Running::start(Setup { routes: Router::new().route("/slow", get(route)), ..Setup::default() });
    let mut busy = server.connect();
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut idle = server.connect();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    idle.read_exact(&mut [0; 1]).unwrap();
    wait(&entered);

    server.request_stop();
    // An idle connection ends at once, and then the listener is gone.
    let mut rest = String::new();
    idle.read_to_string(&mut rest).unwrap();
    assert_eq!(TcpStream::connect(server.address).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    release.notify_one();
    let mut answer = String::new();
    busy.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nfinished") && header(&answer, "connection") == Some("close"), "{answer}");
    server.stop();
}

#[test]
fn a_stop_cuts_what_does_not_finish_by_the_deadline() {
    let entered = Arc::new(Notify::new());
    let route = {
        let entered = entered.clone();
        move || async move {
            entered.notify_one();
            std::future::pending::<&'static str>().await
        }
    };
    let routes = Router::new().route("/never", get(route));
    let server = Running::start(Setup { routes, deadline: Duration::from_millis(300), ..Setup::default() });
    let mut busy = server.connect();
    busy.write_all(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    wait(&entered);
    let started = Instant::now();
    server.stop();
    assert!(
        (Duration::from_millis(250)..Duration::from_secs(5)).contains(&started.elapsed()),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn the_port_is_free_again_at_once_and_a_taken_one_is_an_error_that_names_it() {
    let server = Running::start(Setup::default());
    let SocketAddr::V4(address) = server.address else { panic!("an IPv4 listener has an IPv4 address") };
    let taken = bind("127.0.0.1", address.port()).unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    assert!(taken.to_string().starts_with(&format!("cannot listen on {address}: ")), "{taken}");
    // The server closes first, so that its side stays in TIME_WAIT.
    let mut client = server.connect();
    client.write_all(request("GET", "/healthz").as_bytes()).unwrap();
    client.read_to_string(&mut String::new()).unwrap();
    drop(client);
    server.stop();
    bind("127.0.0.1", address.port()).unwrap();
}

#[test]
fn hosts_may_be_names_and_ipv6_addresses_with_or_without_brackets() {
    for host in ["localhost", "127.0.0.1", "0.0.0.0"] {
        assert_ne!(bind(host, 0).unwrap().local_addr().unwrap().port(), 0, "{host}");
    }
    let error = bind("no-such-host.invalid", 0).unwrap_err().to_string();
    assert!(error.starts_with("cannot listen on no-such-host.invalid:0: "), "{error}");
    if std::path::Path::new("/proc/net/if_inet6").exists() {
        for host in ["::1", "[::1]"] {
            assert!(bind(host, 0).unwrap().local_addr().unwrap().is_ipv6(), "{host}");
        }
    }
}
