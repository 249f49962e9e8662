//! AMQP 0-9-1 (RabbitMQ): each event a persistent message of JSON, published with confirms.
//!
//! A topic exchange is declared durable if it has a name, a queue durable if it has one, and bound with `#`. An event
//! that the broker refuses (basic.nack: a queue that is full and says so) is dropped.

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{FieldTable, ShortString};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ErrorKind, ExchangeKind};

use super::availability::Failure;
use super::drive::{Link, Progress, Target};
use super::encode;
use super::feed::Fate;
use super::log::refused;
use super::record::Record;
use super::template::fill;
use crate::config::StreamAmqpConfig;
use crate::config::template::Template;

/// Bytes of a short string at most (section 4.2.5.3).
const SHORT_STRING_BYTES_MAX: usize = 255;

/// A broker that has the exchange.
#[derive(Debug)]
pub(super) struct Amqp {
    uri: AMQPUri,
    exchange: ShortString,
    queue: ShortString,
    routing_key: Arc<Template>,
}

impl Amqp {
    /// The broker as configured.
    ///
    /// # Errors
    /// When its address is none, without the address itself.
    pub(super) fn new(config: &StreamAmqpConfig) -> Result<Self, String> {
        let mut uri: AMQPUri = config.addr.parse().map_err(|_| "is no AMQP address".to_owned())?;
        // As Go's client reads it: amqp://host/ is the default virtual host too.
        if uri.vhost.is_empty() {
            uri.vhost = "/".to_owned();
        }
        let name = |name: &str| ShortString::try_new(name).map_err(|error| error.to_string());
        let mut routing_key = Template::parse(&config.routing_key)?;
        // The default exchange routes by the queue's name; without one the broker would acknowledge and forget.
        if config.exchange.is_empty() && config.routing_key.is_empty() {
            routing_key = Template { pieces: vec![crate::config::template::Piece::Text(config.queue.clone())] };
        }
        Ok(Self {
            uri,
            exchange: name(&config.exchange)?,
            queue: name(&config.queue)?,
            routing_key: routing_key.into(),
        })
    }

    async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        let none = FieldTable::default;
        let named = |name: &ShortString| !name.as_str().is_empty();
        if named(&self.exchange) {
            let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
            channel.exchange_declare(self.exchange.clone(), ExchangeKind::Topic, durable, none()).await?;
        }
        if named(&self.queue) {
            channel.queue_declare(self.queue.clone(), QueueDeclareOptions::durable(), none()).await?;
        }
        if named(&self.exchange) && named(&self.queue) {
            let (queue, exchange) = (self.queue.clone(), self.exchange.clone());
            channel.queue_bind(queue, exchange, "#".into(), QueueBindOptions::default(), none()).await?;
        }
        Ok(())
    }
}

impl Target for Amqp {
    type Link = AmqpLink;

    async fn connect(&self) -> Result<AmqpLink, Failure> {
        let properties = ConnectionProperties::default().with_connection_name("ringrelay".into());
        let connection = Connection::connect_uri(self.uri.clone(), properties).await?;
        let channel = connection.create_channel().await?;
        self.declare(&channel).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let (exchange, routing_key) = (self.exchange.clone(), Arc::clone(&self.routing_key));
        Ok(AmqpLink { connection, channel, exchange, routing_key })
    }
}

/// A connection to it, with one channel.
pub(super) struct AmqpLink {
    connection: Connection,
    channel: Channel,
    exchange: ShortString,
    routing_key: Arc<Template>,
}

impl AmqpLink {
    async fn publish_all(&self, batch: &[Rc<Record>], fates: &mut Vec<Fate>) -> lapin::Result<()> {
        let mut confirms = Vec::with_capacity(batch.len());
        let seconds = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
            .with_timestamp(seconds);
        for record in batch {
            let routing_key = short_string(&fill(&self.routing_key, record));
            let (exchange, options) = (self.exchange.clone(), BasicPublishOptions::default());
            let json = encode::json(record);
            let published = self.channel.basic_publish(exchange, routing_key, options, &json, properties.clone());
            confirms.push(published.await?);
        }
        for confirm in confirms {
            let fate = if confirm.await?.is_nack() { refused("amqp", "refused (basic.nack)") } else { Fate::Written };
            fates.push(fate);
        }
        Ok(())
    }
}

impl Link for AmqpLink {
    async fn write(&mut self, batch: &[Rc<Record>]) -> Progress {
        let mut fates = Vec::with_capacity(batch.len());
        let failure = self.publish_all(batch, &mut fates).await.err();
        if let Some(error) = &failure
            && batch.len() == 1
            && is_about_the_message(error)
        {
            // Written again it would end the next channel as well.
            fates.push(refused("amqp", error));
        }
        Progress { fates, failure: failure.map(Failure::from) }
    }

    async fn check(&mut self) -> Result<(), Failure> {
        let status = self.connection.status();
        if status.connected() && self.channel.status().connected() {
            return Ok(());
        }
        Err(Failure("the connection is lost".to_owned()))
    }

    async fn close(self) {
        if let Err(error) = self.connection.close(200, "OK".into()).await {
            tracing::debug!("amqp: {error}");
        }
    }
}

/// Whether the broker ended the channel for what a single message is: too large.
fn is_about_the_message(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error)
        if matches!(error.kind(), AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED | AMQPSoftError::CONTENTTOOLARGE)))
}

/// As much of a text as a short string holds.
fn short_string(text: &str) -> ShortString {
    text[..text.floor_char_boundary(SHORT_STRING_BYTES_MAX)].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(addr: &str) -> StreamAmqpConfig {
        StreamAmqpConfig { addr: addr.to_owned(), ..Default::default() }
    }

    #[test]
    fn no_path_and_an_empty_one_are_the_default_virtual_host() {
        for (addr, vhost) in [
            ("amqp://guest:guest@localhost:5672", "/"),
            ("amqp://guest:guest@localhost:5672/", "/"),
            ("amqp://localhost/%2f", "/"),
            ("amqp://localhost/events", "events"),
        ] {
            assert_eq!(Amqp::new(&config(addr)).unwrap().uri.vhost, vhost, "{addr}");
        }
        let error = Amqp::new(&config("amqp://u:secret@h:port")).unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn without_exchange_and_routing_key_events_go_to_the_queue() {
        let amqp = Amqp::new(&StreamAmqpConfig { queue: "events".to_owned(), ..config("amqp://localhost") }).unwrap();
        assert_eq!(*amqp.routing_key, Template::parse("events").unwrap());
    }

    #[test]
    fn a_long_routing_key_is_cut_between_characters() {
        assert_eq!(short_string("a.b").as_str(), "a.b");
        assert_eq!(short_string(&"é".repeat(200)).as_str(), "é".repeat(127));
    }
}
