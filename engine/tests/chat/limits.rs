//! What may be said: length, rate and kind.

use std::time::{Duration, Instant};

use engine::counters::Dropped;
use engine::server::Server;

use super::chat;
use super::support::raw::BINARY;
use super::support::{eventually, for_each_setup, start};
use super::talker::Talker;

fn dropped(server: &Server, reason: Dropped) -> u64 {
    server.counters().sum(|shard| &shard.dropped[reason as usize])
}

#[test]
fn up_to_500_characters_are_passed_on_more_are_dropped_and_above_512_bytes_is_the_end() {
    for_each_setup(|driver, shards| {
        let server = start(&chat(driver, shards, |_| {}));
        let mut ada = Talker::join(server.address(), "?username=ada");
        let mut ben = Talker::join(server.address(), "?username=ben");
        ada.hear();
        let passed = ["x".repeat(500), "é".repeat(256), String::new()];
        for text in [&passed[0], &"y".repeat(501), &passed[1], &"z".repeat(512), &passed[2]] {
            ada.say(text);
        }
        for talker in [&mut ada, &mut ben] {
            for text in &passed {
                assert_eq!(talker.hear(), format!("ada: {text}"));
            }
        }
        eventually("two are dropped", || dropped(&server, Dropped::TooLong) == 2);
        ada.say(&"é".repeat(257));
        assert_eq!(ada.hear_close(), 1009);
        assert_eq!(ben.hear(), "Server: ada has left the chat", "and nothing of the message");
    });
}

#[test]
fn more_than_five_messages_in_a_second_are_dropped_and_the_connection_stays() {
    for_each_setup(|driver, shards| {
        let server = start(&chat(driver, shards, |_| {}));
        let mut ada = Talker::join(server.address(), "?username=ada");
        let mut ben = Talker::join(server.address(), "?username=ben");
        ada.hear();
        (0..8).for_each(|number| ada.say(&number.to_string()));
        for talker in [&mut ada, &mut ben] {
            (0..5).for_each(|number| assert_eq!(talker.hear(), format!("ada: {number}")));
        }
        let heard = Instant::now();
        eventually("three are dropped", || dropped(&server, Dropped::RateLimited) == 3);
        // The limit is each author's own.
        ben.say("and me");
        assert_eq!((ada.hear(), ben.hear()), ("ben: and me".to_owned(), "ben: and me".to_owned()));
        // The passing of a second is what is tested.
        while heard.elapsed() < Duration::from_millis(1100) {
            std::thread::park_timeout(Duration::from_millis(1100).saturating_sub(heard.elapsed()));
        }
        (0..6).for_each(|number| ada.say(&format!("again {number}")));
        (0..5).for_each(|number| assert_eq!(ada.hear(), format!("ada: again {number}")));
        eventually("the sixth is dropped", || dropped(&server, Dropped::RateLimited) == 4);
        ben.say("end");
        assert_eq!(ada.hear(), "ben: end");
        assert_eq!(dropped(&server, Dropped::TooLong), 0);
    });
}

#[test]
fn limits_of_0_are_no_limits() {
    for_each_setup(|driver, shards| {
        let change = |endpoint: &mut engine::config::EndpointConfig| {
            (endpoint.messages_per_second_max, endpoint.message_chars_max, endpoint.message_bytes_max) =
                (0, 0, 1 << 20);
        };
        let server = start(&chat(driver, shards, change));
        let mut ada = Talker::join(server.address(), "?username=ada");
        let long = "é".repeat(100_000);
        (0..100).for_each(|number| ada.say(&number.to_string()));
        ada.say(&long);
        (0..100).for_each(|number| assert_eq!(ada.hear(), format!("ada: {number}")));
        assert_eq!(ada.hear(), format!("ada: {long}"));
    });
}

#[test]
fn binary_is_the_end() {
    for_each_setup(|driver, shards| {
        let server = start(&chat(driver, shards, |_| {}));
        let mut ada = Talker::join(server.address(), "?username=ada");
        let mut ben = Talker::join(server.address(), "?username=ben");
        ada.hear();
        ada.send(BINARY, b"bytes");
        assert_eq!(ada.hear_close(), 1003);
        assert_eq!(ben.hear(), "Server: ada has left the chat");
    });
}

#[test]
fn where_senders_are_excluded_an_author_still_hears_its_own_notice() {
    for_each_setup(|driver, shards| {
        let server = start(&chat(driver, shards, |endpoint| endpoint.exclude_sender = true));
        let mut ada = Talker::join(server.address(), "?username=ada");
        let mut ben = Talker::join(server.address(), "?username=ben");
        assert_eq!(ada.hear(), "Server: ben has joined the chat");
        ada.say("not to myself");
        assert_eq!(ben.hear(), "ada: not to myself");
        ben.say("hello");
        assert_eq!(ada.hear(), "ben: hello");
        server.shutdown();
        assert_eq!((ada.close(), ben.close()), (1001, 1001));
        let total = server.wait().total;
        assert!(total.is_balanced(), "{total:?}");
    });
}
