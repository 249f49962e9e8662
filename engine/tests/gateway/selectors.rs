//! Who is meant, and what is done to them.

use tungstenite::Message;

use super::support::{for_each_setup, read_text};
use super::{Gateway, config};

#[test]
fn replies_count_exactly_who_was_meant_across_all_shards() {
    for_each_setup(|driver, shards| {
        let gateway = Gateway::start(&config(driver, shards));
        let mut clients: Vec<_> = (0..20).map(|_| gateway.connect()).collect();
        let ids: Vec<String> = clients.iter().map(|(_, id)| id.clone()).collect();
        let mut control = gateway.control();
        // The first ten are in a room; every other one of all is even.
        for (index, id) in ids.iter().enumerate() {
            let tags = format!("n={index}&even={}&room={}", (index + 1) % 2, if index < 10 { "a%26b" } else { "" });
            assert_eq!(control.post(&format!("/settags?id={id}"), tags), "1");
        }
        for (query, expected) in [
            ("", 0),
            ("?", 0),
            ("?id=", 0),
            ("?id=&foo=bar", 0),
            ("?foo=bar", 20),
            ("?foo=bar&foo=other", 20),
            ("?foo=other&foo=bar", 0),
            ("?foo=bar&version=2", 20),
            ("?foo=bar&version=3", 0),
            ("?room=a%26b", 10),
            ("?room=a%26b&even=1", 5),
            ("?even=1&foo=bar", 10),
            ("?nobody=has", 0),
            ("?foo", 0),
            ("?n=7", 1),
            (&format!("?id={},{},nobody,{}", ids[0], ids[1], ids[0]), 2),
            (&format!("?id={}&foo=other", ids[3]), 1),
            ("?id=nobody&foo=bar", 0),
        ] {
            let answer = control.ask("POST", &format!("/send{query}"), "", query.as_bytes());
            assert_eq!((answer.status, answer.body.as_str()), (200, &*expected.to_string()), "{query}");
            assert!(answer.header("content-type").is_some_and(|value| value.starts_with("text/plain")), "{answer:?}");
        }
        // Each heard what was meant for it, and nothing else.
        assert_eq!(control.post("/send?foo=bar", "the end"), "20");
        for (index, (client, id)) in clients.iter_mut().enumerate() {
            let mut expected = vec!["?foo=bar", "?foo=bar&foo=other", "?foo=bar&version=2"];
            let by_ids = format!("?id={},{},nobody,{}", ids[0], ids[1], ids[0]);
            let by_id = format!("?id={}&foo=other", ids[3]);
            expected.extend((index < 10).then_some("?room=a%26b"));
            expected.extend((index < 10 && index % 2 == 0).then_some("?room=a%26b&even=1"));
            expected.extend((index % 2 == 0).then_some("?even=1&foo=bar"));
            expected.extend((index == 7).then_some("?n=7"));
            expected.extend((index < 2).then_some(&*by_ids));
            expected.extend((index == 3).then_some(&*by_id));
            expected.push("the end");
            for expected in expected {
                assert_eq!(read_text(client), expected, "client {index}, {id}");
            }
        }
    });
}

#[test]
fn tags_take_any_text_and_an_empty_value_deletes() {
    for_each_setup(|driver, shards| {
        let gateway = Gateway::start(&config(driver, shards));
        let (_client, id) = gateway.connect();
        let mut control = gateway.control();
        let texts = ["ü & = + %", "two\nlines\r", " ", "&=%25", &"x".repeat(10 << 10), &"ß".repeat(5 << 10)];
        for text in texts {
            let escaped: String = form(text);
            // Node's fetch calls a string text/plain.
            let body = format!("{escaped}={escaped}&gone=1&gone=2");
            let answer =
                control.ask("POST", "/settags?foo=bar", "Content-Type: text/plain;charset=UTF-8\r\n", body.as_bytes());
            assert_eq!((answer.status, &*answer.body), (200, "1"));
            for target in [format!("/send?{escaped}={escaped}"), format!("/send?gone=1&{escaped}={escaped}&foo=bar")] {
                assert_eq!(control.post(&target, ""), "1", "{text:?}");
            }
            assert_eq!(control.post("/send?gone=2", ""), "0", "of a repeated key the first value counts");
            assert_eq!(control.post(&format!("/settags?id={id}"), format!("{escaped}=&gone=&never=")), "1");
            assert_eq!(control.post(&format!("/send?{escaped}={escaped}"), ""), "0");
        }
        assert_eq!(control.get("/status"), format!("id={id} foo=bar version=2 \n"));
        for (target, body) in [
            ("/settags?foo=bar", "id=mine"),
            ("/settags?foo=bar", "=x"),
            ("/settags?foo=bar", "a=%zz"),
            ("/send?a=%f", ""),
        ] {
            assert_eq!(control.ask("POST", target, "", body.as_bytes()).status, 400, "{target} {body}");
        }
        assert_eq!(control.ask("POST", "/send?foo=bar", "", b"\xFF\xFE").status, 400);
        assert_eq!(control.get("/status"), format!("id={id} foo=bar version=2 \n"), "nothing was done");
    });
}

#[test]
fn status_and_tree_show_everybody() {
    for_each_setup(|driver, shards| {
        let gateway = Gateway::start(&config(driver, shards));
        let mut control = gateway.control();
        assert_eq!((control.get("/status"), control.get("/tree")), (String::new(), String::new()));
        let mut clients: Vec<_> = (0..3).map(|_| gateway.connect()).collect();
        clients.sort_by(|(_, a), (_, b)| a.cmp(b));
        control.post(&format!("/settags?id={}", clients[1].1), "a%0Ab=c%7Fd+%C3%BC&foo=zoo");
        let [a, b, c] = [0, 1, 2].map(|index| clients[index].1.as_str());
        let expected =
            format!("id={a} foo=bar version=2 \nid={b} a%0Ab=c%7Fd ü foo=zoo version=2 \nid={c} foo=bar version=2 \n");
        assert_eq!(control.get("/status"), expected);
        assert_eq!(control.get("/tree"), "a%0Ab\n - c%7Fd ü\n\nfoo\n - bar\n - zoo\n\nversion\n - 2\n\n");
    });
}

#[test]
fn messages_are_text_or_binary_and_a_close_has_the_last_word() {
    for_each_setup(|driver, shards| {
        let gateway = Gateway::start(&config(driver, shards));
        let mut clients: Vec<_> = (0..4).map(|_| gateway.connect()).collect();
        let mut control = gateway.control();
        for content_type in ["application/octet-stream", "Application/Octet-Stream; x=y"] {
            let answer =
                control.ask("POST", "/send?foo=bar", &format!("Content-Type: {content_type}\r\n"), b"\xFF\x00");
            assert_eq!(answer.body, "4");
        }
        assert_eq!(control.post(&format!("/close?id={}", clients[0].1), "bye"), "1");
        assert_eq!(control.post("/close?version=2", ""), "3", "one is closing already");
        for (index, (client, _)) in clients.iter_mut().enumerate() {
            for _ in 0..2 {
                assert_eq!(client.read().unwrap(), Message::binary(vec![0xFF, 0]));
            }
            if index == 0 {
                assert_eq!(read_text(client), "bye");
            }
            match client.read().unwrap() {
                Message::Close(Some(frame)) => {
                    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1000, "Closed by server"));
                }
                other => panic!("not a close: {other:?}"),
            }
        }
    });
}

/// Form-encoded, every byte escaped.
fn form(text: &str) -> String {
    text.bytes().map(|byte| if byte == b' ' { "+".to_owned() } else { format!("%{byte:02X}") }).collect()
}
