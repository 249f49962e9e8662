//! Who is there: many newcomers at once that want the same names, talk and leave, and everybody's account of it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::chat;
use super::support::raw::{reset_on_close, upgrade_request};
use super::support::{Dice, StopOnDrop, dial, for_each_setup, start};
use super::talker::Talker;

const CLIENTS: usize = 100;
const THREADS: usize = 10;
/// What they want to be called, percent-encoded: an address, a name that nobody may have, and one that must be cut.
const WANTED: [&str; 5] = ["ada", "Server", "", "%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9", "ada_2"];
const USERNAME_CHARS_MAX: usize = 8;
/// The last message of everybody who stays.
const END: &str = "watcher: that is all";

/// What one client took part in.
struct Account {
    name: String,
    heard: Vec<String>,
}

/// Joins, talks, and often leaves. Whoever stays is returned too.
fn play(address: SocketAddr, seed: u64) -> (Vec<Account>, Vec<Talker>) {
    let mut dice = Dice::new(seed);
    let (mut gone, mut staying) = (Vec::new(), Vec::new());
    for number in 0..CLIENTS / THREADS {
        let wanted = WANTED[dice.below(WANTED.len() as u64) as usize];
        let mut talker = Talker::join(address, &format!("?username={wanted}"));
        let (name, line) = (talker.name.clone(), format!("{seed}.{number}"));
        talker.say(&line);
        talker.hear_until(&format!("{name}: {line}"));
        match dice.below(4) {
            0 => gone.push(Account { name, heard: talker.leave() }),
            1 => gone.push(Account { name, heard: talker.reset() }),
            _ => staying.push(talker),
        }
    }
    (gone, staying)
}

/// Checks that every notice comes exactly once, that nobody speaks who is not there, and that names are never shared.
/// Returns how many joined and left.
fn check_order(reference: &[String], first_names: &[&str]) -> (usize, usize) {
    let mut present: HashSet<&str> = first_names.iter().copied().collect();
    let (mut joined, mut left) = (0, 0);
    for line in reference {
        let (author, text) = line.split_once(": ").unwrap();
        if author != "Server" {
            assert!(present.contains(author), "{line:?} of somebody who is not there");
            continue;
        }
        if let Some(name) = text.strip_suffix(" has joined the chat") {
            assert!(present.insert(name), "{line:?} while another has the name");
            assert!(name.chars().count() <= USERNAME_CHARS_MAX && !name.eq_ignore_ascii_case("server"), "{line:?}");
            joined += 1;
        } else {
            let name = text.strip_suffix(" has left the chat").unwrap_or_else(|| panic!("{line:?} is no notice"));
            assert!(present.remove(name), "{line:?} without having been there");
            left += 1;
        }
    }
    (joined, left)
}

/// Where `run` stands in the reference, which must hold it in one piece.
fn place_of(run: &[String], reference: &[String]) -> usize {
    let start = reference.iter().position(|line| *line == run[0]);
    // The same name may have joined more than once.
    let starts = (start.expect("every join notice is in the reference")..reference.len()).filter(|at| {
        let rest = &reference[*at..];
        rest.len() >= run.len() && rest[..run.len()] == *run
    });
    starts.into_iter().next().unwrap_or_else(|| panic!("not a piece of what the watcher heard: {run:#?}"))
}

