//! More connections than one address has source ports: in a network namespace of its own with a thousand ports.

mod common;

use std::process::Command;

use common::{Peer, Running, loadgen_by, number};

/// Brings up loopback, leaves a thousand ports, and becomes the program given behind it.
const SET_UP: &str =
    "ip link set lo up && echo 40000 40999 >/proc/sys/net/ipv4/ip_local_port_range && exec \"$0\" \"$@\"";

/// Why no network namespace can be made here; `None`: it can.
fn obstacle() -> Option<String> {
    let tried = Command::new("unshare").args(["--net", "sh", "-ec", SET_UP, "true"]).output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

#[test]
fn five_thousand_connections_need_more_source_addresses_where_one_has_a_thousand_ports() {
    if let Some(reason) = obstacle() {
        println!("SKIPPED source ports in a network namespace: {reason}");
        return;
    }
    let peer = Peer::start_by(loadgen_by("unshare", &["--net", "sh", "-ec", SET_UP]), "fanout", &[]);
    let target = peer.pid().to_string();
    let inside = || loadgen_by("nsenter", &["--target", &target, "--net"]);
    let url = peer.url("/");
    let load = ["run", "--url", &url, "--subscribers", "4999", "--rate", "5", "--warmup", "0s", "--duration", "1s"];

    let sources = ["--source-ip", "127.0.0.2-127.0.0.9"];
    let (code, report, errors) = Running::start_by(inside(), &[&load[..], &sources].concat()).finish();
    assert!(code == 0 || code == 3, "{code} {errors}");
    assert_eq!((number(&report, "/connections/opened"), number(&report, "/reach")), (5000.0, 1.0));
    assert_eq!(number(&report, "/received"), 5.0 * 4999.0);

    let (code, report, errors) = Running::start_by(inside(), &load).finish();
    assert!(code == 4 && errors.contains("no free source port"), "{code} {errors}");
    assert!(errors.contains("--source-ip") && errors.contains("net.ipv4.ip_local_port_range"), "{errors}");
    assert!(report["failure"].as_str().unwrap().contains("no free source port"), "{report:#}");

    let output = inside().args(["doctor", "--connections", "5000"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("1000 per source address") && text.contains("--source-ip 127.0.0.2-127.0.0.6"), "{text}");
}
