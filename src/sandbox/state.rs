//! The account: enterprises, their numbers, and what was charged. Pure: `now` is an argument.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::answer::Refusal;
use super::charges::{CHECK, Charge, Charges, Operation};
use super::record::{Record, hours_before, uuid};
use super::remediation::Remediation;
use super::{Config, FIRST_NUMBER, WITH_DATA, WITHOUT_DATA};
use crate::policy::money::Usd;

/// How long before the start the numbers were associated.
const ASSOCIATED_HOURS: i64 = 24 * 30;
/// How long before the start numbers with data were checked.
const CHECKED_HOURS: i64 = 6;

/// All that the stand-in knows.
#[derive(Debug)]
pub(super) struct State {
    pub(super) seed: u64,
    /// In the order of the configuration, then of creation.
    pub(super) enterprises: Vec<Enterprise>,
    pub(super) charges: Charges,
    pub(super) terms_agreed_at: Option<Timestamp>,
    made: u32,
}

/// A business of the account.
#[derive(Debug)]
pub(super) struct Enterprise {
    pub(super) id: String,
    /// What it was created with, and its dates.
    pub(super) profile: Map<String, Value>,
    /// None until reputation is enabled.
    pub(super) settings: Option<Settings>,
    /// By number in E.164.
    pub(super) numbers: BTreeMap<String, Record>,
    /// Oldest first.
    pub(super) remediations: Vec<Remediation>,
    /// Who owns its numbers that are hosted elsewhere; none until documents were submitted.
    pub(super) proof: Option<Value>,
}

/// How an enterprise's numbers are watched.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Settings {
    pub(super) enterprise_id: String,
    pub(super) status: &'static str,
    pub(super) check_frequency: String,
    pub(super) loa_document_id: String,
    pub(super) loa_status: &'static str,
    pub(super) rejection_reasons: Vec<String>,
    pub(super) webhook_url: Option<String>,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
}

impl State {
    /// The state at the start.
    pub(super) fn new(config: &Config, now: Timestamp) -> Self {
        let associated_at = hours_before(now, ASSOCIATED_HOURS);
        let terms_agreed_at = config.terms_agreed.then_some(associated_at);
        let mut state = Self { seed: config.seed, enterprises: Vec::new(), charges: Charges::default(), terms_agreed_at, made: 0 };
        for id in &config.enterprises {
            let mut enterprise = Enterprise::new(id.to_ascii_lowercase(), Map::new(), associated_at);
            enterprise.enable("business_daily".to_owned(), uuid(&[&state.seed.to_string(), "loa", id]).to_string(), associated_at);
            enterprise.associate_at_start(config, associated_at, now);
            state.enterprises.push(enterprise);
        }
        state
    }

    /// An enterprise by its id.
    pub(super) fn enterprise(&mut self, id: &str) -> Result<&mut Enterprise, Refusal> {
        self.enterprises.iter_mut().find(|enterprise| enterprise.id == id).ok_or_else(|| Refusal::not_found("Enterprise not found."))
    }

    /// The enterprise that a number's path means: the one it names, or the first that has the number.
    pub(super) fn owner(&mut self, enterprise: Option<&str>, number: &str) -> Result<&mut Enterprise, Refusal> {
        let mut candidates = self.enterprises.iter_mut().filter(|candidate| enterprise.is_none_or(|id| candidate.id == id));
        candidates
            .find(|candidate| candidate.numbers.contains_key(number))
            .ok_or_else(|| Refusal::not_found("Phone number is not associated with this enterprise."))
    }

    /// Checks a number and bills the check.
    pub(super) fn check(&mut self, enterprise: &str, number: &str, operation: Operation, now: Timestamp) -> Result<Record, Refusal> {
        let seed = self.seed;
        let owner = self.owner(Some(enterprise), number)?;
        let record = owner.numbers.get_mut(number).expect("the owner has the number");
        record.check(seed, now);
        let record = record.clone();
        self.charge(operation, CHECK, enterprise, Some(number), now);
        Ok(record)
    }

    /// Bills.
    pub(super) fn charge(&mut self, operation: Operation, usd: Usd, enterprise: &str, number: Option<&str>, at: Timestamp) {
        let (enterprise_id, phone_number) = (enterprise.to_owned(), number.map(str::to_owned));
        self.charges.add(Charge { at, operation, enterprise_id, phone_number, usd });
    }

    /// A new id: the same one in every run that does the same things.
    pub(super) fn new_id(&mut self, kind: &str) -> String {
        self.made = self.made.saturating_add(1);
        uuid(&[&self.seed.to_string(), kind, &self.made.to_string()]).to_string()
    }
}

impl Enterprise {
    /// An enterprise for which reputation is not enabled.
    pub(super) fn new(id: String, mut profile: Map<String, Value>, now: Timestamp) -> Self {
        profile.entry("legal_name").or_insert_with(|| json!("Sandbox Inc."));
        profile.insert("created_at".to_owned(), json!(now));
        profile.insert("updated_at".to_owned(), json!(now));
        Self { id, profile, settings: None, numbers: BTreeMap::new(), remediations: Vec::new(), proof: None }
    }

    /// Enables reputation.
    pub(super) fn enable(&mut self, check_frequency: String, loa_document_id: String, now: Timestamp) -> Settings {
        let settings = Settings {
            enterprise_id: self.id.clone(),
            status: "approved",
            check_frequency,
            loa_document_id,
            loa_status: "approved",
            rejection_reasons: Vec::new(),
            webhook_url: None,
            created_at: now,
            updated_at: now,
        };
        self.settings.insert(settings).clone()
    }

    /// Its settings, or 404 while reputation is not enabled.
    pub(super) fn settings(&mut self) -> Result<&mut Settings, Refusal> {
        self.settings.as_mut().ok_or_else(|| Refusal::not_found("Reputation is not enabled for this enterprise."))
    }

    /// As the API shows it.
    pub(super) fn shown(&self) -> Value {
        let mut shown = self.profile.clone();
        shown.insert("id".to_owned(), json!(self.id));
        shown.insert("number_reputation_enabled".to_owned(), json!(self.settings.is_some()));
        Value::Object(shown)
    }

    fn associate_at_start(&mut self, config: &Config, associated_at: Timestamp, now: Timestamp) {
        let consecutive = (FIRST_NUMBER..).map(|digits| format!("+{digits}")).filter(|number| number != WITHOUT_DATA);
        let many = usize::try_from(config.numbers).unwrap_or(usize::MAX);
        let others = [WITHOUT_DATA.to_owned(), WITH_DATA.to_owned()].into_iter().filter(|_| !config.checked);
        for number in consecutive.take(many).chain(others) {
            let mut record = Record::unchecked(config.seed, &self.id, &number, associated_at);
            if config.checked || number == WITH_DATA {
                record.check(config.seed, hours_before(now, CHECKED_HOURS));
            }
            self.numbers.insert(number, record);
        }
    }
}
