//! Whether this process may use io_uring as the ring port does, and if not, why and how to allow it.
//!
//! Tries it instead of comparing versions: a ring with the port's own flags, the opcodes, a ring of provided buffers, and
//! one submission that comes back. A container may allow any of these and forbid the next.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt;
use std::fs::read_to_string;
use std::io;

use io_uring::{IoUring, Probe, opcode};
use nix::errno::Errno;

use super::limits::kernel_release;

/// What the port submits.
const OPCODES: [(u8, &str); 8] = [
    (opcode::Accept::CODE, "ACCEPT"),
    (opcode::Recv::CODE, "RECV"),
    (opcode::Send::CODE, "SEND"),
    (opcode::SendMsg::CODE, "SENDMSG"),
    (opcode::PollAdd::CODE, "POLL_ADD"),
    (opcode::AsyncCancel::CODE, "ASYNC_CANCEL"),
    (opcode::Timeout::CODE, "TIMEOUT"),
    (opcode::Read::CODE, "READ"),
];

/// Why io_uring cannot be used. Shows the reason and, after it, how to allow it, on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeFailure {
    /// The kernel has no io_uring.
    Missing {
        /// The kernel's version.
        kernel: String,
    },
    /// The sysctl `kernel.io_uring_disabled` is 1 or 2.
    Sysctl {
        /// Its value.
        value: u8,
    },
    /// A seccomp filter forbids it, as Docker's default profile does.
    Seccomp {
        /// The system call that failed.
        call: &'static str,
    },
    /// No more memory may be locked.
    LockedMemory,
    /// The kernel is too old for what the port needs.
    TooOld {
        /// The kernel's version.
        kernel: String,
        /// What it lacks.
        lacks: &'static str,
    },
    /// Anything else.
    Other {
        /// The system call that failed.
        call: &'static str,
        /// Its error.
        errno: Errno,
    },
}

/// What of the machine's state tells one cause from another.
#[derive(Debug, Clone, Default)]
struct Circumstances {
    kernel: String,
    /// The sysctl `kernel.io_uring_disabled`; kernels before 6.6 have none.
    disabled: Option<u8>,
    /// Whether a seccomp filter is on this thread.
    filtered: bool,
}

/// Tries everything that the ring port needs.
///
/// On a thread of its own: the kernel takes a ring apart after it is closed and interrupts the thread that used it, so
/// that a later system call of the caller would fail with `EINTR`.
///
/// # Errors
/// The first thing that failed, and why.
pub fn probe_io_uring() -> Result<(), ProbeFailure> {
    let thread = std::thread::Builder::new().name("probe".to_owned()).spawn(try_everything);
    let failed = |error: io::Error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
        ProbeFailure::Other { call: "clone", errno }
    };
    thread.map_err(failed)?.join().expect("the probe returns what it found")
}

fn try_everything() -> Result<(), ProbeFailure> {
    let failed = |call, error: &io::Error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
        Circumstances::of_this_thread().explain(call, errno)
    };
    let mut ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .build(8)
        .map_err(|error| failed("io_uring_setup", &error))?;
    let mut supported = Probe::new();
    ring.submitter().register_probe(&mut supported).map_err(|error| failed("io_uring_register", &error))?;
    if let Some((_, lacks)) = OPCODES.iter().find(|(code, _)| !supported.is_supported(*code)) {
        return Err(ProbeFailure::TooOld { kernel: kernel(), lacks });
    }
    provided_buffers(&ring).map_err(|error| failed("io_uring_register", &error))?;
    // SAFETY: a NOP refers to no memory.
    unsafe { ring.submission().push(&opcode::Nop::new().build()) }.expect("the submission queue is empty");
    ring.submit_and_wait(1).map_err(|error| failed("io_uring_enter", &error))?;
    match ring.completion().next() {
        Some(completion) if completion.result() == 0 => Ok(()),
        completion => {
            let errno = completion.map_or(Errno::EIO, |completion| Errno::from_raw(-completion.result()));
            Err(ProbeFailure::Other { call: "io_uring_enter", errno })
        }
    }
}

