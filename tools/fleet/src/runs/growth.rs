//! The same fleet with more and more nodes: what each costs, and the expressions of dashboards and rules on the result.

use std::time::Duration;

use super::{Scale, fleet};
use crate::expressions;
use crate::figures::{Growth, Window};
use crate::interrupt::Interrupt;

/// Parts of the largest number of nodes that are measured as well.
const PARTS: [usize; 3] = [4, 2, 1];

/// How long the series of new nodes may take.
const SETTLED: Duration = Duration::from_mins(10);

pub(super) fn run(scale: &Scale, interrupt: &Interrupt, growth: &mut Option<Growth>) -> anyhow::Result<()> {
    let mut fleet = fleet(scale, scale.nodes, scale.interval, &scale.stores, &[], interrupt)?;
    let mut windows = Vec::new();
    for part in PARTS {
        let nodes = scale.nodes / part;
        fleet.grow(nodes)?;
        fleet.settle(SETTLED)?;
        // Smaller fleets are measured for one push of each node.
        let time = if part == 1 { scale.time } else { scale.interval };
        windows.push(fleet.window(time)?);
    }
    let growth = growth.insert(Growth { windows, expressions: Vec::new() });
    for store in fleet.stores() {
        growth.expressions.extend(expressions::evaluate(&fleet, store)?);
    }
    Ok(())
}

/// Returns the straight line through points by least squares: its value at zero, and its slope. `None` with fewer than two places.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "there are few points")]
pub fn straight_line(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let common: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let slope = common / spread;
    (spread > 0.0).then_some((y - slope * x, slope))
}

/// What grows with the number of nodes, per second: a name and its value.
pub(crate) fn quantities(window: &Window) -> Vec<(&'static str, f64)> {
    let per_second = |sum: f64| sum / window.seconds;
    #[expect(clippy::cast_precision_loss, reason = "a run has less than 2^52 bytes and points")]
    let number = |number: u64| number as f64;
    let mut quantities = vec![
        ("points per second", per_second(number(window.points))),
        ("bytes per second to the gateway", per_second(number(window.to_gateway))),
        ("CPU of all exporters: encoding", per_second(window.cpu.encoding)),
        ("CPU of all exporters: delivery", per_second(window.cpu.delivery)),
        ("CPU of the gateway", per_second(window.cpu.gateway)),
        ("memory of the gateway", number(window.memory.gateway)),
    ];
    for store in &window.stores {
        use crate::receivers::StoreKind::{Prometheus, Victoria};
        let (names, cpu, memory) = match store.kind {
            Prometheus => (
                ["series in Prometheus", "CPU of Prometheus", "memory of Prometheus"],
                window.cpu.prometheus,
                window.memory.prometheus,
            ),
            Victoria => (
                ["series in VictoriaMetrics", "CPU of VictoriaMetrics", "memory of VictoriaMetrics"],
                window.cpu.victoria,
                window.memory.victoria,
            ),
        };
        quantities.push((names[0], number(store.series)));
        quantities.extend(cpu.map(|cpu| (names[1], per_second(cpu))));
        quantities.extend(memory.map(|memory| (names[2], number(memory))));
    }
    quantities
}

/// Waits so long between two evaluations of rules.
pub(crate) const EVALUATION: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_line_has_its_slope_and_its_value_at_zero() {
        let (at_zero, slope) =
            straight_line(&[(1.0, 5.0), (2.0, 7.0), (4.0, 11.0)]).expect("there are places");
        assert!((at_zero - 3.0).abs() < 1e-9 && (slope - 2.0).abs() < 1e-9);
        assert_eq!(straight_line(&[(1.0, 5.0), (1.0, 7.0)]), None);
        assert_eq!(straight_line(&[]), None);
    }
}
