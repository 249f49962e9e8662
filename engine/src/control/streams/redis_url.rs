//! Addresses of a Redis as go-redis users write them: `redis://user:password@host:6379/0?client_name=ringrelay`.
//!
//! Also `rediss://` (TLS) and `unix://`. Of the parameters `client_name` is applied; the others tune go-redis.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult};

use super::availability::Failure;
use crate::logging::{printable, redact};

/// Where a Redis is.
#[derive(Debug)]
pub(super) struct RedisUrl {
    client: Client,
    name: Option<String>,
}

impl RedisUrl {
    /// Parses an address. Parameters without effect are named in the log.
    ///
    /// # Errors
    /// When it is none; the text has no password.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let (address, parameters) = url.split_once('?').unwrap_or((url, ""));
        let client = Client::open(address).map_err(|error| format!("{}: {error}", redact(url)))?;
        let (name, ignored) = read(parameters);
        if !ignored.is_empty() {
            tracing::info!("{}: without effect: {}", redact(address), ignored.join(", "));
        }
        Ok(Self { client, name })
    }

    /// Connects, logs in, selects the database and gives the connection its name.
    pub(super) async fn connect(&self) -> Result<RedisConnection, Failure> {
        // Whoever waits for an answer has a deadline of their own.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let mut inner = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        if let Some(name) = &self.name {
            allowed(redis::cmd("CLIENT").arg("SETNAME").arg(name).exec_async(&mut inner).await)?;
        }
        let transactions = allowed(redis::cmd("MULTI").exec_async(&mut inner).await)?;
        if transactions {
            redis::cmd("DISCARD").exec_async(&mut inner).await?;
        }
        Ok(RedisConnection { inner, transactions })
    }
}

/// A connection to a Redis.
pub(super) struct RedisConnection {
    pub inner: MultiplexedConnection,
    /// Whether the user may use MULTI and EXEC.
    pub transactions: bool,
}

impl RedisConnection {
    /// Whether the other side still answers, whatever it is.
    pub(super) async fn check(&mut self) -> Result<(), Failure> {
        match redis::cmd("PING").exec_async(&mut self.inner).await {
            Err(error) if error.code().is_none() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Whether a command is done; false if the user may not use it, or whatever answers does not know it.
fn allowed(done: RedisResult<()>) -> Result<bool, Failure> {
    match done {
        Ok(()) => Ok(true),
        Err(error) if error.code() == Some("NOPERM") => Ok(false),
        Err(error) if error.detail().is_some_and(|detail| detail.starts_with("unknown command")) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The client's name, and the names of all other parameters.
fn read(parameters: &str) -> (Option<String>, Vec<String>) {
    let (mut name, mut ignored) = (None, Vec::new());
    for (key, value) in form_urlencoded::parse(parameters.as_bytes()) {
        match &*key {
            "client_name" if !value.is_empty() => name = Some(value.into_owned()),
            _ => ignored.push(printable(key.as_bytes()).to_string()),
        }
    }
    (name, ignored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_applied_or_named() {
        let (name, ignored) = read("client_name=a%20b&pool_size=1000&dial_timeout=5s");
        assert_eq!((name.as_deref(), ignored), (Some("a b"), vec!["pool_size".to_owned(), "dial_timeout".to_owned()]));
        assert_eq!(read(""), (None, vec![]));
        let url = RedisUrl::parse("redis://localhost:6379/2?client_name=me").unwrap();
        assert_eq!((url.client.get_connection_info().redis_settings().db(), url.name.as_deref()), (2, Some("me")));
    }

    #[test]
    fn what_is_no_address_is_refused_without_its_password() {
        for url in ["rediss://:p@h:1/0", "unix:///run/redis.sock"] {
            RedisUrl::parse(url).unwrap();
        }
        for url in ["", "localhost:6379", "http://u:secret@localhost", "redis://u:secret@h/notadb"] {
            let error = RedisUrl::parse(url).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