/// Registers a ring of provided buffers and takes it back.
fn provided_buffers(ring: &IoUring) -> io::Result<()> {
    const ENTRIES: u16 = 8;
    let page = Layout::from_size_align(4096, 4096).expect("a page is a valid layout");
    // SAFETY: the layout is not empty.
    let memory = unsafe { alloc_zeroed(page) };
    if memory.is_null() {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    // SAFETY: a page holds the 8 entries of 16 bytes, is aligned to one, and outlives its registration, which ends below.
    let registered = unsafe { ring.submitter().register_buf_ring_with_flags(memory as u64, ENTRIES, 0, 0) };
    let result = registered.and_then(|()| ring.submitter().unregister_buf_ring(0));
    // SAFETY: allocated above with this layout; the kernel has let go of it, or never took it.
    unsafe { dealloc(memory, page) };
    result
}

impl Circumstances {
    fn of_this_thread() -> Self {
        let disabled = read_to_string("/proc/sys/kernel/io_uring_disabled");
        let status = read_to_string("/proc/thread-self/status").unwrap_or_default();
        Self {
            kernel: kernel(),
            disabled: disabled.ok().and_then(|text| text.trim().parse().ok()),
            filtered: status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"])),
        }
    }

    fn explain(&self, call: &'static str, errno: Errno) -> ProbeFailure {
        let kernel = self.kernel.clone();
        match (errno, self.disabled) {
            (Errno::EPERM, Some(value @ 1..)) => ProbeFailure::Sysctl { value },
            (Errno::EPERM | Errno::EACCES | Errno::ENOSYS, _) if self.filtered => ProbeFailure::Seccomp { call },
            (Errno::ENOSYS, _) => ProbeFailure::Missing { kernel },
            (Errno::EINVAL, _) if call == "io_uring_setup" => {
                ProbeFailure::TooOld { kernel, lacks: "rings with DEFER_TASKRUN" }
            }
            (Errno::EINVAL, _) => ProbeFailure::TooOld { kernel, lacks: "rings of provided buffers" },
            (Errno::ENOMEM, _) => ProbeFailure::LockedMemory,
            _ => ProbeFailure::Other { call, errno },
        }
    }
}

impl ProbeFailure {
    /// What stands in the way.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Missing { kernel } => format!("Linux {kernel} has no io_uring"),
            Self::Sysctl { value } => format!("the sysctl kernel.io_uring_disabled is {value}"),
            Self::Seccomp { call } => format!("a seccomp filter forbids {call}"),
            Self::LockedMemory => "no memory for a ring: the limit of locked memory is too low".to_owned(),
            Self::TooOld { kernel, lacks } => format!("Linux {kernel} is too old: it lacks {lacks}"),
            Self::Other { call, errno } => format!("{call} failed: {}", errno.desc()),
        }
    }

    /// How to allow it, in one line.
    #[must_use]
    pub fn fix(&self) -> String {
        match self {
            Self::Missing { .. } => "run Linux 6.1 or newer, built with CONFIG_IO_URING".to_owned(),
            Self::Sysctl { .. } => "sysctl -w kernel.io_uring_disabled=0".to_owned(),
            Self::Seccomp { .. } => "run with a seccomp profile that allows io_uring_setup, io_uring_enter and \
                io_uring_register (docker run --security-opt seccomp=PROFILE.json)"
                .to_owned(),
            Self::LockedMemory => {
                "ulimit -l unlimited (systemd: LimitMEMLOCK=infinity; docker run --ulimit memlock=-1)".to_owned()
            }
            Self::TooOld { .. } => "run Linux 6.1 or newer".to_owned(),
            Self::Other { errno: Errno::EMFILE | Errno::ENFILE, .. } => "raise the limit of open files".to_owned(),
            Self::Other { .. } => {
                "look for a security module (SELinux, AppArmor, Landlock) that forbids io_uring".to_owned()
            }
        }
    }
}

impl fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; to allow io_uring: {}", self.reason(), self.fix())
    }
}

impl std::error::Error for ProbeFailure {}

fn kernel() -> String {
    kernel_release().unwrap_or_else(|_| "(unknown)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(call: &'static str, errno: Errno, disabled: Option<u8>, filtered: bool) -> ProbeFailure {
        Circumstances { kernel: "5.10.0".to_owned(), disabled, filtered }.explain(call, errno)
    }

    #[test]
    fn each_error_is_told_from_the_others() {
        let kernel = || "5.10.0".to_owned();
        let setup = "io_uring_setup";
        for (errno, disabled, filtered, expected) in [
            (Errno::EPERM, Some(2), true, ProbeFailure::Sysctl { value: 2 }),
            (Errno::EPERM, Some(1), false, ProbeFailure::Sysctl { value: 1 }),
            (Errno::EPERM, Some(0), true, ProbeFailure::Seccomp { call: setup }),
            (Errno::EPERM, None, true, ProbeFailure::Seccomp { call: setup }),
            (Errno::EPERM, Some(0), false, ProbeFailure::Other { call: setup, errno: Errno::EPERM }),
            (Errno::ENOSYS, None, true, ProbeFailure::Seccomp { call: setup }),
            (Errno::ENOSYS, None, false, ProbeFailure::Missing { kernel: kernel() }),
            (Errno::EINVAL, None, true, ProbeFailure::TooOld { kernel: kernel(), lacks: "rings with DEFER_TASKRUN" }),
            (Errno::ENOMEM, Some(0), false, ProbeFailure::LockedMemory),
        ] {
            assert_eq!(explained(setup, errno, disabled, filtered), expected, "{errno} {disabled:?} {filtered}");
        }
    }

    #[test]
    fn a_failure_tells_the_reason_and_the_fix_on_one_line() {
        let line = explained("io_uring_setup", Errno::EPERM, Some(2), false).to_string();
        assert_eq!(
            line,
            "the sysctl kernel.io_uring_disabled is 2; to allow io_uring: sysctl -w kernel.io_uring_disabled=0"
        );
        for errno in [Errno::EPERM, Errno::ENOSYS, Errno::EINVAL, Errno::ENOMEM, Errno::EMFILE] {
            assert_eq!(explained("io_uring_enter", errno, None, true).to_string().lines().count(), 1);
        }
    }
}
