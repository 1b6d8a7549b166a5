//! What a shell and `man` know of the commands, made of the same definitions as `--help`.

use std::io;

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, Failed};

/// `completions`
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// Whose.
    shell: Shell,
}

/// `man`
#[derive(Debug, Args)]
pub(super) struct Manual {
    /// The command whose page it is, as in `ledger verify`; without one, the whole program's.
    command: Vec<String>,
}

impl Completions {
    /// The script.
    pub(super) fn run(&self) -> Vec<u8> {
        let (mut script, mut command) = (Vec::new(), Cli::command());
        let name = command.get_name().to_owned();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        script
    }
}

impl Manual {
    /// The page, as roff.
    pub(super) fn run(&self) -> Result<Vec<u8>, Failed> {
        let mut command = Cli::command();
        command.build();
        let found = self.command.iter().try_fold(&command, |command, name| command.find_subcommand(name));
        let found = found.ok_or_else(|| {
            let known: Vec<_> = command.get_subcommands().map(Command::get_name).collect();
            let text = format!("there is no command {:?}; there are {}", self.command.join(" "), known.join(", "));
            io::Error::new(io::ErrorKind::NotFound, text)
        })?;
        let mut page = Vec::new();
        Man::new(found.clone()).render(&mut page)?;
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// A line's words as a shell has them, up to what goes elsewhere.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut quote) = (vec![String::new()], None);
        for letter in line.chars().take_while(|letter| !['|', '>'].contains(letter)) {
            match (letter, quote) {
                ('\'' | '"', None) => quote = Some(letter),
                (_, Some(open)) if letter == open => quote = None,
                (' ', None) => words.push(String::new()),
                _ => words.last_mut().expect("one").push(letter),
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    #[test]
    fn every_example_of_the_help_is_a_command_that_there_is() {
        let command = Cli::command();
        let helps = command.get_subcommands().filter_map(|command| Some(command.get_after_help()?.to_string()));
        let lines: Vec<_> = helps.flat_map(|help| help.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>()).collect();
        let examples: Vec<_> = lines.iter().filter_map(|line| line.find("reputation-gateway ").map(|at| &line[at..])).collect();
        assert!(examples.len() >= 14, "{examples:?}");
        for example in examples {
            let parsed = Cli::try_parse_from(words(example));
            assert!(parsed.is_ok(), "{example}: {}", parsed.expect_err("refused"));
        }
    }
}
