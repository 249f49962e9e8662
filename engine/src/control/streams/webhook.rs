//! Webhooks: each event a POST of its JSON, written once a 2xx is the answer.
//!
//! Requests of different connections go side by side, those of one connection one after the other. An event that is
//! answered otherwise, or not in time, is tried again and in the end dropped. While nobody listens there, events wait
//! and no attempt is counted.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use axum::http::{HeaderValue, Request, StatusCode, Uri};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

use super::availability::Failure;
use super::drive::{Backoff, reach};
use super::encode;
use super::feed::{Fate, Feed};
use super::log::refused;
use super::record::Record;
use crate::config::StreamWebhookConfig;

/// Bytes of an answer's body that are read, so that its connection can be used again.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How long an idle connection is kept.
const IDLE_MAX: Duration = Duration::from_secs(15);

/// A URL that takes events.
#[derive(Debug, Clone)]
pub(super) struct Webhook {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
    /// What the URL names before its host.
    authorization: Option<HeaderValue>,
    request_timeout: Duration,
    concurrency_max: usize,
    retries_max: u32,
}

/// What became of one request.
enum Answer {
    Accepted,
    /// Answered otherwise, or not in time: why.
    Failed(String),
    /// Nobody is there.
    Unreachable(Failure),
}

/// The events of one connection, in order; the first is under way.
struct Lane {
    record: Rc<Record>,
    behind: VecDeque<Rc<Record>>,
    attempts: u32,
}

