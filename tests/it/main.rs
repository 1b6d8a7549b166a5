//! What must hold for the project as a whole, in one binary.

mod budgets;
mod docs;
mod fresh;
mod harness;
mod reads;
mod tidy;
