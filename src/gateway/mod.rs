//! The pipeline: from a request's bytes to an answer's, in one direction. `Gateway::handle` shows the whole request.
//!
//! This is the only room that knows all engines, and the only one that counts.

mod answer;
mod ask;
mod associate;
mod batch;
mod build;
mod carry;
mod charge;
mod counted;
mod decisions;
mod elsewhere;
mod enable;
mod enterprise;
mod explain;
mod failure;
mod frequency;
mod hit;
mod inspect;
mod list;
mod live;
mod look;
mod pass;
mod past;
mod purchase;
mod purge;
mod refresh;
mod refusal;
mod remediate;
mod retrieve;
mod single;
mod snapshot;
mod spans;
mod stamp;
mod sync;
mod tier;
mod told;
mod trail;
mod unpublished;
mod unresolved;
mod view;
mod visit;
mod wait;
mod write;

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

pub use build::BuildError;
pub use counted::Counted;
pub use decisions::Wanted;
pub use explain::Unexplained;
pub use inspect::Known;
pub use live::{ApplyError, Live};
pub use past::Untold;
pub use purge::{Purge, Purged};

use crate::auth::{Auth, Identity, Permission};
use crate::cache::{Cache, FailedLooks, Key, Lists, PaidCalls, Tier};
use crate::clock::Clock;
use crate::flight::Flights;
use crate::limit::Limits;
use crate::policy::decide::Policy;
use crate::policy::pricing::PriceList;
use crate::policy::routes::{Closed, Route};
use crate::shared::Redis;
use crate::spend::books::{Books, BooksError};
use crate::spend::{BudgetStatus, KillSwitch, Ledger, Override, OverrideRefused, Unavailable};
use crate::telemetry::metrics::CallerCounters;
use crate::telemetry::{Metrics, Traces};
use crate::telnyx::{EnterpriseId, Operation, PhoneNumber, route};
use crate::upstream::Client;
use crate::webhook::Webhooks;
use crate::wire::authority;
use crate::wire::body::{self, Body};
use crate::wire::directives::Directives;
use crate::wire::room::Room;
use crate::wire::target::Target;
use answer::{Answer, Refused};
use ask::{Ask, Page};
use charge::LEDGER_WAIT;
use decisions::Decisions;
use look::Look;
use purchase::Landing;
use visit::Visit;

/// Choices of the operator that belong to no engine.
#[derive(Debug)]
struct Rules {
    /// What a read does.
    policy: Policy,
    /// The same for enterprises whose copies have lifetimes of their own.
    policies: HashMap<EnterpriseId, Policy>,
    /// How far back calls are remembered over a restart, and how long one of unknown outcome may be resolved.
    memory: Duration,
    /// How long a billable call may still take effect after it was sent.
    effect: Duration,
    /// How long a read waits for work that is shared.
    wait_timeout: Duration,
    /// Reads that wait so at once.
    max_waiters: usize,
    /// What operations cost.
    prices: PriceList,
    /// Keys that go upstream.
    keys: Keys,
    /// Where simplified paths go, for callers without an enterprise of their own.
    default_enterprise: Option<EnterpriseId>,
    /// Enterprises' names in logs.
    enterprise_names: HashMap<EnterpriseId, String>,
    /// A request's line and fields may be this long.
    max_header_size: usize,
    /// A request's body may be this long.
    max_body_size: usize,
    /// A request's body may take this long.
    body_timeout: Duration,
    /// What a refusal for want of money answers with.
    budget_status: StatusCode,
    /// What passes beside the reputation API.
    routes: Vec<Route>,
    /// A streamed request may stand still for this long.
    stall_timeout: Duration,
    /// How enterprises' lists are read ahead; none, if they are not.
    sync: Option<Arc<sync::Plan>>,
    /// Whether phone numbers are logged whole.
    log_full_numbers: bool,
}

impl Rules {
    /// What a read of this enterprise's numbers does.
    fn policy(&self, enterprise: EnterpriseId) -> &Policy {
        self.policies.get(&enterprise).unwrap_or(&self.policy)
    }
}

/// The gateway's own keys, as `Authorization` values marked sensitive.
#[derive(Debug, Default, PartialEq, Eq)]
struct Keys {
    /// For every enterprise that has none of its own.
    default: Option<HeaderValue>,
    /// For enterprises of other accounts.
    by_enterprise: HashMap<EnterpriseId, HeaderValue>,
}

/// The gateway under one configuration; clones are the same one. Whatever has begun goes on under the one that it began with.
#[derive(Clone)]
pub struct Gateway(Arc<View>);

/// What one configuration says, and the engines, which live as long as the process.
struct View {
    shared: Arc<Shared>,
    auth: Auth,
    limits: Limits,
    upstream: Client,
    sole_enterprises: enterprise::Sole,
    /// Where each caller's requests are counted, by its place.
    callers: Vec<Arc<CallerCounters>>,
    rules: Rules,
}

