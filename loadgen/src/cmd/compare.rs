//! `diff` and `merge`: what can be done with reports that are there.

use std::path::Path;

use super::Exit;
use super::load::{exit, show, usage, write};
use crate::cli::{DiffArgs, MergeArgs};
use crate::compare::diff::{Comparison, Outcome};
use crate::compare::merge;
use crate::out;
use crate::report::{Report, SCHEMA, html, table};

/// `loadgen diff A B`.
///
/// # Errors
/// A report that cannot be read, or a file that cannot be written.
pub(crate) fn diff(args: &DiffArgs) -> Result<Exit, (Exit, String)> {
    let (a, b) = (read(&args.a)?, read(&args.b)?);
    if a.mode != b.mode {
        return Err(usage(format!("A is an {} run and B an {} run: they cannot be compared", a.mode, b.mode)));
    }
    let comparison = Comparison::new(&a, &b, args.fail_on.as_ref());
    let shown = out::print(&comparison.table());
    shown.and(args.markdown.as_deref().map_or(Ok(()), |path| write(path, &comparison.markdown())))?;
    Ok(match comparison.outcome {
        Outcome::NoWorse => Exit::Held,
        Outcome::Worse => Exit::NotHeld,
        Outcome::Inconclusive => Exit::Invalid,
    })
}

/// `loadgen merge F…`.
///
/// # Errors
/// Reports that cannot be read or do not belong together, a file that cannot be written, or a part that was not done as
/// asked.
pub(crate) fn merge(args: &MergeArgs) -> Result<Exit, (Exit, String)> {
    let reports = args.reports.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let whole = merge::merge(&reports).map_err(usage)?;
    let shown = show(&table::render(&whole), args.json.as_deref(), &whole);
    shown.and(args.html.as_deref().map_or(Ok(()), |path| write(path, &html::render(&whole))))?;
    exit(&whole)
}

fn read(path: &Path) -> Result<Report, (Exit, String)> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| usage(format!("cannot read {shown}: {e}")))?;
    let report: Report = serde_json::from_str(&text).map_err(|e| usage(format!("{shown} is no report: {e}")))?;
    if report.schema == SCHEMA {
        Ok(report)
    } else {
        Err(usage(format!("{shown}: its schema is {:?}, not {SCHEMA:?}", report.schema)))
    }
}
