//! Identifiers that Telnyx gives out.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::units::as_text;

/// The id of an enterprise: a UUID in its hyphenated form, of either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnterpriseId(Uuid);

/// A text that is no hyphenated UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an enterprise id is a UUID with its hyphens, as in 6a09cdc3-8948-47f0-aa62-74ac943d6c58")]
pub struct NotAnEnterpriseId;

impl FromStr for EnterpriseId {
    type Err = NotAnEnterpriseId;

    fn from_str(text: &str) -> Result<Self, NotAnEnterpriseId> {
        // Uuid also reads braces, URNs and bare digits; Telnyx does not write them, and one spelling is enough.
        let hyphenated = text.len() == uuid::fmt::Hyphenated::LENGTH;
        if hyphenated { Uuid::try_parse(text).map(Self).map_err(|_| NotAnEnterpriseId) } else { Err(NotAnEnterpriseId) }
    }
}

impl EnterpriseId {
    /// The id as one whole number.
    pub const fn as_u128(self) -> u128 {
        self.0.as_u128()
    }

    /// The id that is this number.
    pub const fn from_u128(number: u128) -> Self {
        Self(Uuid::from_u128(number))
    }
}

impl fmt::Display for EnterpriseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

as_text! { EnterpriseId: "a UUID with its hyphens, in quotes" }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_case_is_the_same_id_and_other_spellings_are_refused() {
        let id: EnterpriseId = "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().expect("a UUID");
        assert_eq!("6A09CDC3-8948-47F0-AA62-74AC943D6C58".parse(), Ok(id));
        assert_eq!(id.to_string(), "6a09cdc3-8948-47f0-aa62-74ac943d6c58");
        for text in
            ["", "6a09cdc3894847f0aa6274ac943d6c58", "{6a09cdc3-8948-47f0-aa62-74ac943d6c58}", "6a09cdc3-8948-47f0-aa62-74ac943d6c5g"]
        {
            assert_eq!(text.parse::<EnterpriseId>(), Err(NotAnEnterpriseId), "{text:?}");
        }
    }
}
