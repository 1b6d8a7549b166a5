//! The whole ledger against the plainest one there is: whatever happens in whatever order, both say the same.

use futures_util::future::join_all;
use proptest::prelude::*;

use super::*;
use crate::policy::budget::Interval;

/// Anything that can happen to a ledger.
#[derive(Clone, Debug)]
enum Step {
    /// Callers ask at the same time.
    Hold(Vec<Wish>),
    /// One caller asks for several calls, all or none.
    Together(Vec<Wish>),
    End {
        nth: usize,
        end: usize,
    },
    /// Whoever owned the hold vanishes.
    Drop {
        nth: usize,
    },
    Correct {
        nth: usize,
        billed: bool,
    },
    Raise {
        budget: usize,
        cents: i64,
        minutes: i64,
    },
    Switch(bool),
    /// The clock goes on, or is set back.
    Turn {
        seconds: i64,
    },
    /// The process stops in order and starts again, or dies and does.
    Restart {
        crash: bool,
    },
}

#[derive(Clone, Copy, Debug)]
struct Wish {
    dialer: bool,
    fresh: bool,
    /// For the enterprise as a whole.
    whole: bool,
    cents: i64,
}

fn wishes(most: usize) -> impl Strategy<Value = Vec<Wish>> {
    let wish = (any::<[bool; 3]>(), 0_i64..40).prop_map(|([dialer, fresh, whole], cents)| Wish { dialer, fresh, whole, cents });
    proptest::collection::vec(wish, 1..most)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => wishes(6).prop_map(Step::Hold),
        2 => wishes(5).prop_map(Step::Together),
        6 => (any::<usize>(), 0..3_usize).prop_map(|(nth, end)| Step::End { nth, end }),
        1 => any::<usize>().prop_map(|nth| Step::Drop { nth }),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(nth, billed)| Step::Correct { nth, billed }),
        1 => (0..3_usize, 1_i64..60, 1_i64..180).prop_map(|(budget, cents, minutes)| Step::Raise { budget, cents, minutes }),
        1 => any::<bool>().prop_map(Step::Switch),
        3 => (-7_500_i64..7_500).prop_map(|seconds| Step::Turn { seconds }),
        2 => any::<bool>().prop_map(|crash| Step::Restart { crash }),
    ]
}

/// What became of a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Known(Usd),
    /// Assumed, and not corrected.
    Assumed,
}

/// The plainest ledger: a list of charges.
struct Model {
    budgets: Vec<Budget>,
    charges: Vec<(Charge, Timestamp, Fate)>,
    raised: Vec<(usize, Usd, Timestamp)>,
    stopped: bool,
}

impl Model {
    /// Posted and held in a window.
    fn balance(&self, budget: &Budget, window: Interval) -> (Usd, Usd) {
        let counted = self.charges.iter().filter(|(charge, at, _)| budget.applies_to(charge) && window.contains(*at));
        counted.fold((Usd::ZERO, Usd::ZERO), |(posted, held), (charge, _, fate)| match fate {
            Fate::Open => (posted, held + charge.price),
            Fate::Known(amount) => (posted + *amount, held),
            Fate::Assumed => (posted + charge.price, held),
        })
    }

    fn limit(&self, index: usize, now: Timestamp) -> Usd {
        let raised = self.raised.iter().filter(|(budget, _, until)| *budget == index && now < *until);
        self.budgets[index].limit + raised.map(|(_, amount, _)| *amount).sum()
    }

    /// Holds all of these, if every budget has room for all that concerns it.
    fn hold(&mut self, wanted: &[Charge], now: Timestamp) -> bool {
        let has_room = |(index, budget): (usize, &Budget)| {
            let (posted, held) = self.balance(budget, budget.window_at(now));
            let prices = wanted.iter().filter(|charge| budget.applies_to(charge)).map(|charge| charge.price);
            let mut prices = prices.peekable();
            prices.peek().is_none() || posted + held + prices.sum() <= self.limit(index, now)
        };
        let allowed = !self.stopped && self.budgets.iter().enumerate().all(has_room);
        if allowed {
            self.charges.extend(wanted.iter().map(|charge| (charge.clone(), now, Fate::Open)));
        }
        allowed
    }
}

