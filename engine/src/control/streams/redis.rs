//! Redis Streams: `XADD stream * connection ID action open|message|close tags T [type text|binary message BODY]`.
//!
//! A batch of several is one transaction (MULTI … EXEC), sent in one piece and answered in one: Redis takes all of it or
//! nothing, so that no event overtakes another when memory runs out or the server becomes a replica halfway through. A
//! user without the right to transactions gets plain pipelines, and in that case events may come again out of order.

use std::rc::Rc;
use std::sync::Arc;

use redis::{Cmd, Pipeline, RedisError, RedisResult, Value};

use super::availability::Failure;
use super::drive::{Link, Progress, Target};
use super::encode;
use super::feed::Fate;
use super::log::refused;
use super::record::Record;
use super::redis_url::{RedisConnection, RedisUrl};
use super::template::fill;
use crate::config::StreamRedisConfig;
use crate::config::template::Template;
use crate::gateway::event::Action;

/// A Redis that has the streams.
#[derive(Debug)]
pub(super) struct Redis {
    url: RedisUrl,
    writer: Arc<Writer>,
}

impl Redis {
    /// The Redis as configured.
    ///
    /// # Errors
    /// When its address is none; the text has no password.
    pub(super) fn new(config: &StreamRedisConfig) -> Result<Self, String> {
        let url = RedisUrl::parse(&config.addr)?;
        let writer = Writer { stream_name: Template::parse(&config.stream_name)?, max_len: config.max_len };
        Ok(Self { url, writer: Arc::new(writer) })
    }
}

/// How an event becomes a command.
#[derive(Debug)]
struct Writer {
    stream_name: Template,
    /// Entries that a stream keeps, about; 0 is all.
    max_len: u64,
}

impl Writer {
    fn command(&self, record: &Record) -> Cmd {
        let mut id = [0; 36];
        let mut command = redis::cmd("XADD");
        command.arg(&*fill(&self.stream_name, record));
        if self.max_len > 0 {
            command.arg("MAXLEN").arg("~").arg(self.max_len);
        }
        command.arg("*").arg("connection").arg(&*record.connection.hyphenated().encode_lower(&mut id));
        command.arg("action").arg(encode::action(&record.action)).arg("tags").arg(&record.form);
        if let Action::Message { opcode, body } = &record.action {
            command.arg("type").arg(encode::kind(*opcode)).arg("message").arg(&body[..]);
        }
        command
    }

    fn pipeline(&self, batch: &[Rc<Record>], transaction: bool) -> Pipeline {
        let mut pipeline = Pipeline::with_capacity(batch.len());
        pipeline.ignore_errors();
        if transaction {
            pipeline.atomic();
        }
        for record in batch {
            pipeline.add_command(self.command(record));
        }
        pipeline
    }
}

impl Target for Redis {
    type Link = RedisLink;

    async fn connect(&self) -> Result<RedisLink, Failure> {
        Ok(RedisLink { connection: self.url.connect().await?, writer: Arc::clone(&self.writer) })
    }
}

/// A connection to it.
pub(super) struct RedisLink {
    connection: RedisConnection,
    writer: Arc<Writer>,
}

impl Link for RedisLink {
    /// An entry that Redis refuses (its key is no stream) is dropped; where it takes no entries at all (no memory, a
    /// replica, no permission) everything waits.
    async fn write(&mut self, batch: &[Rc<Record>]) -> Progress {
        let transaction = batch.len() > 1 && self.connection.transactions;
        let pipeline = self.writer.pipeline(batch, transaction);
        let replies: Vec<RedisResult<Value>> = match pipeline.query_async(&mut self.connection.inner).await {
            Ok(replies) => replies,
            Err(error) => return Progress::none(error.into()),
        };
        let mut fates = Vec::with_capacity(batch.len());
        for reply in replies {
            match reply {
                Ok(_) => fates.push(Fate::Written),
                // The others of a transaction are written.
                Err(error) if transaction || is_about_the_entry(&error) => fates.push(refused("redis", &error)),
                Err(error) => return Progress { fates, failure: Some(error.into()) },
            }
        }
        Progress { fates, failure: None }
    }

    async fn check(&mut self) -> Result<(), Failure> {
        self.connection.check().await
    }

    async fn close(self) {}
}

/// Whether Redis refused an entry for its key or its fields, and might take another.
fn is_about_the_entry(error: &RedisError) -> bool {
    matches!(error.code(), Some("WRONGTYPE" | "ERR"))
}
