//! The configuration's JSON Schema: names, types, units, defaults and meanings, from the same definitions that read the file.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::Config;

impl Config {
    /// The schema (draft 2020-12) that editors complete and check `gateway.toml` by. Whatever it lets through may still be refused: mixes of
    /// settings, and texts such as a time zone's name, are checked when the file is read.
    pub fn schema() -> Value {
        let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Self>().to_value();
        schema["title"] = "Configuration of reputation-gateway".into();
        schema
    }
}