/// A ledger beside its model, which must agree.
struct Trial {
    bench: Bench,
    ledger: Ledger,
    path: PathBuf,
    model: Model,
    /// The open holds, and where the model has them.
    open: Vec<(Hold, usize)>,
    ids: Vec<HoldId>,
    crashes: usize,
}

fn budgets() -> Vec<Budget> {
    let new_york = jiff::tz::TimeZone::get("America/New_York").expect("a zone");
    let hourly = |name, limit| Budget { window: Window::Hour, ..budget(name, limit) };
    let dialer = Budget { caller: Some("dialer".to_owned()), operation: Some(Billable::Fresh), ..hourly("dialer, fresh", "0.70") };
    vec![Budget { time_zone: new_york, ..budget("all", "2.00") }, hourly("hourly", "1.00"), dialer]
}

fn charge_of(wish: Wish) -> Charge {
    let common = charge(if wish.dialer { "dialer" } else { "crm" });
    let (operation, number) = match (wish.fresh, wish.whole) {
        (true, _) => (Billable::Fresh, common.number),
        (false, false) => (Billable::FirstTouch, common.number),
        (false, true) => (Billable::Enable, None),
    };
    Charge { operation, number, price: Usd::from_micros(wish.cents * 10_000), ..common }
}

impl Trial {
    fn new(bench: Bench) -> Self {
        // New York sets its clocks back an hour and a half later.
        bench.clock.set_wall("2026-11-01T04:30:00Z".parse().expect("an instant"));
        bench.admit("ledger-0");
        let (ledger, path) = (bench.open_as("ledger-0", bench.path(), budgets()), bench.path());
        let model = Model { budgets: budgets(), charges: Vec::new(), raised: Vec::new(), stopped: false };
        Self { bench, ledger, path, model, open: Vec::new(), ids: Vec::new(), crashes: 0 }
    }

    async fn take(&mut self, step: Step) {
        let now = self.bench.clock.now();
        match step {
            Step::Hold(wishes) => {
                let charges: Vec<_> = wishes.into_iter().map(charge_of).collect();
                let held = join_all(charges.iter().map(|charge| self.ledger.hold(charge.clone()))).await;
                for (charge, held) in charges.into_iter().zip(held) {
                    let allowed = self.model.hold(&[charge], now);
                    assert_eq!(held.is_ok(), allowed, "{held:?}");
                    self.keep(held.into_iter().collect());
                }
            }
            Step::Together(wishes) => {
                let charges: Vec<_> = wishes.into_iter().map(charge_of).collect();
                let held = self.ledger.hold_all(charges.clone()).await;
                assert_eq!(held.is_ok(), self.model.hold(&charges, now), "{held:?}");
                self.keep(held.unwrap_or_default());
            }
            Step::End { nth, end } if !self.open.is_empty() => {
                let (hold, index) = self.open.remove(nth % self.open.len());
                let price = self.model.charges[index].0.price;
                let (ended, fate) = match End::ALL[end] {
                    End::Settled => (hold.settle("billed").await, Fate::Known(price)),
                    End::Released => (hold.release("not billed").await, Fate::Known(Usd::ZERO)),
                    End::Assumed => (hold.assume("unknown").await, Fate::Assumed),
                };
                ended.expect("written");
                self.model.charges[index].2 = fate;
            }
            Step::Drop { nth } if !self.open.is_empty() => {
                let (hold, index) = self.open.remove(nth % self.open.len());
                drop(hold);
                self.model.charges[index].2 = Fate::Assumed;
            }
            Step::Correct { nth, billed } if !self.ids.is_empty() => {
                let index = nth % self.ids.len();
                let finding = if billed { Finding::Billed } else { Finding::NotBilled };
                let was_news = self.ledger.correct(self.ids[index], finding, "a look").await.expect("written");
                let (charge, _, fate) = &mut self.model.charges[index];
                assert_eq!(was_news, *fate == Fate::Assumed, "a hold is corrected once, and only if it was assumed");
                if was_news {
                    *fate = Fate::Known(if billed { charge.price } else { Usd::ZERO });
                }
            }
            Step::Raise { budget, cents, minutes } => {
                let (amount, expires_at) = (Usd::from_micros(cents * 10_000), now + jiff::SignedDuration::from_mins(minutes));
                let (budget_name, reason, author) = (self.model.budgets[budget].name.clone(), "r".to_owned(), "a".to_owned());
                let granted = Override { budget: budget_name, amount, granted_at: now, expires_at, reason, author };
                self.ledger.raise(granted).await.expect("granted");
                self.model.raised.push((budget, amount, expires_at));
            }
            Step::Switch(on) => {
                self.ledger.switch(on, "r".to_owned(), "a".to_owned()).await.expect("written");
                self.model.stopped = on;
            }
            Step::Turn { seconds } => self.bench.clock.set_wall(now + jiff::SignedDuration::from_secs(seconds)),
            Step::Restart { crash } => self.restart(crash).await,
            Step::End { .. } | Step::Drop { .. } | Step::Correct { .. } => {}
        }
    }