impl Webhook {
    /// The webhook as configured.
    ///
    /// # Errors
    /// When its URL is none, or when https is asked for and the system has no certificates; without the URL itself.
    pub(super) fn new(config: &StreamWebhookConfig) -> Result<Self, String> {
        let url: Uri = config.url.parse().map_err(|error| format!("is no URL: {error}"))?;
        let (Some(scheme), Some(authority)) = (url.scheme(), url.authority()) else {
            return Err("is not written like http://host/path".to_owned());
        };
        if authority.port_u16().is_none() && !authority.as_str().ends_with(authority.host()) {
            return Err("names no port from 0 to 65535 after its host".to_owned());
        }
        let (user, host) = authority.as_str().rsplit_once('@').unwrap_or(("", authority.as_str()));
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let uri = Uri::builder().scheme(scheme.clone()).authority(host).path_and_query(path);
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        // Within the time of a request: who does not even take the connection is away, and events wait for it.
        http.set_connect_timeout(Some(Duration::from_millis(config.timeout_ms) / 2));
        let tls = rustls::ClientConfig::builder();
        let tls = if scheme.as_str() == "https" {
            tls.with_native_roots().map_err(|error| format!("no certificates to check https with: {error}"))?
        } else {
            tls.with_root_certificates(rustls::RootCertStore::empty())
        };
        let https =
            HttpsConnectorBuilder::new().with_tls_config(tls.with_no_client_auth()).https_or_http().enable_http1();
        Ok(Self {
            client: Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_MAX)
                .build(https.wrap_connector(http)),
            uri: uri.build().map_err(|error| format!("is no URL: {error}"))?,
            authorization: basic(user),
            request_timeout: Duration::from_millis(config.timeout_ms),
            concurrency_max: config.concurrency_max,
            retries_max: config.retries_max,
        })
    }

    /// Whether somebody listens there.
    async fn probe(&self) -> Result<(), Failure> {
        let host = self.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = self.uri.port_u16().unwrap_or(if self.uri.scheme_str() == Some("https") { 443 } else { 80 });
        TcpStream::connect((host, port)).await?;
        Ok(())
    }

    /// One request.
    async fn post(&self, record: &Record) -> Answer {
        let mut request = Request::post(&self.uri)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("ringrelay/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::from(encode::json(record))).expect("a URI and headers that were checked");
        match timeout(self.request_timeout, self.exchange(request)).await {
            Ok(Ok(status)) if status.is_success() => Answer::Accepted,
            Ok(Ok(status)) => Answer::Failed(format!("answered {status}")),
            Ok(Err(error)) if error.is_connect() => Answer::Unreachable(error.into()),
            Ok(Err(error)) => Answer::Failed(Failure::from(error).0),
            Err(_) => Answer::Failed(format!("no answer within {} ms", self.request_timeout.as_millis())),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<StatusCode, hyper_util::client::legacy::Error> {
        let response = self.client.request(request).await?;
        let status = response.status();
        // What it says beside its status is not looked at; if it is too long the connection ends.
        let _ = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok(status)
    }
}

/// Posts what the feed holds, until the feed is closed and empty.
pub(super) async fn drive(webhook: Webhook, feed: Feed) {
    let mut backoff = Backoff::default();
    loop {
        tokio::select! {
            () = reach(feed.availability(), &mut backoff, || webhook.probe()) => {}
            () = feed.done() => return,
        }
        // Else the first answer shows whether it is of use.
        if feed.is_idle() {
            feed.availability().up();
        }
        let Some(failure) = Lanes::new(&webhook, &feed).serve().await else { return };
        if feed.availability().is_up() {
            backoff.reset();
        }
        feed.availability().down(failure);
    }
}

/// The connections whose events are under way.
struct Lanes<'d> {
    webhook: &'d Webhook,
    feed: &'d Feed,
    lanes: HashMap<Uuid, Lane>,
    requests: JoinSet<(Uuid, Answer)>,
}

impl<'d> Lanes<'d> {
    fn new(webhook: &'d Webhook, feed: &'d Feed) -> Self {
        Self { webhook, feed, lanes: HashMap::new(), requests: JoinSet::new() }
    }

    /// Posts until nobody is there, which is returned, or nothing is left to post.
    async fn serve(mut self) -> Option<Failure> {
        let mut drained = false;
        let mut failure = None;
        loop {
            let wants_more = !drained && failure.is_none() && self.requests.len() < self.webhook.concurrency_max;
            tokio::select! {
                Some(answered) = self.requests.join_next() => {
                    let (connection, answer) = answered.expect("a request does not panic, and nobody cancels it");
                    if let Some(unreachable) = self.answered(connection, answer, failure.is_some()) {
                        failure.get_or_insert(unreachable);
                    }
                }
                taken = self.feed.take(1), if wants_more => match taken.into_iter().next() {
                    Some(record) => self.enter(record),
                    None => drained = true,
                },
                else => return failure,
            }
        }
    }

    /// An event joins its connection's lane, or opens it.
    fn enter(&mut self, record: Rc<Record>) {
        match self.lanes.entry(record.connection) {
            Entry::Occupied(mut lane) => lane.get_mut().behind.push_back(record),
            Entry::Vacant(lane) => {
                let lane = lane.insert(Lane { record, behind: VecDeque::new(), attempts: 0 });
                request(&mut self.requests, self.webhook, lane);
            }
        }
    }

    /// Goes on in a lane after an answer. `stopping`: nothing new is begun, what is left goes back to the feed.
    fn answered(&mut self, connection: Uuid, answer: Answer, stopping: bool) -> Option<Failure> {
        let mut lane = self.lanes.remove(&connection).expect("a lane stays while its request is under way");
        if !matches!(answer, Answer::Unreachable(_)) {
            self.feed.availability().up();
        }
        let (fate, unreachable) = match answer {
            Answer::Accepted => (Some(Fate::Written), None),
            Answer::Failed(reason) if lane.attempts > self.webhook.retries_max => {
                (Some(refused("webhook", format_args!("{reason}, {} times", lane.attempts))), None)
            }
            Answer::Failed(reason) => {
                tracing::debug!("webhook: {reason}");
                (None, None)
            }
            Answer::Unreachable(failure) => (None, Some(failure)),
        };
        if let Some(fate) = fate {
            self.feed.settle(&lane.record, fate);
            let next = lane.behind.pop_front()?;
            lane = Lane { record: next, behind: lane.behind, attempts: 0 };
        }
        if stopping || unreachable.is_some() {
            self.feed.give_back([lane.record].into_iter().chain(lane.behind));
        } else {
            request(&mut self.requests, self.webhook, &mut lane);
            self.lanes.insert(connection, lane);
        }
        unreachable
    }
}

/// Begins the next attempt of a lane's first event.
fn request(requests: &mut JoinSet<(Uuid, Answer)>, webhook: &Webhook, lane: &mut Lane) {
    let (webhook, record, attempt) = (webhook.clone(), Rc::clone(&lane.record), lane.attempts);
    lane.attempts += 1;
    requests.spawn_local(async move {
        Backoff::after(attempt).wait().await;
        (record.connection, webhook.post(&record).await)
    });
}

/// `user:password` of a URL as a header, percent-decoded (RFC 7617).
fn basic(user: &str) -> Option<HeaderValue> {
    if user.is_empty() {
        return None;
    }
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let decode = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
    let credentials = [decode(name), b":".to_vec(), decode(password)].concat();
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(credentials))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook(url: &str) -> Result<Webhook, String> {
        Webhook::new(&StreamWebhookConfig { url: url.to_owned(), ..Default::default() })
    }

    #[test]
    fn credentials_of_the_url_become_a_header() {
        let webhook = webhook("http://user:p%40ss@localhost:8080/hook?a=b").unwrap();
        assert_eq!(webhook.uri, "http://localhost:8080/hook?a=b");
        assert_eq!(webhook.authorization.unwrap(), "Basic dXNlcjpwQHNz");
    }

    #[test]
    fn what_is_no_url_is_refused_without_its_password() {
        for url in ["/hook", "http://u:secret@h:port/x", "localhost"] {
            let error = webhook(url).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(webhook("http://localhost").unwrap().authorization.is_none());
    }
}
