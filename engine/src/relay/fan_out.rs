//! One message to many local connections: when a topic is flushed, and how its subscribers are walked.
//!
//! A pass offers every unblocked subscriber all that is visible. It is cut into chunks of [`SENDS_PER_CHUNK`] sends, so
//! that a topic with 10,000 subscribers starves nobody: between chunks the shard takes input and publishes.

use std::cmp::Reverse;
use std::sync::atomic::{Ordering::SeqCst, fence};

use crate::relay::topic::{Pass, Waiting};
use crate::shard::Shard;

/// Sends of one chunk: at 3.2 µs each about 0.8 ms.
const SENDS_PER_CHUNK: usize = 256;
/// Sends of one chunk of a topic that was held and has little to send: between chunks input is taken, so that those who come
/// later in the pass get what its publishers say meanwhile. A shorter chunk costs some 5 % where that gains nothing.
const PACED_SENDS_PER_CHUNK: usize = 64;
/// What is little, in bytes.
const PACED_BYTES_MAX: u64 = 1 << 10;
/// A held topic is released when this many bytes wait.
const HELD_BYTES_MAX: u64 = 64 << 10;

impl Shard {
    /// The topic has more to send: now, or, if it is busy, a little later together with what follows.
    ///
    /// Held only if the shard has not slept since the topic's last flush and that flush ended less than [`hold_us`] ago: an
    /// idle server never waits, a busy one sends fewer, longer slices.
    pub(crate) fn schedule(&mut self, index: u32) {
        let (now, sleeps) = (self.now_us, self.sleeps);
        let router = std::rc::Rc::clone(&self.router);
        let topic = self.topics.topic_mut(index);
        let hold_us = hold_us(router.endpoint(topic.endpoint).config.flush_window_us, topic.flush_took_us);
        let unflushed = topic.view().tail().at - topic.attempted;
        let flushed_us = topic.flushed_us;
        match topic.waiting {
            Waiting::Hot => return,
            Waiting::Held(_) if unflushed < HELD_BYTES_MAX => return,
            Waiting::Held(_) => {}
            Waiting::No => {
                let busy = topic.flushed_sleeps == sleeps && now.saturating_sub(flushed_us) < hold_us;
                if busy && unflushed < HELD_BYTES_MAX && !self.is_shutting_down() {
                    // From the end of the flush on: `now` is when the turn began, which may be a chunk of sends earlier.
                    let due = now.max(flushed_us) + hold_us;
                    self.topics.topic_mut(index).waiting = Waiting::Held(due);
                    self.topics.held.push(Reverse((due, index)));
                    return;
                }
            }
        }
        self.topics.topic_mut(index).waiting = Waiting::Hot;
        self.topics.hot.push_back(index);
    }

    /// Releases topics whose time has come and looks at slow consumers.
    pub(crate) fn run_topic_timers(&mut self) {
        while let Some(&Reverse((due, index))) = self.topics.held.peek() {
            if due > self.now_us {
                break;
            }
            self.topics.held.pop();
            if let Some(topic) = self.topics.get_mut(index)
                && topic.waiting == Waiting::Held(due)
            {
                (topic.waiting, topic.was_held) = (Waiting::Hot, true);
                self.topics.hot.push_back(index);
            }
        }
        self.rest_quiet_logs();
        if self.topics.judge_us.is_some_and(|due| due <= self.now_us) {
            self.topics.judge_us = None;
            for index in std::mem::take(&mut self.topics.judging) {
                self.judge(index);
            }
        }
    }

    /// Queues one chunk of sends, taken from the hot topics in turn.
    pub(crate) fn fan_out(&mut self) {
        // Whatever else is sent, topics get their part.
        let mut budget = SENDS_PER_CHUNK.saturating_sub(self.batch.len()).max(SENDS_PER_CHUNK / 4);
        for _ in 0..self.topics.hot.len() {
            if budget == 0 {
                return;
            }
            let Some(index) = self.topics.hot.pop_front() else { return };
            if self.topics.get_mut(index).is_some_and(|topic| topic.waiting == Waiting::Hot) {
                budget = self.walk(index, budget);
            }
        }
    }

    /// Goes on with a topic's pass. Returns the budget that is left.
    fn walk(&mut self, index: u32, budget: usize) -> usize {
        let mut pass = match self.topics.topic_mut(index).pass.take() {
            Some(pass) => pass,
            None => self.begin_pass(index),
        };
        let sends = budget.min(pass.sends_per_turn);
        let mut left = sends;
        while left > 0 {
            let topic = self.topics.topic_mut(index);
            let count = topic.subscribers.len();
            if pass.visited >= count {
                break;
            }
            let subscriber = &topic.subscribers[(pass.start + pass.visited) % count];
            pass.visited += 1;
            if !subscriber.blocked && subscriber.cursor.at < topic.view().tail().at {
                let slot = subscriber.slot;
                // One that takes part in this flush already asks again by itself when it is still behind.
                left -= usize::from(self.queue_send(slot));
            }
        }
        let topic = self.topics.topic_mut(index);
        if pass.visited < topic.subscribers.len() {
            topic.pass = Some(pass);
            self.topics.hot.push_back(index);
        } else if pass.disturbed {
            // Somebody left and another took its place: once more, those who have everything are passed over.
            topic.pass = Some(Pass { start: 0, visited: 0, disturbed: false, ..pass });
            self.topics.hot.push_back(index);
        } else {
            topic.rotation = pass.start + topic.subscribers.len() / 2 + 1;
            self.topics.finished.push((index, pass));
        }
        budget - (sends - left)
    }

