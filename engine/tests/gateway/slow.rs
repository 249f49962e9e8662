//! Connections that do not read what they are sent.

use engine::config::SlowConsumer;
use engine::gateway::Selector;

use super::support::{eventually, for_each_setup, read_text};
use super::{Gateway, config};

fn everybody() -> Selector {
    Selector::Tags(vec![("foo".into(), "bar".into())])
}

#[test]
fn who_does_not_read_is_cut_off_and_nobody_else() {
    for_each_setup(|driver, shards| {
        let mut config = config(driver, shards);
        config.endpoints[0].lag_bytes_max = 256 << 10;
        config.endpoints[0].close_timeout_ms = 200;
        let gateway = Gateway::start(&config);
        let (_stalled, _) = gateway.connect();
        let (mut healthy, id) = gateway.connect();
        let text = "x".repeat(100_000);
        let mut sent = 0;
        eventually("the stalled one is gone", || {
            let meant = gateway.handle.send_text(everybody(), &text).wait().unwrap();
            sent += 1;
            assert_eq!(read_text(&mut healthy).len(), text.len());
            meant == 1
        });
        assert_eq!(gateway.handle.count(Selector::Ids(vec![id.parse().unwrap()])).wait(), Ok(1));
        let counters = gateway.server.counters();
        let dropped: u64 = counters.sum(|shard| &shard.dropped[engine::counters::Dropped::SlowConsumer as usize]);
        assert!(dropped >= 1, "{dropped} after {sent}");
    });
}

#[test]
fn every_message_is_sent_or_counted_as_dropped() {
    for_each_setup(|driver, shards| {
        let mut config = config(driver, shards);
        config.endpoints[0].lag_bytes_max = 64 << 20;
        let gateway = Gateway::start(&config);
        let (mut reader, _) = gateway.connect();
        let (stalled, _) = gateway.connect();
        let text = "x".repeat(1 << 20);
        for round in 0..8 {
            assert_eq!(gateway.handle.send_text(everybody(), &text).wait(), Ok(2));
            assert_eq!(read_text(&mut reader).len(), text.len(), "round {round}");
        }
        super::support::raw::reset_on_close(stalled.get_ref());
        drop(stalled);
        let counters = gateway.server.counters();
        let sum = |shard: &engine::counters::ShardCounters| {
            shard.messages_sent.value() + shard.dropped.iter().map(engine::counters::Counter::value).sum::<u64>()
        };
        eventually("all 16 are in the books", || {
            (0..usize::from(shards)).map(|n| sum(counters.shard(n))).sum::<u64>() == 16
        });
    });
}

#[test]
fn with_skip_it_stays_and_misses_messages_that_are_counted() {
    for_each_setup(|driver, shards| {
        let mut config = config(driver, shards);
        config.endpoints[0].lag_bytes_max = 256 << 10;
        config.endpoints[0].slow_consumer = SlowConsumer::Skip;
        config.endpoints[0].write_timeout_ms = 0;
        let gateway = Gateway::start(&config);
        let (mut stalled, _) = gateway.connect();
        let text = "x".repeat(100_000);
        let skipped =
            || gateway.server.counters().sum(|shard| &shard.dropped[engine::counters::Dropped::Skipped as usize]);
        let mut sent = 0;
        eventually("messages are skipped", || {
            assert_eq!(gateway.handle.send_text(everybody(), &text).wait(), Ok(1));
            sent += 1;
            skipped() >= 10
        });
        // What was not skipped arrives, whole.
        for _ in 0..sent - skipped() {
            assert_eq!(read_text(&mut stalled).len(), text.len());
        }
        assert_eq!(gateway.handle.send_text(everybody(), "and on").wait(), Ok(1));
        assert_eq!(read_text(&mut stalled), "and on");
    });
}
