//! The control thread's main task: signals, commands, the admin port, and the shutdown of the shards.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, timeout, timeout_at};

use super::access::Access;
use super::admin::Admin;
use super::bell::Bell;
use super::books::Books;
use super::gateway::Desk;
use super::health::{Health, State};
use super::metrics::Metrics;
use super::service_manager::ServiceManager;
use super::signals::{Request, Signals};
use super::streams::{self, Targets};
use super::tls::Tls;
use crate::config::Config;
use crate::counters::{Counters, Dropped};
use crate::gateway::order::{Deed, Listing, Order};
use crate::gateway::{Handle, Hooks, Selector};
use crate::mesh::message::{Message, Phase, Report};
use crate::mesh::node::Node;
use crate::net::port::ConnectionId;
use crate::shard::log;

/// How often the number of connections is logged.
const ACTIVE_EVERY: Duration = Duration::from_secs(30);
/// How often left-out log lines are summed up.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How long a shard may take to answer a question about its books.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Of the shutdown's time, what is kept to cut stragglers and say goodbye: to the shards' connections, to the event targets
/// and the state, each a third, and to the admin port.
const RESERVE: Duration = Duration::from_millis(300);
/// Of that, what is left when the admin port must have closed.
const MARGIN: Duration = Duration::from_millis(30);

/// What others ask of the control thread.
#[derive(Debug)]
pub(crate) enum Command {
    /// Stop, in good order.
    Shutdown,
    /// The books of all shards.
    Ledger(oneshot::Sender<Vec<Report>>),
    /// Do this to connections of the gateway, and say to how many it was done.
    Order { selector: Arc<Selector>, deed: Deed, reply: oneshot::Sender<usize> },
    /// All connections of the gateway.
    List(oneshot::Sender<Listing>),
    /// A request that came in on a shard's port is answered.
    Answer { shard: usize, connection: ConnectionId, bytes: Bytes, close: bool },
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
    pub hooks: Option<Box<dyn Hooks>>,
    /// Where events go, until the desk has it.
    pub targets: Option<Targets>,
    /// Told once signals are handled and the admin port serves.
    pub ready: std::sync::mpsc::Sender<()>,
}

impl Conductor {
    /// Serves until the shards have ended. Returns the sum of their books.
    pub(crate) async fn run(mut self) -> Report {
        let mut signals = self.signals.then(|| Signals::new().expect("handlers for three signals can be installed"));
        let bell = Bell::new(&self.node).expect("the runtime can wait for an eventfd");
        let metrics = Metrics::new(self.counters.clone(), self.driver);
        let handle = Handle::new(self.commands.clone());
        if let Some(hooks) = &mut self.hooks {
            hooks.start(handle.clone());
        }
        let mut desk = Desk::new(&mut self, &metrics, handle);
        let (stop_admin, admin) = self.serve_admin(metrics, desk.control_routes());
        self.health.advance(State::Ready);
        // A server within another program is not what the service manager started.
        let manager = if self.signals { ServiceManager::from_environment() } else { ServiceManager::default() };
        let manager = Arc::new(manager);
        manager.ready();
        // Nobody listens only if the start was given up.
        let _ = self.ready.send(());
        let mut active = ticker(ACTIVE_EVERY);
        let mut report = ticker(REPORT_EVERY);
        let mut watchdog = manager.watchdog().map(|within| ticker(within / 2));
        loop {
            desk.take_in(&mut self.node).await;
            tokio::select! {
                () = bell.rung(&self.node) => {}
                request = next_signal(&mut signals) => match request {
                    Request::Shutdown(stop) => {
                        tracing::info!("{}: shutting down", stop.name());
                        break;
                    }
                    Request::Reload => {
                        manager.reloading();
                        self.reload_tls();
                        manager.ready();
                    }
                },
                command = self.inbox.recv() => match command {
                    Some(Command::Shutdown) | None => break,
                    Some(command) => self.obey(command),
                },
                _ = active.tick() => {
                    let line = format!("Active connections: {}", self.counters.sum(|shard| &shard.connections));
                    tracing::info!("{line}");
                    manager.status(&line);
                }
                _ = next_tick(&mut watchdog) => self.feed_watchdog(&manager),
                _ = report.tick() => report_suppressed(),
            }
        }
        manager.stopping();
        tokio::spawn(async move { manager.feed_while_stopping().await });
        let began = Instant::now();
        let end = tokio::select! {
            end = self.shut_down(&bell, desk, began) => end,
            stop = second_signal(&mut signals) => {
                tracing::warn!("second signal: ending at once");
                std::process::exit(i32::from(stop));
            }
        };
        // The admin port closes last.
        drop(stop_admin);
        if let Some(mut admin) = admin {
            let left = self.shutdown_limit().saturating_sub(began.elapsed() + MARGIN);
            if timeout(left.clamp(MARGIN, RESERVE), &mut admin).await.is_err() {
                admin.abort();
                tracing::warn!("admin: connections cut at the deadline");
            }
        }
        // Before the line that is the last.
        report_suppressed();
        log_end(&end, began.elapsed());
        end
    }

