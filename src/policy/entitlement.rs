//! Who may see what.

use crate::telnyx::EnterpriseId;

/// A part of the cache that only its own callers read. Under forwarded credentials each credential has one of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Partition([u8; 16]);

impl Partition {
    /// The partition of all callers whose requests go upstream with the gateway's own key.
    pub const SHARED: Self = Self([0; 16]);

    /// The partition of a credential, by the first half of its SHA-256 digest: the credential cannot be got back from it.
    pub fn of_digest(digest: &[u8; 32]) -> Self {
        let (half, _) = digest.split_at(16);
        Self(half.try_into().expect("half of 32 bytes"))
    }
}

/// The enterprises that a caller may see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Enterprises {
    /// All of the account's.
    #[default]
    All,
    /// These.
    Only(Vec<EnterpriseId>),
}

impl Enterprises {
    /// Whether one of them is `enterprise`.
    pub fn include(&self, enterprise: EnterpriseId) -> bool {
        match self {
            Self::All => true,
            Self::Only(list) => list.contains(&enterprise),
        }
    }
}
