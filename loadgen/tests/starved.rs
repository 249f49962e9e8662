//! A generator that gets a third of a core finds out: INVALID, exit 3, no headline.

mod common;

use std::process::{Child, Command, Stdio};

use common::{Peer, Running, loadgen_by, number};
use serde_json::Value;

/// Shares of its core that the load should take when nobody else wants it: more than a third, less than all.
const WANTED_SHARE: std::ops::Range<f64> = 0.42..0.9;

/// Loads that are tried until one takes such a share.
const TRIES_MAX: u32 = 8;

/// Keeps a core busy until it is dropped, from a session of its own, so that the kernel's autogroups give it a share of
/// its own as well.
struct Spinner(Child);

impl Spinner {
    fn start(core: &str) -> Self {
        let spin = ["taskset", "--cpu-list", core, "sh", "-c", "while :; do :; done"];
        Self(Command::new("setsid").args(spin).stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The cores that this process may use.
fn cores() -> Vec<String> {
    let output =
        Command::new("taskset").args(["--cpu-list", "--pid", &std::process::id().to_string()]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let ranges = text.rsplit(": ").next().unwrap().trim().split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse::<u32>().unwrap()..=last.parse::<u32>().unwrap()
    });
    ranges.flatten().map(|core| core.to_string()).collect()
}

#[test]
fn a_third_of_a_core_is_not_enough_and_is_found_out() {
    let cores = cores();
    let [first, .., last] = cores.as_slice() else {
        println!("SKIPPED a third of a core: there is only one, which the peer needs too");
        return;
    };
    let peer = Peer::start_by(loadgen_by("taskset", &["--cpu-list", first]), "fanout", &[]);
    let url = peer.url("/");
    let on_last = || loadgen_by("taskset", &["--cpu-list", last]);
    let load = ["run", "--url", &url, "--subscribers", "100", "--warmup", "200ms", "--duration", "800ms", "--rate"];

    // How much work is right depends on the machine; and others may want the core for a while.
    let (mut rate, mut had_its_core, mut is_found) = (1000.0, false, false);
    let mut calm = Value::Null;
    for _ in 0..TRIES_MAX {
        let (_, report, errors) =
            Running::start_by(on_last(), &[&load[..], &[&f64::to_string(&rate)]].concat()).finish();
        assert!(report["failure"].is_null(), "{errors}");
        let share = number(&report, "/generator/cpu_share");
        is_found = WANTED_SHARE.contains(&share) && report["verdict"] != "INVALID";
        calm = report;
        if is_found {
            break;
        }
        if number(&calm, "/generator/run_delay_share") < 0.1 {
            had_its_core = true;
            rate *= (0.6 / share).clamp(0.5, 3.0);
        }
    }
    if !is_found && !had_its_core {
        println!("SKIPPED a third of a core: others left the generator none to begin with: {:#}", calm["reasons"]);
        return;
    }
    assert!(is_found, "no load takes more than a third of a core and is not INVALID: {:#}", calm["generator"]);
    let rate = rate.to_string();

    let spinners = [Spinner::start(last), Spinner::start(last)];
    let output = on_last().args(load).args([&rate, "--quiet"]).output().unwrap();
    drop(spinners);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("INVALID") && text.contains("no figures are shown"), "{text}");
    assert!(!text.contains("deliveries") && !text.contains("p99.9"), "no headline: {text}");
}
