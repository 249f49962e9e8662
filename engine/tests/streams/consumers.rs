//! Applications that read the events: a consumer group of Redis, a consumer of RabbitMQ, a subscriber of NATS.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::options::{BasicAckOptions, BasicGetOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use tokio::runtime::Runtime;

use crate::brokers::{Broker, redis_connection};
use crate::heard::Event;
use crate::support::PATIENCE;

/// How long a broker is silent before everything counts as heard.
const SILENCE: Duration = Duration::from_millis(500);

/// A consumer group's only consumer.
pub(crate) struct Group {
    stream: String,
    port: u16,
}

/// What XREADGROUP answers: streams, each with its entries, each with its fields and values.
type Streams = Option<Vec<(String, Vec<(String, Vec<Vec<u8>>)>)>>;

impl Group {
    /// A group that begins with the stream's first entry.
    pub(crate) fn create(broker: &Broker, stream: &str) -> Self {
        let mut connection = redis_connection(broker.port).unwrap();
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(stream).arg("applications").arg("0").arg("MKSTREAM");
        create.exec(&mut connection).unwrap();
        Self { stream: stream.to_owned(), port: broker.port }
    }

    /// Reads and acknowledges all that the group has not read yet.
    pub(crate) fn read_all(&self) -> Vec<Event> {
        let mut connection = redis_connection(self.port).unwrap();
        let mut events = Vec::new();
        loop {
            let mut read = redis::cmd("XREADGROUP");
            read.arg("GROUP").arg("applications").arg("one").arg("COUNT").arg(1000);
            read.arg("STREAMS").arg(&self.stream).arg(">");
            let streams: Streams = read.query(&mut connection).unwrap();
            let Some(entries) = streams.and_then(|mut streams| streams.pop()).map(|(_, entries)| entries) else {
                return events;
            };
            for (id, fields) in entries {
                redis::cmd("XACK").arg(&self.stream).arg("applications").arg(id).exec(&mut connection).unwrap();
                let pairs = fields.chunks(2).map(|pair| (std::str::from_utf8(&pair[0]).unwrap(), pair[1].clone()));
                events.push(Event::of_fields(pairs));
            }
        }
    }
}

/// A message as RabbitMQ delivers it.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) event: Event,
    pub(crate) routing_key: String,
    pub(crate) content_type: Option<String>,
    pub(crate) delivery_mode: Option<u8>,
    pub(crate) timestamp: Option<u64>,
}

/// Reads all messages of a queue.
pub(crate) fn read_queue(broker: &Broker, queue: &str) -> Vec<Delivery> {
    runtime().block_on(async {
        let url = broker.url();
        let connection = lapin::Connection::connect(url.trim_end_matches('/'), Default::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        // Only looks whether it is there, and durable.
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(queue.into(), durable, FieldTable::default()).await.unwrap();
        let mut deliveries = Vec::new();
        while let Some(message) = channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap() {
            message.delivery.acker.ack(BasicAckOptions::default()).await.unwrap();
            let properties = &message.delivery.properties;
            deliveries.push(Delivery {
                event: Event::of_json(&message.delivery.data),
                routing_key: message.delivery.routing_key.to_string(),
                content_type: properties.content_type().as_ref().map(ToString::to_string),
                delivery_mode: *properties.delivery_mode(),
                timestamp: *properties.timestamp(),
            });
        }
        deliveries
    })
}

/// A subscriber of everything, on a thread of its own.
pub(crate) struct Subscriber {
    messages: Receiver<(String, Event)>,
    _runtime: Runtime,
}

impl Subscriber {
    /// Subscribes; what is published afterwards is heard.
    pub(crate) fn subscribe(broker: &Broker) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (sender, messages) = channel();
        let (client, mut subscription) = runtime.block_on(async {
            let mut options = async_nats::ConnectOptions::new();
            options = options.reconnect_delay_callback(|_| Duration::from_millis(20));
            let mut url = broker.url();
            if let Some((_, certificate)) = &broker.tls {
                options = options.add_root_certificates(certificate.certificate.clone());
                options = options.user_and_password("limited".to_owned(), "secret".to_owned());
                url = broker.tls_url();
            }
            let client = options.connect(url).await.unwrap();
            let subscription = client.subscribe(">").await.unwrap();
            client.flush().await.unwrap();
            (client, subscription)
        });
        runtime.spawn(async move {
            let _client = client;
            while let Some(message) = subscription.next().await {
                let event = (message.subject.to_string(), Event::of_json(&message.payload));
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Self { messages, _runtime: runtime }
    }

    /// The next message: its subject and its event.
    pub(crate) fn next(&self) -> (String, Event) {
        self.messages.recv_timeout(PATIENCE).unwrap()
    }

    /// All that comes until nothing comes any more.
    pub(crate) fn rest(&self) -> Vec<Event> {
        std::iter::from_fn(|| self.messages.recv_timeout(SILENCE).ok()).map(|(_, event)| event).collect()
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
