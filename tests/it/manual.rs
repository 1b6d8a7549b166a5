//! What the command tells of itself: examples that are right, completions that a shell reads, manual pages.

use std::process::{Command, Stdio};

use crate::harness::process::said;

const COMMANDS: [&str; 15] = [
    "serve",
    "check-config",
    "config",
    "sandbox",
    "key",
    "health",
    "budgets",
    "kill-switch",
    "acknowledge-loss",
    "explain",
    "requests",
    "purge",
    "ledger",
    "completions",
    "man",
];

fn told(words: &[&str]) -> String {
    let (code, said) = said(words);
    assert_eq!(code, Some(0), "{words:?}: {said}");
    said
}

#[test]
fn every_command_is_in_the_manual_and_has_a_page_of_its_own() {
    let manual = told(&["man"]);
    assert!(manual.contains(".TH reputation-gateway 1"), "{manual}");
    for command in COMMANDS {
        assert!(manual.contains(&format!("reputation\\-gateway\\-{}(1)", command.replace('-', "\\-"))), "{command}: {manual}");
        assert!(told(&["man", command]).contains(".SH SYNOPSIS"), "{command}");
    }
    assert!(told(&["man", "ledger", "verify"]).contains("Violations are what no gateway writes"));
    let (code, said) = said(&["man", "ledgers"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("there is no command \"ledgers\"; there are serve, check-config"), "{said}");
}

/// What prints no facts: two that serve, two whose output is for other programs, and the group of commands whose own are below.
const WITHOUT_JSON: [&str; 6] = ["serve", "sandbox", "completions", "man", "key", "ledger"];

#[test]
fn every_command_that_tells_something_tells_it_as_json_too() {
    let mut words: Vec<Vec<&str>> = COMMANDS.iter().filter(|name| !WITHOUT_JSON.contains(name)).map(|name| vec![*name]).collect();
    words.extend([vec!["key", "new"], vec!["ledger", "verify"], vec!["ledger", "export"], vec!["ledger", "reconcile"]]);
    for command in words {
        let help = told(&[&command[..], &["--help"]].concat());
        assert!(help.contains("--json"), "{command:?}: {help}");
    }
    for (command, example) in
        [("health", "health --json"), ("check-config", "--json"), ("key", "key new --json"), ("budgets", "budgets --json")]
    {
        let help = told(&[command, "--help"]);
        let (_, examples) = help.split_once("Examples:").unwrap_or_else(|| panic!("{command} has no examples: {help}"));
        assert!(examples.contains(example), "{command}: {help}");
    }
}

#[test]
fn a_shell_reads_its_completions() {
    let script = told(&["completions", "bash"]);
    let shell = r#"
        source /dev/stdin <<< "$1"
        COMP_WORDS=(reputation-gateway led); COMP_CWORD=1
        _reputation__gateway reputation-gateway led reputation-gateway
        echo "${COMPREPLY[@]}"
    "#;
    let completed = Command::new("bash").args(["-c", shell, "bash", &script]).stderr(Stdio::inherit()).output().expect("bash");
    assert_eq!(String::from_utf8_lossy(&completed.stdout).trim(), "ledger");
    for (shell, word) in [("zsh", "#compdef reputation-gateway"), ("fish", "complete -c reputation-gateway"), ("elvish", "edit:completion")]
    {
        assert!(told(&["completions", shell]).contains(word), "{shell}");
    }
}
