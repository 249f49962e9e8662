//! Bytes out, second half: all queued sends are performed in one call, corrected, confirmed.
//!
//! What fell short is corrected before anything else looks at a cursor, a counter or an outbox: nothing reads an
//! optimistic cursor in between. The ledger knows queued and confirmed, nothing else.

use std::io::IoSlice;

use crate::counters::{Ended, ShardCounters};
use crate::net::connection::Phase;
use crate::net::port::Shortfall;
use crate::net::queued::{Queued, Sending};
use crate::net::send::reused;
use crate::relay::ledger::Owed;
use crate::shard::Shard;
use crate::sys::socket::Send;

/// Buffers for cipher text kept for the next flush.
const CIPHERS_KEPT: usize = 256;

impl Shard {
    /// Performs what is queued, corrects what fell short, confirms the rest.
    pub(crate) fn flush_batch(&mut self) {
        if self.batch.is_empty() {
            self.finish_passes();
            return;
        }
        self.perform();
        let mut batch = std::mem::take(&mut self.batch);
        for (index, shortfall) in self.shortfalls.drain(..) {
            batch[index].shortfall = Some(shortfall);
        }
        let mut figures = Figures::new(self.clock.now_us());
        for queued in batch.iter().filter(|queued| queued.shortfall.is_some()) {
            self.correct(queued, &mut figures);
        }
        self.flush += 1;
        for (at, queued) in batch.iter_mut().enumerate() {
            match queued.shortfall {
                None => {
                    if self.connections.at(queued.slot).flags.counted {
                        figures.bytes += self.sending[at].bytes;
                    }
                    self.confirm(queued, &mut figures);
                }
                Some(Shortfall::Sent(sent)) => self.block(queued, sent),
                Some(Shortfall::Failed(_)) => {}
            }
        }
        figures.book(self.counters());
        for queued in batch.drain(..) {
            if let Some(Shortfall::Failed(_)) = queued.shortfall {
                if queued.cipher.is_some() {
                    self.owe_cipher(&queued);
                }
                self.end(queued.slot, Ended::Reset, true);
            }
        }
        self.batch = batch;
        self.finish_passes();
    }

    /// All sends of the batch, by one flush of the port.
    fn perform(&mut self) {
        let mut slices: Vec<IoSlice<'_>> = reused(std::mem::take(&mut self.slices));
        self.sending.clear();
        for queued in &self.batch {
            let mut is_last = false;
            let start = slices.len();
            if let Some(cipher) = &queued.cipher {
                slices.push(IoSlice::new(cipher));
            } else {
                let connection = self.connections.at(queued.slot);
                let log = queued.log.as_ref().map(|log| (log, self.topics.topic(log.topic)));
                if let Some((log, topic)) = log {
                    log.rest_slices(topic, &mut slices);
                }
                if queued.outbox > 0
                    && let Some(outbox) = &connection.outbox
                {
                    outbox.slices(&mut slices);
                    is_last = connection.phase == Phase::Draining && queued.outbox == outbox.len();
                }
                if let Some((log, topic)) = log {
                    log.slices(topic, &mut slices);
                }
            }
            let bytes = slices[start..].iter().map(|slice| slice.len()).sum();
            let socket = self.port.socket(queued.slot);
            self.sending.push(Sending { bytes, socket, slices: start..slices.len(), is_last });
        }
        let mut sends: Vec<Send<'_>> = std::mem::take(&mut self.sends);
        sends.extend(self.sending.iter().map(|sending| sending.send(&slices)));
        self.port.flush(&sends, &mut self.shortfalls);
        sends.clear();
        self.sends = reused_sends(sends);
        self.slices = reused(slices);
    }

