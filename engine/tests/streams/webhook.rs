//! Webhooks: what is posted, how many at a time and in which order; answers that refuse, fail to come, or nobody there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use engine::config::{Config, Driver};
use tokio::runtime::Runtime;
use tungstenite::Message;

use crate::brokers::free_port;
use crate::heard::{Event, Heard};
use crate::load::{CLIENTS, Load};
use crate::support::eventually;
use crate::{Stage, config, send_and_close, time_until};

/// How an attempt is answered.
#[derive(Debug, Clone, Copy)]
enum Reply {
    Status(StatusCode),
    /// Not at all.
    Silence,
}

const OK: Reply = Reply::Status(StatusCode::NO_CONTENT);

/// Decides about an attempt: the event, and how often it came before.
type Judge = fn(&Event, usize) -> Reply;

/// What the server has seen.
#[derive(Default)]
struct Seen {
    /// Those that were answered 2xx, in order.
    accepted: Vec<Event>,
    attempts: HashMap<(String, String, Vec<u8>), usize>,
    /// Connections whose requests are under way.
    under_way: Vec<String>,
    under_way_max: usize,
    overlaps: usize,
    headers: HeaderMap,
}

/// An HTTP server that takes events.
struct Hook {
    port: u16,
    judge: Judge,
    seen: Arc<Mutex<Seen>>,
    runtime: Option<Runtime>,
}

impl Hook {
    fn absent(judge: Judge) -> Self {
        Self { port: free_port(), judge, seen: Arc::default(), runtime: None }
    }

    fn start(judge: Judge) -> Self {
        let mut hook = Self::absent(judge);
        hook.listen();
        hook
    }

    /// Begins to listen, on the same port each time.
    fn listen(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (judge, seen) = (self.judge, Arc::clone(&self.seen));
        let answer = move |headers: HeaderMap, body: Bytes| answer(judge, Arc::clone(&seen), headers, body);
        let router = Router::new().route("/hook", post(answer));
        let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", self.port))).unwrap();
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        self.runtime = Some(runtime);
    }

