//! Budgets over their windows: where more was spent than a configuration allows.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::tables::Override;
use super::verify::Note;
use crate::policy::budget::{Budget, Charge, Interval};
use crate::policy::money::Usd;

/// What was spent in every window of every budget.
pub(super) struct Windows<'b>(Vec<BudgetWindows<'b>>);

struct BudgetWindows<'b> {
    budget: &'b Budget,
    /// By its first instant, in order.
    windows: BTreeMap<Timestamp, (Interval, Usd, Usd)>,
    /// The window of the charge before: most often the next one's, too.
    last: Option<Interval>,
}

impl<'b> Windows<'b> {
    pub(super) fn new(budgets: &'b [Budget]) -> Self {
        Self(budgets.iter().map(|budget| BudgetWindows { budget, windows: BTreeMap::default(), last: None }).collect())
    }

    pub(super) fn count(&mut self, charge: &Charge, held_at: Timestamp, posted: Usd, held: Usd) {
        for BudgetWindows { budget, windows, last } in self.0.iter_mut().filter(|each| each.budget.applies_to(charge)) {
            let window = last.filter(|window| window.contains(held_at)).unwrap_or_else(|| budget.window_at(held_at));
            *last = Some(window);
            let (_, all_posted, all_held) = windows.entry(window.start).or_insert((window, Usd::ZERO, Usd::ZERO));
            *all_posted += posted;
            *all_held += held;
        }
    }

    pub(super) fn notes(self, overrides: &[Override]) -> Vec<Note> {
        let mut notes = Vec::new();
        for BudgetWindows { budget, windows, .. } in self.0 {
            let own: Vec<_> = overrides.iter().filter(|each| each.budget == budget.name).collect();
            for (window, posted, held) in windows.into_values().filter(|(_, posted, held)| *posted + *held > budget.limit) {
                let overrides = most_at_once(&own, window);
                if posted + held > budget.limit + overrides {
                    let (starts_at, ends_at) = (window.start, window.end);
                    notes.push(Note { budget: budget.name.clone(), starts_at, ends_at, posted, held, limit: budget.limit, overrides });
                }
            }
        }
        notes
    }
}

/// The largest sum of overrides that were in force together at a moment of the window: at its start, or when one of them began.
fn most_at_once(overrides: &[&Override], window: Interval) -> Usd {
    let start = window.start.as_microsecond();
    let begun = overrides.iter().map(|each| each.at_us).filter(|at| *at > start && *at < window.end.as_microsecond());
    let sum_at = |at: i64| overrides.iter().filter(|each| each.at_us <= at && at < each.expires_at_us).map(|each| each.amount).sum::<Usd>();
    begun.chain([start]).map(sum_at).max().unwrap_or_default()
}
