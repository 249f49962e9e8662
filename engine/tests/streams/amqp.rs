//! RabbitMQ: messages and their properties, exchanges, queues and routing keys, breaks. One broker for all of it: it takes
//! several seconds to start.

use engine::config::{Config, Driver};
use tungstenite::Message;

use crate::breaks::{BUFFER_EVENTS_MAX, survives};
use crate::brokers::{Broker, Certificate};
use crate::consumers::{Delivery, read_queue};
use crate::heard::Heard;
use crate::load::CLIENTS;
use crate::support::{connect, eventually};
use crate::tls::start_trusting;
use crate::{Stage, config, send_and_close};

/// A configuration whose events go to that RabbitMQ.
fn to(broker: &Broker, exchange: &str, queue: &str, routing_key: &str) -> Config {
    let mut config = config(Driver::Auto, 2);
    config.stream_amqp.addr = broker.url();
    config.stream_amqp.exchange = exchange.to_owned();
    config.stream_amqp.queue = queue.to_owned();
    config.stream_amqp.routing_key = routing_key.to_owned();
    config
}

/// Plays one connection and returns what is in the queue.
fn play(broker: &Broker, exchange: &str, queue: &str, routing_key: &str) -> Vec<Delivery> {
    let stage = Stage::start(&to(broker, exchange, queue, routing_key));
    let messages = [Message::text(r#"{"do": {"what": "run"}}"#), Message::binary(&b"\xff\x00"[..])];
    send_and_close(stage.connect(), messages);
    let figures = stage.settled("amqp", 4);
    assert_eq!((figures.written, figures.up), (4, true));
    stage.end();
    read_queue(broker, queue)
}

#[test]
fn rabbitmq_gets_every_event_and_survives_being_killed_and_stopped() {
    let certificate = Certificate::make("rabbitmq-tls");
    let mut broker = Broker::rabbitmq("rabbitmq", certificate.clone());
    messages_are_persistent_json(&broker);
    exchanges_and_routing_keys_are_as_configured(&broker);
    a_message_that_the_broker_will_not_have_is_dropped_alone(&broker);
    events_go_over_tls(&broker, &certificate);
    a_broker_that_dies_and_stops(&mut broker);
}

fn messages_are_persistent_json(broker: &Broker) {
    let before = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let deliveries = play(broker, "events", "fields", "");
    let actions: Vec<_> = deliveries.iter().map(|delivery| delivery.event.action.as_str()).collect();
    assert_eq!(actions, ["open", "message", "message", "close"]);
    for delivery in &deliveries {
        assert_eq!((delivery.content_type.as_deref(), delivery.delivery_mode), (Some("application/json"), Some(2)));
        assert!(delivery.timestamp.is_some_and(|at| (before..before + 60).contains(&at)), "{delivery:?}");
        assert_eq!((delivery.event.tags.as_str(), delivery.routing_key.as_str()), ("group=a+b", ""));
        assert_eq!(delivery.event.connection, deliveries[0].event.connection);
    }
    let message = |index: usize| {
        let event = &deliveries[index].event;
        (event.kind.as_deref().unwrap(), event.text(), event.encoding.as_deref())
    };
    assert_eq!(message(1), ("text", r#"{"do": {"what": "run"}}"#, None));
    assert_eq!(message(2), ("binary", "/wA=", Some("base64")));
}

fn exchanges_and_routing_keys_are_as_configured(broker: &Broker) {
    let keys = |deliveries: Vec<Delivery>| deliveries.into_iter().map(|it| it.routing_key).collect::<Vec<_>>();
    let filled = keys(play(broker, "events", "keys", "{tag.group}.{json.command:none}"));
    assert_eq!(filled, ["a b.none", "a b.run", "a b.none", "a b.none"]);
    assert_eq!(
        keys(play(broker, "", "plain", "")),
        ["plain"; 4],
        "the default exchange routes to the queue by its name"
    );
    // Bound to the exchange, so each of the plays above that used it left its events here too.
    assert_eq!(read_queue(broker, "fields").len(), 4);
}

fn a_message_that_the_broker_will_not_have_is_dropped_alone(broker: &Broker) {
    let stage = Stage::start(&to(broker, "large", "large", ""));
    let messages = ["0 0".to_owned(), "x".repeat(200_000), "0 1".to_owned()];
    send_and_close(stage.connect(), messages.map(Message::text));
    let figures = stage.settled("amqp", 5);
    assert_eq!((figures.written, figures.dropped), (4, 1));
    stage.end();
    let heard = Heard::of(read_queue(broker, "large").into_iter().map(|delivery| delivery.event).collect());
    assert_eq!(heard.count(), 4);
    heard.check_order(1, true);
}

fn events_go_over_tls(broker: &Broker, certificate: &Certificate) {
    let mut config = to(broker, "tls", "tls", "");
    config.stream_amqp.addr = broker.tls_url();
    let mut process = start_trusting(certificate, "rabbitmq-tls-server", &config);
    process.wait_for_line("connected; 0 events wait");
    send_and_close(connect(process.address, "/connect"), [Message::text("0 0")]);
    let written = "relay_events_total{target=\"amqp\",result=\"written\"}";
    eventually("all is written", || process.metric(written) == 3.0);
    assert_eq!(read_queue(broker, "tls").len(), 3);
}

fn a_broker_that_dies_and_stops(broker: &mut Broker) {
    let mut config = to(broker, "breaks", "breaks", "");
    config.stream_amqp.buffer_events_max = BUFFER_EVENTS_MAX as usize;
    let figures = survives(&config, "amqp", broker);
    let heard = Heard::of(read_queue(broker, "breaks").into_iter().map(|delivery| delivery.event).collect());
    assert_eq!(heard.count(), figures.written, "{figures:?}");
    heard.check_order(CLIENTS, figures.dropped == 0);
    heard.check_duplicates(2);
}