impl Deref for View {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// What all configurations of a process have in common.
struct Shared {
    cache: Cache,
    lists: Lists,
    /// What was paid for lately.
    calls: PaidCalls,
    /// Calls of unknown outcome.
    pending: unresolved::Pending,
    ledger: Ledger,
    /// Where events are posted.
    webhooks: Webhooks,
    metrics: Metrics,
    /// The last requests, and how they came to what they came to.
    decisions: Decisions,
    /// Where spans go.
    traces: Traces,
    clock: Clock,
    looks: Flights<Key, Arc<Look>>,
    /// What is asked of the copies that gateways share, and whether it brought something better.
    fetches: Flights<Key, bool>,
    failed_looks: FailedLooks,
    /// Purchases under way, of any kind. A refresh lands with nothing: it brings no record, and who follows decides anew.
    purchases: Flights<Key, Option<Landing>>,
    /// Calls about enterprises as a whole.
    monitoring: single::Monitoring,
    /// Places for waiting for what others do.
    waiters: Semaphore,
    /// Places for renewing stale copies, a part of those upstream, so that reads which somebody waits for find some too.
    renewals: Arc<Semaphore>,
    /// Where the cache is kept over a restart.
    snapshots: Option<snapshot::Snapshots>,
    /// How far the lists were read ahead.
    synced: sync::Synced,
    /// What several gateways share, if this is not on its own.
    redis: Option<Redis>,
    /// The ends of holds, this gateway's and others'.
    ends: elsewhere::Ends,
    /// What several gateways share of the cache, if this is not on its own.
    tier: Option<Tier>,
    tasks: TaskTracker,
    /// For request bodies, and for answers that are one request's own.
    room: Room,
    /// Calls that were made before may be forgotten (monotonic).
    remembers_since: Duration,
}

impl Gateway {
    /// The clock that everything here goes by.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Every budget in its present window.
    pub fn budgets(&self) -> Vec<BudgetStatus> {
        self.0.ledger.budgets()
    }

    /// Raises a budget's limit for a while. Does not wait for a disk that hangs.
    pub async fn raise(&self, granted: Override) -> Result<BudgetStatus, OverrideRefused> {
        timeout(LEDGER_WAIT, self.0.ledger.raise(granted)).await.unwrap_or(Err(OverrideRefused::Unavailable))
    }

    /// Stops all billable work, or allows it again. Does not wait for a disk that hangs.
    pub async fn switch(&self, on: bool, reason: String, author: String) -> Result<KillSwitch, Unavailable> {
        timeout(LEDGER_WAIT, self.0.ledger.switch(on, reason, author)).await.unwrap_or(Err(Unavailable))
    }

    /// Whether all billable work is stopped.
    pub fn kill_switch(&self) -> KillSwitch {
        self.0.ledger.kill_switch()
    }

    /// Whether money can be spent at all: what is free goes on without the ledger.
    pub fn ledger_is_available(&self) -> bool {
        self.0.ledger.is_available()
    }

    /// For what the ledger is not to be relied on.
    pub fn ledger_warnings(&self) -> Arc<Vec<String>> {
        self.0.ledger.warnings()
    }

    /// Goes on with what there is after a shared ledger lost something. Tells whether it had.
    pub async fn acknowledge_loss(&self, reason: String, author: String) -> Result<bool, Unavailable> {
        timeout(LEDGER_WAIT, self.0.ledger.acknowledge_loss(reason, author)).await.unwrap_or(Err(Unavailable))
    }

    /// The ledger's books, by a connection of their own.
    pub fn books(&self) -> Result<Books, BooksError> {
        self.0.ledger.books()
    }

    /// Exports spans until `stop`, which is when nothing is left that could make any.
    pub async fn export_traces(&self, stop: impl Future<Output = ()>) {
        self.0.traces.export(stop).await;
    }

    /// Waits until every look and every purchase under way has ended, and closes the ledger behind them.
    pub async fn close(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.0.ledger.close().await;
    }

    /// Posts events to their receivers until `stop`, and what waits then once more.
    pub async fn post_events(&self, stop: impl Future<Output = ()>) {
        self.0.webhooks.run(stop).await;
    }

