//! What must hold for the project as a whole, in one binary.

mod account;
mod associate;
mod budgets;
mod callers;
mod care;
mod control;
mod disk;
mod docs;
mod drain;
mod faults;
mod fresh;
mod h2;
mod harness;
mod kills;
mod ledger;
mod paths;
mod process;
mod reads;
mod refresh;
mod remediation;
mod routes;
mod telemetry;
mod tidy;
mod tls;
mod wire;
mod writes;
