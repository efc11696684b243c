// SPDX-License-Identifier: Apache-2.0
//! The Criquet daemon and its tools.

use std::process::ExitCode;

fn main() -> ExitCode {
    criquet::cli::main()
}