#[test]
fn a_hundred_newcomers_of_colliding_names_give_one_account_of_who_came_and_went() {
    for_each_setup(|driver, shards| {
        let config = chat(driver, shards, |endpoint| endpoint.username_chars_max = USERNAME_CHARS_MAX);
        let server = start(&config);
        let address = server.address();
        let mut watcher = Talker::join(address, "?username=watcher");
        let played: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS as u64).map(|seed| scope.spawn(move || play(address, seed))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (gone, staying): (Vec<_>, Vec<_>) = played.into_iter().unzip();
        let gone: Vec<Account> = gone.into_iter().flatten().collect();
        // A reset may be noticed late: every leave notice is there before the end is said.
        let mut left = 0;
        while left < gone.len() {
            left += usize::from(watcher.hear().ends_with(" has left the chat"));
        }
        watcher.say("that is all");
        watcher.hear_until(END);
        let reference = watcher.heard.clone();
        assert_eq!(check_order(&reference, &[]), (CLIENTS + 1, gone.len()));

        let staying: Vec<Talker> = staying.into_iter().flatten().collect();
        let names: HashSet<String> = staying.iter().map(|talker| talker.name.clone()).collect();
        assert_eq!(names.len(), staying.len(), "everybody who is present has a name of their own");
        for Account { name, heard } in &gone {
            assert_eq!(heard[0], format!("Server: {name} has joined the chat"));
            place_of(heard, &reference);
        }
        server.shutdown();
        for mut talker in staying {
            talker.hear_until(END);
            let at = place_of(&talker.heard, &reference);
            assert_eq!(at + talker.heard.len(), reference.len(), "{} hears everything to the end", talker.name);
            assert_eq!(talker.close(), 1001, "and no leave notice at a shutdown");
        }
        assert_eq!(watcher.close(), 1001);
        let counters = server.counters().clone();
        let total = server.wait().total;
        assert!(total.is_balanced(), "{total:?}");
        assert_eq!(total.accepted, reference.len() as u64, "notices and messages, each once: {total:?}");
        assert_eq!(counters.sum(|shard| &shard.messages_sent), total.delivered);
    });
}

#[test]
fn a_newcomer_amid_a_flood_misses_nothing_from_its_own_join_notice_on() {
    for_each_setup(|driver, shards| {
        let server = start(&chat(driver, shards, |endpoint| endpoint.messages_per_second_max = 0));
        let address = server.address();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _stopped_by = StopOnDrop(&stop);
            for speaker in 0..3 {
                let stop = &stop;
                scope.spawn(move || {
                    let mut talker = Talker::join(address, &format!("?username=speaker-{speaker}"));
                    let padding = "x".repeat(400);
                    for number in 0.. {
                        if stop.load(Relaxed) {
                            return;
                        }
                        let text = format!("{number} {padding}");
                        talker.say(&text);
                        // Now and then it catches up, so that it is not a slow consumer.
                        if number % 16 == 0 {
                            talker.hear_until(&format!("{}: {text}", talker.name));
                            talker.heard.clear();
                        }
                    }
                });
            }
            for round in 0..60 {
                let mut newcomer = Talker::join(address, "?username=newcomer");
                let notice = format!("Server: {} has joined the chat", newcomer.name);
                let mut next = [None; 3];
                for _ in 0..30 {
                    let line = newcomer.hear();
                    let Some(rest) = line.strip_prefix("speaker-") else { continue };
                    let (speaker, text) = rest.split_once(": ").unwrap();
                    let number: u64 = text.split(' ').next().unwrap().parse().unwrap();
                    let expected = next[speaker.parse::<usize>().unwrap()].replace(number + 1).unwrap_or(number);
                    assert_eq!(number, expected, "round {round}: a gap in what {speaker} said");
                }
                assert_eq!(newcomer.leave().iter().filter(|line| **line == notice).count(), 1);
            }
        });
        server.shutdown();
        let total = server.wait().total;
        assert!(total.is_balanced(), "{total:?}");
    });
}

#[test]
fn a_connection_that_dies_while_it_waits_for_a_name_gives_it_back() {
    for_each_setup(|driver, shards| {
        let server = start(&chat(driver, shards, |_| {}));
        let mut watcher = Talker::join(server.address(), "?username=watcher");
        for _ in 0..200 {
            let mut stream = dial(server.address());
            std::io::Write::write_all(&mut stream, upgrade_request("/chat?username=ghost").as_bytes()).unwrap();
            reset_on_close(&stream);
        }
        // Each was either never heard of, or came and went.
        let mut present = 0;
        let mut round = 0;
        loop {
            let ghost = Talker::join(server.address(), "?username=ghost");
            let last = format!("Server: {} has left the chat", ghost.name);
            let is_first = ghost.name == "ghost";
            ghost.leave();
            loop {
                let line = watcher.hear();
                present += i32::from(line.ends_with(" has joined the chat"));
                present -= i32::from(line.ends_with(" has left the chat"));
                if line == last {
                    break;
                }
            }
            if is_first && present == 0 {
                break;
            }
            round += 1;
            assert!(round < 1000, "{present} ghosts stay");
        }
        drop(watcher);
        server.shutdown();
        assert!(server.wait().total.is_balanced());
    });
}
