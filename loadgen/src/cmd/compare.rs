//! `diff` and `merge`: what can be done with reports that are there.

use std::path::Path;

use super::Exit;
use super::load::{is_json_on_stdout, usage, write, write_json};
use crate::cli::{DiffArgs, MergeArgs};
use crate::compare::diff::Comparison;
use crate::compare::merge;
use crate::report::verdict::Verdict;
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
    let comparison = Comparison::new(&a, &b, &args.fail_on);
    print!("{}", comparison.table());
    if let Some(path) = &args.markdown {
        write(path, &comparison.markdown())?;
    }
    for (name, report) in [("A", &a), ("B", &b)] {
        if report.verdict == Verdict::Invalid {
            return Err((Exit::Invalid, format!("{name} is INVALID: {}", report.reasons.join("; "))));
        }
    }
    Ok(if comparison.broken.is_empty() { Exit::Held } else { Exit::NotHeld })
}

/// `loadgen merge F…`.
///
/// # Errors
/// Reports that cannot be read or do not belong together, or a file that cannot be written.
pub(crate) fn merge(args: &MergeArgs) -> Result<Exit, (Exit, String)> {
    let reports = args.reports.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let whole = merge::merge(&reports).map_err(usage)?;
    if !is_json_on_stdout(args.json.as_deref()) {
        print!("{}", table::render(&whole));
    }
    if let Some(path) = &args.json {
        write_json(path, &whole)?;
    }
    if let Some(path) = &args.html {
        write(path, &html::render(&whole))?;
    }
    Ok(match (whole.verdict, whole.slo.held) {
        (Verdict::Invalid, _) => Exit::Invalid,
        (_, Some(false)) => Exit::NotHeld,
        _ => Exit::Held,
    })
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
