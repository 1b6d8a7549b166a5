//! House rules that a machine can keep: layers, sizes, and what a text of this project never says.
//!
//! A check is a function from one file to its complaints, so that each is seen to fail on a small bad file. Checks of code read tokens
//! instead of syntax trees: what stands inside a macro counts too.

mod layers;
mod sizes;
mod texts;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};

/// A file of the project, by its path from the root with `/` between the parts.
struct File {
    path: String,
    text: String,
}

/// What is wrong, and where.
#[derive(PartialEq, Eq)]
struct Complaint {
    path: String,
    line: usize,
    what: String,
}

impl File {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    fn complaint(&self, line: usize, what: impl Into<String>) -> Complaint {
        Complaint { path: self.path.clone(), line, what: what.into() }
    }

    fn tokens(&self) -> Vec<TokenTree> {
        let tokens: TokenStream = self.text.parse().unwrap_or_else(|error| panic!("{}: {error}", self.path));
        tokens.into_iter().collect()
    }

    fn is_code(&self) -> bool {
        let placed = ["src/", "tests/", "benches/", "fuzz/"].iter().any(|place| self.path.starts_with(place));
        placed && Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }
}

impl fmt::Debug for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// All text files that are tracked or would be.
fn project() -> Vec<File> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let listing = Command::new("git").args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(&root).output();
    let listing = listing.expect("git lists the project's files");
    assert!(listing.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listing.stderr));
    let paths = String::from_utf8(listing.stdout).expect("paths in UTF-8");
    // A file that is deleted and not yet committed is listed and cannot be read, as is one that is not text.
    let read = |path: &str| std::fs::read_to_string(root.join(path)).ok().map(|text| File { path: path.to_owned(), text });
    paths.split_terminator('\0').filter_map(read).collect()
}

fn ident(token: Option<&TokenTree>) -> Option<&Ident> {
    match token {
        Some(TokenTree::Ident(ident)) => Some(ident),
        _ => None,
    }
}

fn group(token: Option<&TokenTree>, delimiter: Delimiter) -> Option<Vec<TokenTree>> {
    match token {
        Some(TokenTree::Group(group)) if group.delimiter() == delimiter => Some(group.stream().into_iter().collect()),
        _ => None,
    }
}

fn is_punct(token: Option<&TokenTree>, sign: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == sign)
}

/// Asserts that no file gives cause for complaint, and that there were files to look at.
fn keeps(rule: &str, applies: impl Fn(&File) -> bool, check: impl Fn(&File) -> Vec<Complaint>) {
    let files: Vec<_> = project().into_iter().filter(applies).collect();
    assert!(!files.is_empty(), "{rule}: no file to look at");
    let complaints: Vec<_> = files.iter().flat_map(check).collect();
    assert!(complaints.is_empty(), "{rule}:\n{complaints:#?}");
}

#[test]
fn a_room_imports_only_from_rooms_below_it() {
    keeps("layers", |file| file.path.starts_with("src/") && file.is_code(), layers::check);
}

#[test]
fn files_and_functions_stay_small() {
    keeps("sizes", File::is_code, sizes::check);
}

#[test]
fn code_leaves_nothing_lying_about() {
    keeps("leftovers", File::is_code, texts::leftovers);
}

#[test]
fn every_source_file_says_what_it_is() {
    keeps("headings", |file| file.path.starts_with("src/") && file.is_code(), texts::heading);
}

#[test]
fn no_text_names_a_machine_or_a_registry_host() {
    keeps("places", |_| true, texts::places);
}
