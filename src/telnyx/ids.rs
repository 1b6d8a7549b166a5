//! Identifiers that Telnyx gives out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

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

impl fmt::Display for EnterpriseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl Serialize for EnterpriseId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EnterpriseId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

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
