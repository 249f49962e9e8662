//! Requests that came in on the main port: the shard has read them, the routes answer, the shard sends what is written
//! here.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio::time::timeout;
use tower_service::Service as _;

use super::routes::Query;
use crate::net::request::{KEEP_ALIVE_MS, PlainRequest};

/// How long the routes may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Answers a request: the bytes to send, and whether the connection ends with them.
pub(crate) async fn answer(mut router: Router, request: PlainRequest) -> (Bytes, bool) {
    let keeps_alive = request.keeps_alive;
    let response = match axum_request(request) {
        Ok(request) => match timeout(ANSWER_WITHIN, router.call(request)).await {
            Ok(Ok(response)) => response,
            Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "took too long\n").into_response(),
        },
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let close = !keeps_alive || response.headers().get(CONNECTION).is_some_and(|value| value == "close");
    (encode(response, close).await, close)
}

fn axum_request(request: PlainRequest) -> Result<Request<Body>, axum::http::Error> {
    let mut builder = Request::builder().method(request.method.as_str()).uri(&request.path);
    for (name, value) in &request.headers {
        // It was decoded already.
        if !name.eq_ignore_ascii_case(TRANSFER_ENCODING.as_str()) {
            builder = builder.header(name, value.as_slice());
        }
    }
    builder.extension(ConnectInfo(request.peer)).extension(Query(request.query)).body(Body::from(request.body))
}

async fn encode(response: Response, close: bool) -> Bytes {
    let (head, body) = response.into_parts();
    // Ours are in memory and cannot fail.
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let mut out = Vec::with_capacity(256 + body.len());
    let reason = head.status.canonical_reason().unwrap_or_default();
    out.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", head.status.as_u16()).as_bytes());
    for (name, value) in head.headers.iter().filter(|(name, _)| *name != CONNECTION) {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    // An answer to HEAD brings the length of what it leaves out.
    if !head.headers.contains_key(CONTENT_LENGTH) {
        out.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    let connection = if close {
        "connection: close\r\n\r\n".to_owned()
    } else {
        format!("connection: keep-alive\r\nkeep-alive: timeout={}\r\n\r\n", KEEP_ALIVE_MS / 1000)
    };
    out.extend_from_slice(connection.as_bytes());
    out.extend_from_slice(&body);
    out.into()
}
