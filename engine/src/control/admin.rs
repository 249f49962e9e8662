//! The admin port's routes: health and metrics for everybody, the rest behind the guard.
//!
//! `/metrics`, `/healthz` and `/readyz` are open. Everything else, unknown paths too, first passes [`Access`], so that
//! a stranger learns nothing about what is there. Modes add their own guarded routes with [`Admin::guarded`].

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::access::{Access, guard};
use super::health::{self, Health};
use super::http::{self, Limits};
use super::metrics::Metrics;

/// What the admin port asks of the server.
pub trait AdminSource: Send + Sync + 'static {
    /// The ledger of all topics as one JSON document.
    ///
    /// # Errors
    /// When the shards do not answer; shown to the caller with a 503.
    fn ledger(&self) -> LedgerFuture;
}

/// The answer to [`AdminSource::ledger`]: a JSON document.
pub type LedgerFuture = Pin<Box<dyn Future<Output = io::Result<String>> + Send>>;

/// The admin port before it serves.
pub struct Admin {
    open: Router,
    guarded: Router,
    access: Arc<Access>,
    limits: Limits,
}

impl Admin {
    /// The routes that every mode has.
    #[must_use]
    pub fn new(metrics: Metrics, health: Health, source: Arc<dyn AdminSource>, access: Access) -> Self {
        let open = Router::new()
            .route("/metrics", get(show_metrics).with_state(metrics))
            .route("/healthz", get(|| async { "ok" }))
            .route("/readyz", get(show_readiness).with_state(health));
        let guarded = Router::new().route("/ledger", get(show_ledger).with_state(source));
        Self { open, guarded, access: Arc::new(access), limits: Limits::default() }
    }

    /// Adds routes behind the guard. They bring their state, and must not bring a fallback or a path that is taken.
    #[must_use]
    pub fn guarded(mut self, routes: Router) -> Self {
        self.guarded = self.guarded.merge(routes);
        self
    }

    /// Serves with other limits than the defaults.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Serves until `stop` completes, then finishes what is being answered, for `deadline` at most.
    ///
    /// # Errors
    /// When the listener cannot be registered with the runtime.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
        deadline: Duration,
    ) -> io::Result<()> {
        let guarded = self.guarded.fallback(|| async { (StatusCode::NOT_FOUND, "not found\n") });
        // Around the routes as one service: a layer on each of them would let axum add `Allow` to its refusal.
        let guarded =
            Router::new().fallback_service(guarded).layer(middleware::from_fn_with_state(self.access.clone(), guard));
        http::serve(listener, self.open.merge(guarded), self.access, self.limits, stop, deadline).await
    }
}

async fn show_metrics(State(metrics): State<Metrics>) -> Response {
    match metrics.render() {
        Ok(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn show_readiness(State(health): State<Health>) -> (StatusCode, String) {
    let state = health.state();
    let status = if state == health::State::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, state.to_string())
}

async fn show_ledger(State(source): State<Arc<dyn AdminSource>>) -> Response {
    match source.ledger().await {
        Ok(json) => ([(CONTENT_TYPE, "application/json")], json).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}
