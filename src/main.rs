//! The Criquet daemon and its tools.

fn main() {}
