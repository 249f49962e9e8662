//! `doctor`: what this machine allows a load generator, and how to raise what is too low.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use super::Exit;
use crate::cli::DoctorArgs;
use crate::out;
use crate::sys::limits;

/// Loopback addresses to connect from begin here.
const SOURCE_FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// One thing looked at.
struct Finding {
    name: &'static str,
    value: String,
    /// What to do, if it is too low.
    fix: Option<String>,
}

/// `loadgen doctor`: exit 0 if so many connections will do, 1 if something is to be fixed.
///
/// # Errors
/// When the open-file limit cannot be read.
pub(crate) fn doctor(args: &DoctorArgs) -> Result<Exit, (Exit, String)> {
    let files =
        limits::raise_open_files().map_err(|e| (Exit::Failed, format!("cannot read the open-file limit: {e}")))?;
    let wanted = u64::from(args.connections);
    let findings = [open_files(files, wanted), ports(wanted), backlog(), cores(), congestion_control()];
    let mut text = String::new();
    for finding in &findings {
        text += &format!("{:<20} {}\n", finding.name, finding.value);
        if let Some(fix) = &finding.fix {
            text += &format!("{:<20}   fix: {fix}\n", "");
        }
    }
    out::print(&text)?;
    let is_good = findings.iter().all(|finding| finding.fix.is_none());
    Ok(if is_good { Exit::Held } else { Exit::NotHeld })
}

fn open_files(files: u64, wanted: u64) -> Finding {
    let needed = wanted + 64;
    let fix = format!("ulimit -Hn {needed} as root, or LimitNOFILE={needed} in the unit");
    Finding { name: "open files", value: format!("{files} (hard limit)"), fix: (files < needed).then_some(fix) }
}

fn ports(wanted: u64) -> Finding {
    let range = read("/proc/sys/net/ipv4/ip_local_port_range");
    let mut ends = range.split_whitespace().filter_map(|end| end.parse::<u64>().ok());
    let count = ends.next().zip(ends.next()).map_or(0, |(low, high)| (high + 1).saturating_sub(low));
    let addresses = wanted.div_ceil(count.max(1));
    let last = last_source(addresses);
    let fix = format!(
        "sysctl -w net.ipv4.ip_local_port_range='1024 65535', or {addresses} source addresses: --source-ip {SOURCE_FIRST}-{last}"
    );
    let value = format!("{count} per source address and destination ({})", range.replace('\t', " to "));
    Finding { name: "source ports", value, fix: (count < wanted).then_some(fix) }
}

/// The last of so many source addresses.
fn last_source(addresses: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits(SOURCE_FIRST.to_bits().saturating_add(addresses.saturating_sub(1) as u32))
}

fn backlog() -> Finding {
    let somaxconn: u64 = read("/proc/sys/net/core/somaxconn").parse().unwrap_or(0);
    let fix = (somaxconn < 1024).then(|| "sysctl -w net.core.somaxconn=4096, on the server's machine".to_owned());
    Finding { name: "listen backlog", value: format!("{somaxconn} at most"), fix }
}

fn cores() -> Finding {
    let cores = limits::allowed_cores();
    let fix = (cores.len() < 2).then(|| "give the generator a core that the server does not use".to_owned());
    Finding { name: "cores", value: format!("{} allowed: {cores:?}", cores.len()), fix }
}

fn congestion_control() -> Finding {
    let name = read("/proc/sys/net/ipv4/tcp_congestion_control");
    let fix = (name == "bbr").then(|| {
        "bbr paces small senders on loopback: sysctl -w net.ipv4.tcp_congestion_control=reno, or measure in a network namespace"
            .to_owned()
    });
    Finding { name: "congestion control", value: name, fix }
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(path)).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_addresses_go_on_beyond_the_last_number() {
        assert_eq!(
            [1, 5, 300].map(|addresses| last_source(addresses).to_string()),
            ["127.0.0.2", "127.0.0.6", "127.0.1.45"]
        );
    }
}
