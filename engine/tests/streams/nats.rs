//! NATS: subjects and messages, breaks, and messages that are too large for it.

use engine::config::{Config, Driver};
use tungstenite::Message;

use crate::breaks::{BUFFER_EVENTS_MAX, survives};
use crate::brokers::Broker;
use crate::consumers::Subscriber;
use crate::heard::Heard;
use crate::load::CLIENTS;
use crate::support::eventually;
use crate::{Stage, config, send_and_close};

/// A configuration whose events go to that NATS.
fn to(broker: &Broker, subject: &str) -> Config {
    let mut config = config(Driver::Auto, 2);
    config.stream_nats.addr = broker.url();
    config.stream_nats.subject = subject.to_owned();
    config
}

#[test]
fn subjects_are_filled_in_and_valid() {
    let broker = Broker::nats("nats-subjects");
    let subscriber = Subscriber::subscribe(&broker);
    let stage = Stage::start(&to(&broker, "events.{tag.group}.{json.command}"));
    eventually("the target is reached", || stage.is_up("nats"));
    let hostile = r#"{"do": {"what": "> x\r\nPUB evil 0\r\n"}}"#;
    send_and_close(stage.connect(), [Message::text(hostile), Message::binary(&b"\xff\x00"[..])]);
    assert_eq!(stage.settled("nats", 4).written, 4);
    let heard: Vec<_> = (0..4).map(|_| subscriber.next()).collect();
    let subjects: Vec<_> = heard.iter().map(|(subject, _)| subject.as_str()).collect();
    let hostile_subject = "events.a_b.__x__PUB_evil_0__";
    assert_eq!(subjects, ["events.a_b._", hostile_subject, "events.a_b._", "events.a_b._"]);
    let events: Vec<_> = heard.iter().map(|(_, event)| (event.action.as_str(), event.tags.as_str())).collect();
    assert_eq!(events, ["open", "message", "message", "close"].map(|action| (action, "group=a+b")));
    assert_eq!((heard[1].1.text(), heard[2].1.encoding.as_deref()), (hostile, Some("base64")));
    assert_eq!(subscriber.rest(), []);
    stage.end();
}

#[test]
fn a_message_above_the_server_s_limit_is_dropped_and_holds_up_no_other() {
    let broker = Broker::nats("nats-large");
    let subscriber = Subscriber::subscribe(&broker);
    let stage = Stage::start(&to(&broker, "events"));
    eventually("the target is reached", || stage.is_up("nats"));
    // Its default is 1 MiB.
    send_and_close(stage.connect(), [Message::text("x".repeat(1 << 20)), Message::text("0 0")]);
    let figures = stage.settled("nats", 4);
    assert_eq!((figures.written, figures.dropped, figures.up), (3, 1, true));
    let heard = Heard::of(subscriber.rest());
    assert_eq!(heard.count(), 3);
    heard.check_order(1, true);
    stage.end();
}

#[test]
fn a_nats_that_dies_and_stops_gets_no_event_twice() {
    let mut broker = Broker::nats("nats-breaks");
    let subscriber = Subscriber::subscribe(&broker);
    let mut config = to(&broker, "events");
    config.stream_nats.buffer_events_max = BUFFER_EVENTS_MAX as usize;
    let figures = survives(&config, "nats", &mut broker);
    let mut heard = Heard::of(subscriber.rest());
    // NATS core acknowledges nothing. What was flushed to a stopped server lies in the old connection until it goes on, and
    // is then read beside what came by the new one: at most what came until the connection was given up.
    let late = heard.take_late();
    assert!((late as u64) < figures.written / 4, "{late} late, {figures:?}");
    // At most once: what was flushed to a server that died, or before the subscriber was back, nobody heard.
    assert!(heard.count() <= figures.written, "{} heard, {figures:?}", heard.count());
    assert!(heard.count() > figures.written / 2, "{} heard, {figures:?}", heard.count());
    assert_eq!(heard.duplicates, 0);
    heard.check_order(CLIENTS, false);
}
