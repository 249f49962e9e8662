//! The control thread's main task: signals, commands, the admin port, and the shutdown of the shards.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, timeout_at};

use super::access::Access;
use super::admin::{Admin, AdminSource, LedgerFuture};
use super::health::{Health, State};
use super::metrics::Metrics;
use super::signals::{Request, Signals};
use super::tls::Tls;
use crate::config::Config;
use crate::counters::{Counters, Dropped};
use crate::mesh::message::{Message, Phase, Report};
use crate::mesh::node::Node;
use crate::shard::log;

/// How often the number of connections is logged.
const ACTIVE_EVERY: Duration = Duration::from_secs(30);
/// How often left-out log lines are summed up.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How long a shard may take to answer a question about its books.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Of the shutdown's time, what is kept to cut stragglers and say goodbye.
const RESERVE: Duration = Duration::from_millis(300);

/// What others ask of the control thread.
pub(crate) enum Command {
    /// Stop, in good order.
    Shutdown,
    /// The books of all shards.
    Ledger(oneshot::Sender<Vec<Report>>),
}

/// All that the control thread owns.
pub(crate) struct Conductor {
    pub config: Arc<Config>,
    pub node: Node,
    pub counters: Counters,
    pub health: Health,
    pub tls: Option<Tls>,
    pub admin: Option<TcpListener>,
    pub driver: &'static str,
    pub shards: Vec<JoinHandle<()>>,
    pub inbox: UnboundedReceiver<Command>,
    pub commands: UnboundedSender<Command>,
    pub signals: bool,
    /// Told once signals are handled and the admin port serves.
    pub ready: std::sync::mpsc::Sender<()>,
}

impl Conductor {
    /// Serves until the shards have ended. Returns the sum of their books.
    pub(crate) async fn run(mut self) -> Report {
        let mut signals = self.signals.then(|| Signals::new().expect("handlers for three signals can be installed"));
        let (stop_admin, admin) = self.serve_admin();
        self.health.advance(State::Ready);
        // Nobody listens only if the start was given up.
        let _ = self.ready.send(());
        let mut active = ticker(ACTIVE_EVERY);
        let mut report = ticker(REPORT_EVERY);
        loop {
            tokio::select! {
                request = next_signal(&mut signals) => match request {
                    Request::Shutdown(stop) => {
                        tracing::info!("{}: shutting down", stop.name());
                        break;
                    }
                    Request::Reload => self.reload_tls(),
                },
                command = self.inbox.recv() => match command {
                    Some(Command::Ledger(reply)) => self.ask_books(reply),
                    Some(Command::Shutdown) | None => break,
                },
                _ = active.tick() => {
                    tracing::info!("Active connections: {}", self.counters.sum(|shard| &shard.connections));
                }
                _ = report.tick() => log::report_suppressed(),
            }
        }
        let end = tokio::select! {
            end = self.shut_down() => end,
            stop = second_signal(&mut signals) => {
                tracing::warn!("second signal: ending at once");
                std::process::exit(i32::from(stop));
            }
        };
        // The admin port closes last.
        drop(stop_admin);
        if let Some(admin) = admin {
            let _ = admin.await;
        }
        end
    }

    fn serve_admin(&mut self) -> (oneshot::Sender<()>, Option<tokio::task::JoinHandle<()>>) {
        let (stop, stopped) = oneshot::channel::<()>();
        let Some(listener) = self.admin.take() else { return (stop, None) };
        let metrics = Metrics::new(self.counters.clone(), self.driver);
        let source = Arc::new(Books(self.commands.clone()));
        let access = Access::loopback(&self.config.metrics.token);
        let admin = Admin::new(metrics, self.health.clone(), source, access);
        let task = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            if let Err(error) = admin.serve(listener, stopped, RESERVE).await {
                tracing::error!("the admin port failed: {error}");
            }
        });
        (stop, Some(task))
    }

    fn reload_tls(&self) {
        match self.tls.as_ref().map(Tls::reload) {
            Some(Ok(())) => tracing::info!("certificate and key were read again"),
            Some(Err(error)) => tracing::error!("the old certificate stays in use: {error}"),
            None => tracing::info!("SIGHUP: TLS is not enabled, nothing to read again"),
        }
    }

    fn send_all(&mut self, message: impl Fn() -> Message) {
        for shard in 0..self.shards.len() {
            self.node.send(shard, message(), 0);
        }
        self.node.wake_peers();
    }

    /// Asks every shard for its books; the answers are awaited beside everything else.
    fn ask_books(&mut self, asker: oneshot::Sender<Vec<Report>>) {
        let (reply, answers) = unbounded_channel();
        self.send_all(|| Message::Report(reply.clone()));
        let shards = self.shards.len();
        tokio::spawn(async move {
            // Whoever asked may be gone.
            let _ = asker.send(collect(answers, shards, Instant::now() + ANSWER_WITHIN).await);
        });
    }

    /// The phases, each at a barrier of all shards, until the deadline; then whoever is left is cut.
    async fn shut_down(&mut self) -> Report {
        let began = Instant::now();
        let limit = Duration::from_millis(self.config.server.shutdown_timeout_ms);
        let deadline = began + limit.saturating_sub(RESERVE).max(limit / 2);
        self.health.advance(State::Draining);
        // Who asks for the books from here on is told that they are being closed.
        self.inbox.close();
        while self.inbox.try_recv().is_ok() {}
        let connections = self.counters.sum(|shard| &shard.connections);
        for phase in [Phase::StopAccepting, Phase::StopReading, Phase::DrainRings, Phase::Finish] {
            let (done, answers) = unbounded_channel();
            self.send_all(|| Message::Begin(phase, done.clone()));
            drop(done);
            if collect(answers, self.shards.len(), deadline).await.len() < self.shards.len() {
                tracing::warn!("the shutdown deadline came during {phase:?}: cutting who is left");
                break;
            }
        }
        let (reply, answers) = unbounded_channel();
        self.send_all(|| Message::Stop(reply.clone()));
        drop(reply);
        let reports = collect(answers, self.shards.len(), Instant::now() + ANSWER_WITHIN).await;
        for shard in self.shards.drain(..) {
            let _ = shard.join();
        }
        let mut end = Report { connections, ..Report::default() };
        reports.iter().for_each(|report| end.total.add(&report.total));
        // Before the line that is the last.
        log::report_suppressed();
        log_end(&end, began.elapsed());
        end
    }
}

