//! What must hold for the project as a whole, in one binary.

mod tidy;
