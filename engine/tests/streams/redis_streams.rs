//! Redis Streams: the entries as applications read them, breaks, and entries that Redis refuses.

use engine::config::Driver;
use tungstenite::Message;

use crate::breaks::{BUFFER_EVENTS_MAX, survives};
use crate::brokers::{Broker, redis_connection};
use crate::consumers::Group;
use crate::heard::{Event, Heard};
use crate::load::{CLIENTS, Load};
use crate::support::{drivers, eventually};
use crate::{Stage, close, config, send_and_close};

const STREAM: &str = "connectionevents";

/// A configuration whose events go to that Redis.
fn to(broker: &Broker, driver: Driver, shards: u16) -> engine::config::Config {
    let mut config = config(driver, shards);
    config.stream_redis.addr = broker.url();
    config
}

#[test]
fn entries_have_the_fields_of_their_actions() {
    let broker = Broker::redis("redis-fields");
    for &driver in drivers() {
        redis::cmd("FLUSHALL").exec(&mut redis_connection(broker.port).unwrap()).unwrap();
        let group = Group::create(&broker, STREAM);
        let stage = Stage::start(&to(&broker, driver, 2));
        let client = stage.connect();
        let big = vec![0xff; 300_000];
        let binary = [Message::binary(&b"\xff\x00"[..]), Message::binary(big.clone()), Message::binary(&b"UTF-8"[..])];
        send_and_close(client, [Message::text("é\n"), Message::text("")].into_iter().chain(binary));
        stage.settled("redis", 7);
        let events = group.read_all();
        let id = &events[0].connection;
        assert_eq!((id.len(), id.matches('-').count()), (36, 4), "{id} is no UUID");
        let event = |action: &str, kind: Option<&str>, message: Option<&[u8]>| Event {
            connection: id.clone(),
            action: action.to_owned(),
            tags: "group=a+b".to_owned(),
            kind: kind.map(str::to_owned),
            message: message.map(<[u8]>::to_vec),
            encoding: None,
        };
        let expected = [
            event("open", None, None),
            event("message", Some("text"), Some("é\n".as_bytes())),
            event("message", Some("text"), Some(b"")),
            event("message", Some("binary"), Some(b"\xff\x00")),
            event("message", Some("binary"), Some(&big)),
            event("message", Some("binary"), Some(b"UTF-8")),
            event("close", None, None),
        ];
        assert!(
            events == expected,
            "{:?}",
            events.iter().map(|event| (&event.action, &event.kind)).collect::<Vec<_>>()
        );
        stage.end();
    }
}

#[test]
fn a_client_has_the_name_of_the_address() {
    let broker = Broker::redis("redis-name");
    let stage = Stage::start(&to(&broker, Driver::Auto, 1));
    eventually("the target is reached", || stage.is_up("redis"));
    let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut redis_connection(broker.port).unwrap()).unwrap();
    assert!(list.contains(" name=tests "), "{list}");
    stage.end();
}

#[test]
fn names_of_streams_follow_tags_and_messages() {
    let broker = Broker::redis("redis-template");
    let mut config = to(&broker, Driver::Auto, 1);
    config.stream_redis.stream_name = "e.{tag.group}.{tag.user:nobody}.{json.command}".to_owned();
    config.stream_redis.max_len = 10;
    let stage = Stage::start(&config);
    let mut client = stage.connect();
    let json = r#"{"do": {"what": 7}}"#;
    client.send(Message::text(json)).unwrap();
    stage.settled("redis", 2);
    let id = Group::create(&broker, "e.a b.nobody._").read_all().remove(0).connection;
    assert_eq!(stage.control(&format!("/settags?id={id}"), "user=me"), "1");
    client.send(Message::text(json)).unwrap();
    close(client);
    stage.settled("redis", 4);
    let actions = |stream: &str| {
        let events = Group::create(&broker, stream).read_all();
        events.iter().map(|event| format!("{} {}", event.action, event.tags)).collect::<Vec<_>>()
    };
    assert_eq!(actions("e.a b.nobody.7"), ["message group=a+b"]);
    assert_eq!(actions("e.a b.me.7"), ["message group=a+b&user=me"]);
    assert_eq!(actions("e.a b.me._"), ["close group=a+b&user=me"]);
    // About ten stay: Redis drops whole nodes of a stream, of a hundred entries each.
    send_and_close(stage.connect(), (0..1000).map(|_| Message::text(json)));
    stage.settled("redis", 1006);
    let len =
        |stream| redis::cmd("XLEN").arg(stream).query::<u64>(&mut redis_connection(broker.port).unwrap()).unwrap();
    assert!((10..=200).contains(&len("e.a b.nobody.7")));
    stage.end();
}

#[test]
fn a_consumer_group_reads_each_event_once_and_in_order() {
    let broker = Broker::redis("redis-load");
    let group = Group::create(&broker, STREAM);
    let stage = Stage::start(&to(&broker, Driver::Auto, 2));
    let sent = Load::during(&stage, |load| {
        load.run_for(std::time::Duration::from_secs(4));
    });
    assert!(sent >= 1_000, "only {sent} messages were sent");
    let figures = stage.settled("redis", sent + 2 * CLIENTS as u64);
    assert_eq!((figures.written, figures.dropped), (sent + 2 * CLIENTS as u64, 0));
    let heard = Heard::of(group.read_all());
    assert_eq!((heard.count(), heard.duplicates), (figures.written, 0));
    heard.check_order(CLIENTS, true);
    stage.end();
}

