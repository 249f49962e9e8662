//! Who hears whom: topics by path, how many of them there may be, and publishers that do not hear themselves.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::net::SocketAddr;

use engine::config::{EndpointConfig, Mode};
use support::raw::{RawClient, TEXT};
use support::{config, config_with, for_each_setup, http, start};

fn say(client: &mut RawClient, text: &str) {
    client.send(TEXT, text.as_bytes()).unwrap();
}

fn hear(client: &mut RawClient) -> String {
    String::from_utf8(client.read_frame().payload).unwrap()
}

/// Whether what is said on one path is heard on the other.
fn is_heard(address: SocketAddr, path: &str, other: &str) -> bool {
    let mut speaker = RawClient::connect(address, path);
    let mut hearer = RawClient::connect(address, other);
    say(&mut speaker, "first");
    assert_eq!(hear(&mut speaker), "first", "the sender hears itself");
    // Whatever is heard of the first comes before this, and nobody is left with it for the next pair.
    say(&mut hearer, "second");
    let heard = hear(&mut hearer);
    heard == "first" && hear(&mut hearer) == "second"
}

#[test]
fn a_topic_is_the_decoded_path_without_the_query() {
    for_each_setup(|driver, shards| {
        let mut config = config(driver, shards);
        config.endpoints.push(EndpointConfig::new("/rooms/{topic}/{sub}", Mode::Relay));
        let server = start(&config);
        for (path, other, same) in [
            ("/rooms/a", "/rooms/a", true),
            ("/rooms/a", "/rooms/b", false),
            ("/rooms/a", "/rooms/A", false),
            ("/rooms/a", "/", false),
            ("/", "/?room=a", true),
            ("/rooms/a", "/rooms/a?b=c&d=%zz", true),
            ("/rooms/abc", "/rooms/%61%62c", true),
            ("/rooms/%C3%A9", "/rooms/%c3%a9", true),
            ("/rooms/a%2Fb", "/rooms/a%2fb", true),
            ("/rooms/a%2Fb", "/rooms/a/b", false),
            ("/rooms/a%2Fb", "/rooms/a%252Fb", false),
            ("/rooms/a+b", "/rooms/a%20b", false),
            ("/rooms/a%3Fb", "/rooms/a?b", false),
            ("/rooms/a%00b", "/rooms/a", false),
        ] {
            assert_eq!(is_heard(server.address(), path, other), same, "{path} and {other}");
        }
    });
}

#[test]
fn a_segment_that_names_no_topic_is_refused() {
    let long = |bytes: usize| format!("/rooms/{}", "%61".repeat(bytes));
    for_each_setup(|driver, shards| {
        let server = start(&config(driver, shards));
        for (target, status) in [
            ("/rooms/".to_owned(), 404),
            ("/rooms".to_owned(), 404),
            ("/rooms/a/".to_owned(), 404),
            ("//".to_owned(), 404),
            ("/nowhere".to_owned(), 404),
            ("/rooms/%ff".to_owned(), 404),
            ("/rooms/%C3".to_owned(), 404),
            ("/rooms/%zz".to_owned(), 404),
            ("/rooms/100%".to_owned(), 404),
            (long(255), 101),
            (long(256), 400),
        ] {
            let answer = http::ask_upgrade(server.address(), &target, "");
            assert_eq!(answer.status, status, "{target}: {}", answer.head);
        }
    });
}

#[test]
fn no_more_than_topics_max_are_made_and_places_become_free() {
    for_each_setup(|driver, shards| {
        let server = start(&config_with(driver, shards, |endpoint| endpoint.topics_max = 2));
        let address = server.address();
        let mut first = RawClient::connect(address, "/rooms/1");
        let second = RawClient::connect(address, "/rooms/2");
        let refused = http::ask_upgrade(address, "/rooms/3", "");
        assert_eq!((refused.status, refused.header("Retry-After").is_some()), (503, true));
        let _elsewhere = RawClient::connect(address, "/");
        let mut again = RawClient::connect(address, "/rooms/1");
        say(&mut first, "still here");
        assert_eq!((hear(&mut first), hear(&mut again)), ("still here".to_owned(), "still here".to_owned()));
        drop(second);
        support::eventually("a place becomes free", || http::ask_upgrade(address, "/rooms/3", "").status == 101);
    });
}

#[test]
fn with_exclude_sender_a_publisher_hears_all_but_itself() {
    for_each_setup(|driver, shards| {
        let server = start(&config_with(driver, shards, |endpoint| endpoint.exclude_sender = true));
        for path in ["/", "/rooms/a"] {
            let mut clients: Vec<_> = (0..4).map(|_| RawClient::connect(server.address(), path)).collect();
            for round in 0..20 {
                for (index, client) in clients.iter_mut().enumerate() {
                    say(client, &format!("{round} of {index}"));
                }
            }
            for (index, client) in clients.iter_mut().enumerate() {
                let mut next = [0; 4];
                for _ in 0..3 * 20 {
                    let heard = hear(client);
                    let (round, author) = heard.split_once(" of ").unwrap();
                    let author: usize = author.parse().unwrap();
                    assert_ne!(author, index, "{heard}");
                    assert_eq!(round.parse(), Ok(next[author]), "in order");
                    next[author] += 1;
                }
            }
        }
        // On an echo endpoint it means nothing.
        let mut echo = RawClient::connect(server.address(), "/echo");
        say(&mut echo, "back");
        assert_eq!(hear(&mut echo), "back");
    });
}
