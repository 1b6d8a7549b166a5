//! What a text of this project never says.

use proc_macro2::{Delimiter, TokenTree};

use super::{Complaint, File, group, is_punct};

/// Notes to oneself, dead code that is kept quiet, and code in comments.
pub(super) fn leftovers(file: &File) -> Vec<Complaint> {
    // In halves, so that this file does not hold them.
    let notes = [("TO", "DO"), ("FIX", "ME"), ("XX", "X")].map(|(head, tail)| format!("{head}{tail}"));
    let mut complaints = Vec::new();
    for (line, text) in (1..).zip(file.text.lines()) {
        complaints.extend(notes.iter().filter(|note| has_word(text, note)).map(|note| file.complaint(line, format!("a note: {note}"))));
        if is_code_in_comment(text) {
            complaints.push(file.complaint(line, "code in a comment"));
        }
    }
    silenced(&file.tokens(), &mut |line| complaints.push(file.complaint(line, "dead code is removed, not kept quiet")));
    complaints
}

fn has_word(text: &str, word: &str) -> bool {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(word).any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part))
}

/// A comment that ends like a statement and parses as one. A lone word before a semicolon is prose.
fn is_code_in_comment(line: &str) -> bool {
    let Some(comment) = line.trim().strip_prefix("//").filter(|comment| !comment.starts_with(['/', '!'])) else { return false };
    let statement = match comment.chars().last() {
        Some(';') => comment.to_owned(),
        Some('{') => format!("{comment} }}"),
        _ => return false,
    };
    match syn::parse_str::<syn::Stmt>(&statement) {
        Ok(syn::Stmt::Expr(expression, _)) => !matches!(expression, syn::Expr::Path(_)),
        Ok(_) => true,
        Err(_) => false,
    }
}

/// Finds attributes that allow or expect dead code, alone or among others.
fn silenced(tokens: &[TokenTree], see: &mut impl FnMut(usize)) {
    for (at, token) in tokens.iter().enumerate() {
        if let TokenTree::Group(inner) = token {
            silenced(&inner.stream().into_iter().collect::<Vec<_>>(), see);
        }
        let attribute = tokens[at + 1..].iter().find(|token| !is_punct(Some(token), '!'));
        if is_punct(Some(token), '#') && group(attribute, Delimiter::Bracket).is_some() {
            let words = attribute.map(ToString::to_string).unwrap_or_default();
            if (has_word(&words, "allow") || has_word(&words, "expect")) && has_word(&words, "dead_code") {
                see(token.span().start().line);
            }
        }
    }
}

/// A source file begins by saying what it is.
pub(super) fn heading(file: &File) -> Vec<Complaint> {
    let said = file.text.lines().next().and_then(|line| line.strip_prefix("//! ")).is_some_and(|words| !words.trim().is_empty());
    if said { Vec::new() } else { vec![file.complaint(1, "begins without a `//!` line that says what it is")] }
}

/// Places that exist on one machine only, and hosts that packages came from.
pub(super) fn places(file: &File) -> Vec<Complaint> {
    // In pieces, so that this file does not hold them.
    let folders = ["work", "home", "root", "Users"].map(|folder| format!("/{folder}/"));
    let registries = ["npmjs", "yarnpkg"].map(|name| format!("registry.{name}.org"));
    let others = [("py", "pi.org"), ("python", "hosted.org"), ("index.cra", "tes.io"), ("static.cra", "tes.io"), ("deb.deb", "ian.org")];
    let hosts: Vec<_> = registries.into_iter().chain(others.map(|(one, rest)| format!("{one}{rest}"))).collect();
    let mut complaints = Vec::new();
    for (line, text) in (1..).zip(file.text.lines()) {
        let folder = folders.iter().find(|folder| text.match_indices(folder.as_str()).any(|(at, _)| begins_path(&text[..at])));
        complaints.extend(folder.map(|folder| file.complaint(line, format!("a place on one machine: {folder}"))));
        let host = hosts.iter().find(|host| text.contains(host.as_str()));
        complaints.extend(host.map(|host| file.complaint(line, format!("a registry's host: {host}"))));
        if let Some(what) = recorded_host(&file.path, text) {
            complaints.push(file.complaint(line, what));
        }
    }
    complaints
}

