//! Who is calling, and what they may do.

mod config;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

pub use config::{CallerConfig, Config, KeyDigest, Mode, Permission};

use crate::policy::entitlement::{Enterprises, Partition};
use crate::telnyx::EnterpriseId;

/// The caller's name where there is no key of ours to tell callers apart.
pub const ANONYMOUS: &str = "anonymous";

/// Where that caller stands in [`Auth::names`].
pub const ANONYMOUS_PLACE: usize = 0;

/// A caller, once its key is known.
#[derive(Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name in the ledger, metrics and logs.
    pub name: Arc<str>,
    /// Where it stands in [`Auth::names`].
    pub place: usize,
    /// What it may see.
    pub enterprises: Enterprises,
    /// Where its simplified paths go.
    pub default_enterprise: Option<EnterpriseId>,
    allow: Vec<Permission>,
}

impl Caller {
    /// Whether it may do this.
    pub fn may(&self, permission: Permission) -> bool {
        self.allow.contains(&permission)
    }
}

/// A request's caller and the credential it came with.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who.
    pub caller: Arc<Caller>,
    /// Which part of the cache is theirs.
    pub partition: Partition,
    /// Their own credential, where it is to go upstream.
    pub forwarded: Option<HeaderValue>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("caller", &self.caller).finish_non_exhaustive()
    }
}

/// No key, or one that nobody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthenticated {
    /// No `Authorization` field, several, or one that is not `Bearer …`.
    #[error("send the gateway key as \"Authorization: Bearer <key>\", once")]
    NoKey,
    /// The key is not among the callers' keys.
    #[error("the gateway does not know this key: check it, or ask whoever runs the gateway for one")]
    UnknownKey,
}

/// Tells callers apart.
#[derive(Debug)]
pub struct Auth {
    mode: Mode,
    callers: HashMap<KeyDigest, Arc<Caller>>,
    anonymous: Arc<Caller>,
    names: Vec<Arc<str>>,
}

impl Auth {
    /// The callers of a configuration.
    pub fn new(config: &Config, callers: &[CallerConfig]) -> Self {
        let mut by_digest = HashMap::new();
        let mut names = vec![Arc::from(ANONYMOUS)];
        for config in callers {
            let caller = Arc::new(config.caller(names.len()));
            names.push(Arc::clone(&caller.name));
            by_digest.extend(config.key_sha256.as_slice().iter().map(|digest| (*digest, Arc::clone(&caller))));
        }
        let anonymous = Caller {
            name: Arc::clone(&names[ANONYMOUS_PLACE]),
            place: ANONYMOUS_PLACE,
            enterprises: Enterprises::All,
            default_enterprise: None,
            allow: config.allow.clone(),
        };
        Self { mode: config.mode, callers: by_digest, anonymous: Arc::new(anonymous), names }
    }

    /// Everybody's names, each in the place that its [`Caller`] tells: what is kept for each caller is found by that, without a search.
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// Whether each credential has a part of the cache of its own.
    pub fn is_partitioned(&self) -> bool {
        self.mode == Mode::Forward
    }

    /// The caller of this name; the one without a key only where there is such.
    pub fn named(&self, name: &str) -> Option<Arc<Caller>> {
        let anonymous = (self.mode != Mode::Keys && name == ANONYMOUS).then(|| Arc::clone(&self.anonymous));
        self.callers.values().find(|caller| *caller.name == *name).cloned().or(anonymous)
    }

    /// Identifies the caller of a request. In every mode a key that a configured caller holds makes the request that caller's.
    pub fn identify(&self, headers: &HeaderMap) -> Result<Identity, Unauthenticated> {
        let credential = bearer(headers);
        let digest = credential.map(|(key, _)| KeyDigest::of(key));
        let known = digest.and_then(|digest| self.callers.get(&digest).cloned());
        let or_anonymous = |known: Option<Arc<Caller>>| known.unwrap_or_else(|| Arc::clone(&self.anonymous));
        match (self.mode, credential, digest) {
            (Mode::Open, ..) => Ok(Identity { caller: or_anonymous(known), partition: Partition::SHARED, forwarded: None }),
            (_, None, _) | (_, _, None) => Err(Unauthenticated::NoKey),
            (Mode::Keys, ..) => {
                let caller = known.ok_or(Unauthenticated::UnknownKey)?;
                Ok(Identity { caller, partition: Partition::SHARED, forwarded: None })
            }
            (Mode::Forward, Some((_, value)), Some(digest)) => {
                let mut value = value.clone();
                value.set_sensitive(true);
                Ok(Identity { caller: or_anonymous(known), partition: Partition::of_digest(&digest.0), forwarded: Some(value) })
            }
        }
    }
}

/// The one bearer key of a request, and the field it stands in.
fn bearer(headers: &HeaderMap) -> Option<(&[u8], &HeaderValue)> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return None };
    let (scheme, key) = field.as_bytes().split_at_checked("Bearer ".len())?;
    let key = key.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !key.is_empty()).then_some((key, field))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(mode: Mode) -> Auth {
        let config = Config { mode, ..Config::default() };
        let digest = KeyDigest::of(b"key-of-dialer");
        Auth::new(&config, &[CallerConfig { allow: vec![Permission::Fresh], ..CallerConfig::new("dialer", digest) }])
    }

    fn headers(fields: &[&str]) -> HeaderMap {
        fields.iter().map(|field| (AUTHORIZATION, field.parse().expect("a field value"))).collect()
    }

    #[test]
    fn in_keys_mode_only_a_callers_key_opens() {
        let auth = auth(Mode::Keys);
        let identity = auth.identify(&headers(&["bearer key-of-dialer"])).expect("a caller's key");
        assert_eq!((&*identity.caller.name, identity.caller.may(Permission::Fresh), identity.forwarded), ("dialer", true, None));
        assert_eq!(auth.identify(&headers(&["Bearer other"])), Err(Unauthenticated::UnknownKey));
        for fields in [&[][..], &["Bearer "], &["Basic key-of-dialer"], &["Bearer key-of-dialer", "Bearer other"], &["key-of-dialer"]] {
            assert_eq!(auth.identify(&headers(fields)), Err(Unauthenticated::NoKey), "{fields:?}");
        }
    }

    #[test]
    fn in_forward_mode_each_credential_has_its_own_part_of_the_cache() {
        let auth = auth(Mode::Forward);
        let [one, other] = ["Bearer KEY1", "Bearer KEY2"].map(|field| auth.identify(&headers(&[field])).expect("any key"));
        assert_ne!(one.partition, other.partition);
        assert_ne!(one.partition, Partition::SHARED);
        assert_eq!((&*one.caller.name, one.forwarded.clone()), (ANONYMOUS, Some("Bearer KEY1".parse().expect("a field value"))));
        assert!(!format!("{one:?}").contains("KEY1"));
        assert_eq!(auth.identify(&headers(&[])), Err(Unauthenticated::NoKey));
    }

    #[test]
    fn in_open_mode_nobody_needs_a_key_and_a_known_one_still_names_its_caller() {
        let auth = auth(Mode::Open);
        assert_eq!(&*auth.identify(&headers(&[])).expect("open").caller.name, ANONYMOUS);
        assert_eq!(&*auth.identify(&headers(&["Bearer key-of-dialer"])).expect("open").caller.name, "dialer");
    }
}
