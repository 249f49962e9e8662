//! A process in which io_uring is forbidden, as in a container under Docker's default profile.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// Makes io_uring_setup, io_uring_enter and io_uring_register fail with `EPERM` in the command and all that it starts.
pub(crate) fn forbid_io_uring(command: &mut Command) -> &mut Command {
    let program = program();
    // SAFETY: between fork and exec the closure only makes system calls on a program that was built before the fork.
    unsafe { command.pre_exec(move || apply_filter(&program).map_err(|_| io::Error::last_os_error())) }
}

/// The same for the calling thread and all threads and commands that it starts from now on.
pub(crate) fn forbid_io_uring_here() {
    apply_filter(&program()).unwrap();
}

/// Whether whole test suites are to run without io_uring: `RINGRELAY_TEST_SECCOMP=1`.
pub(crate) fn is_asked_for() -> bool {
    std::env::var_os("RINGRELAY_TEST_SECCOMP").is_some_and(|value| value == "1")
}

/// Forbids io_uring here if that is asked for.
pub(crate) fn obey() {
    thread_local!(static DONE: OnceCell<()> = const { OnceCell::new() });
    if is_asked_for() {
        DONE.with(|done| *done.get_or_init(forbid_io_uring_here));
    }
}

fn program() -> BpfProgram {
    let calls = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    let rules: BTreeMap<_, _> = calls.map(|call| (call, Vec::new())).into();
    let deny = SeccompAction::Errno(libc::EPERM as u32);
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, deny, architecture).unwrap();
    filter.try_into().unwrap()
}
