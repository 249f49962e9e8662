//! `ringrelay doctor`: what this machine allows, as a table, with the fix for each thing that it does not.
//!
//! Judged by the configuration in effect: its ports, its backlog, its driver.

use std::fmt::Write;
use std::io;
use std::process::ExitCode;

use super::check::unreadable_files;
use super::{print, usage_error};
use crate::config::{Config, Driver, Sources};
use crate::sys::affinity::{Cores, Placement, ranges};
use crate::sys::limits;
use crate::sys::probe::probe_io_uring;

/// Descriptors of a server that are no connections: listeners, rings, epoll, logs. At most 6 per shard and 30 others.
const DESCRIPTORS_BESIDE_CONNECTIONS: u64 = 6 * 64 + 30;

/// Connections that a machine should have room for where no number is configured.
const CONNECTIONS_EXPECTED: u64 = 10_000;

/// One row of the table.
#[derive(Debug)]
struct Finding {
    item: &'static str,
    found: String,
    verdict: Verdict,
}

#[derive(Debug)]
enum Verdict {
    Good,
    /// Worth knowing; nothing to do.
    Note(String),
    /// To be fixed, and how.
    Fix(String),
}

/// Prints the table; exit code 0 if nothing is to be fixed, 1 if something is, 2 for a configuration with mistakes.
#[must_use]
pub fn run(sources: &Sources) -> ExitCode {
    let config = match sources.load() {
        Ok(loaded) => loaded.config,
        Err(error) => return usage_error(&error),
    };
    let findings = examine(&config);
    let to_fix = findings.iter().filter(|finding| matches!(finding.verdict, Verdict::Fix(_))).count();
    let printed = print(&table(&findings, to_fix));
    if to_fix == 0 { printed } else { ExitCode::FAILURE }
}

fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = vec![kernel(), io_uring(config.server.driver), cores(config), open_files(config)];
    findings.extend([locked_memory(), accept_queue(config), local_ports(config)]);
    findings.push(port("server port", &config.server.host, config.server.port));
    if config.metrics.enabled {
        findings.push(port("metrics port", &config.metrics.host, config.metrics.port));
    }
    let missing = unreadable_files(config).into_iter();
    findings.extend(missing.map(|found| fix("tls", found, "name files that this user may read")));
    findings
}

fn kernel() -> Finding {
    match limits::kernel_release() {
        Ok(release) => good("kernel", format!("Linux {release}")),
        Err(error) => unknown("kernel", &error),
    }
}

fn io_uring(driver: Driver) -> Finding {
    match (probe_io_uring(), driver) {
        (Ok(()), _) => good("io_uring", "allowed".to_owned()),
        (Err(failure), Driver::Epoll) => note("io_uring", failure.reason(), "not needed: server.driver is epoll"),
        (Err(failure), _) => fix("io_uring", failure.reason(), &failure.fix()),
    }
}

fn cores(config: &Config) -> Finding {
    let server = &config.server;
    let placement = match Cores::of_this_process() {
        Ok(available) => Placement::new(server.shards, &server.cpus, available),
        Err(error) => return unknown("cores", &error),
    };
    match placement {
        Err(reason) => fix("cores", reason, "name cores that are allowed, or start with a wider affinity"),
        Ok(placement) => {
            let Cores { allowed, quota } = &placement.available;
            let found = format!("{} allowed ({}), quota {quota}; shards: {placement}", allowed.len(), ranges(allowed));
            match placement.unpinned_count() {
                0 => good("cores", found),
                _ => note("cores", found, "shards beyond the cores, or under a quota, run where the kernel puts them"),
            }
        }
    }
}

