//! What happens to subscribers that lag too far behind.
//!
//! Lag counts only while a subscriber's socket is blocked. Above `lag_bytes_max` (one message always fits) publishers
//! pause, and whoever made no progress for `stall_ms`, or whose oldest unsent message is older than `lag_age_max_ms`,
//! is struck: disconnected with 1013, or moved to the newest message. Who keeps draining is waited for.

use proto::CloseCode;

use crate::config::EndpointConfig;
use crate::counters::{Dropped, Ended};
use crate::relay::home::weight;
use crate::relay::ledger::Owed;
use crate::shard::{Shard, log};

/// How often slow consumers under judgement are looked at, in µs.
const JUDGE_US: u64 = 10_000;
/// A log must have grown by this much before lags are looked at again.
const GROWTH_BYTES: u64 = 64 << 10;
/// The rest of a frame that a struck subscriber is still sent, at most; with more to come it is reset.
const FRAME_REST_BYTES_MAX: u64 = 1 << 20;

impl Shard {
    /// Looks at lags if the topic has grown enough since the last look.
    pub(crate) fn judge_if_due(&mut self, index: u32) {
        let Some(topic) = self.topics.get_mut(index).filter(|topic| topic.is_live()) else { return };
        let grown = topic.view().tail().at - topic.judged_at;
        if topic.pressure || topic.blocked > 0 && grown >= GROWTH_BYTES {
            self.judge(index);
        }
    }

    /// Strikes slow consumers and keeps publishers waiting for those that may recover.
    pub(crate) fn judge(&mut self, index: u32) {
        let (now_us, router) = (self.now_us, std::rc::Rc::clone(&self.router));
        let Some(topic) = self.topics.get_mut(index).filter(|topic| topic.is_live()) else { return };
        let endpoint = router.endpoint(topic.endpoint);
        let config = &endpoint.config;
        let tail = topic.view().tail();
        topic.judged_at = tail.at;
        let lag_bytes_max = lag_bytes_max(config);
        let (mut struck, mut pressure) = (Vec::new(), false);
        for subscriber in &topic.subscribers {
            let (bytes, messages) = (tail.at - subscriber.cursor.at, tail.seq - subscriber.cursor.seq);
            if weight(bytes, messages) <= lag_bytes_max || messages <= 1 {
                continue;
            }
            if !subscriber.blocked {
                // Writable again, but not far yet: who was under judgement remains so until it has caught up.
                pressure |= topic.pressure;
                continue;
            }
            let stalled = now_us.saturating_sub(subscriber.progress_us) >= config.stall_ms * 1000;
            let age_us = topic.view().accepted_at(subscriber.cursor).map_or(0, |at| age_us(now_us, at));
            let aged = config.lag_age_max_ms > 0 && age_us >= config.lag_age_max_ms * 1000;
            if stalled || aged {
                struck.push(subscriber.slot);
            } else {
                pressure = true;
            }
        }
        topic.pressure = pressure;
        for slot in struck {
            if endpoint.skip_slow { self.skip(slot) } else { self.cut_off(slot) }
        }
        if pressure {
            self.judge_soon(index);
        }
        self.report(index);
    }

    /// A subscriber that was just blocked may lag too far even if nothing more is published.
    pub(crate) fn heed_lag(&mut self, index: u32, subscriber: u32) {
        let topic = self.topics.topic(index);
        let (tail, cursor) = (topic.view().tail(), topic.subscribers[subscriber as usize].cursor);
        let lag_bytes = weight(tail.at - cursor.at, tail.seq - cursor.seq);
        if lag_bytes > lag_bytes_max(&self.router.endpoint(topic.endpoint).config) {
            self.judge_soon(index);
        }
    }

    fn judge_soon(&mut self, index: u32) {
        if !self.topics.judging.contains(&index) {
            self.topics.judging.push(index);
        }
        self.topics.judge_us.get_or_insert(self.now_us + JUDGE_US);
    }

    /// Closes a slow consumer: the rest of the frame it is in, then Close 1013; a reset if that is not taken in time.
    pub(crate) fn cut_off(&mut self, slot: u32) {
        let subscription = self.connections.at(slot).subscription;
        let rest = subscription.map_or(0, |at| self.topics.topic(at.topic).frame_rest(at.index));
        let peer = self.connections.at(slot).peer_address();
        log::warn(&log::SLOW, || format!("{peer} is too slow: disconnected"));
        if rest > FRAME_REST_BYTES_MAX {
            return self.end(slot, Ended::SlowConsumer, true);
        }
        self.begin_close(slot, CloseCode::TRY_AGAIN_LATER, "too slow", Ended::SlowConsumer);
    }

    /// Moves a slow consumer to the newest message; the rest of the frame it is in goes out first.
    fn skip(&mut self, slot: u32) {
        let Some(subscription) = self.connections.at(slot).subscription else { return };
        let topic = self.topics.topic_mut(subscription.topic);
        let kept = topic.begun_frame(subscription.index);
        let skipped = topic.skip_to_tail(subscription.index, u64::from(kept.is_some()));
        let books = std::rc::Rc::clone(&topic.books);
        books.drop_for(Dropped::Skipped, skipped);
        self.counters().dropped(Dropped::Skipped, skipped);
        if let Some(rest) = kept {
            self.outbox(slot).rest_of_frame(rest, Owed { books, deliveries: 1 });
        }
    }
}

/// A log that may not grow to the lag limit is judged by what it may grow to.
fn lag_bytes_max(config: &EndpointConfig) -> u64 {
    config.lag_bytes_max.min(config.topic_log_bytes_max / 2)
}

/// µs since a time written by any shard. This shard's turn may have begun before it: then nothing has passed.
fn age_us(now_us: u64, accepted_us: u32) -> u64 {
    u64::from((now_us as u32).wrapping_sub(accepted_us).cast_signed().max(0).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_accepted_after_the_turn_began_is_new_and_not_ancient() {
        assert_eq!(age_us(1_000, 1_001), 0);
        assert_eq!(age_us(1_000, 1_000), 0);
        assert_eq!(age_us(5_000, 1_000), 4_000);
        assert_eq!(age_us((1 << 32) + 10, u32::MAX - 9), 20);
    }
}