fn ticker(every: Duration) -> tokio::time::Interval {
    let mut ticker = interval(every);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticker.reset();
    ticker
}

async fn next_signal(signals: &mut Option<Signals>) -> Request {
    match signals {
        Some(signals) => signals.next().await,
        None => std::future::pending().await,
    }
}

async fn second_signal(signals: &mut Option<Signals>) -> u8 {
    loop {
        if let Request::Shutdown(stop) = next_signal(signals).await {
            return stop.exit_code();
        }
    }
}

/// Waits for `count` answers, until the deadline.
async fn collect<T>(mut answers: UnboundedReceiver<T>, count: usize, deadline: Instant) -> Vec<T> {
    let mut collected = Vec::with_capacity(count);
    while collected.len() < count {
        match timeout_at(deadline.into(), answers.recv()).await {
            Ok(Some(answer)) => collected.push(answer),
            Ok(None) | Err(_) => break,
        }
    }
    collected
}

/// The last line of the log. `accepted` counts deliveries promised, so that it is `delivered` + `dropped`.
fn log_end(end: &Report, took: Duration) {
    let total = &end.total;
    let reasons: Vec<String> = Dropped::ALL
        .iter()
        .filter(|reason| total.dropped[**reason as usize] > 0)
        .map(|reason| format!("{reason}={}", total.dropped[*reason as usize]))
        .collect();
    tracing::info!(
        "shutdown accepted={} delivered={} dropped={}{{{}}} connections={} seconds={:.3}",
        total.covered - total.excluded,
        total.delivered,
        total.dropped_total(),
        reasons.join(","),
        end.connections,
        took.as_secs_f64(),
    );
}

/// The books for the admin port.
struct Books(UnboundedSender<Command>);

impl AdminSource for Books {
    fn ledger(&self) -> LedgerFuture {
        let commands = self.0.clone();
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let gone = || std::io::Error::other("the server is shutting down");
            commands.send(Command::Ledger(reply)).map_err(|_| gone())?;
            let reports = answer.await.map_err(|_| gone())?;
            Ok(ledger_json(&reports))
        })
    }
}

type Json = serde_json::Value;

fn ledger_json(reports: &[Report]) -> String {
    let mut total = crate::relay::ledger::Ledger::default();
    let mut topics = std::collections::BTreeMap::new();
    for report in reports {
        total.add(&report.total);
        for (name, figures) in &report.topics {
            topics.entry(name.clone()).or_insert_with(crate::relay::ledger::Ledger::default).add(figures);
        }
    }
    let topics: serde_json::Map<String, Json> =
        topics.iter().map(|(name, figures)| (name.clone(), figures_json(figures))).collect();
    serde_json::json!({ "total": figures_json(&total), "topics": topics }).to_string()
}

fn figures_json(figures: &crate::relay::ledger::Ledger) -> Json {
    let dropped: serde_json::Map<String, Json> = Dropped::ALL
        .iter()
        .map(|reason| (reason.label().to_owned(), figures.dropped[*reason as usize].into()))
        .collect();
    serde_json::json!({
        "accepted": figures.accepted,
        "covered": figures.covered,
        "excluded": figures.excluded,
        "delivered": figures.delivered,
        "dropped": dropped,
    })
}
