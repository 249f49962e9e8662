//! A process in which io_uring is forbidden, as in a container under Docker's default profile.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// Makes io_uring_setup, io_uring_enter and io_uring_register fail with `EPERM` in the command and all that it starts.
pub(crate) fn forbid_io_uring(command: &mut Command) -> &mut Command {
    let calls = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    let rules: BTreeMap<_, _> = calls.map(|call| (call, Vec::new())).into();
    let deny = SeccompAction::Errno(libc::EPERM as u32);
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, deny, architecture).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    // SAFETY: between fork and exec the closure only makes system calls on a program that was built before the fork.
    unsafe { command.pre_exec(move || apply_filter(&program).map_err(|_| io::Error::last_os_error())) }
}
