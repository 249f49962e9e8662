//! What the hooks hear, and what they can do.

use engine::gateway::Selector;
use tungstenite::Message;

use super::support::{eventually, for_each_setup, read_text};
use super::{Gateway, config};

#[test]
fn a_connection_is_opened_says_things_and_is_closed_in_this_order() {
    for_each_setup(|driver, shards| {
        let gateway = Gateway::start(&config(driver, shards));
        let (mut client, id) = gateway.connect();
        let large = "x".repeat(300_000);
        for text in ["one", "", &large] {
            client.send(Message::text(text)).unwrap();
        }
        client.send(Message::binary(vec![0, 255])).unwrap();
        for expected in ["one", "", &large] {
            assert_eq!(gateway.event(), format!("text {id} {expected}"));
        }
        assert_eq!(gateway.event(), format!("binary {id} b\"\\0\\xff\""));
        assert_eq!(gateway.control().post("/settags?version=2", "version=&room=1"), "1");
        client.close(None).unwrap();
        while client.read().is_ok() {}
        drop(client);
        assert_eq!(gateway.event(), format!("close {id} foo=bar room=1"));
        assert_eq!(gateway.control().get("/status"), "");
    });
}

#[test]
fn events_see_the_tags_once_settags_has_answered() {
    for_each_setup(|driver, shards| {
        let gateway = Gateway::start(&config(driver, shards));
        let mut control = gateway.control();
        for round in 0..20 {
            let (client, id) = gateway.connect();
            assert_eq!(control.post(&format!("/settags?id={id}"), format!("round={round}")), "1");
            // A reset, at once.
            super::support::raw::reset_on_close(client.get_ref());
            drop(client);
            assert_eq!(gateway.event(), format!("close {id} foo=bar round={round} version=2"));
        }
    });
}

#[test]
fn the_handle_reaches_everybody_from_any_thread() {
    for_each_setup(|driver, shards| {
        let gateway = Gateway::start(&config(driver, shards));
        let mut clients: Vec<_> = (0..8).map(|_| gateway.connect()).collect();
        let everybody = || Selector::Tags(vec![("foo".into(), "bar".into())]);
        let handle = gateway.handle.clone();
        let first: uuid::Uuid = clients[0].1.parse().unwrap();
        let only_first = move || Selector::Ids(vec![first]);
        std::thread::spawn(move || {
            assert_eq!(handle.count(everybody()).wait(), Ok(8));
            assert_eq!(handle.set_tags(only_first(), &[("first", "yes")]).unwrap().wait(), Ok(1));
            assert!(handle.set_tags(only_first(), &[("id", "mine")]).is_err());
            assert_eq!(handle.send_text(Selector::Tags(vec![("first".into(), "yes".into())]), "you").wait(), Ok(1));
            assert_eq!(handle.send_binary(everybody(), b"all").wait(), Ok(8));
            assert_eq!(handle.list().wait().unwrap().len(), 8);
            assert_eq!(handle.close(only_first(), Some("bye")).wait(), Ok(1));
        })
        .join()
        .unwrap();
        assert_eq!(read_text(&mut clients[0].0), "you");
        for (client, _) in &mut clients {
            assert_eq!(client.read().unwrap(), Message::binary(b"all".to_vec()));
        }
        assert_eq!(read_text(&mut clients[0].0), "bye");
        assert!(
            matches!(clients[0].0.read().unwrap(), Message::Close(Some(frame)) if frame.reason == "Closed by server")
        );
    });
}

#[test]
fn a_flood_of_messages_loses_none_and_keeps_their_order() {
    const CLIENTS: usize = 10;
    const MESSAGES: usize = 2_000;
    for_each_setup(|driver, shards| {
        let gateway = Gateway::start(&config(driver, shards));
        let clients: Vec<_> = (0..CLIENTS).map(|_| gateway.connect()).collect();
        let ids: Vec<String> = clients.iter().map(|(_, id)| id.clone()).collect();
        let senders: Vec<_> = clients
            .into_iter()
            .map(|(mut client, _)| {
                std::thread::spawn(move || {
                    for n in 0..MESSAGES {
                        client.write(Message::text(format!("{n} {}", "x".repeat(n % 1000)))).unwrap();
                    }
                    client.flush().unwrap();
                    client
                })
            })
            .collect();
        let mut next = [0; CLIENTS];
        for _ in 0..CLIENTS * MESSAGES {
            let event = gateway.event();
            let mut words = event.split(' ');
            assert_eq!(words.next(), Some("text"));
            let id = words.next().unwrap();
            let from = ids.iter().position(|other| other == id).unwrap();
            assert_eq!(words.next(), Some(&*next[from].to_string()), "from {from}");
            next[from] += 1;
        }
        senders.into_iter().for_each(|sender| drop(sender.join().unwrap()));
    });
}

#[test]
fn a_shutdown_that_is_cut_short_still_tells_every_end() {
    for_each_setup(|driver, shards| {
        let mut config = config(driver, shards);
        config.server.shutdown_timeout_ms = 400;
        let mut gateway = Gateway::start(&config);
        // They neither read nor close; some are in the middle of a flood of messages.
        let mut clients: Vec<_> = (0..60).map(|_| gateway.connect().0).collect();
        let ending = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let floods: Vec<_> = clients
            .drain(..10)
            .map(|mut client| {
                let ending = std::sync::Arc::clone(&ending);
                std::thread::spawn(move || {
                    while !ending.load(std::sync::atomic::Ordering::Relaxed) && client.send(Message::text("")).is_ok() {
                    }
                })
            })
            .collect();
        for _ in 0..1000 {
            gateway.event();
        }
        gateway.server.shutdown();
        gateway.server.wait();
        ending.store(true, std::sync::atomic::Ordering::Relaxed);
        floods.into_iter().for_each(|flood| flood.join().unwrap());
        let (_, ended) = std::sync::mpsc::channel();
        let closes =
            std::mem::replace(&mut gateway.events, ended).into_iter().filter(|event| event.starts_with("close "));
        assert_eq!(closes.count(), 60);
    });
}

#[test]
fn at_shutdown_everybody_is_told_of_the_end_of_everybody() {
    for_each_setup(|driver, shards| {
        let mut gateway = Gateway::start(&config(driver, shards));
        let mut clients: Vec<_> = (0..6).map(|_| gateway.connect()).collect();
        clients[0].0.send(Message::text("the last word")).unwrap();
        eventually("the message is read", || gateway.server.counters().sum(|shard| &shard.messages_received) == 1);
        gateway.server.shutdown();
        for (client, _) in &mut clients {
            let close = client.read().unwrap();
            assert!(matches!(&close, Message::Close(Some(frame)) if u16::from(frame.code) == 1001), "{close:?}");
            while client.read().is_ok() {}
            client.get_ref().shutdown(std::net::Shutdown::Both).unwrap();
        }
        gateway.server.wait();
        // The hooks have gone with the server: what they heard is all there is.
        let (_, ended) = std::sync::mpsc::channel();
        let events: Vec<String> = std::mem::replace(&mut gateway.events, ended).into_iter().collect();
        assert_eq!(events.len(), 7, "{events:?}");
        let said = events.iter().position(|event| event.starts_with("text ")).unwrap();
        let closed = events.iter().position(|event| event.starts_with(&format!("close {} ", clients[0].1))).unwrap();
        assert!(said < closed, "{events:?}");
        for (_, id) in &clients {
            assert_eq!(events.iter().filter(|event| event.starts_with(&format!("close {id} "))).count(), 1);
        }
    });
}
