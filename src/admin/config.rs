//! The configuration in force, without its secrets, and what became of the last one that was wanted.

use serde_json::{Value, json};

use crate::config::InForce;

/// All settings as they are in force; when and from where they were read; what waits for a restart; why the last ones are not in force, if so.
pub(super) fn config(in_force: &InForce) -> Value {
    let refused = in_force.refused.as_ref().map(|refused| json!({ "at": refused.at, "error": refused.why }));
    json!({ "data": {
        "config": in_force.config,
        "source": in_force.file,
        "loaded_at": in_force.since,
        "restart_needed": in_force.restart_needed,
        "last_error": refused,
    } })
}
