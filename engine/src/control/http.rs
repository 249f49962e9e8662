//! HTTP/1.1 for the admin port: accepts, bounds and ends connections; what they ask is the router's business.
//!
//! A client can hold a place for a bounded time only: it must bring its head, its body and its next request in time,
//! and after [`Limits::lifetime`] its connection ends whatever it does. A part of the places is kept for the
//! allow-list, so that strangers cannot lock the operator out.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::header::{CONNECTION, HOST};
use axum::http::{Request, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::access::Access;
use super::lingering::Lingering;
use crate::logging::RateLimited;
use crate::sys::socket;

/// Bytes of a request's head. Long enough for a selector that names a thousand connections.
const HEAD_BYTES_MAX: usize = 128 * 1024;
/// First and longest wait after an accept that failed for want of descriptors or memory.
const ACCEPT_BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// How long a client may take, and how many may be there.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From the end of one answer (or the accept) to the end of the next request's head.
    pub head_timeout: Duration,
    /// From the end of the head to the start of the answer; includes the body.
    pub request_timeout: Duration,
    /// Age at which a connection is asked to end after the request in hand.
    pub lifetime: Duration,
    /// How much longer that request may take.
    pub lifetime_grace: Duration,
    /// Open connections; the next one is answered 503.
    pub connections_max: usize,
    /// How many of them only addresses of the allow-list can have; at most `connections_max`.
    pub connections_reserved: usize,
    /// How many one address can have that is not on the allow-list.
    pub connections_per_ip_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            lifetime: Duration::from_secs(120),
            lifetime_grace: Duration::from_secs(30),
            connections_max: 256,
            connections_reserved: 64,
            connections_per_ip_max: 32,
        }
    }
}

/// A listener on `host:port`, with SO_REUSEADDR (std sets it), so that a restart finds its port free. Port 0 picks one.
///
/// # Errors
/// When the name has no address or the port cannot be bound; the text names both.
pub fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    let host = socket::bare_host(host);
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {host}:{port}: {error}"));
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(failed)?.collect();
    let listener = TcpListener::bind(&addresses[..]).map_err(failed)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves `router` until `stop` completes, then finishes what is being answered, for `deadline` at most.
///
/// # Errors
/// When the listener cannot be registered with the runtime.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    access: Arc<Access>,
    limits: Limits,
    stop: impl Future<Output = ()>,
    deadline: Duration,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (stopping, stopped) = watch::channel(false);
    let (mut connections, mut strangers) = (JoinSet::new(), HashMap::new());
    let mut backoff = Backoff::default();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            Some(ended) = connections.join_next() => {
                leave(&mut strangers, ended.ok().flatten());
                continue;
            }
            accepted = backoff.accept(&listener) => accepted,
        };
        let Some((stream, peer)) = accepted else { continue };
        let stranger = (!access.allows(peer.ip())).then(|| peer.ip());
        let reserved = if stranger.is_some() { limits.connections_reserved } else { 0 };
        let others = stranger.and_then(|ip| strangers.get(&ip)).copied().unwrap_or(0);
        if connections.len() + reserved >= limits.connections_max || others >= limits.connections_per_ip_max {
            refuse(&stream, peer);
            continue;
        }
        if let Some(ip) = stranger {
            *strangers.entry(ip).or_insert(0) += 1;
        }
        let connection = drive(stream, peer, router.clone(), limits, stopped.clone());
        connections.spawn(async move {
            connection.await;
            stranger
        });
    }
    drop(listener);
    // Nobody is there to be told when the last connection has gone.
    let _ = stopping.send(true);
    let finished = timeout(deadline, async { while connections.join_next().await.is_some() {} }).await;
    if finished.is_err() {
        tracing::warn!("admin: {} connections cut at the deadline", connections.len());
    }
    Ok(())
}

/// A connection has ended: its stranger, if it was one's, has a place less.
fn leave(strangers: &mut HashMap<IpAddr, usize>, stranger: Option<IpAddr>) {
    let Some(ip) = stranger else { return };
    if let Entry::Occupied(mut places) = strangers.entry(ip) {
        *places.get_mut() -= 1;
        if *places.get() == 0 {
            places.remove();
        }
    }
}

