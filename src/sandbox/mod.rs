//! A stand-in for Telnyx's Number Reputation API.
//!
//! The demo needs no account, tests need trouble on command, and benches need an upstream that costs nothing. Above all, a
//! gateway that guards money must be checked against somebody else's bill: [`Sandbox::charges`] is that bill. It is worth
//! something only because nothing here shares a parser, a path table or a price with the product; this room imports what
//! serves connections, what holds a body, the clock and the money type, and no more.
//!
//! It bills as the service documents: $0.10 for `fresh=true`, for the first read of a number that was never checked, for each
//! number associated or refreshed; $1.00 for each number remediated; $100.00 for enabling an enterprise. Where the
//! documentation is silent it takes the reading that costs more: [`WITHOUT_DATA`] is billed on every read, since nothing is
//! ever stored for it; an association checks its numbers; a request whose caller has gone is done and billed all the same.
//! A request is done and billed in one step, the moment its body is there, and only then delayed or lost.
//!
//! Each enterprise starts with `numbers` numbers from `+12025550000` upwards that were never checked (their `reputation_data`
//! is null), with [`WITH_DATA`] and with [`WITHOUT_DATA`]; or, if `checked`, with data for all of them and no others. Scores and ids depend on the seed alone; times come from the clock.
//!
//! `GET /sandbox/charges`, `GET /sandbox/requests`, `POST /sandbox/faults` and `POST /sandbox/reset` stand beside the API,
//! need no key, and are never disturbed by faults.
//!
//! Left out: the schedule of automatic checks and the months after the first, which bill without a request; rate limits,
//! unless scripted; validation of enterprise profiles; reviews of what was submitted; events; bounds on what callers create. It is no server for the open network.

mod account;
mod answer;
mod call;
mod charges;
mod faults;
mod numbers;
mod ownership;
mod pieces;
mod record;
mod remediation;
mod routes;
mod seen;
mod state;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::json;

pub use charges::{Charge, Charges, Operation, Tally};
pub use faults::{Fault, Kind};
pub use seen::Seen;

use crate::clock::Clock;
use crate::server::{Abort, Service};
use crate::wire::body::Body;
use answer::{Refusal, Reply};
use call::Call;
use faults::{Delivery, Script};
use routes::Endpoint;
use seen::Log;
use state::State;

/// The enterprise there is by default.
pub const ENTERPRISE: &str = "6a09cdc3-8948-47f0-aa62-74ac943d6c58";
/// The number that was checked some hours before the start.
pub const WITH_DATA: &str = "+16035551234";
/// The number that the networks know nothing about: its `reputation_data` stays null, and every read of it is billed.
pub const WITHOUT_DATA: &str = "+12025559999";
/// The digits of the first number that was never checked.
const FIRST_NUMBER: u64 = 12_025_550_000;

/// Where the sandbox's own paths begin.
const CONTROL: &str = "/sandbox/";
/// The one token that is no key.
const INVALID_TOKEN: &str = "invalid";
/// A request's body, in bytes.
const MAX_BODY: usize = 1024 * 1024;

/// What the sandbox starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Numbers that were never checked, per enterprise; 1,000 by default.
    pub numbers: u32,
    /// Whether these were all checked some hours before the start instead, and are all that there are: no [`WITH_DATA`] and no
    /// [`WITHOUT_DATA`]. Not so by default.
    pub checked: bool,
    /// Decides scores and ids; 1 by default.
    pub seed: u64,
    /// Enterprise ids, each with its own copy of all numbers; [`ENTERPRISE`] alone by default.
    pub enterprises: Vec<String>,
    /// Whether the account has accepted the terms of service, as it has by default.
    pub terms_agreed: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { numbers: 1_000, checked: false, seed: 1, enterprises: vec![ENTERPRISE.to_owned()], terms_agreed: true }
    }
}

/// The stand-in; clones share its state.
#[derive(Clone, Debug)]
pub struct Sandbox {
    config: Arc<Config>,
    clock: Clock,
    account: Arc<Mutex<Account>>,
}

#[derive(Debug)]
struct Account {
    state: State,
    script: Script,
    log: Log,
}

impl Account {
    fn new(config: &Config, clock: &Clock) -> Self {
        Self { state: State::new(config, clock.now()), script: Script::default(), log: Log::default() }
    }
}

impl Sandbox {
    /// An account as `config` says, at the clock's time.
    pub fn new(config: Config, clock: Clock) -> Self {
        let account = Arc::new(Mutex::new(Account::new(&config, &clock)));
        Self { config: Arc::new(config), clock, account }
    }

    /// What was billed since the start or the last reset.
    pub fn charges(&self) -> Charges {
        self.account().state.charges.clone()
    }

