//! A room imports only from rooms below it.

use proc_macro2::{Delimiter, TokenTree};

use super::{Complaint, File, group, ident, is_punct};

/// From the top. Rooms of one row do not know each other, but for the two rows named below.
const ROWS: [&[&str]; 10] = [
    TOP,
    &["admin"],
    &["gateway"],
    &["config"],
    &["server", "telemetry", "auth", "limit", "flight", "cache", "spend", "upstream", "webhook"],
    &["shared"],
    &["policy"],
    &["wire"],
    &["telnyx"],
    BASE,
];

/// Start-up: each of these may use those after it, and nothing else may use them.
const TOP: &[&str] = &["main", "cli", "app"];

/// The ground: each of these may use those after it.
const BASE: &[&str] = &["clock", "units", "secret", "files"];

/// The stand-in shares nothing with what it is an oracle for, but how to serve, to count money and to tell the time.
const SANDBOX: &str = "sandbox";
const SANDBOX_USES: [&[&str]; 5] = [&["server"], &["wire"], &["policy", "money"], &["clock"], &["units"]];

/// The crate's name, which is another way to write `crate` in the binary.
const CRATE: &str = "reputation_gateway";

/// A path from the crate's root, and the line where it is written.
#[derive(Debug, PartialEq, Eq)]
struct Reference {
    line: usize,
    path: Vec<String>,
}

pub(super) fn check(file: &File) -> Vec<Complaint> {
    let module = module_of(&file.path);
    let Some(room) = module.first().cloned() else { return Vec::new() };
    if room != SANDBOX && row(&room).is_none() {
        return vec![file.complaint(1, format!("`{room}` is not in the table of rooms"))];
    }
    let mut references = Vec::new();
    walk(&file.tokens(), &module, &mut references);
    let complain = |reference: &Reference| {
        let fault = fault(&room, &reference.path)?;
        Some(file.complaint(reference.line, format!("`{room}` uses `{}`: {fault}", reference.path.join("::"))))
    };
    references.iter().filter_map(complain).collect()
}

/// The module that a source file is; the crate's root has no name.
fn module_of(path: &str) -> Vec<String> {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    let inner = inner.strip_suffix("/mod").unwrap_or(inner);
    if inner == "lib" { Vec::new() } else { inner.split('/').map(str::to_owned).collect() }
}

fn row(room: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&room))
}

/// Why a room may not use this path, if it may not.
fn fault(room: &str, path: &[String]) -> Option<&'static str> {
    let used = path.first().map_or("", String::as_str);
    if used == room {
        return None;
    }
    if room == SANDBOX {
        let allowed = SANDBOX_USES.iter().any(|prefix| path.len() >= prefix.len() && path.iter().zip(*prefix).all(|(a, b)| a == b));
        return (!allowed).then_some("the sandbox may not");
    }
    if used == SANDBOX {
        return (!TOP.contains(&room)).then_some("only start-up may use the sandbox");
    }
    let (Some(own_row), Some(other_row)) = (row(room), row(used)) else { return Some("it is no room") };
    if own_row != other_row {
        return (own_row > other_row).then_some("it is above");
    }
    let order = |name: &str| ROWS[own_row].iter().position(|room| *room == name);
    let ordered = [TOP, BASE].contains(&ROWS[own_row]) && order(room) < order(used);
    (!ordered).then_some("rooms of one row do not know each other")
}

/// Collects what is written with `crate::`, the crate's name or `super::`, in code of any kind.
fn walk(tokens: &[TokenTree], module: &[String], found: &mut Vec<Reference>) {
    let mut at = 0;
    while at < tokens.len() {
        if let Some((name, inside)) = inline_module(&tokens[at..]) {
            walk(&inside, &[module, &[name]].concat(), found);
            at += 3;
        } else if let Some((base, after)) = root(tokens, at, module) {
            at = leaves(tokens, after, base, found);
        } else {
            if let TokenTree::Group(inner) = &tokens[at] {
                walk(&inner.stream().into_iter().collect::<Vec<_>>(), module, found);
            }
            at += 1;
        }
    }
}

/// `mod name { … }`
fn inline_module(tokens: &[TokenTree]) -> Option<(String, Vec<TokenTree>)> {
    let inside = group(tokens.get(2), Delimiter::Brace)?;
    let name = ident(tokens.get(1))?;
    (ident(tokens.first())? == "mod").then(|| (name.to_string(), inside))
}

/// The module in which a path that begins here continues, and where it continues.
fn root(tokens: &[TokenTree], mut at: usize, module: &[String]) -> Option<(Vec<String>, usize)> {
    let first = ident(tokens.get(at))?;
    if !is_path_sign(tokens, at + 1) {
        return None;
    }
    if first == "crate" || first == CRATE {
        return Some((Vec::new(), at + 3));
    }
    let mut base = module.to_vec();
    while ident(tokens.get(at)).is_some_and(|ident| ident == "super") && is_path_sign(tokens, at + 1) {
        base.pop();
        at += 3;
    }
    (first == "super").then_some((base, at))
}

