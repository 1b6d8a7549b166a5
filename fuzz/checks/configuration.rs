//! A configuration: what is wrong names its place, and what is accepted prints as what it is.
//!
//! The bytes are a file, in which lines that begin with the prefix of settings are the environment.

use reputation_gateway::config::{Config, PREFIX};

const NAME: &str = "gateway.toml";

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let (environment, file): (Vec<_>, Vec<_>) = text.split('\n').partition(|line| line.starts_with(PREFIX));
    let environment: Vec<_> = environment.iter().filter_map(|line| line.split_once('=')).collect();
    let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    match Config::parse(&file.join("\n"), NAME, environment) {
        Ok(config) => prints_as_what_it_is(&config),
        Err(wrong) => names_its_place(&wrong.to_string()),
    }
}

fn names_its_place(wrong: &str) {
    let line = wrong.strip_prefix(NAME).and_then(|rest| rest.strip_prefix(':'));
    let is_line = line.is_some_and(|rest| rest.starts_with(|sign: char| sign.is_ascii_digit()));
    assert!(is_line || wrong.starts_with(&format!("environment variable {PREFIX}")), "{wrong}");
}

fn prints_as_what_it_is(config: &Config) {
    config.warnings();
    config.policy();
    let printed = toml::to_string(config).expect("every configuration prints");
    let again = Config::parse(&printed, "printed", []).unwrap_or_else(|wrong| panic!("{wrong}\n{printed}"));
    assert_eq!(toml::to_string(&again).expect("every configuration prints"), printed);
    // A secret that stands in the file itself is not printed.
    if !printed.contains("[redacted]") {
        assert_eq!(&again, config, "{printed}");
    }
}
