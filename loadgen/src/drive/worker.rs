//! One thread of the generator and its turn: publish what is due → flush → wait → receive everything that is ready.
//!
//! What falls due while a long turn receives is published in between, so that a burst of deliveries does not make the
//! schedule late.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use socket2::Socket;

use super::connection::{Connection, State};
use super::connector::Connector;
use super::publishing::{Figures, Publishing};
use super::shared::{Note, Shared, Stage, thread_of};
use super::slow::SlowReaders;
use super::storm::{Storm, StormFigures};
use crate::measure::recorder::Recorder;
use crate::measure::stamp::Stamper;
use crate::measure::tally::Tally;
use crate::rng::Rng;
use crate::sys::clock::now_ns;
use crate::sys::port::{Driver, Port, Ready};
use crate::sys::{limits, socket};
use crate::wire::frame;
use crate::wire::handshake::Answer;
use crate::wire::message::{self, Incoming};
use crate::workload::Reading;

const SECOND_NS: u64 = 1_000_000_000;

/// How long the server has to answer our Close.
const CLOSE_NS_MAX: u64 = 2 * SECOND_NS;

/// A publisher whose connection does not take its messages stops being given more at this backlog.
const OUTBOX_BYTES_MAX: usize = 64 << 20;

/// What a thread has found out when it is done.
pub(super) struct Outcome {
    pub(super) tally: Tally,
    pub(super) figures: Figures,
    /// Measured sequences by publisher.
    pub(super) measured: Vec<(u32, Range<u32>)>,
    /// From the start of the TCP connect to the accepted upgrade.
    pub(super) handshake: Recorder,
    /// How long what was ready may have waited for its time stamp: the length of each turn while measuring.
    pub(super) turns: Recorder,
    pub(super) storm: Option<StormFigures>,
    /// Share of the measured time in which this thread did not wait.
    pub(super) busy_share: f64,
}

/// One thread of the generator.
pub(super) struct Worker {
    index: usize,
    shared: Arc<Shared>,
    port: Port,
    connections: Vec<Connection>,
    connector: Connector,
    publishing: Publishing,
    slow: SlowReaders,
    storm: Option<Storm>,
    tally: Tally,
    /// Per publisher of the load, its index in this thread.
    local_publishers: Vec<Option<u32>>,
    /// Connections with something in their outbox that has not been tried.
    dirty: Vec<u32>,
    /// Sockets to close when no event of theirs can be in the port any more.
    graveyard: Vec<Socket>,
    /// What TLS has decrypted of one receive.
    plaintext: Vec<u8>,
    rng: Rng,
    handshake: Recorder,
    turns: Recorder,
    has_started: bool,
    next_second_ns: u64,
    opened: u64,
    ended: u64,
    slow_ended: u64,
    heard: u64,
    waited_ns: u64,
}