    fn begin_pass(&mut self, index: u32) -> Pass {
        let began_us = self.now_us;
        let topic = self.topics.topic_mut(index);
        let target = topic.view().tail().at;
        let is_paced = std::mem::take(&mut topic.was_held) && target - topic.attempted < PACED_BYTES_MAX;
        let sends_per_turn = if is_paced { PACED_SENDS_PER_CHUNK } else { SENDS_PER_CHUNK };
        let start = topic.rotation % topic.subscribers.len().max(1);
        Pass { start, visited: 0, target, disturbed: false, began_us, sends_per_turn }
    }

    /// The flush is done: passes that ended with it are reported, and logs trimmed.
    pub(crate) fn finish_passes(&mut self) {
        if !self.topics.finished.is_empty() {
            let now_us = self.clock.now_us();
            let mut finished = std::mem::take(&mut self.topics.finished);
            for (index, pass) in finished.drain(..) {
                self.finish_pass(index, &pass, now_us);
            }
            // The list goes back for its memory.
            finished.append(&mut self.topics.finished);
            self.topics.finished = finished;
        }
        while let Some(index) = self.topics.report_due.pop() {
            if let Some(topic) = self.topics.get_mut(index) {
                topic.report_due = false;
                self.report(index);
            }
        }
    }

    fn finish_pass(&mut self, index: u32, pass: &Pass, now_us: u64) {
        let (sleeps, target) = (self.sleeps, pass.target);
        let Some(topic) = self.topics.get_mut(index).filter(|topic| topic.is_live()) else { return };
        // One send may take less than all: what was offered is what the last of the unblocked has got.
        let offered = topic.least_offered().min(target);
        topic.attempted = topic.attempted.max(offered);
        topic.waiting = Waiting::No;
        (topic.flushed_us, topic.flushed_sleeps) = (now_us, sleeps);
        topic.flush_took_us = now_us.saturating_sub(pass.began_us);
        let behind = topic.view().tail().at > target;
        if offered < target {
            topic.waiting = Waiting::Hot;
            self.topics.hot.push_back(index);
        }
        self.report(index);
        self.judge_if_due(index);
        // The last subscribers may just have been struck.
        if behind && self.topics.get_mut(index).is_some_and(|topic| topic.is_live()) {
            self.schedule(index);
        }
    }

    /// Has the topic's state reported at the end of the flush, if anybody waits for it: a publisher at the gate, or
    /// memory to be freed.
    pub(crate) fn report_soon(&mut self, index: u32) {
        let topic = self.topics.topic_mut(index);
        if !topic.report_due && (topic.is_closed() || topic.view().holds_old_segments()) {
            topic.report_due = true;
            self.topics.report_due.push(index);
        }
    }

    /// Tells the home how far this shard is, and gives back what nobody here needs any more.
    pub(crate) fn report(&mut self, index: u32) {
        let own_shard = self.index;
        let Some(topic) = self.topics.get_mut(index).filter(|topic| topic.is_live()) else { return };
        let (home, oldest) = (topic.home, topic.oldest());
        topic.shared().report(own_shard, topic.attempted, oldest, topic.pressure);
        // Either the home sees this report when it closes the gate, or we see that it is closed.
        fence(SeqCst);
        let closed = topic.is_closed();
        topic.view_mut().trim(oldest.at);
        if home.shard as usize == own_shard {
            if let Some(home) = self.topics.home_mut(home.slot, home.generation) {
                home.trim();
            }
            if closed {
                self.weigh_gate(home.slot);
            }
        } else if closed {
            self.node.report_room(home.shard as usize, home.slot);
        }
    }
}

/// How long a busy topic is held, in µs: `window_us`, or three quarters of what its last flush took, up to twice the window.
/// So a topic that would fill the core with short sends leaves some of it: 500 msg/s × 1,000 subscribers take 0.58 instead of
/// 0.67 cores.
fn hold_us(window_us: u64, took_us: u64) -> u64 {
    (took_us / 4 * 3).clamp(window_us, 2 * window_us)
}

#[cfg(test)]
mod tests {
    use super::hold_us;

    #[test]
    fn a_hold_is_as_long_as_the_window_or_twice_where_flushes_take_long() {
        assert_eq!(hold_us(0, 1_000_000), 0, "never");
        assert_eq!(hold_us(2000, 100), 2000);
        assert_eq!(hold_us(2000, 4000), 3000);
        assert_eq!(hold_us(2000, 40_000), 4000);
    }
}
