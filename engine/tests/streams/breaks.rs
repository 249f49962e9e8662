//! A target that is killed, started again, stopped and continued under load: what must hold whichever target it is.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use engine::config::Config;

use crate::brokers::Broker;
use crate::load::{CLIENTS, Load};
use crate::support::StopOnDrop;
use crate::{Figures, Stage, time_until};

/// Events that the buffer of a target under test holds: more than come while it is started again, fewer than come while
/// it is stopped.
pub(crate) const BUFFER_EVENTS_MAX: u64 = 6_000;
/// How long a load runs undisturbed, and while the target is dead.
const SPAN: Duration = Duration::from_secs(2);
/// How long a target is stopped. After five seconds without an answer its connection is given up; from then on nothing
/// new happens, so that this stands for any longer time.
const STOPPED: Duration = Duration::from_secs(7);
/// A target that is back is reached again within this.
const RECONNECT_WITHIN: Duration = Duration::from_secs(5);
/// What an echo may take beyond twice what it took in calm: a moment without the processor on a shared machine.
const ECHO_NOISE: Duration = Duration::from_millis(10);

/// Breaks a target under load, twice. Returns its books in the end.
pub(crate) fn survives(config: &Config, target: &str, broker: &mut Broker) -> Figures {
    let stage = Stage::start(config);
    time_until(&format!("{target} is reached"), || stage.is_up(target));
    let sent = Load::during(&stage, |load| {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let stop_watching = StopOnDrop(&stop);
            // Every look checks that the books balance.
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    assert!(stage.figures(target).waiting <= BUFFER_EVENTS_MAX);
                    std::thread::park_timeout(Duration::from_millis(20));
                }
            });
            play(&stage, target, broker, load);
            drop(stop_watching);
        });
    });
    let figures = stage.settled(target, sent + 2 * CLIENTS as u64);
    assert_eq!(figures.accepted, sent + 2 * CLIENTS as u64, "an open and a close each, beside {sent} messages");
    stage.end();
    figures
}

fn play(stage: &Stage, target: &str, broker: &mut Broker, load: &Load) {
    let calm = load.run_for(SPAN);
    let before = stage.figures(target);
    assert!(before.up && before.written > 0 && before.dropped == 0, "{before:?}");

    broker.kill();
    let dead = load.run_for(SPAN);
    let figures = stage.figures(target);
    assert!(!figures.up && figures.waiting > 0, "{figures:?}");
    broker.start();
    let back = time_until(&format!("{target} is reached again"), || stage.is_up(target));

    load.run_for(SPAN / 2);
    broker.stop();
    let stopped = load.run_for(STOPPED);
    let figures = stage.figures(target);
    assert!(!figures.up && figures.waiting > 0, "{figures:?}");
    broker.go_on();
    let again = time_until(&format!("{target} is reached after its stop"), || stage.is_up(target));
    load.run_for(SPAN / 2);

    eprintln!("{target}: echo {calm:?} calm, {dead:?} dead, {stopped:?} stopped; back in {back:?} and {again:?}");
    for trouble in [dead, stopped] {
        let fair = 2 * calm.server.max(calm.machine).max(trouble.machine) + ECHO_NOISE;
        assert!(trouble.server <= fair, "the echo suffers: {calm:?} calm, {trouble:?} in trouble");
    }
    assert!(back <= RECONNECT_WITHIN && again <= RECONNECT_WITHIN, "{back:?}, {again:?}");
}
