//! Peers that drop, repeat, reorder or corrupt one delivery in a thousand: each fault is found and counted exactly.

mod common;

use common::{Peer, number, run};

/// Runs against a faulty peer; returns the report's counts and what the peer says it has done.
fn count(kind: &str, flag: &str, fault: &str) -> ([f64; 7], u64) {
    let peer = Peer::start(kind, &[flag, "1000"]);
    let url = peer.url("/");
    let traffic = ["--url", &url, "--warmup", "0s", "--duration", "2s", "--threads", "2", "--rate"];
    let (code, report, errors) = match kind {
        "echo" => run(&[&["echo", "--connections", "20"], &traffic[..], &["20000"]].concat()),
        _ => run(&[&["run", "--subscribers", "50", "--publishers", "3"], &traffic[..], &["500"]].concat()),
    };
    assert!(code == 0 || code == 3, "{code} {errors}");
    let keys = ["expected", "received", "lost", "duplicated", "reordered", "corrupted", "misrouted"];
    let counts = keys.map(|key| number(&report, &format!("/{key}")));
    (counts, peer.faults(fault))
}

#[test]
fn what_is_dropped_is_lost() {
    let ([expected, received, lost, rest @ ..], made) = count("fanout", "--drop-one-in", "dropped");
    // The publishers' own connections hear the topic too, and lose their share unseen.
    assert!(made > 20 && lost > 0.0 && lost <= made as f64, "{lost} of {made}");
    assert_eq!((expected, rest), (received + lost, [0.0; 4]));
}

#[test]
fn every_fault_of_an_echo_is_found_and_counted_exactly() {
    for (flag, fault, place) in [
        ("--drop-one-in", "dropped", 2),
        ("--repeat-one-in", "repeated", 3),
        ("--reorder-one-in", "reordered", 4),
        ("--corrupt-one-in", "corrupted", 5),
    ] {
        let (counts, made) = count("echo", flag, fault);
        let [expected, received, lost, _, _, corrupted, _] = counts;
        assert!(made > 10, "{made} {fault}");
        assert_eq!(counts[place], made as f64, "{fault}: {counts:?}");
        assert_eq!(expected, received + lost + corrupted, "{fault}: {counts:?}");
        let others = (2..7).filter(|other| *other != place).map(|other| counts[other]).sum::<f64>();
        assert_eq!(others, 0.0, "{fault}: {counts:?}");
    }
}
