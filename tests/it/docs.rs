//! What the documents say is so: names, settings, links, and the README's walk.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use reputation_gateway::config::{Config, NEED_RESTART};
use reputation_gateway::policy::decision::Decision;
use reputation_gateway::sandbox::Fault;
use reputation_gateway::secret::Secret;

use crate::harness::{Answer, World};

const DEMO: &str = include_str!("../../config/demo.toml");
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

/// A command of the README, and the lines that it prints there.
struct Step {
    command: String,
    printed: Vec<String>,
}

fn walk() -> Vec<Step> {
    let readme = text("README.md");
    let (_, walk) = readme.split_once("## A walk with curl").expect("the walk");
    let (walk, _) = walk.split_once("\n## ").expect("something after it");
    let mut steps: Vec<Step> = Vec::new();
    for block in walk.split("```console\n").skip(1) {
        for line in block.split("```").next().unwrap_or_default().lines() {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step { command: command.to_owned(), printed: Vec::new() }),
                (None, Some(step)) => step.printed.push(line.to_owned()),
                (None, None) => panic!("output before any command: {line}"),
            }
        }
    }
    steps
}

/// Every request of the README's walk, in its order, with the answers that it shows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_walk_of_the_readme_gives_what_it_shows() {
    let mut demo = Config::parse(DEMO, "demo.toml", []).expect("the demo's configuration");
    demo.upstream.api_key = Secret::Plain("sandbox".to_owned());
    let world = World::as_configured(demo).await;
    while world.metric("reputation_gateway_sync_last_success_timestamp_seconds").await == "0" {
        tokio::task::yield_now().await;
    }
    let steps = walk();
    assert!(steps.len() > 10, "only {} commands were found", steps.len());
    for step in steps {
        take(&world, &step).await;
    }
    assert_eq!(world.charged(), "0.50");
}

async fn take(world: &World, Step { command, printed }: &Step) {
    if let Some(asked) = command.strip_prefix("ask ") {
        let paths = asked.trim_end_matches("; wait").split(" & ask ").map(|path| format!("/v2/{}", path.trim_matches('"')));
        let answers = futures_util::future::join_all(paths.map(|path| async move { world.ask(&path).send().await })).await;
        let mut lines: Vec<_> = answers.iter().map(line).collect();
        let mut shown = printed.clone();
        lines.sort();
        shown.sort();
        assert_eq!(lines, shown, "{command}");
    } else if let Some((_, fault)) = command.split_once("/sandbox/faults -d '") {
        let fault: Fault = serde_json::from_str(fault.trim_end_matches('\'')).expect("a fault");
        world.fault(fault);
    } else if command.ends_with("/sandbox/charges") {
        let charges = serde_json::to_string(&world.charges()).expect("JSON");
        let shown = printed.first().and_then(|line| line.split('…').next()).expect("the bill");
        assert!(charges.starts_with(shown), "{charges}\ndoes not begin with\n{shown}");
    } else if command.contains("/metrics") {
        let scrape = world.admin("/metrics").await.text();
        let missing: Vec<_> = printed.iter().filter(|line| !scrape.lines().any(|found| found == *line)).collect();
        assert!(!printed.is_empty() && missing.is_empty(), "not in the scrape: {missing:#?}");
    } else {
        let (_, path) = command.split_once("http://127.0.0.1:8080").unwrap_or_else(|| panic!("what is this? {command}"));
        let answer = world.ask(path.trim_matches('"')).send().await;
        let status = format!("HTTP/1.1 {}", answer.status);
        let decision = format!("x-gateway-decision: {}", answer.header("x-gateway-decision"));
        assert!(printed.first() == Some(&status) && printed.contains(&decision), "{command}\n{status}\n{decision}");
    }
}

/// What the README's `ask` prints.
fn line(answer: &Answer) -> String {
    let field = |name: &str| answer.header(&format!("x-gateway-{name}"));
    format!("{} {}, billed: {}, ${}", answer.status.as_u16(), field("decision"), field("billed"), field("cost-usd"))
}