fn is_path_sign(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

/// Follows a path, or a tree of them, to its ends; returns where the code goes on.
fn leaves(tokens: &[TokenTree], mut at: usize, mut path: Vec<String>, found: &mut Vec<Reference>) -> usize {
    let line = tokens.get(at).map_or(0, |token| token.span().start().line);
    loop {
        if let Some(tree) = group(tokens.get(at), Delimiter::Brace) {
            for branch in tree.split(|token| is_punct(Some(token), ',')) {
                leaves(branch, 0, path.clone(), found);
            }
            return at + 1;
        }
        match ident(tokens.get(at)).map(ToString::to_string).as_deref() {
            Some("super") => drop(path.pop()),
            Some("self") | None => {}
            Some(name) => path.push(name.trim_start_matches("r#").to_owned()),
        }
        let goes_on = ident(tokens.get(at + 3)).is_some() || group(tokens.get(at + 3), Delimiter::Brace).is_some();
        if is_path_sign(tokens, at + 1) && goes_on {
            at += 3;
        } else {
            // A trailing comma leaves an empty branch, which names nothing.
            if at < tokens.len() {
                found.push(Reference { line, path });
            }
            return at + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(path: &str, text: &str) -> Vec<String> {
        check(&File::new(path, text)).into_iter().map(|complaint| format!("{complaint:?}")).collect()
    }

    fn is_refused(path: &str, text: &str) -> bool {
        !faults(path, text).is_empty()
    }

    #[test]
    fn a_room_may_use_itself_and_what_is_below_it() {
        let text = "use crate::cache::Entry; use crate::{units::Seconds, policy::{self, decide}, wire::*, }; use super::entry;";
        assert_eq!(faults("src/cache/memory.rs", text), Vec::<String>::new());
        assert_eq!(faults("src/main.rs", "fn main() { reputation_gateway::cli::run(crate::app::App) }"), Vec::<String>::new());
        assert_eq!(faults("src/lib.rs", "pub mod anything;"), Vec::<String>::new());
    }

    #[test]
    fn a_room_above_is_refused_with_its_line() {
        assert_eq!(
            faults("src/policy/mod.rs", "\nuse crate::cache::Entry;"),
            ["src/policy/mod.rs:2: `policy` uses `cache::Entry`: it is above"]
        );
        assert!(is_refused("src/gateway/mod.rs", "use crate::admin::Page;"));
        assert!(is_refused("src/admin/mod.rs", "use crate::app::App;"));
        assert!(is_refused("src/app/mod.rs", "use crate::cli::Arguments;"));
        assert!(is_refused("src/units.rs", "use crate::clock::Clock;"));
    }

    #[test]
    fn no_engine_knows_another() {
        assert!(is_refused("src/cache/mod.rs", "use crate::spend::Hold;"));
        assert!(is_refused("src/server/mod.rs", "use crate::auth::Caller;"));
    }

    #[test]
    fn no_way_of_writing_a_path_hides_it() {
        for text in [
            "use crate::{units, spend};",
            "use crate::{policy::money, {wire, {spend::Hold as Kept}}};",
            "use super::super::spend::Hold;",
            "use super::super::{units, spend};",
            "mod inner { use super::super::super::spend; }",
            "use self::super::super::spend::Hold;",
            "fn hold() -> crate::spend::Hold { loop {} }",
            "fn hold() { let hold = Vec::<crate::spend::Hold>::new(); }",
            "fn hold() { assert_eq!(1, crate::spend::COUNT); }",
            "macro_rules! hold { () => { $crate::spend::hold() } }",
            "#[cfg(test)] mod tests { use crate::spend::Hold; }",
            "use ::reputation_gateway::spend;",
            "use crate :: r#spend;",
        ] {
            assert!(is_refused("src/cache/memory.rs", text), "{text}");
        }
        assert!(is_refused("src/cache.rs", "use super::spend::Hold;"));
    }

    #[test]
    fn what_is_no_room_is_refused() {
        assert!(is_refused("src/common/mod.rs", ""));
        assert!(is_refused("src/bin/tool.rs", ""));
        assert!(is_refused("src/cache/mod.rs", "use crate::Config;"));
        assert!(is_refused("src/cache/mod.rs", "use crate::*;"));
    }

    #[test]
    fn the_sandbox_keeps_to_itself() {
        let text = "use crate::{server::Server, wire::body, policy::money::Usd, clock, units}; use super::charges;";
        assert_eq!(faults("src/sandbox/mod.rs", "use crate::policy::money::Usd;"), Vec::<String>::new());
        assert_eq!(faults("src/sandbox/routes.rs", text), Vec::<String>::new());
        for text in ["use crate::policy;", "use crate::policy::{money, decide};", "use crate::telnyx::PhoneNumber;", "use crate::gateway;"]
        {
            assert!(is_refused("src/sandbox/mod.rs", text), "{text}");
        }
        assert!(is_refused("src/gateway/mod.rs", "use crate::sandbox::Sandbox;"));
        assert!(!is_refused("src/app.rs", "use crate::sandbox::Sandbox;"));
    }
}
