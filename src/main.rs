//! The `dogiqa` command.

fn main() {}
