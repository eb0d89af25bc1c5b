//! The `heirloom-supervisor` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    heirloom_supervisor::run()
}