    /// Moves cursor and outbox to where a send that fell short left them.
    fn correct(&mut self, queued: &Queued, figures: &mut Figures) {
        if queued.cipher.is_some() {
            return;
        }
        let sent = match queued.shortfall {
            Some(Shortfall::Sent(sent)) => sent as u64,
            _ => 0,
        };
        let rest = queued.log.as_ref().map_or(0, |log| log.rest);
        let of_outbox = sent.saturating_sub(rest).min(queued.outbox as u64);
        if let Some(log) = &queued.log {
            let connection = self.connections.at(queued.slot);
            let index = connection.subscription.expect("a queued log slice has a subscriber").index;
            let topic = self.topics.topic_mut(log.topic);
            let delivered = topic.roll_back(index, log, sent - of_outbox);
            figures.delivered(delivered, log.accepted_us, self.counters.shard(self.index));
        }
        if of_outbox > 0 {
            self.consume_outbox(queued.slot, of_outbox as usize);
        }
    }

    fn consume_outbox(&mut self, slot: u32, bytes: usize) {
        let connection = self.connections.at_mut(slot);
        let Some(outbox) = &mut connection.outbox else { return };
        let messages = outbox.consume(bytes);
        let settled = if outbox.is_empty() { outbox.take_owed().map_or(0, Owed::settle) } else { 0 };
        self.counters().messages_sent.add(messages + settled);
        self.return_outbox(slot);
    }

    /// An outbox that is empty goes back to the pool, and what a full one had stopped goes on.
    fn return_outbox(&mut self, slot: u32) {
        if let Some(outbox) = self.connections.at_mut(slot).outbox.take_if(|outbox| outbox.is_empty()) {
            self.outboxes.put(outbox);
            self.resume_parsing(slot);
        }
    }

    /// The kernel took everything.
    fn confirm(&mut self, queued: &mut Queued, figures: &mut Figures) {
        let slot = queued.slot;
        if queued.outbox > 0 {
            self.consume_outbox(slot, queued.outbox);
        }
        if let Some(mut cipher) = queued.cipher.take() {
            self.settle_cipher(slot);
            if self.ciphers.len() < CIPHERS_KEPT {
                cipher.clear();
                self.ciphers.push(cipher);
            }
        }
        if let Some(log) = &queued.log {
            let books = &self.topics.topic(log.topic).books;
            books.deliver(log.deliveries);
            books.exclude(log.excluded);
            figures.delivered(log.deliveries, log.accepted_us, self.counters.shard(self.index));
            if self.topics.topic(log.topic).view().tail().at == log.to.at {
                self.report_soon(log.topic);
            }
        }
        let connection = self.connections.at(slot);
        let behind = connection.phase == Phase::Open
            && connection.subscription.is_some_and(|at| self.topics.topic(at.topic).is_behind(at.index));
        let more =
            behind || connection.outbox_bytes() > 0 || connection.tls.as_ref().is_some_and(|tls| tls.wants_send());
        if more {
            self.want_send(slot);
        } else if connection.phase == Phase::Draining {
            self.finish_draining(slot);
        }
    }

    /// Cipher text is on its way: what it carried is delivered.
    fn settle_cipher(&mut self, slot: u32) {
        let connection = self.connections.at_mut(slot);
        let Some(tls) = &mut connection.tls else { return };
        let messages = std::mem::take(&mut tls.messages);
        let settled = tls.owed.take().map_or(0, Owed::settle);
        self.counters().messages_sent.add(messages + settled);
        self.return_outbox(slot);
    }

    /// The socket takes no more now: waits for it to become writable.
    fn block(&mut self, queued: &mut Queued, sent: usize) {
        let slot = queued.slot;
        let (now_ms, now_us) = (self.now_ms(), self.now_us);
        if self.connections.at(slot).flags.counted {
            self.counters().bytes_sent.add(sent as u64);
        }
        if let Some(cipher) = queued.cipher.take() {
            if let Some(tls) = &mut self.connections.at_mut(slot).tls {
                tls.keep(cipher, sent);
            }
            self.owe_cipher(queued);
        }
        let connection = self.connections.at_mut(slot);
        connection.flags.blocked = true;
        connection.progress_ms = now_ms;
        if let Some(subscription) = connection.subscription
            && connection.phase == Phase::Open
        {
            let topic = self.topics.topic_mut(subscription.topic);
            let lag = topic.block(subscription.index, now_us);
            self.counters().lag_bytes.observe(lag as f64, 1);
            self.heed_lag(subscription.topic, subscription.index);
        }
        self.port.arm_writable(slot);
        self.arm_timer(slot);
    }

