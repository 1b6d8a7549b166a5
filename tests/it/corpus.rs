//! Every file of the fuzz targets' corpora, once more: what was found stays mended.

#[path = "../../fuzz/checks/configuration.rs"]
mod configuration;
#[path = "../../fuzz/checks/envelope.rs"]
mod envelope;
#[path = "../../fuzz/checks/harvest.rs"]
mod harvest;
#[path = "../../fuzz/checks/ledger_rows.rs"]
mod ledger_rows;
#[path = "../../fuzz/checks/request.rs"]
mod request;
#[path = "../../fuzz/checks/target.rs"]
mod target;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Runs a check on each file of its corpus, and names those on which it fails.
fn replay(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = std::fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
    let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{}: no file to run", corpus.display());
    let fails = |file: &&std::path::PathBuf| {
        let data = std::fs::read(file).expect("a file");
        catch_unwind(AssertUnwindSafe(|| check(&data))).is_err()
    };
    let failed: Vec<_> = files.iter().filter(fails).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn the_corpus_of_targets_passes() {
    replay("target", target::check);
}

#[test]
fn the_corpus_of_configurations_passes() {
    replay("configuration", configuration::check);
}

#[test]
fn the_corpus_of_envelopes_passes() {
    replay("envelope", envelope::check);
}

#[test]
fn the_corpus_of_pages_passes() {
    replay("harvest", harvest::check);
}

#[test]
fn the_corpus_of_ledgers_passes() {
    replay("ledger_rows", ledger_rows::check);
}

#[test]
fn the_corpus_of_requests_passes() {
    replay("request", request::check);
}