fn open_files(config: &Config) -> Finding {
    let limit = match limits::open_files() {
        Ok(limit) => limit,
        Err(error) => return unknown("descriptors", &error),
    };
    let connections = match config.server.connections_max {
        0 => CONNECTIONS_EXPECTED,
        connections => connections,
    };
    let needed = connections + DESCRIPTORS_BESIDE_CONNECTIONS;
    let found = format!("{} now, {} at most", amount(limit.soft), amount(limit.hard));
    match limit.hard < needed {
        false => good("descriptors", found),
        true => {
            let advice = format!(
                "{connections} connections need {needed}: ulimit -Hn {needed} as root (systemd: LimitNOFILE={needed}; \
                 docker run --ulimit nofile={needed})"
            );
            fix("descriptors", found, &advice)
        }
    }
}

/// Only shown: since Linux 5.12 rings are charged to the memory cgroup, and the probe has tried one.
fn locked_memory() -> Finding {
    match limits::locked_memory() {
        Ok(limit) => good("memlock", format!("{} bytes now, {} at most", amount(limit.soft), amount(limit.hard))),
        Err(error) => unknown("memlock", &error),
    }
}

fn accept_queue(config: &Config) -> Finding {
    let backlog = u64::from(config.server.backlog);
    match limits::somaxconn() {
        Ok(most) if most < backlog => {
            let found = format!("{most}, below server.backlog {backlog}");
            fix("somaxconn", found, &format!("sysctl -w net.core.somaxconn={backlog}"))
        }
        Ok(most) => good("somaxconn", most.to_string()),
        Err(error) => unknown("somaxconn", &error),
    }
}

fn local_ports(config: &Config) -> Finding {
    let range = match limits::local_ports() {
        Ok(range) => range,
        Err(error) => return unknown("local ports", &error),
    };
    let found = format!("{} to {}", range.start(), range.end());
    let ours = [config.server.port, config.metrics.port];
    match ours.iter().find(|port| range.contains(&u64::from(**port))) {
        Some(port) => {
            let advice = format!(
                "an outgoing connection may take port {port} first: sysctl -w net.ipv4.ip_local_reserved_ports={port}"
            );
            note("local ports", found, &advice)
        }
        None => good("local ports", found),
    }
}

fn port(item: &'static str, host: &str, port: u16) -> Finding {
    let place = format!("{host}:{port}");
    match limits::bindable(host, port) {
        Ok(()) => good(item, format!("{place} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            fix(item, format!("{place} is in use"), &format!("stop what listens there (ss -ltnp sport = :{port})"))
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let advice = "setcap cap_net_bind_service=+ep on the binary, or a port from 1024 up";
            fix(item, format!("{place} is not permitted"), advice)
        }
        Err(error) => fix(item, format!("{place} cannot be bound: {error}"), "name an address of this machine"),
    }
}

fn good(item: &'static str, found: String) -> Finding {
    Finding { item, found, verdict: Verdict::Good }
}

fn note(item: &'static str, found: String, what: &str) -> Finding {
    Finding { item, found, verdict: Verdict::Note(what.to_owned()) }
}

fn fix(item: &'static str, found: String, how: &str) -> Finding {
    Finding { item, found, verdict: Verdict::Fix(how.to_owned()) }
}

fn unknown(item: &'static str, error: &io::Error) -> Finding {
    note(item, format!("unknown: {error}"), "mount /proc to see it")
}

fn amount(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() }
}

fn table(findings: &[Finding], to_fix: usize) -> String {
    let width = |of: fn(&Finding) -> &str| findings.iter().map(|it| of(it).chars().count()).max().unwrap_or(0);
    let (items, founds) = (width(|finding| finding.item), width(|finding| &finding.found));
    let mut text = String::new();
    for Finding { item, found, verdict } in findings {
        let line = match verdict {
            Verdict::Good => format!("ok    {item:items$}  {found}"),
            Verdict::Note(what) => format!("note  {item:items$}  {found:founds$}  {what}"),
            Verdict::Fix(how) => format!("FIX   {item:items$}  {found:founds$}  {how}"),
        };
        // Infallible: a String takes everything.
        _ = writeln!(text, "{line}");
    }
    _ = match to_fix {
        0 => writeln!(text, "\nNothing to fix."),
        1 => writeln!(text, "\n1 thing to fix."),
        more => writeln!(text, "\n{more} things to fix."),
    };
    text
}