    /// Lets something go wrong with the next requests that match; after what was scripted before.
    pub fn script(&self, fault: Fault) {
        self.account().script.add(fault);
    }

    /// Starts over: numbers, charges, script and log.
    pub fn reset(&self) {
        *self.account() = Account::new(&self.config, &self.clock);
    }

    /// The last 1,000 requests to the API, oldest first, also those that were refused or disturbed.
    pub fn requests(&self) -> Vec<Seen> {
        self.account().log.all()
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers one of the sandbox's own paths.
    fn control(&self, method: &Method, path: &str, body: &[u8]) -> Reply {
        match (method.as_str(), path) {
            ("GET", "/sandbox/charges") => Reply::json(StatusCode::OK, &self.charges()),
            ("GET", "/sandbox/requests") => Reply::json(StatusCode::OK, &self.requests()),
            ("POST", "/sandbox/reset") => {
                self.reset();
                Reply::no_content()
            }
            ("POST", "/sandbox/faults") => match Fault::read(body) {
                Ok(faults) => {
                    let script = &mut self.account().script;
                    for fault in faults {
                        script.add(fault);
                    }
                    Reply::json(StatusCode::CREATED, &json!({ "pending": script.pending() }))
                }
                Err(error) => Refusal::bad_request(error.to_string()).into(),
            },
            _ => Refusal::not_found("The sandbox has GET charges and requests, and POST faults and reset.").into(),
        }
    }

    /// Does, bills and answers one request of the API in one step, and says how the answer travels.
    fn api(&self, request: &Request<Bytes>) -> (Reply, Delivery) {
        let now = self.clock.now();
        let mut account = self.account();
        account.log.add(Seen::of(request, now));
        let (method, path, query) = (request.method(), request.uri().path(), request.uri().query().unwrap_or_default());
        let fault = account.script.next(method, path, query);
        let delivery = fault.as_ref().map_or(Delivery::Whole, Fault::delivery);
        if let Some(reply) = fault.as_ref().and_then(Fault::instead) {
            return (reply, delivery);
        }
        let honest = authorized(request)
            .and_then(|()| Call::read(method, path, query, request.body().clone(), now))
            .and_then(|call| perform(&mut account.state, call, fault.as_ref().map(|fault| fault.kind)))
            .unwrap_or_else(Reply::from);
        let reply = match fault {
            Some(fault) => fault.spoil(honest),
            None => honest,
        };
        (reply, delivery)
    }

    /// Sends an answer on its way.
    async fn deliver(&self, reply: Reply, delivery: Delivery) -> Result<Response<Body>, Abort> {
        let body = match delivery {
            Delivery::Whole => None,
            Delivery::Late(delay) => {
                tokio::time::sleep(delay).await;
                None
            }
            Delivery::Never(delay) => {
                tokio::time::sleep(delay).await;
                return Err(Abort);
            }
            Delivery::Cut => Some(pieces::cut(&reply.body)),
            Delivery::Drip(time) => Some(pieces::drip(&reply.body, time)),
        };
        let now = self.clock.now();
        Ok(match body {
            Some(body) => reply.response(body, now),
            None => reply.whole(now),
        })
    }
}

impl Service for Sandbox {
    type Known = ();

    async fn call(&self, request: Request<Incoming>) -> Result<Response<Body>, Abort> {
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
            return Ok(Reply::from(Refusal::too_large()).whole(self.clock.now()));
        };
        let request = Request::from_parts(head, body.to_bytes());
        let path = request.uri().path();
        if path.starts_with(CONTROL) {
            return Ok(self.control(request.method(), path, request.body()).whole(self.clock.now()));
        }
        let (reply, delivery) = self.api(&request);
        self.deliver(reply, delivery).await
    }
}

/// Any key but [`INVALID_TOKEN`] will do.
fn authorized(request: &Request<Bytes>) -> Result<(), Refusal> {
    let accepted = seen::bearer(request.headers()).is_some_and(|token| token != INVALID_TOKEN);
    accepted.then_some(()).ok_or_else(Refusal::unauthorized)
}

/// Performs a call, with the two kinds of trouble that are about what is answered and not about how.
fn perform(state: &mut State, call: Call, trouble: Option<Kind>) -> Result<Reply, Refusal> {
    match trouble {
        Some(Kind::IgnoreFilter) if call.route.endpoint == Endpoint::Numbers => {
            Call { query: call.query.unfiltered(), ..call }.perform(state)
        }
        Some(Kind::WrongNumber) if matches!(call.route.endpoint, Endpoint::Number | Endpoint::Numbers) => {
            call.perform(state)?;
            numbers::mistaken(state, &call)
        }
        _ => call.perform(state),
    }
}
