//! `plan`: what a load takes in cores and memory, by the measured costs of a server.

mod answer;
mod costs;
mod measure;

use super::Exit;
use super::load::{show, usage};
use crate::cli::PlanArgs;
use crate::plan::Shape;
use crate::plan::estimate::{Estimator, OBSERVATIONS_MIN};
use crate::plan::range;
use answer::Answer;
use costs::Costs;

/// `loadgen plan`.
///
/// # Errors
/// What is wrong with the arguments or the costs, a load beyond twice the measured range (usage), or a server that
/// cannot be measured.
pub(crate) fn plan(args: &PlanArgs) -> Result<Exit, (Exit, String)> {
    let shape = shape(args)?;
    let target = &args.target;
    if target.html.is_some() || target.hlog.is_some() || target.hgrm.is_some() || target.server_pid.is_some() {
        return Err(usage("plan writes --json only, and starts the server itself".into()));
    }
    let costs = match (&args.costs, &args.server_command) {
        (Some(path), _) => Costs::read(path)?,
        (None, Some(command)) => measure::measure(command, &shape, args)?,
        (None, None) => return Err(usage("plan needs --costs, or --measure with --server-command".into())),
    };
    let estimator = estimator(&costs)?;
    range::check(&shape, &costs.observations).map_err(usage)?;
    let answer = Answer::new(&shape, &costs.observations, &estimator, args.utilisation, args.cores).map_err(usage)?;
    let json = target.json.as_deref();
    if args.measure {
        let text = costs::render(&estimator) + &answer.render();
        show(&text, json, &costs.with_fit(&estimator))?;
    } else {
        show(&answer.render(), json, &answer)?;
    }
    Ok(if answer.fits { Exit::Held } else { Exit::NotHeld })
}

fn shape(args: &PlanArgs) -> Result<Shape, (Exit, String)> {
    let (topics, subscribers) = (args.topics, args.subscribers);
    let publishers = args.publishers.unwrap_or(topics);
    if subscribers < topics || publishers < topics {
        return Err(usage(format!("each of {topics} topics needs a subscriber and a publisher")));
    }
    // While measuring, connections do not come and go.
    let connects = args.target.connect_rate.filter(|_| !args.measure).unwrap_or(0.0);
    Ok(Shape { topics, subscribers, publishers, rate: args.rate, burst: 1, size: args.size, connects })
}

fn estimator(costs: &Costs) -> Result<Estimator, (Exit, String)> {
    let sending = costs.observations.iter().filter(|o| o.work.sends > 0.0).count();
    if sending < OBSERVATIONS_MIN {
        return Err(usage(format!(
            "{sending} runs with messages are too few for costs: {OBSERVATIONS_MIN} are needed"
        )));
    }
    Ok(Estimator::new(&costs.observations, costs.shards))
}
