//! The supervisor of one pod.

fn main() {}
