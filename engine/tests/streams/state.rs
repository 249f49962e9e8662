//! The state of connections in Redis: when it is written and removed, and what becomes of it when that Redis breaks.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use engine::config::{Config, Driver};
use tungstenite::Message;

use crate::brokers::{Broker, redis_connection};
use crate::consumers::Subscriber;
use crate::support::{PATIENCE, dial, eventually};
use crate::{Stage, close, config};

/// All connections that a Redis knows: address and tags by id.
type Known = BTreeMap<String, (String, BTreeMap<String, String>)>;

fn known(broker: &Broker) -> Known {
    let mut connection = redis_connection(broker.port).unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("connection:*").query(&mut connection).unwrap();
    let mut known = Known::new();
    for key in keys {
        let hash: BTreeMap<String, String> = redis::cmd("HGETALL").arg(&key).query(&mut connection).unwrap();
        let id = key.strip_prefix("connection:").unwrap();
        match id.strip_suffix(":tags") {
            Some(id) => known.entry(id.to_owned()).or_default().1 = hash,
            // Removed since its key was listed.
            None if hash.is_empty() => {}
            None => {
                assert_eq!(hash.len(), 1, "{hash:?}");
                known.entry(id.to_owned()).or_default().0 = hash["addr"].clone();
            }
        }
    }
    known
}

/// A configuration whose state is in that Redis.
fn to(broker: &Broker) -> Config {
    let mut config = config(Driver::Auto, 2);
    config.connection_redis_sync.addr = broker.url();
    config
}

fn tags<const N: usize>(tags: [(&str, &str); N]) -> BTreeMap<String, String> {
    tags.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// A connection and its id, told by its first event.
fn connect(stage: &Stage, subscriber: &Subscriber) -> (tungstenite::WebSocket<TcpStream>, String) {
    let client = stage.connect();
    let (_, event) = subscriber.next();
    assert_eq!(event.action, "open");
    (client, event.connection)
}

#[test]
fn the_state_is_there_while_the_connection_is() {
    let broker = Broker::redis("state-life");
    let stage = Stage::start(&to(&broker));
    let client = stage.connect();
    eventually("the state is written", || known(&broker).len() == 1);
    let (id, (addr, first)) = known(&broker).pop_first().unwrap();
    assert_eq!(addr, client.get_ref().local_addr().unwrap().to_string());
    assert_eq!(first, tags([("group", "a b"), ("hidden", "x")]));
    stage.control(&format!("/settags?id={id}"), "group=&user=1%002&line=%0A");
    eventually("the tags are written", || known(&broker)[&id].1.len() == 3);
    assert_eq!(known(&broker)[&id].1, tags([("hidden", "x"), ("line", "\n"), ("user", "1\x002")]));
    stage.control(&format!("/settags?id={id}"), "hidden=&user=&line=");
    eventually("no tags are left", || known(&broker)[&id].1.is_empty());
    close(client);
    eventually("the state is removed", || known(&broker).is_empty());
    // Who is there at the end is closed, and removed, by it.
    let left = stage.connect();
    eventually("the state is written", || known(&broker).len() == 1);
    let ending = std::thread::spawn(move || stage.end());
    let mut left = left;
    while left.read().is_ok() {}
    ending.join().unwrap();
    assert_eq!(known(&broker), Known::new());
}

#[test]
fn the_state_comes_before_the_open_event_and_goes_after_the_close_event() {
    let broker = Broker::redis("state-order");
    let mut config = to(&broker);
    config.stream_redis.addr = broker.url();
    let stage = Stage::start(&config);
    eventually("both are reached", || stage.is_up("redis") && stage.is_up("state"));
    let mut monitor = dial(([127, 0, 0, 1], broker.port).into());
    monitor.write_all(b"MONITOR\r\n").unwrap();
    let mut lines = BufReader::new(monitor).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "+OK");
    for _ in 0..20 {
        close(stage.connect());
    }
    // By connection: what was done, in order.
    let mut done: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let began = Instant::now();
    while done.values().filter(|steps| steps.len() == 4).count() < 20 {
        assert!(began.elapsed() < PATIENCE, "{done:?}");
        let line = lines.next().unwrap();
        let words: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
        let (key, step) = match words[..] {
            ["HSET", key, "addr", _] => (key, "state"),
            ["XADD", _, "*", "connection", id, "action", action, ..] => (id, action),
            // The tags go alone before they are written again.
            ["DEL", key, _] => (key, "removal"),
            _ => continue,
        };
        let id = key.strip_prefix("connection:").unwrap_or(key);
        done.entry(id.to_owned()).or_default().push(step.to_owned());
    }
    for (id, steps) in &done {
        assert_eq!(steps, &["state", "open", "close", "removal"], "{id}");
    }
    stage.end();
}