/// Says 503 to a connection too many. Its request is not waited for, so the answer may get lost.
fn refuse(stream: &TcpStream, peer: SocketAddr) {
    static LIMIT: RateLimited = RateLimited::new("refused admin connections", 1);
    const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\
        Connection: close\r\n\r\n";
    if LIMIT.admit() {
        tracing::warn!("admin: {peer} refused: too many connections");
    }
    if let Err(error) = stream.try_write(ANSWER) {
        tracing::debug!("admin: {peer}: {error}");
    }
}

/// One connection from its accept to its end.
async fn drive(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: Limits,
    mut stopped: watch::Receiver<bool>,
) {
    let router = TowerToHyperService::new(router);
    let is_early = Arc::new(AtomicBool::new(false));
    let service = {
        let is_early = Arc::clone(&is_early);
        service_fn(move |request: Request<Incoming>| {
            let has_body = !request.body().is_end_stream();
            let answered = answer(router.clone(), request, peer, limits.request_timeout);
            let is_early = Arc::clone(&is_early);
            async move {
                let response = answered.await;
                is_early.store(has_body && !response.status().is_success(), Relaxed);
                Ok::<_, Infallible>(response)
            }
        })
    };
    // Without it the last piece of an answer waits for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout)
            .max_buf_size(HEAD_BYTES_MAX)
            .half_close(true)
            .serve_connection(TokioIo::new(Lingering::new(stream, is_early)), service)
    );
    let asked_to_end = async {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = sleep(limits.lifetime) => {}
        }
    };
    let ended = tokio::select! {
        // Looked at first, so that an answer after the stop says `Connection: close`.
        biased;
        () = asked_to_end => {
            connection.as_mut().graceful_shutdown();
            match timeout(limits.lifetime_grace, connection).await {
                Ok(ended) => ended,
                Err(_) => return tracing::debug!("admin: {peer}: cut, its last request took too long"),
            }
        }
        ended = connection.as_mut() => ended,
    };
    if let Err(error) = ended {
        tracing::debug!("admin: {peer}: {error}");
    }
}

/// Lets the router answer one request within `limit`.
async fn answer(
    router: TowerToHyperService<Router>,
    mut request: Request<Incoming>,
    peer: SocketAddr,
    limit: Duration,
) -> Response {
    if request.version() == Version::HTTP_11 && !request.headers().contains_key(HOST) {
        // RFC 9112 section 3.2.
        let refusal = (StatusCode::BAD_REQUEST, [(CONNECTION, "close")], "the Host header is missing\n");
        return refusal.into_response();
    }
    let has_body = !request.body().is_end_stream();
    request.extensions_mut().insert(ConnectInfo(peer));
    match timeout(limit, router.call(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => {
            // Without a body the delay was ours.
            let status = if has_body { StatusCode::REQUEST_TIMEOUT } else { StatusCode::SERVICE_UNAVAILABLE };
            (status, [(CONNECTION, "close")], "took too long\n").into_response()
        }
    }
}

/// Accepts; after a failure for want of resources it waits, longer each time, instead of spinning.
struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(ACCEPT_BACKOFF.0)
    }
}

impl Backoff {
    /// The next connection, or `None` after a failed accept and its wait. May be cancelled.
    async fn accept(&mut self, listener: &tokio::net::TcpListener) -> Option<(TcpStream, SocketAddr)> {
        static LIMIT: RateLimited = RateLimited::new("failed accepts of the admin port", 1);
        let error = match listener.accept().await {
            Ok(accepted) => {
                *self = Self::default();
                return Some(accepted);
            }
            Err(error) => error,
        };
        if LIMIT.admit() {
            tracing::warn!("admin: accept failed: {error}");
        }
        if error.kind() != io::ErrorKind::ConnectionAborted {
            let wait = self.0;
            self.0 = (wait * 2).min(ACCEPT_BACKOFF.1);
            sleep(wait).await;
        }
        None
    }
}