#[test]
fn a_redis_that_dies_and_stops_costs_only_what_the_buffer_cannot_hold() {
    let mut broker = Broker::redis("redis-breaks");
    let group = Group::create(&broker, STREAM);
    let mut config = to(&broker, Driver::Auto, 2);
    config.stream_redis.buffer_events_max = BUFFER_EVENTS_MAX as usize;
    let figures = survives(&config, "redis", &mut broker);
    let heard = Heard::of(group.read_all());
    assert_eq!(heard.count(), figures.written, "{figures:?}");
    heard.check_order(CLIENTS, figures.dropped == 0);
    heard.check_duplicates(2);
}

#[test]
fn a_redis_that_comes_late_gets_what_the_buffer_could_hold() {
    let mut broker = Broker::absent_redis("redis-late");
    let mut config = to(&broker, Driver::Auto, 1);
    config.stream_redis.buffer_events_max = 50;
    let stage = Stage::start(&config);
    send_and_close(stage.connect(), (0..100).map(|number| Message::text(format!("0 {number}"))));
    eventually("all events are accepted", || stage.figures("redis").accepted == 102);
    let figures = stage.figures("redis");
    assert_eq!((figures.waiting, figures.dropped, figures.written, figures.up), (50, 52, 0, false));
    broker.start();
    assert_eq!(stage.settled("redis", 102).written, 50);
    let texts: Vec<String> =
        Group::create(&broker, STREAM).read_all().iter().skip(1).map(|event| event.text().to_owned()).collect();
    assert_eq!(texts, (0..49).map(|number| format!("0 {number}")).collect::<Vec<_>>());
    stage.end();
}

#[test]
fn a_buffer_is_bounded_in_bytes_and_holds_one_event_however_large() {
    let mut broker = Broker::absent_redis("redis-bytes");
    let mut config = to(&broker, Driver::Auto, 1);
    config.stream_redis.buffer_bytes_max = 65_536;
    let stage = Stage::start(&config);
    send_and_close(stage.connect(), [Message::binary(vec![1; 60_000]), Message::binary(vec![2; 60_000])]);
    eventually("all events are accepted", || stage.figures("redis").accepted == 4);
    assert_eq!((stage.figures("redis").waiting, stage.figures("redis").dropped), (3, 1));
    broker.start();
    stage.settled("redis", 4);
    let mut alone = stage.connect();
    stage.settled("redis", 5);
    alone.send(Message::binary(vec![3; 1_000_000])).unwrap();
    stage.settled("redis", 6);
    close(alone);
    assert_eq!(stage.settled("redis", 7).dropped, 1);
    let lens = Group::create(&broker, STREAM)
        .read_all()
        .iter()
        .filter_map(|event| event.message.as_ref().map(Vec::len))
        .collect::<Vec<_>>();
    assert_eq!(lens, [60_000, 1_000_000]);
    stage.end();
}

#[test]
fn a_full_redis_makes_events_wait_and_keeps_their_order() {
    let broker = Broker::redis("redis-full");
    let stage = Stage::start(&to(&broker, Driver::Auto, 1));
    let mut connection = redis_connection(broker.port).unwrap();
    let mut set = |key: &str, value: &str| redis::cmd("CONFIG").arg("SET").arg(key).arg(value).exec(&mut connection);
    eventually("the target is reached", || stage.is_up("redis"));
    set("maxmemory", "1").unwrap();
    send_and_close(stage.connect(), (0..100).map(|number| Message::text(format!("0 {number}"))));
    eventually("all events wait", || stage.figures("redis").waiting == 102 && !stage.is_up("redis"));
    set("maxmemory", "0").unwrap();
    assert_eq!(stage.settled("redis", 102).written, 102);
    let heard = Heard::of(Group::create(&broker, STREAM).read_all());
    assert_eq!((heard.count(), heard.duplicates), (102, 0));
    heard.check_order(1, true);
    stage.end();
}

#[test]
fn an_entry_that_redis_refuses_is_dropped_and_holds_up_no_other() {
    let broker = Broker::redis("redis-refused");
    let mut config = to(&broker, Driver::Auto, 1);
    config.stream_redis.stream_name = "e.{json.command:other}".to_owned();
    redis::cmd("SET").arg("e.string").arg("x").exec(&mut redis_connection(broker.port).unwrap()).unwrap();
    let stage = Stage::start(&config);
    let messages = [r#"{"do": {"what": "string"}}"#, "after"];
    send_and_close(stage.connect(), messages.map(Message::text));
    let figures = stage.settled("redis", 4);
    assert_eq!((figures.written, figures.dropped, figures.up), (3, 1, true));
    let heard = Group::create(&broker, "e.other").read_all();
    assert_eq!(heard.iter().map(|event| event.action.as_str()).collect::<Vec<_>>(), ["open", "message", "close"]);
    stage.end();
}

#[test]
fn a_shutdown_waits_for_what_is_buffered() {
    let mut broker = Broker::absent_redis("redis-shutdown");
    let stage = Stage::start(&to(&broker, Driver::Auto, 2));
    // Still open at the shutdown: closed by it.
    let mut clients: Vec<_> = (0..10).map(|_| stage.connect()).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        (0..10).for_each(|number| client.send(Message::text(format!("{index} {number}"))).unwrap());
    }
    eventually("all messages are accepted", || stage.figures("redis").accepted == 110);
    let ending = std::thread::spawn(move || stage.end());
    clients.into_iter().for_each(|mut client| while client.read().is_ok() {});
    broker.start();
    ending.join().unwrap();
    let heard = Heard::of(Group::create(&broker, STREAM).read_all());
    assert_eq!((heard.count(), heard.duplicates), (120, 0));
    heard.check_order(10, true);
}
