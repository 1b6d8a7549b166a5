//! What a write makes untrue of all that is remembered.

use crate::telnyx::Operation;

/// What may not be served any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untrue {
    /// Nothing that is kept.
    Nothing,
    /// The copy of its number, and the enterprise's lists.
    Number,
    /// Every copy of the enterprise, and its lists.
    Enterprise,
}

/// What a write makes untrue. `deletes`: its method is DELETE.
pub fn untrue(operation: Operation, deletes: bool) -> Untrue {
    match operation {
        // Who confirms that a number is not theirs any more has it removed.
        Operation::Disassociate | Operation::Ownership => Untrue::Number,
        Operation::Enable | Operation::Disable => Untrue::Enterprise,
        Operation::Enterprises if deletes => Untrue::Enterprise,
        _ => Untrue::Nothing,
    }
}

/// Whether a write that was sent may have been carried out, by the status of its answer; none, if the answer was lost. That
/// something is not there is what a write that was carried out already is answered with.
pub fn may_have_changed(status: Option<u16>) -> bool {
    !matches!(status, Some(400..=403 | 405..=407 | 409 | 411..=499))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_taken_for_carried_out_unless_it_was_refused() {
        for status in [None, Some(200), Some(204), Some(302), Some(404), Some(408), Some(410), Some(500), Some(504)] {
            assert!(may_have_changed(status), "{status:?}");
        }
        for status in [400, 401, 403, 409, 422, 429] {
            assert!(!may_have_changed(Some(status)), "{status}");
        }
    }

    #[test]
    fn what_takes_numbers_away_makes_their_copies_untrue() {
        assert_eq!(untrue(Operation::Disassociate, true), Untrue::Number);
        assert_eq!(untrue(Operation::Disable, true), Untrue::Enterprise);
        assert_eq!(untrue(Operation::Enterprises, true), Untrue::Enterprise);
        assert_eq!(untrue(Operation::Ownership, false), Untrue::Number);
        assert_eq!(untrue(Operation::Enable, false), Untrue::Enterprise);
        for operation in [Operation::Enterprises, Operation::Loa, Operation::AgreeTerms, Operation::Frequency, Operation::Webhook] {
            assert_eq!(untrue(operation, false), Untrue::Nothing, "{operation:?}");
        }
    }
}
