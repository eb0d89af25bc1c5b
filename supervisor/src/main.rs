//! The `heirloom-supervisor` command.

fn main() {}
