//! `check-config`: reads a configuration and says what is wrong with it.

use clap::Args;
use serde_json::{Map, Value, json};

use super::{Failed, Source, write_out};
use crate::app::StartError;
use crate::config::{Config, LoadError};

/// `check-config`
#[derive(Debug, Args)]
pub(super) struct CheckConfig {
    #[command(flatten)]
    source: Source,
    /// Print the configuration that would be in force, secrets left out.
    #[arg(long)]
    print: bool,
    /// Print the JSON Schema of the configuration, for editors and checks of one's own, and read none.
    #[arg(long, conflicts_with_all = ["print", "json"])]
    schema: bool,
    /// Print what was found as JSON: valid, errors (place, key, why), warnings; with --print, config.
    #[arg(long)]
    json: bool,
}

impl CheckConfig {
    pub(super) fn run(&self) -> Result<(), Failed> {
        if self.schema {
            return write_out(format!("{:#}\n", Config::schema()).as_bytes());
        }
        let checked = self.source.load().map_err(Failed::from).and_then(|config| match config.unsafe_mixes() {
            mixes if mixes.is_empty() => Ok(config),
            mixes => Err(StartError::Unsafe(mixes).into()),
        });
        if self.json {
            write_out(format!("{:#}\n", self.report(&checked)).as_bytes())?;
        }
        let config = checked?;
        if self.json {
            return Ok(());
        }
        config.warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
        let printed = || toml::to_string(&config).map_err(std::io::Error::other);
        let shown = if self.print { printed()? } else { "the configuration is valid\n".to_owned() };
        write_out(shown.as_bytes())
    }

    fn report(&self, checked: &Result<Config, Failed>) -> Value {
        let (errors, warnings) = match checked {
            Ok(config) => (Vec::new(), config.warnings()),
            Err(Failed::Load(LoadError::Wrong(wrong))) => (vec![json!(wrong)], Vec::new()),
            Err(Failed::Start(StartError::Unsafe(mixes))) => {
                (mixes.iter().map(|mix| json!({ "place": null, "key": mix.key, "why": mix.why })).collect(), Vec::new())
            }
            Err(other) => (vec![json!({ "place": null, "key": null, "why": other.to_string() })], Vec::new()),
        };
        let mut report = Map::from_iter([
            ("valid".to_owned(), checked.is_ok().into()),
            ("errors".to_owned(), errors.into()),
            ("warnings".to_owned(), warnings.into()),
        ]);
        if let Some(config) = checked.as_ref().ok().filter(|_| self.print) {
            report.insert("config".to_owned(), json!(config));
        }
        report.into()
    }
}
