//! The `reputation-gateway` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    reputation_gateway::cli::run()
}