    /// Answers one request.
    async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let mut visit = Visit::begin(self, &head);
        // Nobody knows what follows on such a connection, so its body is not waited for.
        if let Err(why) = authority::check(&head) {
            return visit.end(&head, *refusal::ambiguous(why), true);
        }
        if let Some(carried) = self.carried(&head) {
            return self.carry(carried, head, body, visit).await;
        }
        let rules = &self.0.rules;
        let read = if self.reads_body(&head) {
            body::collect_within(&self.0.room, body, rules.max_body_size, rules.body_timeout).await.map(|body| (body.len(), body))
        } else {
            body::drain(body, rules.max_body_size, rules.body_timeout).await.map(|length| (length, Bytes::new()))
        };
        let answered = match &read {
            Ok(body) => trail::on(visit.trail().cloned(), self.respond(&head, body, &mut visit)).await,
            Err(unread) => Err(refusal::unread_body(*unread)),
        };
        visit.end(&head, self.fitting(answered, &head.method), read.is_err())
    }

    /// Whether a request's body is worth keeping in memory: nobody's is who is not known, and none that leads nowhere.
    fn reads_body(&self, head: &Parts) -> bool {
        let writes = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
        let leads = |target: Target<'_>| route(&head.method, &target.segments).is_ok();
        writes && Target::parse(&head.uri).is_ok_and(leads) && self.0.auth.identify(&head.headers).is_ok()
    }

    /// Target, caller, operation; what follows is the operation's own.
    async fn respond(&self, head: &Parts, (body_length, body): &(usize, Bytes), visit: &mut Visit) -> Refused<Answer> {
        refusal::check_head(head, self.0.rules.max_header_size)?;
        let target = Target::parse(&head.uri).map_err(refusal::bad_target)?;
        let identity = self.0.auth.identify(&head.headers).map_err(refusal::unauthenticated)?;
        visit.identified(&identity);
        let route = route(&head.method, &target.segments).map_err(|why| self.no_route(why, head, &target, &identity))?;
        visit.routed(route.operation);
        refusal::check_body(head, *body_length)?;
        let wishes = Directives::parse(&head.headers);
        match route.operation {
            Operation::Retrieve => {
                let number = ask::number(route.number)?;
                let want = ask::want(head, &target.query, wishes)?;
                let enterprise = self.enterprise(route.enterprise, &identity, wishes, visit).await?;
                visit.about(enterprise, Some(number));
                let context = self.context(&identity, Some(enterprise), visit)?;
                let key = Key { partition: identity.partition, enterprise, number };
                self.retrieve(&Ask { key, want, caller: identity.caller, context }, visit).await
            }
            Operation::List => {
                let page = Page::parse(&target.query, route.enterprise.is_some())?;
                let in_path = route.enterprise.or(page.enterprise.as_deref());
                let enterprise = self.enterprise(in_path, &identity, wishes, visit).await?;
                visit.about(enterprise, None);
                let context = self.context(&identity, Some(enterprise), visit)?;
                self.list((identity.partition, enterprise), &page, wishes, &context, visit).await
            }
            Operation::Refresh | Operation::Associate => {
                let permission = if route.operation == Operation::Refresh { Permission::Refresh } else { Permission::Associate };
                let enterprise = self.permitted(permission, &route, None, &identity, wishes, visit).await?;
                let asks = self.asks(ask::numbers(head, body)?, enterprise, &identity, wishes, visit)?;
                if route.operation == Operation::Refresh { self.refresh(asks, visit).await } else { self.associate(asks, visit).await }
            }
            Operation::Settings | Operation::Remediations | Operation::Terms => {
                self.pass(&route, &target.query, &identity, wishes, visit).await
            }
            Operation::Enterprises if matches!(head.method, Method::GET | Method::HEAD) => {
                self.pass(&route, &target.query, &identity, wishes, visit).await
            }
            Operation::Disassociate | Operation::Disable | Operation::Loa | Operation::AgreeTerms | Operation::Enterprises => {
                self.write(&route, (head, body), &identity, wishes, visit).await
            }
            Operation::Remediate => self.remediate(&route, (head, body), &identity, wishes, visit).await,
            Operation::Enable => self.enable(&route, (head, body), &identity, wishes, visit).await,
            Operation::Frequency => self.frequency(&route, (head, body), &identity, wishes, visit).await,
            Operation::Ownership | Operation::Webhook => self.unpublished(&route, (head, body), &identity, wishes, visit).await,
            // The table has no row for either.
            Operation::Unknown | Operation::Route => Err(refusal::no_route(Closed::Reputation, &head.method, &target.segments)),
        }
    }
}

impl Gateway {
    /// The wish to have each number bought.
    fn asks(
        &self,
        numbers: Vec<PhoneNumber>,
        enterprise: EnterpriseId,
        identity: &Identity,
        wishes: Directives,
        visit: &Visit,
    ) -> Refused<Vec<Ask>> {
        let (partition, want) = (identity.partition, ask::refresh(wishes));
        let context = self.context(identity, Some(enterprise), visit)?;
        let key = |number| Key { partition, enterprise, number };
        let ask = |number| Ask { key: key(number), want, caller: identity.caller.clone(), context: context.clone() };
        Ok(numbers.into_iter().map(ask).collect())
    }
}