impl Worker {
    /// Sets up thread `index`; connects begin when it runs.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub(super) fn new(index: usize, shared: Arc<Shared>, stamper: Arc<Stamper>, driver: Driver) -> io::Result<Self> {
        let load = &shared.load;
        let threads = shared.threads.len();
        let rng = Rng::new(load.seed, 1 + index as u64);
        let mut port = Port::new(driver)?;
        port.add_readable(std::os::fd::AsRawFd::as_raw_fd(&shared.threads[index].wake))?;
        let mine = || (0..load.connections.len() as u32).filter(|id| thread_of(*id, threads) == index);
        let mut local_subscribers = vec![0; load.topics.len()];
        for connection in mine().map(|id| load.connections[id as usize]).filter(|c| c.is_subscriber) {
            local_subscribers[connection.topic as usize] += 1;
        }
        let mut tally = Tally::new(load, stamper.clone(), shared.tracks.clone(), &local_subscribers);
        let mut publishing = Publishing::new(stamper, rng.clone());
        let mut local_publishers = vec![None; load.publishers.len()];
        let mut connections = Vec::new();
        for (slot, id) in mine().enumerate() {
            let spec = load.connections[id as usize];
            let publishers = load.topics[spec.topic as usize].publishers;
            let account = spec.is_subscriber.then(|| tally.open(spec.topic, publishers));
            let publisher = spec.publisher.map(|publisher| {
                let local = publishing.add(publisher, slot as u32, load.publishers[publisher as usize].clone());
                local_publishers[publisher as usize] = Some(local);
                local
            });
            connections.push(Connection::new(id, spec.topic, account, publisher));
        }
        let is_candidate = |connection: &Connection| {
            let spec = load.connections[connection.id as usize];
            !spec.is_subscriber && spec.publisher.is_none() && spec.reading == Reading::Full
        };
        let candidates = (0..connections.len() as u32).filter(|slot| is_candidate(&connections[*slot as usize]));
        let storm =
            load.storm.map(|spec| Storm::new(spec, candidates.collect(), Rng::new(load.seed, 1000 + index as u64)));
        let interval_ns = load.connect_rate.map_or(0.0, |rate| 1e9 * threads as f64 / rate);
        Ok(Self {
            index,
            connector: Connector::new(0..connections.len() as u32, now_ns(), interval_ns),
            port,
            connections,
            publishing,
            slow: SlowReaders::default(),
            storm,
            tally,
            local_publishers,
            dirty: Vec::new(),
            graveyard: Vec::new(),
            plaintext: Vec::new(),
            rng,
            handshake: Recorder::new(),
            turns: Recorder::new(),
            has_started: false,
            next_second_ns: now_ns() + SECOND_NS,
            opened: 0,
            ended: 0,
            slow_ended: 0,
            heard: 0,
            waited_ns: 0,
            shared,
        })
    }

    /// Works until the close phase is over.
    ///
    /// # Errors
    /// When the kernel refuses to wait: a fault of this machine.
    pub(super) fn run(mut self) -> io::Result<Outcome> {
        limits::sharpen_timers();
        while self.shared.stage() != Stage::Close {
            let now_ns = now_ns();
            if self.shared.stage() == Stage::Run {
                self.start_once();
            } else {
                self.begin_connects(now_ns);
            }
            self.drive_second(now_ns);
            self.publish_due(now_ns);
            self.publish_ready(now_ns);
            self.drive_slow(now_ns)?;
            self.drive_storm(now_ns);
            self.flush();
            self.store_progress(now_ns);
            self.wait(now_ns)?;
        }
        self.close_all()?;
        let measured_ns = self.tally.measured.end - self.tally.measured.start;
        let busy_share = 1.0 - self.waited_ns as f64 / measured_ns.max(1) as f64;
        let (figures, measured) = self.publishing.finish();
        Ok(Outcome {
            tally: self.tally,
            figures,
            measured,
            handshake: self.handshake,
            turns: self.turns,
            storm: self.storm.map(|storm| storm.figures),
            busy_share: busy_share.clamp(0.0, 1.0),
        })
    }

    fn start_once(&mut self) {
        let Some(schedule) = self.shared.schedule().filter(|_| !self.has_started) else { return };
        self.has_started = true;
        self.next_second_ns = schedule.start_ns + SECOND_NS;
        let measured = schedule.measure_ns..schedule.end_ns;
        self.tally.measured = measured.clone();
        self.publishing.start(schedule.start_ns, measured);
        self.storm.iter_mut().for_each(|storm| storm.start(schedule.measure_ns));
    }

    fn begin_connects(&mut self, now_ns: u64) {
        while let Some(slot) = self.connector.take_due(now_ns) {
            self.begin_connect(slot);
        }
    }

    /// Cuts what the storm wants cut, and lets come back who is due.
    fn drive_storm(&mut self, now_ns: u64) {
        let cut = self.storm.as_mut().map(|storm| storm.take_cut(now_ns)).unwrap_or_default();
        for slot in cut {
            // A reset, as of a client or a path that is gone, not a goodbye.
            if let Some(socket) = &self.connections[slot as usize].socket {
                let _ = socket.set_linger(Some(std::time::Duration::ZERO));
            }
            self.bury(slot);
        }
        // No event of theirs is in the port: the turn is over.
        self.graveyard.clear();
        while let Some(slot) = self.storm.as_mut().and_then(|storm| storm.take_retry(now_ns)) {
            let connection = &mut self.connections[slot as usize];
            let (id, topic) = (connection.id, connection.topic);
            *connection = Connection::new(id, topic, None, None);
            self.begin_connect(slot);
        }
    }

    fn begin_connect(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let sources = &self.shared.load.sources;
        let source = (!sources.is_empty()).then(|| sources[connection.id as usize % sources.len()]);
        connection.started_ns = crate::sys::clock::now_ns();
        let begun = socket::start_connect(self.shared.load.address, source).and_then(|socket| {
            self.port.add_stream(std::os::fd::AsRawFd::as_raw_fd(&socket), slot)?;
            Ok(socket)
        });
        match begun {
            Ok(socket) => {
                connection.socket = Some(socket);
                connection.tls = self.shared.load.tls.as_ref().map(|tls| Box::new(tls.session()));
                connection.state = State::Connecting;
            }
            Err(error) => self.fail_connect(slot, &connect_reason(&error)),
        }
    }

    /// Once per second: hands over the interval's latencies and looks for what has waited too long.
    fn drive_second(&mut self, now_ns: u64) {
        if now_ns < self.next_second_ns {
            return;
        }
        self.next_second_ns += SECOND_NS;
        let connections = &self.connections;
        let is_under_way =
            |slot: u32| matches!(connections[slot as usize].state, State::Connecting | State::Upgrading { .. });
        if let Some(slot) = self.connector.take_overdue(now_ns, is_under_way) {
            self.fail_connect(slot, "the handshake took longer than 30 s");
        }
        if self.has_started {
            self.publishing.give_up_stalled(now_ns);
            let start_ns = self.shared.schedule().map_or(now_ns, |schedule| schedule.start_ns);
            let second = (self.next_second_ns - start_ns) / SECOND_NS - 1;
            let _ = self.shared.notes.send(Note::Interval(second, self.tally.take_interval()));
        }
    }

    fn publish_due(&mut self, now_ns: u64) {
        while let Some((publisher, intended_ns)) = self.publishing.take_due(now_ns) {
            self.publish(publisher, intended_ns, now_ns);
        }
    }

    /// Closed loop: fills every publisher's window.
    fn publish_ready(&mut self, now_ns: u64) {
        if self.shared.threads.len() > 1 {
            self.publishing.collect_completed(&self.shared, now_ns);
        }
        while let Some((publisher, count)) = self.publishing.take_ready() {
            if now_ns < self.tally.measured.end {
                (0..count).for_each(|_| self.publish(publisher, now_ns, now_ns));
            }
        }
    }

    fn publish(&mut self, publisher: u32, intended_ns: u64, now_ns: u64) {
        let Some(slot) = self.publishing.slot(publisher) else { return };
        let connection = &mut self.connections[slot as usize];
        if connection.waiting_bytes() > OUTBOX_BYTES_MAX {
            return;
        }
        self.publishing.stamp(publisher, intended_ns, now_ns, &self.shared, &mut connection.outbox);
        if !connection.is_dirty {
            connection.is_dirty = true;
            self.dirty.push(slot);
        }
    }

    fn flush(&mut self) {
        while let Some(slot) = self.dirty.pop() {
            let connection = &mut self.connections[slot as usize];
            connection.is_dirty = false;
            self.send_waiting(slot);
        }
    }

    /// Sends what a connection's socket takes.
    fn send_waiting(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        match connection.flush() {
            Ok(()) if connection.waiting_bytes() > 0 && connection.is_alive() => self.port.watch_writable(slot),
            Ok(()) => {}
            Err(error) => self.end_or_fail(slot, &format!("broken while sending: {error}")),
        }
    }

    fn store_progress(&self, now_ns: u64) {
        let progress = &self.shared.threads[self.index].progress;
        for (counter, value) in [
            (&progress.opened, self.opened),
            (&progress.ended, self.ended),
            (&progress.slow_ended, self.slow_ended),
            (&progress.away, self.storm.as_ref().map_or(0, |storm| storm.figures.cut - storm.figures.recovered)),
            (&progress.sent, self.publishing.figures.sent_ever),
            (&progress.expected, self.publishing.figures.expected_ever),
            (&progress.booked, self.tally.booked),
            (&progress.heard, self.heard),
            (&progress.living_publishers, self.publishing.living()),
        ] {
            counter.store(value, Ordering::Relaxed);
        }
        let has_finished = self.has_started && self.publishing.has_finished(now_ns);
        progress.has_finished_sending.store(has_finished, Ordering::Release);
    }

    /// Waits until something is ready or due, then takes everything that is ready.
    fn wait(&mut self, now_ns: u64) -> io::Result<()> {
        let mut until_ns = self.next_second_ns.min(self.publishing.next_due_ns()).min(self.slow.next_due_ns());
        if now_ns < self.tally.measured.end {
            // Then it can tell that all is sent.
            until_ns = until_ns.min(self.tally.measured.end);
        }
        until_ns = until_ns.min(self.storm.as_ref().map_or(u64::MAX, Storm::next_due_ns));
        if self.shared.stage() == Stage::Connect {
            until_ns = until_ns.min(self.connector.next_due_ns().unwrap_or(u64::MAX));
        }
        self.port.wait(Some(until_ns.saturating_sub(now_ns)))?;
        let woken_ns = crate::sys::clock::now_ns();
        if self.tally.measured.contains(&now_ns) {
            self.waited_ns += woken_ns - now_ns;
        }
        let mut last_ns = woken_ns;
        while let Some(ready) = self.port.poll_ready() {
            last_ns = crate::sys::clock::now_ns();
            self.take_ready(ready, last_ns);
            if last_ns >= self.publishing.next_due_ns() {
                self.publish_due(last_ns);
                self.flush();
            }
        }
        self.graveyard.clear();
        if self.tally.measured.contains(&woken_ns) {
            self.turns.record(last_ns - woken_ns);
        }
        self.hand_over_completed(last_ns);
        Ok(())
    }

    /// Lets the slow readers read what they may.
    fn drive_slow(&mut self, now_ns: u64) -> io::Result<()> {
        while let Some((slot, bytes)) = self.slow.drive(now_ns, &mut self.port)? {
            self.take_bytes(slot, bytes, now_ns);
        }
        Ok(())
    }

    fn take_ready(&mut self, ready: Ready, now_ns: u64) {
        match ready {
            Ready::Bytes { slot, len } => self.take_bytes(slot, len, now_ns),
            Ready::Writable { slot } => self.take_writable(slot),
            Ready::End { slot, error } => {
                let reason = error.map_or("the server closed the connection without a Close".into(), |e| e.to_string());
                self.end_or_fail(slot, &reason);
            }
            Ready::Readable => self.shared.threads[self.index].wake.drain(),
        }
    }

    #[inline]
    fn take_bytes(&mut self, slot: u32, len: usize, now_ns: u64) {
        if !self.has_started {
            // Another thread may have begun to publish while this one was busy.
            self.start_once();
        }
        let connection = &mut self.connections[slot as usize];
        let mut bytes = self.port.bytes(len);
        if let Some(session) = &mut connection.tls {
            self.plaintext.clear();
            let decrypted = session.decrypt(bytes, &mut self.plaintext);
            bytes = &self.plaintext;
            if let Err(error) = decrypted {
                let _ = connection.flush();
                return self.end_or_fail(slot, &format!("TLS: {error}"));
            }
            if session.wants_write() && !connection.is_dirty {
                connection.is_dirty = true;
                self.dirty.push(slot);
            }
        }
        if !matches!(connection.state, State::Open | State::Closing) {
            let State::Upgrading { accept } = &connection.state else { return };
            connection.partial.extend_from_slice(bytes);
            let request = self.shared.load.topics[connection.topic as usize].request;
            match self.shared.load.requests[request as usize].judge(&connection.partial, accept) {
                Answer::Partial => return,
                Answer::Refused(reason) => return self.fail_connect(slot, &reason),
                Answer::Upgraded { head_bytes } => {
                    connection.partial.drain(..head_bytes);
                    connection.state = State::Open;
                    self.handshake.record(now_ns.saturating_sub(connection.started_ns));
                    match self.storm.as_mut().filter(|storm| storm.is_away(slot)) {
                        Some(storm) => storm.recover(slot, now_ns),
                        None => {
                            self.opened += 1;
                            self.connector.ended();
                        }
                    }
                    bytes = &[];
                    let reading = self.shared.load.connections[connection.id as usize].reading;
                    if let (true, Some(socket)) = (reading != Reading::Full, &connection.socket) {
                        self.slow.add(slot, std::os::fd::AsRawFd::as_raw_fd(socket), reading, now_ns);
                    }
                }
            }
        }
        let mut close = None;
        let (tally, heard, rng) = (&mut self.tally, &mut self.heard, &mut self.rng);
        let (account, outbox) = (connection.account, &mut connection.outbox);
        let on = |incoming: Incoming<'_>| match incoming {
            Incoming::Message { payload, .. } => match account {
                Some(account) => tally.deliver(account, payload, now_ns),
                None => *heard += 1,
            },
            Incoming::Ping(payload) => frame::append_frame(outbox, frame::PONG, payload, Some(rng.next_key())),
            Incoming::Pong => {}
            Incoming::Close { code } => close = Some(code),
        };
        let decoded = if connection.partial.is_empty() {
            let decoded = message::decode_server(bytes, &mut connection.assembly, on);
            connection.partial.extend_from_slice(&bytes[*decoded.as_ref().unwrap_or(&0)..]);
            decoded
        } else {
            connection.partial.extend_from_slice(bytes);
            let decoded = message::decode_server(&connection.partial, &mut connection.assembly, on);
            connection.partial.drain(..*decoded.as_ref().unwrap_or(&0));
            decoded
        };
        if let Err(error) = decoded {
            return self.end(slot, &format!("the server breaks RFC 6455: {error}"));
        }
        if let Some(code) = close {
            return self.end(slot, &format!("the server closed with code {code}"));
        }
        if connection.waiting_bytes() > 0 && !connection.is_dirty {
            connection.is_dirty = true;
            self.dirty.push(slot);
        }
    }

    fn take_writable(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let Some(socket) = &connection.socket else { return };
        if matches!(connection.state, State::Connecting) {
            match socket.take_error() {
                Ok(None) => {}
                Ok(Some(error)) | Err(error) => return self.fail_connect(slot, &connect_reason(&error)),
            }
            let mut nonce = [0; 16];
            nonce[..8].copy_from_slice(&self.rng.next_u64().to_le_bytes());
            nonce[8..].copy_from_slice(&self.rng.next_u64().to_le_bytes());
            let request =
                &self.shared.load.requests[self.shared.load.topics[connection.topic as usize].request as usize];
            connection.state = State::Upgrading { accept: request.append(&mut connection.outbox, nonce) };
        }
        self.send_waiting(slot);
    }

    /// Tells the publishers' threads what is complete.
    fn hand_over_completed(&mut self, now_ns: u64) {
        let threads = self.shared.threads.len();
        for at in 0..self.tally.completed.len() {
            let publisher = self.tally.completed[at];
            match self.local_publishers[publisher as usize] {
                Some(local) => self.publishing.complete(local, 1, now_ns),
                None => {
                    self.shared.completed[publisher as usize].fetch_add(1, Ordering::Relaxed);
                    // Which connection publishes is the load's affair; all threads are few enough to wake.
                    (0..threads).filter(|t| *t != self.index).for_each(|t| self.shared.threads[t].wake.wake());
                }
            }
        }
        self.tally.completed.clear();
    }

    fn end_or_fail(&mut self, slot: u32, reason: &str) {
        match self.connections[slot as usize].state {
            State::Connecting | State::Upgrading { .. } => self.fail_connect(slot, reason),
            _ => self.end(slot, reason),
        }
    }

    fn fail_connect(&mut self, slot: u32, reason: &str) {
        if let Some(storm) = self.storm.as_mut().filter(|storm| storm.is_away(slot)) {
            storm.fail(slot, now_ns());
            return self.bury(slot);
        }
        self.connector.ended();
        self.bury(slot);
        let _ = self.shared.notes.send(Note::ConnectFailed(reason.to_owned()));
    }

    /// An open connection is over.
    fn end(&mut self, slot: u32, reason: &str) {
        let connection = &self.connections[slot as usize];
        if !connection.is_alive() {
            return;
        }
        self.slow.remove(slot);
        if connection.is_open() {
            self.ended += 1;
            self.slow_ended += u64::from(self.shared.load.connections[connection.id as usize].reading != Reading::Full);
            let _ = self.shared.notes.send(Note::Ended(reason.to_owned()));
        }
        if let Some(publisher) = connection.publisher {
            self.publishing.end(publisher);
        }
        self.bury(slot);
    }

    fn bury(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if let Some(socket) = connection.socket.take() {
            self.port.remove(slot);
            self.graveyard.push(socket);
        }
        connection.state = State::Ended;
    }

    /// Says goodbye on every connection and waits a little for the answers.
    fn close_all(&mut self) -> io::Result<()> {
        let deadline_ns = now_ns() + CLOSE_NS_MAX;
        for slot in 0..self.connections.len() as u32 {
            let connection = &mut self.connections[slot as usize];
            if connection.is_open() {
                let key = self.rng.next_key();
                frame::append_frame(&mut connection.outbox, frame::CLOSE, &1000u16.to_be_bytes(), Some(key));
                connection.state = State::Closing;
                self.send_waiting(slot);
            }
        }
        while self.connections.iter().any(|c| matches!(c.state, State::Closing)) && now_ns() < deadline_ns {
            self.port.wait(Some(deadline_ns.saturating_sub(now_ns())))?;
            while let Some(ready) = self.port.poll_ready() {
                self.take_ready(ready, now_ns());
            }
            self.graveyard.clear();
        }
        Ok(())
    }
}

/// What to say when a connect fails; for the errors of this machine, what to do.
fn connect_reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EADDRNOTAVAIL) => {
            format!("{error}: no free source port; widen net.ipv4.ip_local_port_range or use --source-ip A-B")
        }
        Some(libc::EMFILE | libc::ENFILE) => format!("{error}: raise the limit of open files (ulimit -n)"),
        _ => error.to_string(),
    }
}
