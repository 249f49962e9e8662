//! Where and how a run was made.

use serde::{Deserialize, Serialize};

/// Where and how the run was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Env {
    pub(crate) loadgen: String,
    pub(crate) url: String,
    pub(crate) command: Vec<String>,
    pub(crate) seed: u64,
    pub(crate) measured_seconds: f64,
    /// When the first message was due, in seconds since 1970; what `merge` lines reports up by.
    pub(crate) started_at: Option<f64>,
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores_allowed: usize,
    pub(crate) congestion_control: String,
}

impl Env {
    /// Reads what this machine says about itself.
    pub(crate) fn read(url: &str, seed: u64, measured_seconds: f64) -> Self {
        let line = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let cpuinfo = line("/proc/cpuinfo");
        let cpu = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or_default();
        Self {
            loadgen: env!("CARGO_PKG_VERSION").to_owned(),
            url: url.to_owned(),
            command: std::env::args().collect(),
            seed,
            measured_seconds,
            started_at: None,
            kernel: line("/proc/sys/kernel/osrelease"),
            cpu: cpu.trim_start_matches([' ', '\t', ':']).to_owned(),
            cores_allowed: crate::sys::limits::allowed_cores().len(),
            congestion_control: line("/proc/sys/net/ipv4/tcp_congestion_control"),
        }
    }
}
