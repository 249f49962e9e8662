//! What a client may be called.

use std::fmt::Write as _;

use super::chat;
use super::support::{Dice, for_each_setup, http, start};
use super::talker::Talker;

/// Every byte as an escape.
fn encoded(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        write!(text, "%{byte:02X}").unwrap();
        text
    })
}

fn named(server: &engine::server::Server, query: &str) -> String {
    Talker::join(server.address(), query).name
}

#[test]
fn a_name_comes_from_the_query_or_is_the_clients_address() {
    for_each_setup(|driver, shards| {
        let server = start(&chat(driver, shards, |_| {}));
        let fifty = "é🦀".repeat(25);
        for (query, name) in [
            ("", "127.0.0.1"),
            ("?username", "127.0.0.1"),
            ("?username=", "127.0.0.1"),
            ("?user=ada", "127.0.0.1"),
            ("?room=x&username=ada", "ada"),
            ("?username=ada&username=ben", "ada"),
            ("?username=ada+lovelace%2B", "ada lovelace+"),
            ("?username=%3Cb%3E%26%3D%23", "<b>&=#"),
            ("?username=sErVeR", "sErVeR_2"),
            ("?username=SERVER_2", "SERVER_2"),
            (&format!("?username={}", encoded(&fifty)), &fifty),
        ] {
            let mut watcher = Talker::join(server.address(), "?username=watcher");
            assert_eq!(named(&server, query), name, "{query}");
            watcher.hear_until(&format!("Server: {name} has left the chat"));
            watcher.leave();
        }
    });
}

#[test]
fn a_name_that_cannot_be_is_400_with_the_reason() {
    for_each_setup(|driver, shards| {
        let server = start(&chat(driver, shards, |_| {}));
        for (name, reason) in [
            (&*"x".repeat(51), "username has 51 characters, allowed are 50\n"),
            (&"%C3%A9".repeat(51), "username has 51 characters, allowed are 50\n"),
            ("a%0Ab", "username has control characters\n"),
            ("%00", "username has control characters\n"),
            ("a%7F", "username has control characters\n"),
            ("a%C2%85", "username has control characters\n"),
            ("%FF", "username is not UTF-8\n"),
            ("%C3", "username is not UTF-8\n"),
            ("%ED%A0%80", "username is not UTF-8\n"),
            ("100%", "username has a malformed escape\n"),
        ] {
            let answer = http::ask_upgrade(server.address(), &format!("/chat?username={name}"), "");
            assert_eq!((answer.status, answer.body.as_str()), (400, reason), "{name}");
        }
        assert_eq!(named(&server, "?username=x"), "x", "nobody came who was refused");
    });
}

#[test]
fn where_no_name_is_left_the_newcomer_is_refused() {
    for_each_setup(|driver, shards| {
        let server = start(&chat(driver, shards, |endpoint| endpoint.username_chars_max = 1));
        let ada = Talker::join(server.address(), "?username=a");
        // On every shard, the home's included.
        for _ in 0..8 {
            let answer = http::ask_upgrade(server.address(), "/chat?username=a", "");
            assert_eq!((answer.status, answer.body.as_str()), (503, "every name like this one is taken\n"));
        }
        assert_eq!(ada.leave().len(), 1, "nobody heard of them");
    });
}

#[test]
fn a_name_that_was_given_back_is_given_again() {
    for_each_setup(|driver, shards| {
        let server = start(&chat(driver, shards, |_| {}));
        let mut ada = Talker::join(server.address(), "?username=ada");
        let mut second = Talker::join(server.address(), "?username=ada");
        let third = Talker::join(server.address(), "?username=ada");
        assert_eq!((second.name.as_str(), third.name.as_str()), ("ada_2", "ada_3"));
        second.say("last words");
        ada.hear_until("ada_2: last words");
        second.leave();
        assert_eq!(ada.hear(), "Server: ada_2 has left the chat", "behind what it said");
        assert_eq!(named(&server, "?username=ada"), "ada_2");
        third.reset();
        ada.hear_until("Server: ada_3 has left the chat");
        let name = named(&server, "?username=ada_3");
        assert!(name == "ada_3", "{name}");
    });
}

#[test]
fn any_name_is_given_whole_or_cut_between_characters() {
    const LETTERS: [&str; 12] = ["a", "B", "_", "2", " ", "é", "你", "🦀", "\u{301}", "\u{202e}", "&", ":"];
    for_each_setup(|driver, shards| {
        let server = start(&chat(driver, shards, |_| {}));
        let mut dice = Dice::new(u64::from(shards));
        let mut watcher = Talker::join(server.address(), "?username=watcher");
        for _ in 0..40 {
            let chars = 1 + dice.below(50);
            let wanted: String = (0..chars).map(|_| LETTERS[dice.below(LETTERS.len() as u64) as usize]).collect();
            let query = format!("?username={}", encoded(&wanted));
            let first = Talker::join(server.address(), &query);
            let second = Talker::join(server.address(), &query);
            assert_eq!(first.name, wanted);
            let beginning: String = wanted.chars().take(48).collect();
            assert_eq!(second.name, format!("{beginning}_2"));
            for talker in [first, second] {
                let last = format!("Server: {} has left the chat", talker.name);
                talker.leave();
                watcher.hear_until(&last);
            }
        }
    });
}
