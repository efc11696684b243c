// SPDX-License-Identifier: Apache-2.0
//! The supervisor of one pod. The daemon starts it; it takes no arguments.

use std::process::ExitCode;

use criquet::monitor::server;

fn main() -> ExitCode {
    match server::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("criquet-monitor: {}", error.full_message());
            ExitCode::FAILURE
        }
    }
}