    fn keep(&mut self, holds: Vec<Hold>) {
        for hold in holds {
            self.ids.push(hold.id());
            self.open.push((hold, self.ids.len() - 1));
        }
    }

    async fn restart(&mut self, crash: bool) {
        if crash {
            // What was sent so far is written; then what the disk has is what is left.
            self.ledger.correct(HoldId(i64::MAX), Finding::Billed, "a barrier").await.expect("written");
            self.path = self.bench.crash(&self.path, &self.user());
            self.crashes += 1;
            self.bench.admit(&self.user());
        } else {
            self.ledger.close().await;
        }
        let after = self.bench.open_as(&self.user(), self.path.clone(), budgets());
        let before = std::mem::replace(&mut self.ledger, after);
        self.open.clear();
        before.close().await;
        for (_, _, fate) in self.model.charges.iter_mut().filter(|(_, _, fate)| *fate == Fate::Open) {
            *fate = Fate::Assumed;
        }
    }

    /// As whom the ledger reaches its Redis.
    fn user(&self) -> String {
        format!("ledger-{}", self.crashes)
    }

    async fn compare(&self) {
        self.ledger.correct(HoldId(i64::MAX), Finding::Billed, "a barrier").await.expect("written");
        let now = self.bench.clock.now();
        for (index, (status, budget)) in self.ledger.budgets().iter().zip(&self.model.budgets).enumerate() {
            let window = budget.window_at(now);
            assert_eq!((status.starts_at, status.resets_at), (window.start, window.end));
            assert_eq!((status.spent, status.held), self.model.balance(budget, window), "{}", status.name);
            assert_eq!(status.limit, self.model.limit(index, now), "{}", status.name);
        }
        assert_eq!(self.ledger.holds().count, self.open.len(), "a hold leaked");
        assert_eq!(self.ledger.is_stopped(), self.model.stopped);
    }
}

fn check(bench: Bench, steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let mut trial = Trial::new(bench);
        for step in steps {
            trial.take(step).await;
            trial.compare().await;
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_happens_the_ledger_says_what_the_plainest_one_says(steps in proptest::collection::vec(step(), 1..60)) {
        check(Bench::new(), steps);
    }

    #[test]
    fn whatever_happens_the_shared_ledger_says_what_the_plainest_one_says(steps in proptest::collection::vec(step(), 1..60)) {
        check(Bench::shared(), steps);
    }
}
