//! The accounts against the plainest ledger there is.

use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::policy::pricing::Billable;

/// The plainest ledger there is: a list of charges, each with its end.
#[derive(Clone, Default)]
struct Model(Vec<(Charge, Timestamp, Option<End>)>);

impl Model {
    fn fold(&self, budget: &Budget, window: Interval) -> Balance {
        let counted = self.0.iter().filter(|(charge, at, _)| budget.applies_to(charge) && window.contains(*at));
        counted.fold(Balance::default(), |balance, (charge, _, end)| match end {
            None => Balance { held: balance.held + charge.price, ..balance },
            Some(end) => Balance { posted: balance.posted + end.posts(charge.price), ..balance },
        })
    }

    fn open(&self) -> Vec<usize> {
        (0..self.0.len()).filter(|index| self.0[*index].2.is_none()).collect()
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Hold { caller: bool, operation: bool, cents: i64 },
    End { nth: usize, end: usize },
    Turn { seconds: i64 },
    Commit,
    Fail,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<bool>(), any::<bool>(), 0_i64..40).prop_map(|(caller, operation, cents)| Step::Hold { caller, operation, cents }),
        4 => (any::<usize>(), 0..3_usize).prop_map(|(nth, end)| Step::End { nth, end }),
        2 => (-7_500_i64..7_500).prop_map(|seconds| Step::Turn { seconds }),
        3 => Just(Step::Commit),
        1 => Just(Step::Fail),
    ]
}

fn budgets() -> Vec<Budget> {
    let text = r#"
        [[budget]]
        name = "all"
        limit = "2.00"
        window = "day"
        time_zone = "America/New_York"
        [[budget]]
        name = "hourly"
        limit = "1.00"
        window = "hour"
        [[budget]]
        name = "dialer, fresh"
        limit = "0.70"
        window = "hour"
        caller = "dialer"
        operation = "fresh"
    "#;
    let mut read: std::collections::HashMap<String, Vec<Budget>> = toml::from_str(text).expect("budgets");
    read.remove("budget").expect("budgets")
}

fn charge(caller: &str, operation: Billable, cents: i64) -> Charge {
    Charge {
        request_id: "r1".to_owned(),
        caller: caller.into(),
        enterprise: "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().expect("a UUID"),
        number: Some("+12025550000".parse().expect("E.164")),
        operation,
        price: Usd::from_micros(cents * 10_000),
    }
}

proptest! {
    #[test]
    fn no_window_is_ever_overspent_and_no_hold_leaks(steps in proptest::collection::vec(step(), 1..120)) {
        let mut accounts = Accounts::new(budgets());
        let (mut file, mut model) = (Model::default(), Model::default());
        let mut now: Timestamp = "2026-11-01T04:30:00Z".parse().expect("an instant");
        let Ok(()) = accounts.roll(now, |_, _| Ok::<_, Infallible>(Standing::default()));
        for step in steps {
            match step {
                Step::Turn { seconds } => now += jiff::SignedDuration::from_secs(seconds),
                Step::Hold { caller, operation, cents } => {
                    let caller = if caller { "dialer" } else { "crm" };
                    let charge = charge(caller, if operation { Billable::Fresh } else { Billable::FirstTouch }, cents);
                    if verdict(accounts.all(), std::slice::from_ref(&charge), now).refusal().is_none() {
                        let id = HoldId(i64::try_from(model.0.len()).expect("few"));
                        accounts.hold(id, OpenHold { charge: charge.clone(), held_at: now, since: Duration::ZERO });
                        model.0.push((charge, now, None));
                    }
                }
                Step::End { nth, end } => {
                    let open = model.open();
                    if !open.is_empty() {
                        let (index, end) = (open[nth % open.len()], End::ALL[end]);
                        let ended = accounts.end(HoldId(i64::try_from(index).expect("few")), end).map(|hold| hold.charge);
                        prop_assert_eq!(ended.as_ref(), Some(&model.0[index].0));
                        model.0[index].2 = Some(end);
                        let again = accounts.end(HoldId(i64::try_from(index).expect("few")), End::Settled);
                        prop_assert!(again.is_none(), "a hold ends once");
                    }
                }
                Step::Commit => {
                    accounts.keep();
                    file = model.clone();
                }
                Step::Fail => {
                    accounts.undo();
                    model = file.clone();
                }
            }
            let standing = |budget: &Budget, window| Standing { balance: model.fold(budget, window), ..Standing::default() };
            let Ok(()) = accounts.roll(now, |budget, window| Ok::<_, Infallible>(standing(budget, window)));
            prop_assert_eq!(accounts.open_count(), model.open().len());
            for account in accounts.all() {
                prop_assert_eq!(account.standing.balance, model.fold(&account.budget, account.window));
                for (_, at, _) in &model.0 {
                    let balance = model.fold(&account.budget, account.budget.window_at(*at));
                    prop_assert!(balance.posted + balance.held <= account.budget.limit);
                }
            }
        }
    }
}
