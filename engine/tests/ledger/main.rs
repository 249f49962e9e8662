//! The books: who hears what. Subscribers that read fast, slowly or not at all, that come, leave and reset, beside
//! publishers of messages from 0 B to 1 MiB; every byte that arrives is checked, and the server's sums with it.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod order;
mod stage;
mod stamp;

use engine::config::{Config, Driver, SlowConsumer};
use engine::counters::Dropped;
use order::Heard;
use stage::Stage;
use support::tls::Certificate;
use support::{config_with, directory, drivers, for_each_setup, start};

/// What a test varies.
#[derive(Debug, Clone, Copy)]
struct Play {
    driver: Driver,
    shards: u16,
    policy: SlowConsumer,
    exclude_sender: bool,
    tls: bool,
    topics: usize,
    /// Per play, spread over the topics.
    subscribers: usize,
    publishers: usize,
    messages_per_publisher: u32,
    /// Nobody resets, and nobody stalls where that would be punished: then the sums of both sides are equal.
    gentle: bool,
}

impl Play {
    fn new(driver: Driver, shards: u16) -> Self {
        Self {
            driver,
            shards,
            policy: SlowConsumer::Disconnect,
            exclude_sender: false,
            tls: false,
            topics: 3,
            subscribers: 200,
            publishers: 20,
            messages_per_publisher: 40,
            gentle: false,
        }
    }

    fn small(self) -> Self {
        Self { subscribers: 40, publishers: 6, messages_per_publisher: 60, ..self }
    }

    fn config(&self) -> Config {
        config_with(self.driver, self.shards, |endpoint| {
            endpoint.slow_consumer = self.policy;
            endpoint.exclude_sender = self.exclude_sender;
            endpoint.lag_bytes_max = 1 << 20;
            // Far above what a busy machine does to a healthy reader.
            endpoint.stall_ms = 400;
            endpoint.lag_age_max_ms = 0;
        })
    }
}

fn perform(play: Play) {
    eprintln!("--- {play:?}");
    let mut config = play.config();
    let certificate =
        play.tls.then(|| Certificate::install(&directory(&format!("ledger-{}", play.driver)), &mut config));
    let server = start(&config);
    let mut stage = Stage::new(play, server.address(), certificate);
    stage.fill();
    stage.publish();
    stage.rouse();
    server.shutdown();
    stage.end();
    let counters = server.counters().clone();
    let total = server.wait().total;

    assert!(total.is_balanced(), "{total:?}");
    let sent: u64 = stage.seats.iter().map(|seat| u64::from(seat.published)).sum();
    assert_eq!(total.accepted, sent, "every message that was sent is accepted once");
    let heard = Heard::of(&stage);
    eprintln!("{heard:?} {total:?}");
    assert_eq!(play.gentle, heard.cut == 0, "how many were cut");
    let skipped = total.dropped[Dropped::Skipped as usize];
    if play.gentle {
        assert_eq!((total.delivered, skipped), (heard.messages, heard.missing));
    } else {
        assert!(total.delivered >= heard.messages && skipped >= heard.missing);
    }
    assert_eq!(counters.sum(|shard| &shard.messages_sent), total.delivered, "/metrics and the books agree");
    for reason in Dropped::ALL {
        let counted = counters.sum(|shard| &shard.dropped[*reason as usize]);
        assert_eq!(counted, total.dropped[*reason as usize], "/metrics and the books agree on {reason}");
    }
    assert_eq!(skipped > 0, play.policy == SlowConsumer::Skip);
    assert_eq!(
        total.dropped[Dropped::SlowConsumer as usize] > 0,
        play.policy == SlowConsumer::Disconnect && !play.gentle
    );
}

#[test]
fn every_message_is_delivered_in_order_or_counted_where_slow_consumers_are_disconnected() {
    for_each_setup(|driver, shards| perform(Play::new(driver, shards)));
}

#[test]
fn every_message_is_delivered_in_order_or_counted_where_slow_consumers_skip() {
    for_each_setup(|driver, shards| perform(Play { policy: SlowConsumer::Skip, ..Play::new(driver, shards) }));
}

#[test]
fn where_nobody_is_cut_both_sides_have_the_same_sums() {
    for policy in [SlowConsumer::Disconnect, SlowConsumer::Skip] {
        for_each_setup(|driver, shards| perform(Play { policy, gentle: true, ..Play::new(driver, shards).small() }));
    }
}

#[test]
fn publishers_do_not_hear_themselves_where_the_endpoint_excludes_them() {
    for policy in [SlowConsumer::Disconnect, SlowConsumer::Skip] {
        for_each_setup(|driver, shards| {
            perform(Play { policy, exclude_sender: true, ..Play::new(driver, shards).small() });
        });
    }
}

#[test]
fn the_books_balance_over_tls() {
    for &driver in drivers() {
        for policy in [SlowConsumer::Disconnect, SlowConsumer::Skip] {
            perform(Play { policy, tls: true, ..Play::new(driver, 3).small() });
            perform(Play { policy, tls: true, exclude_sender: true, gentle: true, ..Play::new(driver, 3).small() });
        }
    }
}
