//! The control routes: applications send to connections, tag them, close them, and look at them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Request, State};
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::body::Body as _;
use percent_encoding::percent_encode_byte;
use proto::Opcode;

use super::wsgateway_metrics::WsgatewayMetrics;
use crate::control::metrics::Metrics;
use crate::gateway::handle::frame;
use crate::gateway::order::Deed;
use crate::gateway::{Answer, BadTag, Handle, Malformed, Selector, Unanswered, first_values};

/// The routes for the admin port, which has its own `/metrics`.
pub(crate) fn control_routes(handle: Handle, body_bytes_max: usize) -> Router {
    Router::new()
        .route("/send", post(send))
        .route("/settags", post(set_tags))
        .route("/close", post(close))
        .route("/status", get(status))
        .route("/tree", get(tree))
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .layer(from_fn_with_state(body_bytes_max as u64, refuse_large))
        .with_state(handle)
}

/// A body that says that it is too large is refused before the client is told to send it.
async fn refuse_large(State(bytes_max): State<u64>, request: Request, next: Next) -> Response {
    match request.body().size_hint().lower() > bytes_max {
        true => (StatusCode::PAYLOAD_TOO_LARGE, [(CONNECTION, "close")], "length limit exceeded\n").into_response(),
        false => next.run(request).await,
    }
}

/// The routes for the main port.
pub(crate) fn main_port_routes(control: Router, metrics: Option<(Metrics, WsgatewayMetrics)>) -> Router {
    match metrics {
        Some(metrics) => control.route("/metrics", get(show_metrics).with_state(Arc::new(metrics))),
        None => control,
    }
}

async fn send(
    State(handle): State<Handle>,
    Selected(selector): Selected,
    headers: HeaderMap,
    body: Bytes,
) -> Result<String, Failed> {
    count(handle.order(selector, Deed::Send(frame(opcode(&headers, &body)?, &body)))).await
}

async fn close(
    State(handle): State<Handle>,
    Selected(selector): Selected,
    headers: HeaderMap,
    body: Bytes,
) -> Result<String, Failed> {
    let last = if body.is_empty() { None } else { Some(frame(opcode(&headers, &body)?, &body)) };
    count(handle.order(selector, Deed::Close(last))).await
}

/// The body is a form whatever its type says: Node's fetch calls it text/plain. Of a repeated key the first value counts.
async fn set_tags(State(handle): State<Handle>, Selected(selector): Selected, body: Bytes) -> Result<String, Failed> {
    let tags = first_values(&body)?;
    let tags: Vec<_> = tags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    count(handle.set_tags(selector, &tags)?).await
}

async fn status(State(handle): State<Handle>) -> Result<String, Failed> {
    let mut connections = handle.list().await?;
    connections.sort_unstable_by_key(|(id, _)| *id);
    let mut text = String::new();
    for (id, tags) in &connections {
        let _ = write!(text, "id={id} ");
        for (name, value) in tags.iter() {
            let _ = write!(text, "{}={} ", printable(name), printable(value));
        }
        text.push('\n');
    }
    Ok(text)
}

async fn tree(State(handle): State<Handle>) -> Result<String, Failed> {
    let connections = handle.list().await?;
    let mut tree: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, value) in connections.iter().flat_map(|(_, tags)| tags.iter()) {
        tree.entry(name).or_default().insert(value);
    }
    let mut text = String::new();
    for (name, values) in tree {
        let _ = writeln!(text, "{}", printable(name));
        for value in values {
            let _ = writeln!(text, " - {}", printable(value));
        }
        text.push('\n');
    }
    Ok(text)
}

async fn show_metrics(State(metrics): State<Arc<(Metrics, WsgatewayMetrics)>>) -> Response {
    let rendered = metrics.0.render().and_then(|ours| Ok(ours + &metrics.1.render()?));
    match rendered {
        Ok(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Binary if the request says so, else text.
fn opcode(headers: &HeaderMap, body: &[u8]) -> Result<Opcode, Failed> {
    let essence = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(|value| {
        let essence = value.split(';').next().unwrap_or_default();
        essence.trim().to_ascii_lowercase()
    });
    if essence.as_deref() == Some("application/octet-stream") {
        return Ok(Opcode::Binary);
    }
    match std::str::from_utf8(body) {
        Ok(_) => Ok(Opcode::Text),
        Err(_) => Err(Failed::bad("the body is not UTF-8; send binary as application/octet-stream")),
    }
}

async fn count(answer: Answer<usize>) -> Result<String, Failed> {
    Ok(answer.await?.to_string())
}

/// Control characters, which would forge lines, percent-encoded; all else as it is.
fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() {
            c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| out.push_str(percent_encode_byte(byte)));
        } else {
            out.push(c);
        }
    }
    out.into()
}

/// The query as it was sent. A `Uri` takes 64 KiB at most and refuses characters that a form may have.
#[derive(Debug, Clone)]
pub(super) struct Query(pub Option<String>);

/// The selector of a request: of its [`Query`], or of its URI where it has none.
struct Selected(Selector);

impl<S: Sync> FromRequestParts<S> for Selected {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failed> {
        let query = match parts.extensions.get::<Query>() {
            Some(Query(query)) => query.as_deref(),
            None => parts.uri.query(),
        };
        Ok(Self(Selector::of_query(query)?))
    }
}

/// A request that was not carried out.
struct Failed(StatusCode, String);

impl Failed {
    fn bad(text: impl std::fmt::Display) -> Self {
        Self(StatusCode::BAD_REQUEST, format!("{text}\n"))
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

impl From<Malformed> for Failed {
    fn from(malformed: Malformed) -> Self {
        Self::bad(malformed)
    }
}

impl From<BadTag> for Failed {
    fn from(bad: BadTag) -> Self {
        Self::bad(bad)
    }
}

impl From<Unanswered> for Failed {
    fn from(unanswered: Unanswered) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, format!("{unanswered}\n"))
    }
}
