//! NATS (core): each event a message of JSON. Written means flushed, at most once.
//!
//! The client would reconnect by itself, forget a part of what was under way and publish the rest late. Here its first
//! attempt ends the connection, and the attempt finds no credentials: the events of the batch count as dropped, and those
//! behind them wait in the buffer and not in the client.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Auth, AuthError, Client, ConnectOptions, PublishErrorKind, ServerAddr};
use percent_encoding::percent_decode_str;
use tokio::sync::watch;

use super::availability::Failure;
use super::drive::{Link, Progress, Target};
use super::encode;
use super::feed::Fate;
use super::log::refused;
use super::record::Record;
use super::template::fill;
use crate::config::StreamNatsConfig;
use crate::config::template::Template;

/// How often the client asks the server for a sign of life; two without an answer end the connection.
const PING_EVERY: Duration = Duration::from_secs(1);

/// One server, or several of a cluster.
pub(super) struct Nats {
    servers: Vec<ServerAddr>,
    /// Those of the first address.
    credentials: Auth,
    subject: Arc<Template>,
}

impl Nats {
    /// The servers as configured: one address, or several with commas between.
    ///
    /// # Errors
    /// When an address is none, without the address itself.
    pub(super) fn new(config: &StreamNatsConfig) -> Result<Self, String> {
        let servers: Result<Vec<ServerAddr>, _> = config.addr.split(',').map(|addr| addr.trim().parse()).collect();
        let servers = servers.map_err(|error: std::io::Error| format!("is no NATS address: {}", error.kind()))?;
        let credentials = servers.first().map(credentials).unwrap_or_default();
        Ok(Self { servers, credentials, subject: Template::parse(&config.subject)?.into() })
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats").field("servers", &self.servers.len()).finish_non_exhaustive()
    }
}

impl Target for Nats {
    type Link = NatsLink;

    const AT_LEAST_ONCE: bool = false;

    async fn connect(&self) -> Result<NatsLink, Failure> {
        let (counter, attempts) = watch::channel(0_u32);
        let stands = Arc::new(AtomicBool::new(false));
        let (stood, credentials) = (Arc::clone(&stands), self.credentials.clone());
        let authenticate = move |_| {
            let answer = match stood.load(Relaxed) {
                false => Ok(credentials.clone()),
                true => Err(AuthError::new("this connection is over")),
            };
            async move { answer }
        };
        let client = ConnectOptions::with_auth_callback(authenticate)
            .name("ringrelay")
            .ping_interval(PING_EVERY)
            // Called before each attempt: the first connection is made with as many as it takes.
            .reconnect_delay_callback(move |_| {
                counter.send_modify(|attempts| *attempts += 1);
                Duration::ZERO
            })
            .max_reconnects(self.servers.len())
            .connect(&self.servers[..])
            .await?;
        stands.store(true, Relaxed);
        let attempts_then = *attempts.borrow();
        Ok(NatsLink { client, attempts, attempts_then, subject: Arc::clone(&self.subject) })
    }
}

/// What an address names before its host: user and password, or a token.
fn credentials(server: &ServerAddr) -> Auth {
    let decoded = |text: &str| Some(percent_decode_str(text).decode_utf8_lossy().into_owned());
    let mut auth = Auth::new();
    match (server.username(), server.password()) {
        (Some(user), Some(password)) => (auth.username, auth.password) = (decoded(user), decoded(password)),
        (Some(token), None) => auth.token = decoded(token),
        (None, _) => {}
    }
    auth
}

/// A connection to one of them.
pub(super) struct NatsLink {
    client: Client,
    /// Of the client to connect; and how many it had made when it stood.
    attempts: watch::Receiver<u32>,
    attempts_then: u32,
    subject: Arc<Template>,
}

impl NatsLink {
    fn is_good(&self) -> Result<(), Failure> {
        if *self.attempts.borrow() == self.attempts_then && self.client.connection_state() == State::Connected {
            return Ok(());
        }
        Err(lost())
    }

    async fn publish(&self, record: &Record) -> Result<Fate, Failure> {
        let subject = subject(&fill(&self.subject, record));
        match self.client.publish(subject, encode::json(record).into()).await {
            Ok(()) => Ok(Fate::Written),
            Err(error) if error.kind() == PublishErrorKind::Send => Err(error.into()),
            Err(error) => Ok(refused("nats", error)),
        }
    }

    async fn publish_all(&self, batch: &[Rc<Record>]) -> Result<Vec<Fate>, Failure> {
        let mut fates = Vec::with_capacity(batch.len());
        for record in batch {
            fates.push(self.publish(record).await?);
        }
        let mut attempts = self.attempts.clone();
        tokio::select! {
            flushed = self.client.flush() => flushed?,
            _ = attempts.wait_for(|attempts| *attempts > self.attempts_then) => return Err(lost()),
        }
        self.is_good()?;
        Ok(fates)
    }
}

impl Link for NatsLink {
    async fn write(&mut self, batch: &[Rc<Record>]) -> Progress {
        if let Err(failure) = self.is_good() {
            return Progress::none(failure);
        }
        match self.publish_all(batch).await {
            Ok(fates) => Progress { fates, failure: None },
            // Some may have arrived; none may arrive twice.
            Err(failure) => Progress { fates: vec![Fate::Dropped; batch.len()], failure: Some(failure) },
        }
    }

    async fn check(&mut self) -> Result<(), Failure> {
        self.is_good()
    }

    async fn close(self) {
        if let Err(error) = self.client.drain().await {
            tracing::debug!("nats: {error}");
        }
    }
}

fn lost() -> Failure {
    Failure("the connection is lost".to_owned())
}

/// A subject that the protocol can carry: what separates or selects becomes `_`, as does an empty token.
fn subject(text: &str) -> String {
    let clean = |c: char| if c.is_whitespace() || c.is_control() || "*>".contains(c) { '_' } else { c };
    let token = |token: &str| match token {
        "" => "_".to_owned(),
        token => token.chars().map(clean).collect(),
    };
    text.split('.').map(token).collect::<Vec<String>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_always_valid() {
        for (text, expected) in [
            ("events.a", "events.a"),
            ("", "_"),
            ("a..b.", "a._.b._"),
            ("a b\r\nPUB x 1", "a_b__PUB_x_1"),
            ("a.*.>.b*", "a._._.b_"),
            ("ü\u{a0}.\u{7f}", "ü_._"),
        ] {
            assert_eq!(subject(text), expected);
            assert!(async_nats::Subject::validated(subject(text)).is_ok(), "{text}");
        }
    }

    #[test]
    fn credentials_are_those_of_the_address() {
        for (addr, expected) in [
            ("nats://host", (None, None, None)),
            ("nats://user:p%40ss@host", (Some("user"), Some("p@ss"), None)),
            ("nats://t0ken@host", (None, None, Some("t0ken"))),
        ] {
            let auth = credentials(&addr.parse().unwrap());
            assert_eq!((auth.username.as_deref(), auth.password.as_deref(), auth.token.as_deref()), expected, "{addr}");
        }
    }

    #[test]
    fn several_servers_stand_with_commas_between() {
        let new = |addr: &str| Nats::new(&StreamNatsConfig { addr: addr.to_owned(), ..Default::default() });
        assert_eq!(new("nats://a:4222, tls://u:p@b").unwrap().servers.len(), 2);
        let error = new("nats://u:secret@h:port").unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }
}
