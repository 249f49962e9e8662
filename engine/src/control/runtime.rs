//! The control thread's runtime: tokio's current-thread one, driven by io_uring or by epoll.
//!
//! `tokio-uring` hosts its ring in a tokio runtime with all drivers enabled, so that sockets, timers, signals and axum
//! work on both alike. It is built only after a probe ring: where io_uring is forbidden it would leave descriptors
//! behind. Both runtimes host a `LocalSet`, so `tokio::spawn` and `tokio::task::spawn_local` work on both.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use io_uring::IoUring;
use tokio::task::LocalSet;

/// What drives a runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeKind {
    /// tokio-uring: io_uring, and epoll beside it for what tokio itself waits for.
    IoUring,
    /// Plain tokio.
    Epoll,
}

impl fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RuntimeKind::IoUring => "io_uring",
            RuntimeKind::Epoll => "epoll",
        })
    }
}

/// Runs `main` on a runtime on a new thread called `name`; io_uring drives it if preferred and possible.
///
/// Tasks that are still running when `main` ends are dropped with the runtime.
///
/// # Errors
/// When neither runtime can be built or the thread cannot be started: no descriptors, no memory.
pub fn spawn<M, F, T>(prefer_io_uring: bool, name: &str, main: M) -> io::Result<(JoinHandle<T>, RuntimeKind)>
where
    M: FnOnce() -> F + Send + 'static,
    F: Future<Output = T>,
    T: Send + 'static,
{
    // Built here, so that the thread cannot be without one: a failure is this function's error, not the thread's.
    let epoll = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (kind_sender, kind) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let uring = if prefer_io_uring { io_uring_runtime() } else { None };
        let kind = if uring.is_some() { RuntimeKind::IoUring } else { RuntimeKind::Epoll };
        // Who spawned us waits for it; should it be gone all the same, there is nobody to tell.
        let _ = kind_sender.send(kind);
        match uring {
            Some(uring) => {
                drop(epoll);
                uring.block_on(async { main().await })
            }
            None => epoll.block_on(LocalSet::new().run_until(async { main().await })),
        }
    })?;
    let kind = kind.recv().map_err(|_| io::Error::other("the control thread ended before its runtime stood"))?;
    Ok((thread, kind))
}

/// The io_uring runtime for this thread, or `None`, with a line in the log, where the kernel does not give us one.
fn io_uring_runtime() -> Option<tokio_uring::Runtime> {
    IoUring::new(1)
        .and_then(|_probe| tokio_uring::Runtime::new(&tokio_uring::builder()))
        .inspect_err(|error| tracing::info!("control thread: io_uring is not available ({error}), using epoll"))
        .ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Uses what the control plane needs of a runtime: tasks of both kinds, timers, sockets.
    async fn exercise() -> (String, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = tokio::spawn(async move {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
        });
        let server = tokio::task::spawn_local(async move {
            let mut text = String::new();
            listener.accept().await.unwrap().0.read_to_string(&mut text).await.unwrap();
            text
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        client.await.unwrap();
        (server.await.unwrap(), thread::current().name().unwrap().to_owned())
    }

    /// Makes io_uring_setup fail with EPERM on this thread and those it starts, as Docker's default profile does.
    fn forbid_io_uring() {
        let arch = std::env::consts::ARCH.try_into().unwrap();
        let rules = BTreeMap::from([(libc::SYS_io_uring_setup, vec![])]);
        let deny = SeccompAction::Errno(libc::EPERM as u32);
        let program: BpfProgram =
            SeccompFilter::new(rules, SeccompAction::Allow, deny, arch).unwrap().try_into().unwrap();
        seccompiler::apply_filter(&program).unwrap();
    }

    #[test]
    fn both_kinds_run_tasks_timers_and_sockets() {
        let io_uring_allowed = IoUring::new(1).is_ok();
        for prefer_io_uring in [true, false] {
            let (thread, kind) = spawn(prefer_io_uring, "control", exercise).unwrap();
            assert_eq!(thread.join().unwrap(), ("hello".to_owned(), "control".to_owned()));
            assert_eq!(kind == RuntimeKind::IoUring, prefer_io_uring && io_uring_allowed);
        }
    }

    #[test]
    fn epoll_takes_over_where_io_uring_is_forbidden() {
        let forbidden = thread::spawn(|| {
            forbid_io_uring();
            assert_eq!(IoUring::new(1).err().unwrap().raw_os_error(), Some(libc::EPERM));
            let (thread, kind) = spawn(true, "control", exercise).unwrap();
            (thread.join().unwrap().0, kind)
        });
        assert_eq!(forbidden.join().unwrap(), ("hello".to_owned(), RuntimeKind::Epoll));
    }

    #[test]
    fn a_panic_in_main_reaches_whoever_joins() {
        let (thread, _) = spawn(true, "control", || async { panic!("as asked") }).unwrap();
        assert_eq!(*thread.join().unwrap_err().downcast::<&str>().unwrap(), "as asked");
    }
}
