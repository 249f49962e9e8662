//! The gateway's neighbours: where events go, where the connections' state is kept, and `GET /metrics` beside them.
//!
//! An address that is empty is off. Names follow wsgateway's, so that its files work as they are.

use serde_yaml::{Mapping, Value};

use super::address;
use super::section::section;
use super::template;

section! {
    /// `prometheus`: the metrics among the control routes.
    pub struct PrometheusConfig {
        /// serve /metrics on the server's own port too, to the allowed networks
        enabled: bool = true;
    }
}

section! {
    /// `connection_redis_sync`: each connection's address and tags, kept in Redis while it lives.
    pub struct ConnectionRedisSyncConfig {
        /// redis://user:password@host:6379/0?client_name=x; "" is off
        addr: String = String::new(), check address::redis, loose = true;
    }
}

section! {
    /// `stream_redis`: events into a Redis stream.
    pub struct StreamRedisConfig {
        /// redis://user:password@host:6379/0?client_name=x; "" is off
        addr: String = String::new(), check address::redis, loose = true;
        /// stream to add to; {tag.NAME:default} and {json.NAME:default} are filled in
        stream_name: String = "connectionevents".to_owned(), check template::check_name, loose = true;
        /// entries that the stream keeps, about; 0 keeps all
        max_len: u64 = 0, in 0..=1000000000000;
        /// events that may wait for the target; above it they are dropped and counted
        buffer_events_max: usize = 100000, in 1..=100000000;
        /// bytes of events that may wait for the target; above it they are dropped and counted
        buffer_bytes_max: usize = 67108864, in 65536..=68719476736;
    }
}

section! {
    /// `stream_amqp`: events to an AMQP 0-9-1 broker such as RabbitMQ.
    pub struct StreamAmqpConfig {
        /// amqp://user:password@host:5672/vhost; "" is off
        addr: String = String::new(), check address::amqp, loose = true;
        /// topic exchange, declared durable; "" is the default exchange
        exchange: String = String::new(), check short_string, loose = true;
        /// queue, declared durable and bound to the exchange with #; "" is none
        queue: String = String::new(), check short_string, loose = true;
        /// routing key; {tag.NAME:default} and {json.NAME:default} are filled in
        routing_key: String = String::new(), check template::check, loose = true;
        /// accepted, as wsgateway has it, and without effect
        headers: Value = Value::Mapping(Mapping::new()), loose = true;
        /// events that may wait for the target; above it they are dropped and counted
        buffer_events_max: usize = 100000, in 1..=100000000;
        /// bytes of events that may wait for the target; above it they are dropped and counted
        buffer_bytes_max: usize = 67108864, in 65536..=68719476736;
    }
}

section! {
    /// `stream_nats`: events to NATS.
    pub struct StreamNatsConfig {
        /// nats://user:password@host:4222; "" is off
        addr: String = String::new(), check address::nats, loose = true;
        /// subject; {tag.NAME:default} and {json.NAME:default} are filled in
        subject: String = "connectionevents".to_owned(), check template::check_name, loose = true;
        /// events that may wait for the target; above it they are dropped and counted
        buffer_events_max: usize = 100000, in 1..=100000000;
        /// bytes of events that may wait for the target; above it they are dropped and counted
        buffer_bytes_max: usize = 67108864, in 65536..=68719476736;
    }
}

section! {
    /// `stream_webhook`: events by HTTP POST.
    pub struct StreamWebhookConfig {
        /// http://host/path or https://host/path; "" is off
        url: String = String::new(), check address::http, loose = true;
        /// ms that one request may take
        timeout_ms: u64 = 5000, in 1..=3600000;
        /// requests at a time; a connection's events go one after the other
        concurrency_max: usize = 16, in 1..=4096;
        /// attempts after the first; then the event is dropped and counted
        retries_max: u32 = 5, in 0..=1000;
        /// events that may wait for the target; above it they are dropped and counted
        buffer_events_max: usize = 100000, in 1..=100000000;
        /// bytes of events that may wait for the target; above it they are dropped and counted
        buffer_bytes_max: usize = 67108864, in 65536..=68719476736;
    }
}

/// AMQP 0-9-1 section 4.2.5.3: names of exchanges and queues have at most 255 bytes.
fn short_string(name: &str) -> Result<(), String> {
    if name.len() > 255 { Err(format!("has {} bytes; allowed are 255", name.len())) } else { Ok(()) }
}