    /// What was encrypted has left the log for good: its deliveries are settled or forfeited with the cipher text.
    fn owe_cipher(&mut self, queued: &Queued) {
        if let Some(log) = &queued.log
            && let Some(tls) = &mut self.connections.at_mut(queued.slot).tls
        {
            let books = &self.topics.topic(log.topic).books;
            books.exclude(log.excluded);
            tls.owe(Owed { books: std::rc::Rc::clone(books), deliveries: log.deliveries });
        }
    }

    /// Once the last byte is out: FIN; once the peer has ended too: the end.
    pub(crate) fn finish_draining(&mut self, slot: u32) {
        let now_ms = self.now_ms();
        let connection = self.connections.at_mut(slot);
        if connection.phase != Phase::Draining || connection.flags.blocked || connection.outbox_bytes() > 0 {
            return;
        }
        if let Some(tls) = &mut connection.tls
            && !connection.flags.sent_end
        {
            tls.send_close_notify();
            if tls.wants_send() {
                return self.want_send(slot);
            }
        }
        if !std::mem::replace(&mut connection.flags.sent_end, true) {
            // From here on the peer has `close_timeout_ms` for its own end.
            connection.progress_ms = now_ms;
            self.port.shutdown_send(slot);
        }
        if self.connections.at(slot).flags.received_end {
            self.end(slot, Ended::Client, false);
        }
    }
}

/// Sums of one flush. Equal observations that follow each other are made as one.
struct Figures {
    now_us: u32,
    bytes: usize,
    delivered: u64,
    /// Accepted at, deliveries.
    accepted: (u32, u64),
    /// Frames in a send, sends.
    frames: (u64, u64),
}

impl Figures {
    fn new(now_us: u64) -> Self {
        Self { now_us: now_us as u32, bytes: 0, delivered: 0, accepted: (0, 0), frames: (0, 0) }
    }

    fn delivered(&mut self, deliveries: u64, accepted_us: u32, counters: &ShardCounters) {
        if deliveries == 0 {
            return;
        }
        self.delivered += deliveries;
        if self.accepted.0 != accepted_us {
            self.observe_latency(counters);
            self.accepted.0 = accepted_us;
        }
        self.accepted.1 += deliveries;
        if self.frames.0 != deliveries {
            self.observe_frames(counters);
            self.frames.0 = deliveries;
        }
        self.frames.1 += 1;
    }

    fn observe_latency(&mut self, counters: &ShardCounters) {
        let deliveries = std::mem::take(&mut self.accepted.1);
        if deliveries > 0 {
            let micros = self.now_us.wrapping_sub(self.accepted.0);
            counters.delivery_seconds.observe(f64::from(micros) * 1e-6, deliveries);
        }
    }

    fn observe_frames(&mut self, counters: &ShardCounters) {
        let sends = std::mem::take(&mut self.frames.1);
        if sends > 0 {
            counters.frames_per_send.observe(self.frames.0 as f64, sends);
        }
    }

    fn book(mut self, counters: &ShardCounters) {
        counters.bytes_sent.add(self.bytes as u64);
        counters.messages_sent.add(self.delivered);
        self.observe_latency(counters);
        self.observe_frames(counters);
    }
}

fn reused_sends(mut sends: Vec<Send<'_>>) -> Vec<Send<'static>> {
    sends.clear();
    sends.into_iter().map(|_| unreachable!("it was cleared")).collect()
}