    fn shutdown_limit(&self) -> Duration {
        Duration::from_millis(self.config.server.shutdown_timeout_ms)
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Shutdown => {}
            Command::Ledger(reply) => self.ask_all(0, Message::Report, move |reports| drop(reply.send(reports))),
            Command::List(reply) => self.ask_all(0, Message::List, move |lists| drop(reply.send(lists.concat()))),
            Command::Order { selector, deed, reply } => {
                let order =
                    |reply| Message::Order(Order { selector: Arc::clone(&selector), deed: deed.clone(), reply });
                self.ask_all(deed.bytes(), order, move |counts: Vec<usize>| {
                    let _ = reply.send(counts.iter().sum());
                });
            }
            Command::Answer { shard, connection, bytes, close } => {
                let weight = bytes.len();
                self.node.send(shard, Message::Answer { id: connection, bytes, close }, weight);
                self.node.wake_peers();
            }
        }
    }

    /// Asks every shard, by a message that stands for `weight` bytes; the answers are awaited beside everything else.
    fn ask_all<T: Send + 'static>(
        &mut self,
        weight: usize,
        question: impl Fn(UnboundedSender<T>) -> Message,
        then: impl FnOnce(Vec<T>) + Send + 'static,
    ) {
        let (reply, answers) = unbounded_channel();
        self.send_all(weight, || question(reply.clone()));
        let shards = self.shards.len();
        tokio::spawn(async move {
            let answers = collect(answers, shards, Instant::now() + ANSWER_WITHIN).await;
            // A part of the truth is no answer.
            if answers.len() == shards {
                then(answers);
            }
        });
    }

    fn serve_admin(
        &mut self,
        metrics: Metrics,
        control: Option<Router>,
    ) -> (oneshot::Sender<()>, Option<tokio::task::JoinHandle<()>>) {
        let (stop, stopped) = oneshot::channel::<()>();
        let Some(listener) = self.admin.take() else { return (stop, None) };
        let source = Arc::new(Books(self.commands.clone()));
        let access = Access::of_config(&self.config, &self.config.metrics.token);
        let mut admin = Admin::new(metrics, self.health.clone(), source, access);
        if let Some(control) = control {
            admin = admin.guarded(control);
        }
        let limit = self.shutdown_limit();
        let task = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            if let Err(error) = admin.serve(listener, stopped, limit).await {
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

    fn send_all(&mut self, weight: usize, message: impl Fn() -> Message) {
        for shard in 0..self.shards.len() {
            self.node.send(shard, message(), weight);
        }
        self.node.wake_peers();
    }

    /// Feeds the watchdog once every shard has answered, if all do so in time: a server of which one shard hangs is to be
    /// started anew.
    fn feed_watchdog(&mut self, manager: &Arc<ServiceManager>) {
        let Some(within) = manager.watchdog().map(|within| within / 2) else { return };
        let (reply, answers) = unbounded_channel();
        self.send_all(0, || Message::Alive(reply.clone()));
        let (shards, manager) = (self.shards.len(), Arc::clone(manager));
        tokio::spawn(async move {
            match shards - collect(answers, shards, Instant::now() + within).await.len() {
                0 => manager.feed_watchdog(),
                silent => tracing::warn!("watchdog not fed: {silent} of {shards} shards did not answer for {within:?}"),
            }
        });
    }

    /// The phases, each at a barrier of all shards, until the deadline; then whoever is left is cut.
    async fn shut_down(&mut self, bell: &Bell, mut desk: Desk, began: Instant) -> Report {
        let limit = self.shutdown_limit();
        let deadline = began + limit.saturating_sub(RESERVE).max(limit / 2);
        self.health.advance(State::Draining);
        // Who asks from here on is told that the server shuts down.
        self.inbox.close();
        while self.inbox.try_recv().is_ok() {}
        let connections = self.counters.sum(|shard| &shard.connections);
        for phase in [Phase::StopAccepting, Phase::StopReading, Phase::DrainRings, Phase::Finish] {
            let (done, answers) = unbounded_channel();
            self.send_all(0, || Message::Begin(phase, done.clone()));
            drop(done);
            if self.collect(answers, deadline, bell, &mut desk).await.len() < self.shards.len() {
                tracing::warn!("the shutdown deadline came during {phase:?}: cutting who is left");
                break;
            }
        }
        let (reply, answers) = unbounded_channel();
        self.send_all(0, || Message::Stop(reply.clone()));
        drop(reply);
        let reports = self.collect(answers, Instant::now() + ANSWER_WITHIN, bell, &mut desk).await;
        let silent = self.shards.len() - reports.len();
        if silent == 0 {
            for shard in self.shards.drain(..) {
                let _ = shard.join();
            }
        } else {
            // It may hang for good: the process's end has to do.
            tracing::error!("{silent} of {} shards did not answer within {ANSWER_WITHIN:?}", self.shards.len());
        }
        while desk.take_in(&mut self.node).await {}
        desk.finish(deadline.max(Instant::now() + RESERVE / 3)).await;
        let mut end = Report { connections, ..Report::default() };
        reports.iter().for_each(|report| end.total.add(&report.total));
        end
    }

    /// Waits for an answer of every shard, until the deadline; events are taken in meanwhile.
    async fn collect<T>(
        &mut self,
        mut answers: UnboundedReceiver<T>,
        deadline: Instant,
        bell: &Bell,
        desk: &mut Desk,
    ) -> Vec<T> {
        let mut collected = Vec::with_capacity(self.shards.len());
        while collected.len() < self.shards.len() {
            desk.take_in(&mut self.node).await;
            tokio::select! {
                answer = timeout_at(deadline.into(), answers.recv()) => match answer {
                    Ok(Some(answer)) => collected.push(answer),
                    Ok(None) | Err(_) => break,
                },
                () = bell.rung(&self.node) => {}
            }
        }
        collected
    }
}

/// Says how many lines were left out of the log, if any were.
fn report_suppressed() {
    log::report_suppressed();
    streams::log::report_suppressed();
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

async fn next_tick(ticker: &mut Option<tokio::time::Interval>) {
    match ticker {
        Some(ticker) => _ = ticker.tick().await,
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