    /// Ends it with all its connections, in the middle of whatever it does.
    fn kill(&mut self) {
        self.runtime.take().expect("it listens").shutdown_background();
        eventually("the port is closed", || std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err());
        self.seen().under_way.clear();
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn config(&self) -> Config {
        let mut config = config(Driver::Auto, 2);
        config.stream_webhook.url = format!("http://user:pass@127.0.0.1:{}/hook", self.port);
        config
    }
}

async fn answer(judge: Judge, seen: Arc<Mutex<Seen>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let event = Event::of_json(&body);
    let key = (event.connection.clone(), event.action.clone(), event.message.clone().unwrap_or_default());
    let reply = {
        let mut seen = seen.lock().unwrap();
        seen.headers = headers;
        seen.overlaps += usize::from(seen.under_way.contains(&event.connection));
        seen.under_way.push(event.connection.clone());
        seen.under_way_max = seen.under_way_max.max(seen.under_way.len());
        let attempts = seen.attempts.entry(key).or_default();
        *attempts += 1;
        judge(&event, *attempts - 1)
    };
    // Others may come meanwhile, of other connections.
    tokio::time::sleep(Duration::from_millis(2)).await;
    if matches!(reply, Reply::Silence) {
        leave(&mut seen.lock().unwrap(), &event);
        std::future::pending::<()>().await;
    }
    let mut seen = seen.lock().unwrap();
    leave(&mut seen, &event);
    let Reply::Status(status) = reply else { unreachable!("silence stays silent") };
    if status.is_success() {
        seen.accepted.push(event);
    }
    status
}

fn leave(seen: &mut Seen, event: &Event) {
    let place = seen.under_way.iter().position(|connection| *connection == event.connection);
    if let Some(place) = place {
        seen.under_way.remove(place);
    }
}

#[test]
fn events_are_posted_side_by_side_and_in_order_for_each_connection() {
    let hook = Hook::start(|_, _| OK);
    let stage = Stage::start(&hook.config());
    let sent = Load::during(&stage, |load| {
        load.run_for(Duration::from_secs(2));
    });
    let figures = stage.settled("webhook", sent + 2 * CLIENTS as u64);
    assert_eq!((figures.written, figures.dropped), (figures.accepted, 0));
    stage.end();
    let mut seen = hook.seen();
    let heard = Heard::of(std::mem::take(&mut seen.accepted));
    assert_eq!((heard.count(), heard.duplicates), (figures.written, 0));
    heard.check_order(CLIENTS, true);
    assert_eq!(seen.overlaps, 0, "a connection's requests were under way together");
    assert!((2..=16).contains(&seen.under_way_max), "{} at a time", seen.under_way_max);
    let header = |name: &str| seen.headers[name].to_str().unwrap();
    assert_eq!((header("content-type"), header("authorization")), ("application/json", "Basic dXNlcjpwYXNz"));
}

#[test]
fn what_is_refused_is_tried_again_and_then_dropped_while_others_go_on() {
    // A message 1 is refused always, a 2 the first time; a 3 is not answered the first time.
    let hook =
        Hook::start(|event, attempts| match (event.text().split_once(' ').map(|(_, number)| number), attempts) {
            (Some("1"), _) => Reply::Status(StatusCode::INTERNAL_SERVER_ERROR),
            (Some("2"), 0) => Reply::Status(StatusCode::FOUND),
            (Some("3"), 0) => Reply::Silence,
            _ => OK,
        });
    let mut config = hook.config();
    config.stream_webhook.retries_max = 2;
    config.stream_webhook.timeout_ms = 300;
    let stage = Stage::start(&config);
    send_and_close(stage.connect(), (0..5).map(|number| Message::text(format!("0 {number}"))));
    send_and_close(stage.connect(), (10..15).map(|number| Message::text(format!("1 {number}"))));
    let figures = stage.settled("webhook", 14);
    assert_eq!((figures.written, figures.dropped, figures.up), (13, 1, true));
    stage.end();
    let mut seen = hook.seen();
    let attempts = |number: usize| {
        let of = |(key, _): &(&(_, _, Vec<u8>), _)| key.2 == format!("0 {number}").into_bytes();
        let (_, attempts): (&(String, String, Vec<u8>), &usize) = seen.attempts.iter().find(of).unwrap();
        *attempts
    };
    assert_eq!([0, 1, 2, 3, 4].map(attempts), [1, 3, 2, 2, 1]);
    let accepted = std::mem::take(&mut seen.accepted);
    let place = |text: &str| accepted.iter().position(|event| event.text() == text).unwrap();
    assert!(place("1 14") < place("0 4"), "the other connection had to wait");
    let heard = Heard::of(accepted);
    assert_eq!((heard.count(), heard.duplicates), (13, 0));
    heard.check_order(2, false);
}

#[test]
fn events_wait_while_nobody_is_there() {
    let mut hook = Hook::absent(|_, _| OK);
    let mut config = hook.config();
    config.stream_webhook.retries_max = 0;
    let stage = Stage::start(&config);
    send_and_close(stage.connect(), (0..50).map(|number| Message::text(format!("0 {number}"))));
    eventually("all events wait", || stage.figures("webhook").waiting == 52);
    assert!(!stage.is_up("webhook"));
    hook.listen();
    assert_eq!(stage.settled("webhook", 52).written, 52);
    stage.end();
    let heard = Heard::of(std::mem::take(&mut hook.seen().accepted));
    assert_eq!((heard.count(), heard.duplicates), (52, 0));
    heard.check_order(1, true);
}

#[test]
fn a_server_that_dies_under_load_gets_everything_when_it_is_back() {
    let mut hook = Hook::start(|_, _| OK);
    let stage = Stage::start(&hook.config());
    let sent = Load::during(&stage, |load| {
        load.run_for(Duration::from_secs(1));
        hook.kill();
        load.run_for(Duration::from_secs(2));
        assert!(!stage.is_up("webhook"));
        hook.listen();
        let back = time_until("the server is reached again", || stage.is_up("webhook"));
        assert!(back <= Duration::from_secs(5), "{back:?}");
        load.run_for(Duration::from_secs(1));
    });
    let figures = stage.settled("webhook", sent + 2 * CLIENTS as u64);
    assert_eq!((figures.written, figures.dropped), (sent + 2 * CLIENTS as u64, 0));
    stage.end();
    let heard = Heard::of(std::mem::take(&mut hook.seen().accepted));
    // Of the requests under way when it died, those that were accepted but not answered come again.
    assert_eq!(heard.count(), figures.written);
    assert!(heard.duplicates <= 16, "{} came twice", heard.duplicates);
    heard.check_order(CLIENTS, true);
}
