//! Redis Streams: `XADD stream * connection ID action open|message|close tags T [type text|binary message BODY]`.
//!
//! A batch is one transaction (MULTI … EXEC), sent in one piece and answered in one: Redis takes all of it or nothing, so
//! that no event of it overtakes another when memory runs out or the server becomes a replica halfway through.

use std::rc::Rc;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisResult, Value};

use super::availability::Failure;
use super::drive::{Link, Progress, Target};
use super::encode;
use super::feed::Fate;
use super::record::Record;
use super::redis_url::RedisUrl;
use super::refusals;
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

    fn transaction(&self, batch: &[Rc<Record>]) -> Pipeline {
        let mut transaction = Pipeline::with_capacity(batch.len());
        transaction.atomic().ignore_errors();
        for record in batch {
            transaction.add_command(self.command(record));
        }
        transaction
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
    connection: MultiplexedConnection,
    writer: Arc<Writer>,
}

impl Link for RedisLink {
    /// An entry that Redis refuses (its key is no stream) is dropped; where it refuses the transaction (no memory, a
    /// replica, no permission) everything waits.
    async fn write(&mut self, batch: &[Rc<Record>]) -> Progress {
        let transaction = self.writer.transaction(batch);
        let replies: Vec<RedisResult<Value>> = match transaction.query_async(&mut self.connection).await {
            Ok(replies) => replies,
            Err(error) => return Progress::none(error.into()),
        };
        let fate = |reply: RedisResult<Value>| match reply {
            Ok(_) => Fate::Written,
            Err(error) => refusals::refused("redis", &error),
        };
        Progress { fates: replies.into_iter().map(fate).collect(), failure: None }
    }

    async fn check(&mut self) -> Result<(), Failure> {
        Ok(redis::cmd("PING").exec_async(&mut self.connection).await?)
    }

    async fn close(self) {}
}
