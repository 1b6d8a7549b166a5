//! The reference of settings is made of the code that reads them: `config/schema.json` and `docs/reference.md` say what it says.
//!
//! `UPDATE_REFERENCE=1 cargo test --test it reference` writes both anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use reputation_gateway::config::Config;
use serde_json::{Map, Value};

use crate::harness::process::said;

const INTRODUCTION: &str = "\
# Every setting

Made of the code that reads the configuration; [configuration.md](configuration.md) tells how the settings work together, and
[`config/gateway.toml`](../config/gateway.toml) shows them in a file. Editors can complete and check that file by
[`config/schema.json`](../config/schema.json), which `reputation-gateway check-config --schema` prints too. A word in the column *Type* that is a link is
explained [below](#types), and [how values are written](configuration.md#how-values-are-written) has examples.
";

/// Compares a file of the repository with what it should be, or writes it.
fn is_current(path: &str, made: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(&file, made).expect("writable");
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    let line = found.lines().zip(made.lines()).position(|(found, made)| found != made).map_or(0, |at| at + 1);
    assert!(found == made, "{path} is not what the code says, first in line {line}: UPDATE_REFERENCE=1 cargo test --test it reference");
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

/// The part of an optional schema that is not null.
fn given(schema: &Value) -> &Value {
    let alternatives = schema["anyOf"].as_array().map_or(&[][..], Vec::as_slice);
    let is_optional = alternatives.iter().any(|each| each["type"] == "null");
    alternatives.iter().find(|each| is_optional && each["type"] != "null").unwrap_or(schema)
}

fn table(schema: &Value) -> Option<&Map<String, Value>> {
    given(schema)["properties"].as_object()
}

fn kind(schema: &Value) -> String {
    let schema = given(schema);
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(alternatives) = schema["anyOf"].as_array() {
        return alternatives.iter().map(kind).collect::<Vec<_>>().join(", or ");
    }
    let named = schema["type"].as_array().and_then(|types| types.first()).unwrap_or(&schema["type"]);
    match (named.as_str().unwrap_or_default(), schema["minimum"].as_i64()) {
        ("array", _) => format!("list of {}", kind(&schema["items"])),
        ("string", _) => "text".to_owned(),
        ("boolean", _) => "`true` or `false`".to_owned(),
        ("integer", Some(0)) => "whole number".to_owned(),
        ("integer", Some(least)) => format!("whole number from {least}"),
        ("object", _) => "table".to_owned(),
        (other, _) => panic!("what is {other:?}? {schema:#}"),
    }
}

/// A value as TOML has it.
fn toml(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name} = {}", toml(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::Array(values) => format!("[{}]", values.iter().map(toml).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

fn default(table: &Value, name: &str, schema: &Value) -> String {
    let is_required = table["required"].as_array().is_some_and(|names| names.iter().any(|each| each == name));
    match &schema["default"] {
        _ if is_required => "required".to_owned(),
        Value::Null => "none".to_owned(),
        Value::Array(values) if values.is_empty() => "none".to_owned(),
        value => format!("`{}`", toml(value)),
    }
}

/// A line for each setting of a table, those of tables within it among them.
fn rows(whole: &Value, prefix: &str, out: &mut String) {
    for (name, schema) in table(whole).expect("a table") {
        let meaning = text(schema, "description").replace('\n', " ").replace('|', "\\|");
        assert!(meaning.len() > 10, "{prefix}{name} says too little: {meaning:?}");
        writeln!(out, "| `{prefix}{name}` | {} | {} | {meaning} |", kind(schema), default(given(whole), name, schema)).expect("a string");
        if table(schema).is_some() {
            rows(schema, &format!("{prefix}{name}."), out);
        }
    }
}

fn reference(schema: &Value) -> String {
    let mut out = INTRODUCTION.to_owned();
    for (name, section) in schema["properties"].as_object().expect("sections") {
        let (heading, whole) =
            if section["type"] == "array" { (format!("[[{name}]]"), &section["items"]) } else { (format!("[{name}]"), section) };
        write!(out, "\n## `{heading}`\n\n{}\n\n| Key | Type | Default | Meaning |\n|---|---|---|---|\n", text(section, "description"))
            .expect("a string");
        rows(whole, "", &mut out);
    }
    out += "\n## Types\n";
    for (name, schema) in schema["$defs"].as_object().expect("types") {
        let description = text(schema, "description");
        assert!(!description.is_empty(), "{name} says nothing");
        write!(out, "\n### {name}\n\n{}{}", description[..1].to_uppercase(), &description[1..]).expect("a string");
        out += if description.ends_with('.') { "\n" } else { ".\n" };
        let alternatives = [&schema["oneOf"], &schema["anyOf"]].into_iter().find_map(Value::as_array);
        let values = alternatives
            .into_iter()
            .flatten()
            .map(|each| (each["const"].as_str().map_or_else(|| form(each), |word| format!("\"{word}\"")), text(each, "description")));
        let numbers = schema["enum"].as_array().into_iter().flatten().map(|value| (value.to_string(), ""));
        let mut lines = values.chain(numbers).peekable();
        if lines.peek().is_some() {
            out.push('\n');
        }
        for (value, meaning) in lines {
            let meaning = if meaning.is_empty() { String::new() } else { format!(": {meaning}") };
            writeln!(out, "- `{value}`{meaning}").expect("a string");
        }
    }
    out
}

/// How an alternative that is no fixed word is written.
fn form(schema: &Value) -> String {
    match schema["properties"].as_object().and_then(|fields| fields.keys().next()) {
        Some(field) => format!("{{ {field} = \"…\" }}"),
        None => "\"…\"".to_owned(),
    }
}

#[test]
fn the_schema_and_the_reference_are_what_the_code_says() {
    let schema = Config::schema();
    is_current("config/schema.json", &format!("{schema:#}\n"));
    is_current("docs/reference.md", &reference(&schema));
}

#[test]
fn the_command_prints_the_schema_without_reading_a_configuration() {
    let (code, printed) = said(&["check-config", "--schema", "--config", "nowhere.toml"]);
    assert_eq!((code, serde_json::from_str::<Value>(&printed).expect("JSON")), (Some(0), Config::schema()));
}

#[test]
fn every_setting_of_the_file_that_shows_them_all_is_in_the_schema_and_no_other() {
    let shown = include_str!("../../config/gateway.toml").replace("\n#= ", "\n");
    let shown: toml::Table = shown.parse().expect("the file that shows every setting");
    let keys = |path: &str, names: Vec<&String>| names.into_iter().map(|name| format!("{path}.{name}")).collect::<Vec<_>>();
    let (mut in_file, mut in_schema) = (BTreeSet::new(), BTreeSet::new());
    for (section, value) in &shown {
        let value = value.as_array().and_then(|tables| tables.first()).unwrap_or(value);
        let settings = value.as_table().expect("settings stand in tables");
        in_file.extend(keys(section, settings.keys().collect()));
        for (name, inner) in settings.iter().filter_map(|(name, value)| Some((name, value.as_table()?))) {
            let is_secret = ["env", "file"].iter().any(|place| inner.contains_key(*place));
            // A name before a table of its own, such as a header's before its secret, is the operator's choice.
            let settings = inner.iter().filter(|(_, value)| !is_secret && !value.is_table()).map(|(name, _)| name);
            in_file.extend(keys(&format!("{section}.{name}"), settings.collect()));
        }
    }
    let schema = Config::schema();
    for (section, value) in schema["properties"].as_object().expect("sections") {
        let whole = if value["type"] == "array" { &value["items"] } else { value };
        for (name, setting) in table(whole).expect("a table") {
            in_schema.insert(format!("{section}.{name}"));
            in_schema.extend(table(setting).into_iter().flat_map(|inner| keys(&format!("{section}.{name}"), inner.keys().collect())));
        }
    }
    assert_eq!(in_schema, in_file);
}
