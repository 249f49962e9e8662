//! The writer to Redis without a server around it, to be measured.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::time::{ClockId, clock_gettime};
use proto::Opcode;
use tokio::task::spawn_local;
use uuid::Uuid;

use super::availability::Availability;
use super::drive::drive;
use super::feed::{Feed, Limits};
use super::figures::Figures;
use super::record::{Record, Source};
use super::redis::Redis;
use crate::config::Config;
use crate::control::runtime;
use crate::gateway::Tags;
use crate::gateway::event::{Action, Event};

/// Connections that the events are of.
const CONNECTIONS: usize = 100;

/// What the writing of events took.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    /// By the clock.
    pub wall: Duration,
    /// Of the control thread's processor time.
    pub cpu: Duration,
}

/// Writes `events` text messages with this body into the Redis of `config`, `batch_events_max` at a time, as the control
/// thread does it, until all are acknowledged. The connection stands before the time begins.
///
/// # Errors
/// When the address cannot be read, no thread can be started, or Redis did not take every event.
pub fn write_events(config: &Config, events: usize, body: Bytes, batch_events_max: usize) -> Result<Spent, String> {
    let redis = Redis::new(&config.stream_redis)?;
    let work = move || write_all(redis, events, body, batch_events_max);
    let (thread, _) = runtime::spawn(true, "control", work).map_err(|error| error.to_string())?;
    thread.join().map_err(|_| "the control thread panicked".to_owned())?
}

async fn write_all(redis: Redis, events: usize, body: Bytes, batch_events_max: usize) -> Result<Spent, String> {
    let availability = Availability::new(Figures::of_events("redis"), "bench".to_owned());
    let feed = Feed::new(availability, Limits { events_max: events + 1, bytes_max: usize::MAX });
    let writer = spawn_local(drive(redis, feed.clone(), batch_events_max));
    let source = Rc::new(Source { include: vec!["group".to_owned()], ..Source::default() });
    let tags = Tags::from_iter([("group", "all"), ("user", "me")]);
    let ids: Vec<Uuid> = (0..CONNECTIONS).map(|_| Uuid::new_v4()).collect();
    let offer = |index: usize| {
        let action = Action::Message { opcode: Opcode::Text, body: body.clone() };
        let event = Event { connection: ids[index % CONNECTIONS], endpoint: 0, tags: tags.clone(), action };
        feed.offer(&Rc::new(Record::new(event, &source, None, None)));
    };
    // The first one comes back when the connection stands.
    offer(0);
    feed.idle().await;
    let (began, cpu) = (Instant::now(), cpu_time());
    (0..events).for_each(offer);
    feed.close();
    writer.await.map_err(|error| error.to_string())?;
    let spent = Spent { wall: began.elapsed(), cpu: cpu_time() - cpu };
    match feed.availability().figures().written() {
        written if written == events as u64 + 1 => Ok(spent),
        written => Err(format!("Redis took {written} of {} events", events + 1)),
    }
}

/// Of the calling thread.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a thread has a processor clock").into()
}
