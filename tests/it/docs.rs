//! What the documents say is so: names, settings, links. Their examples are run in `tests/docs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use reputation_gateway::config::NEED_RESTART;
use reputation_gateway::policy::decision::Decision;

use crate::harness::World;

const SETTINGS: &str = include_str!("../../config/gateway.toml");

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The documents, by their paths from the root.
fn documents() -> Vec<String> {
    let docs = fs::read_dir(root().join("docs")).expect("a folder of documents");
    let docs = docs.map(|entry| format!("docs/{}", entry.expect("an entry").file_name().to_string_lossy()));
    docs.chain(["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(str::to_owned)).collect()
}

#[test]
fn every_decision_is_explained() {
    let errors = text("docs/errors.md");
    for decision in Decision::ALL {
        let row = format!("| `{}` | ", decision.as_str());
        assert!(errors.lines().any(|line| line.starts_with(&row)), "docs/errors.md has no row that begins with {row}");
    }
}

#[tokio::test]
async fn every_metric_is_explained_and_none_is_invented() {
    let scrape = World::new().await.admin("/metrics").await.text();
    let types = scrape.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names: BTreeSet<&str> = types.filter_map(|line| line.split(' ').next()).collect();
    let operations = text("docs/operations.md");
    for name in &names {
        let row = format!("| `{name}` | ");
        assert!(operations.lines().any(|line| line.starts_with(&row)), "docs/operations.md has no row that begins with {row}");
    }
    for document in documents() {
        for name in metrics_in(&text(&document)) {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(&name);
            assert!(names.contains(name.as_str()) || names.contains(family), "{document} tells of {name}, which is in no scrape");
        }
    }
}

/// Words that begin like a metric of ours; the bare prefix is none.
fn metrics_in(text: &str) -> Vec<String> {
    const PREFIX: &str = "reputation_gateway_";
    let word = |at: usize| text[at..].chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect::<String>();
    text.match_indices(PREFIX).map(|(at, _)| word(at)).filter(|word| word != PREFIX).collect()
}

#[test]
fn every_setting_is_in_the_reference_with_no_other_beside_it() {
    let shown: toml::Table = SETTINGS.replace("\n#= ", "\n").parse().expect("the file that shows every setting");
    let mut settings = BTreeSet::new();
    for (section, value) in &shown {
        let table = value.as_array().and_then(|tables| tables.first()).unwrap_or(value);
        let keys = table.as_table().expect("settings stand in tables").keys();
        settings.extend(keys.map(|key| (section.clone(), key.clone())));
    }
    let (mut explained, mut section) = (BTreeSet::new(), String::new());
    for line in text("docs/configuration.md").lines() {
        if line.starts_with("##") {
            section = line.strip_prefix("### `").and_then(|line| line.split('`').next()).unwrap_or_default().replace(['[', ']'], "");
        }
        let key = line.strip_prefix("| `").and_then(|line| line.split_once("` | ")).map(|(key, _)| key.to_owned());
        // The table of modes stands under `[auth]` and is about values.
        let key = key.filter(|key| !section.is_empty() && !["keys", "forward", "open"].contains(&key.as_str()));
        explained.extend(key.map(|key| (section.clone(), key)));
    }
    assert_eq!(explained, settings);
}

#[test]
fn what_needs_a_restart_is_told_as_it_is() {
    let configuration = text("docs/configuration.md");
    let (_, section) = configuration.split_once("## What needs a restart").expect("a section");
    let rows = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let mut told = Vec::new();
    for row in rows.filter_map(|row| row.strip_prefix("| `[")) {
        let (table, keys) = row.split_once("]` | ").expect("a table and its keys");
        told.extend(keys.trim_end_matches(" |").split(", ").map(|key| format!("{table}.{}", key.trim_matches('`'))));
    }
    assert_eq!(told, NEED_RESTART);
}

#[test]
fn every_link_leads_somewhere() {
    for document in documents() {
        let folder = Path::new(&document).parent().expect("a file is in a folder").to_owned();
        let whole = text(&document);
        let targets = whole.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { PathBuf::from(&document) } else { folder.join(file) };
            assert!(root().join(&file).exists(), "{document} links to {target}, which does not exist");
            let found = heading.is_empty() || anchors(&file).any(|anchor| anchor == heading);
            assert!(found, "{document} links to {target}, and there is no such heading");
        }
    }
}

/// A document's headings, as links name them.
fn anchors(file: &Path) -> impl Iterator<Item = String> {
    let text = fs::read_to_string(root().join(file)).expect("a document");
    let headings = text.lines().filter_map(|line| line.strip_prefix('#')).map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let word = |heading: &String| heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter)).collect::<String>();
    headings.map(|heading| word(&heading).replace(' ', "-")).collect::<Vec<_>>().into_iter()
}
