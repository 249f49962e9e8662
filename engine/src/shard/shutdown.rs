//! The end, in phases with a barrier between shards; the control thread conducts.
//!
//! Stop accepting → stop reading (accepted: in a ring or a log) → drain the rings → send all logs to their tails →
//! Close 1001, the closing handshakes, FIN, their FIN → close. All subscribers of a topic end on the same message.

use proto::CloseCode;
use tokio::sync::mpsc::UnboundedSender;

use crate::counters::{Dropped, Ended, Refused};
use crate::mesh::message::{Phase, Report};
use crate::net::connection::Phase as Life;
use crate::relay::topic::Waiting;
use crate::shard::Shard;

/// µs that a shard which is told to stop may take to get its last records into the rings.
const LAST_RECORDS_US: u64 = 3_000_000;

impl Shard {
    pub(crate) fn is_shutting_down(&self) -> bool {
        self.phase != Phase::Serving
    }

    /// Begins a phase; `done` is told once when it is over here.
    pub(crate) fn begin_phase(&mut self, phase: Phase, done: UnboundedSender<usize>) {
        self.phase = phase;
        self.phase_done = Some(done);
        match phase {
            Phase::Serving | Phase::DrainRings => {}
            Phase::StopAccepting => self.stop_accepting(),
            Phase::StopReading => self.stop_reading(),
            Phase::Finish => self.release_held(),
        }
    }

    /// Stops input. What was read already is parsed and accepted, whatever gates and budgets say.
    fn stop_reading(&mut self) {
        for slot in self.connections.alive().collect::<Vec<_>>() {
            match self.connections.at(slot).phase {
                Life::Open => {
                    self.connections.at_mut(slot).flags.paused = true;
                    self.port.pause(slot);
                    self.resume_parsing(slot);
                }
                Life::Handshake if self.connections.at(slot).is_between_requests() => self.begin_draining(slot),
                Life::Handshake | Life::Joining | Life::Requesting | Life::Asking => {
                    self.refuse(slot, 503, Refused::Full, "the server is shutting down");
                }
                Life::Closing | Life::Draining | Life::Gone => {}
            }
        }
    }

    fn release_held(&mut self) {
        for index in self.topics.indices() {
            let topic = self.topics.topic_mut(index);
            if topic.is_live() {
                topic.view_mut().refresh();
                if topic.waiting != Waiting::Hot {
                    topic.waiting = Waiting::Hot;
                    self.topics.hot.push_back(index);
                }
            }
        }
    }

    /// Goes on with the running phase and says when it is over. Called once per turn.
    pub(crate) fn drive_shutdown(&mut self) {
        self.drive_stop();
        if self.phase == Phase::Finish {
            self.close_finished();
        }
        if self.phase_done.is_some()
            && self.is_phase_over()
            && let Some(done) = self.phase_done.take()
        {
            // The conductor may have given up at the deadline.
            let _ = done.send(self.index);
        }
    }

    fn is_phase_over(&self) -> bool {
        match self.phase {
            Phase::Serving | Phase::StopAccepting => true,
            Phase::StopReading => {
                self.backlog.is_empty()
                    && self.node.is_drained()
                    && self.connections.alive().all(|slot| self.is_read_out(slot))
            }
            Phase::DrainRings => !self.node.has_news() && self.topics.announcing.is_empty(),
            // What the gateway's connections did at their end is told too.
            Phase::Finish => self.connections.in_use() == 0 && self.node.is_drained(),
        }
    }

    fn is_read_out(&self, slot: u32) -> bool {
        let connection = self.connections.at(slot);
        connection.phase != Life::Open || self.port.is_quiet(slot) && connection.unparsed.is_none()
    }

    /// Says goodbye to everybody who has been sent everything.
    fn close_finished(&mut self) {
        for slot in self.connections.alive().collect::<Vec<_>>() {
            let connection = self.connections.at(slot);
            if connection.phase != Life::Open {
                continue;
            }
            let finished = self.timers.delayed_bytes(self.connections.id(slot)) == 0
                && connection.subscription.is_none_or(|subscription| {
                    let topic = self.topics.topic(subscription.topic);
                    topic.has_everything(subscription.index)
                });
            if finished {
                self.begin_close(slot, CloseCode::GOING_AWAY, "shutting down", Ended::Shutdown);
            }
        }
    }

    /// Ends at once: whoever is left is cut, and what it was owed is counted as dropped.
    pub(crate) fn stop(&mut self, reply: UnboundedSender<Report>) {
        // Whatever phase the deadline came in.
        self.phase = Phase::Finish;
        for slot in self.connections.alive().collect::<Vec<_>>() {
            self.unsubscribe(slot, Dropped::Shutdown, false);
            self.end(slot, Ended::Shutdown, true);
        }
        self.stop_accepting();
        self.stopping = Some((reply, self.now_us + LAST_RECORDS_US));
    }

    /// The last thing that a shard does: once all its records are in the rings, or it is too late for them, it answers.
    fn drive_stop(&mut self) {
        let is_over = |deadline_us: &u64| self.node.is_drained() || self.clock.now_us() > *deadline_us;
        if !self.stopping.as_ref().is_some_and(|(_, deadline_us)| is_over(deadline_us)) {
            return;
        }
        if !self.node.is_drained() {
            tracing::error!("shard {}: what its last connections did could not be told any more", self.index);
        }
        if let Some((reply, _)) = self.stopping.take() {
            self.stopped = true;
            let _ = reply.send(self.topics.report(0));
        }
    }
}
