//! Signatures as Standard Webhooks has them: `v1,` and the Base64 of HMAC-SHA256 over `id.timestamp.body`.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::secret::{NoSecret, Secret};

/// What secrets of Standard Webhooks begin with.
const PREFIX: &str = "whsec_";

/// How many bytes a key has.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;

/// A key, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key(Vec<u8>);

/// A secret that is no key.
#[derive(Debug, thiserror::Error)]
pub enum NoKey {
    /// It is not where the configuration says.
    #[error(transparent)]
    Secret(#[from] NoSecret),
    /// It is there, and is not written as keys are.
    #[error("is not 24 to 64 bytes in Base64: `openssl rand -base64 32` makes one")]
    Malformed,
}

impl Key {
    /// Reads a secret from where it is.
    pub(super) fn read(secret: &Secret) -> Result<Self, NoKey> {
        let text = secret.read()?;
        let encoded = text.expose().strip_prefix(PREFIX).unwrap_or(text.expose());
        let bytes = STANDARD.decode(encoded).map_err(|_| NoKey::Malformed)?;
        if LENGTHS.contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(NoKey::Malformed) }
    }

    /// The signature of one delivery, which is made at `timestamp`, in Unix seconds.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_has_its_signature() {
        let key = Key::read(&Secret::Plain("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into())).expect("a key");
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(format!("{key:?}"), "[redacted]");
    }

    #[test]
    fn the_prefix_is_no_part_of_the_key() {
        let read = |text: &str| Key::read(&Secret::Plain(text.into())).expect("a key");
        assert_eq!(read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), read("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
    }
}
