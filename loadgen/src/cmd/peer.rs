//! `peer`: runs a null peer until SIGINT or SIGTERM, then prints what faults it has made.

use super::Exit;
use crate::cli::{PeerArgs, PeerKind};
use crate::out;
use crate::peer::{Made, Peer};
use crate::sys::{limits, signal};

/// `loadgen peer`.
///
/// # Errors
/// When it cannot listen, or this machine refuses what it needs.
pub(crate) fn peer(args: &PeerArgs) -> Result<Exit, (Exit, String)> {
    let failed = |e: std::io::Error| (Exit::Failed, format!("cannot listen on {}: {e}", args.listen));
    limits::raise_open_files().map_err(failed)?;
    signal::install();
    let mut peer = Peer::new(args).map_err(failed)?;
    out::print(&format!("Listening on {}\n", peer.address().map_err(failed)?))?;
    let (faults, to_publishers) = peer.run().map_err(failed)?;
    out::print(&format!("faults {}\n", describe(&faults)))?;
    if args.kind == PeerKind::Fanout {
        out::print(&format!("faults to publishers: {}\n", describe(&to_publishers)))?;
    }
    Ok(Exit::Held)
}

fn describe(made: &Made) -> String {
    let Made { dropped, repeated, reordered, corrupted } = made;
    format!("dropped={dropped} repeated={repeated} reordered={reordered} corrupted={corrupted}")
}