/// Whether a slash here is the first of its path.
fn begins_path(before: &str) -> bool {
    !before.ends_with(|letter: char| letter.is_alphanumeric() || "._-~*}])".contains(letter))
}

/// A mirror has any name, so a lock file records none: packages come by name from wherever the client is set up to ask.
fn recorded_host(path: &str, line: &str) -> Option<&'static str> {
    let line = line.trim_start();
    let name = path.rsplit('/').next()?;
    let source = line.strip_prefix("source = ").filter(|_| name == "Cargo.lock");
    if source.is_some_and(|source| !source.starts_with("\"registry+https://github.com/rust-lang/crates.io-index\"")) {
        return Some("a crate from elsewhere");
    }
    let options = ["-i ", "--index-url", "--extra-index-url", "--find-links"];
    let recorded = match name {
        "package-lock.json" => line.starts_with("\"resolved\""),
        ".npmrc" => line.contains("registry=") && !line.starts_with("omit-lockfile"),
        _ => name.starts_with("requirements") && options.iter().any(|option| line.starts_with(option)),
    };
    recorded.then_some("records where a package came from")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(text: &str) -> usize {
        leftovers(&File::new("src/units.rs", text)).len()
    }

    #[test]
    fn notes_are_found_as_words() {
        for (head, tail) in [("TO", "DO"), ("FIX", "ME"), ("XX", "X")] {
            assert_eq!(left(&format!("// {head}{tail}: later")), 1);
            assert_eq!(left(&format!("const A: &str = \"+1{head}{tail}{tail}\";")), 0);
        }
    }

    #[test]
    fn code_in_comments_is_found_and_prose_is_not() {
        for line in ["// let a = 1;", "    // self.send(request).await?;", "// if held {", "// return;", "//assert!(a);", "// fn held() {"]
        {
            assert_eq!(left(line), 1, "{line}");
        }
        for line in
            ["// It ends here;", "// done;", "// see `let a = 1;`", "/// let a = 1;\nconst A: u8 = 1;", "//! let a = 1;", "// The set {"]
        {
            assert_eq!(left(line), 0, "{line}");
        }
    }

    #[test]
    fn dead_code_is_not_kept_quiet() {
        for attribute in
            ["#[allow(dead_code)]", "#![allow(dead_code)]", "#[expect(unused, dead_code)]", "#[cfg_attr(test, allow(dead_code))]"]
        {
            assert_eq!(left(&format!("{attribute} fn unused() {{}}")), 1, "{attribute}");
        }
        assert_eq!(left("#[allow(clippy::float_cmp)] fn used() { dead_code(); }"), 0);
    }

    #[test]
    fn a_file_without_a_heading_is_found() {
        for (text, faults) in [("//! What it is.\n", 0), ("//!\n", 1), ("use std::fmt;\n//! Late.", 1), ("", 1)] {
            assert_eq!(heading(&File::new("src/units.rs", text)).len(), faults, "{text:?}");
        }
    }

    #[test]
    fn machine_paths_and_registry_hosts_are_found() {
        let found = |path: &str, text: &str| places(&File::new(path, text)).len();
        for folder in ["work", "home", "root"] {
            assert_eq!(found("README.md", &format!("see `/{folder}/somebody`")), 1);
            assert_eq!(found("README.md", &format!("see target/{folder}/somebody, $root/{folder}/a and ~/{folder}/b")), 0);
        }
        assert_eq!(found("README.md", &format!("https://{}.org/simple", "pypi")), 1);
        assert_eq!(found("a/package-lock.json", "  \"resolved\": \"https://mirror.example/a.tgz\","), 1);
        assert_eq!(found("a/.npmrc", "registry=https://mirror.example/"), 1);
        assert_eq!(found("a/.npmrc", "omit-lockfile-registry-resolved=true"), 0);
        assert_eq!(found("a/requirements.txt", "--index-url https://mirror.example/simple"), 1);
        assert_eq!(found("Cargo.lock", "source = \"git+https://example.com/a\""), 1);
    }
}
