//! `peer`: runs a null peer until SIGINT or SIGTERM, then prints what faults it has made.

use std::io::Write;

use super::Exit;
use crate::cli::PeerArgs;
use crate::peer::Peer;
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
    println!("Listening on {}", peer.address().map_err(failed)?);
    std::io::stdout().flush().map_err(failed)?;
    let faults = peer.run().map_err(failed)?;
    println!(
        "faults dropped={} repeated={} reordered={} corrupted={}",
        faults.dropped, faults.repeated, faults.reordered, faults.corrupted
    );
    Ok(Exit::Held)
}
