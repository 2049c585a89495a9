//! The change of a distribution of scores: the population stability index.
//!
//! With the shares `p` of a group of scores now and `q` in the reference,
//!
//! ```text
//! PSI = Σ (p − q) · ln(p / q)        over the groups
//! p = (n + ½) / (N + G/2)            n of N events are in the group, of G groups
//! ```
//!
//! Half an event is added to each group, so that an empty one has no infinite logarithm (Jeffreys'
//! prior). The groups are tenths of the reference, as is usual: adjacent bins until a group has a
//! tenth of its events. Scores below and above those of the reference are a group each.
//!
//! Source: N. Siddiqi, *Credit Risk Scorecards*, Wiley 2006. Without a change, the expected value
//! is about `(G − 1) · (1/N + 1/M)`: B. Yurdakul and J. Naranjo, *Statistical properties of the
//! population stability index*, Journal of Risk Model Validation 14(4), 2020.

/// Number of groups into which the reference is divided.
const GROUPS: u64 = 10;
/// Events added to each group.
const PRIOR: f64 = 0.5;

/// Returns the index of the events by bin of score, now and in the reference. `None` if either has
/// no events.
pub(crate) fn population_stability_index(now: &[u64], reference: &[u64]) -> Option<f64> {
    let (now_total, reference_total) = (now.iter().sum::<u64>(), reference.iter().sum::<u64>());
    if now_total == 0 || reference_total == 0 {
        return None;
    }
    let groups = groups(now, reference, reference_total);
    let prior_total = PRIOR * groups.len() as f64;
    let share = |count: u64, total: u64| (count as f64 + PRIOR) / (total as f64 + prior_total);
    let term = |(now, reference): &(u64, u64)| {
        let (now, reference) = (share(*now, now_total), share(*reference, reference_total));
        (now - reference) * (now / reference).ln()
    };
    Some(groups.iter().map(term).sum())
}

/// Returns the events of each group, now and in the reference.
fn groups(now: &[u64], reference: &[u64], reference_total: u64) -> Vec<(u64, u64)> {
    let first = reference.iter().position(|count| *count > 0).unwrap_or(0);
    let end = reference.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
    let below = now[..first].iter().sum();
    let above = now[end..].iter().sum();
    let mut groups = Vec::new();
    let mut group = (0, 0);
    for (now, reference) in now[first..end].iter().zip(&reference[first..end]) {
        group = (group.0 + now, group.1 + reference);
        if group.1 * GROUPS >= reference_total {
            groups.push(group);
            group = (0, 0);
        }
    }
    // The rest is less than a tenth.
    match groups.last_mut() {
        Some(last) => *last = (last.0 + group.0, last.1 + group.1),
        None => groups.push(group),
    }
    if first > 0 {
        groups.push((below, 0));
    }
    if end < reference.len() {
        groups.push((above, 0));
    }
    groups
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_shares_have_no_index_and_a_hand_computed_one_is_met() {
        let psi = population_stability_index(&[10, 30, 60], &[100, 300, 600]).unwrap();
        // Only the prior differs.
        assert!(psi < 1e-3, "{psi}");
        // Groups of 50 and 50; with the prior, the shares are 20.5/101 and 80.5/101 now.
        let psi = population_stability_index(&[20, 80], &[50, 50]).unwrap();
        let (low, high, half) = (20.5 / 101.0, 80.5 / 101.0, 0.5_f64);
        let expected = (low - half) * (low / half).ln() + (high - half) * (high / half).ln();
        assert!((psi - expected).abs() < 1e-12, "{psi} {expected}");
        assert_eq!(population_stability_index(&[0, 0], &[1, 1]), None);
        assert_eq!(population_stability_index(&[1, 1], &[0, 0]), None);
    }

    #[test]
    fn scores_outside_the_reference_are_seen_on_both_sides() {
        let mut reference = [0; 80];
        reference[20] = 1000;
        for bin in [5, 40] {
            let mut now = [0; 80];
            now[bin] = 1000;
            assert!(population_stability_index(&now, &reference).unwrap() > 5.0);
        }
        assert!(population_stability_index(&reference, &reference).unwrap() < 1e-9);
    }

    #[test]
    fn the_reference_is_divided_into_tenths() {
        let reference = [30; 80];
        let groups = groups(&reference, &reference, 2400);
        assert_eq!(groups, [(240, 240); 10]);
    }

    proptest! {
        #[test]
        fn the_index_is_finite_not_negative_and_keeps_every_event(
            now in prop::collection::vec(0_u64..1000, 80),
            reference in prop::collection::vec(0_u64..1000, 80),
        ) {
            let (now_total, total): (u64, u64) = (now.iter().sum(), reference.iter().sum());
            let grouped = groups(&now, &reference, total);
            prop_assert_eq!(grouped.iter().map(|group| group.0).sum::<u64>(), now_total);
            prop_assert_eq!(grouped.iter().map(|group| group.1).sum::<u64>(), total);
            prop_assert!(grouped.len() <= 12);
            if let Some(psi) = population_stability_index(&now, &reference) {
                prop_assert!(psi.is_finite() && psi >= 0.0);
            }
        }
    }
}
