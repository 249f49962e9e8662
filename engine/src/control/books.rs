//! The books of all shards, as the admin port shows them.

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::admin::{AdminSource, LedgerFuture};
use super::conductor::Command;
use crate::counters::Dropped;
use crate::mesh::message::Report;

/// The books for the admin port.
pub(super) struct Books(pub UnboundedSender<Command>);

impl AdminSource for Books {
    fn ledger(&self) -> LedgerFuture {
        let commands = self.0.clone();
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let gone = || std::io::Error::other("the server is shutting down");
            commands.send(Command::Ledger(reply)).map_err(|_| gone())?;
            let reports = answer.await.map_err(|_| gone())?;
            Ok(ledger_json(&reports))
        })
    }
}

type Json = serde_json::Value;

fn ledger_json(reports: &[Report]) -> String {
    let mut total = crate::relay::ledger::Ledger::default();
    let mut topics = std::collections::BTreeMap::new();
    for report in reports {
        total.add(&report.total);
        for (name, figures) in &report.topics {
            topics.entry(name.clone()).or_insert_with(crate::relay::ledger::Ledger::default).add(figures);
        }
    }
    let topics: serde_json::Map<String, Json> =
        topics.iter().map(|(name, figures)| (name.clone(), figures_json(figures))).collect();
    serde_json::json!({ "total": figures_json(&total), "topics": topics }).to_string()
}

fn figures_json(figures: &crate::relay::ledger::Ledger) -> Json {
    let dropped: serde_json::Map<String, Json> = Dropped::ALL
        .iter()
        .map(|reason| (reason.label().to_owned(), figures.dropped[*reason as usize].into()))
        .collect();
    serde_json::json!({
        "accepted": figures.accepted,
        "covered": figures.covered,
        "excluded": figures.excluded,
        "delivered": figures.delivered,
        "dropped": dropped,
    })
}