#[test]
fn a_redis_that_was_away_learns_what_happened_meanwhile() {
    let (mut broker, nats) = (Broker::redis("state-away"), Broker::nats("state-away-nats"));
    let subscriber = Subscriber::subscribe(&nats);
    let mut config = to(&broker);
    config.stream_nats.addr = nats.url();
    let stage = Stage::start(&config);
    eventually("both are reached", || stage.is_up("nats") && stage.is_up("state"));
    let (_stays, stays) = connect(&stage, &subscriber);
    let (leaves, left) = connect(&stage, &subscriber);
    let (_changes, changes) = connect(&stage, &subscriber);
    assert_eq!(known(&broker).len(), 3);
    broker.kill();
    eventually("the state is down", || !stage.is_up("state"));
    close(leaves);
    assert_eq!(subscriber.next().1.connection, left);
    stage.control(&format!("/settags?id={changes}"), "user=me");
    let began = Instant::now();
    let (_new, new) = connect(&stage, &subscriber);
    assert!(began.elapsed() < Duration::from_secs(1), "an event waited {:?} for a Redis that is away", began.elapsed());
    broker.start();
    let all = [("group", "a b"), ("hidden", "x")];
    let expected: BTreeMap<_, _> =
        [(stays.clone(), tags(all)), (changes, tags([all[0], all[1], ("user", "me")])), (new, tags(all))].into();
    let as_it_should_be = |broker: &Broker| {
        known(broker).into_iter().map(|(id, (_, tags))| (id, tags)).collect::<BTreeMap<_, _>>() == expected
    };
    eventually("the state is as it should be", || as_it_should_be(&broker));
    // One that lost everything as well.
    redis::cmd("FLUSHALL").exec(&mut redis_connection(broker.port).unwrap()).unwrap();
    broker.kill();
    eventually("the state is down", || !stage.is_up("state"));
    broker.start();
    eventually("the state is as it should be", || as_it_should_be(&broker));
    assert_ne!(known(&broker)[&stays].0, "");
    stage.end();
}

#[test]
fn a_redis_that_does_not_answer_holds_events_up_for_a_moment_only() {
    let (broker, nats) = (Broker::redis("state-stopped"), Broker::nats("state-stopped-nats"));
    let subscriber = Subscriber::subscribe(&nats);
    let mut config = to(&broker);
    config.stream_nats.addr = nats.url();
    let stage = Stage::start(&config);
    eventually("both are reached", || stage.is_up("nats") && stage.is_up("state"));
    broker.stop();
    for _ in 0..3 {
        let began = Instant::now();
        let (mut client, id) = connect(&stage, &subscriber);
        client.send(Message::text("0 0")).unwrap();
        close(client);
        let rest = [subscriber.next().1, subscriber.next().1];
        assert!(began.elapsed() < Duration::from_secs(3), "held up for {:?}", began.elapsed());
        assert_eq!(
            rest.map(|event| (event.connection, event.action)),
            ["message", "close"].map(|action| (id.clone(), action.to_owned()))
        );
    }
    broker.go_on();
    eventually("nothing is left", || stage.is_up("state") && known(&broker).is_empty());
    stage.end();
}
