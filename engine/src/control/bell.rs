//! How the control thread, a node of the mesh, waits for the others within its runtime.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::unix::AsyncFd;

use crate::mesh::node::Node;
use crate::mesh::notify::Notify;

/// The node's bell, and its descriptor as the runtime knows it.
pub(super) struct Bell {
    notify: Arc<Notify>,
    fd: AsyncFd<OwnedFd>,
}

impl Bell {
    /// # Errors
    /// No descriptors left.
    pub(super) fn new(node: &Node) -> io::Result<Self> {
        let notify = Arc::clone(&node.notify);
        let fd = notify.fd().try_clone_to_owned()?;
        #[expect(deprecated, reason = "unsound for types that may change their descriptor; an OwnedFd does not")]
        let fd = AsyncFd::new(fd)?;
        Ok(Self { notify, fd })
    }

    /// Returns when the node has something to read. May be cancelled: the next call begins anew.
    pub(super) async fn rung(&self, node: &Node) {
        self.notify.drain();
        if !self.notify.sleep_unless(|| node.has_news() || node.must_retry()) {
            return;
        }
        let mut ready = self.fd.readable().await.expect("an eventfd can be waited for");
        self.notify.drain();
        ready.clear_ready();
    }
}
