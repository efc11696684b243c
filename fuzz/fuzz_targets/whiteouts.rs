#![no_main]

use std::sync::LazyLock;

/// Where layers are unpacked. Needs root: owners and devices.
static DIRECTORY: LazyLock<tempfile::TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("a temporary directory"));

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    criquet::fuzz::whiteouts(DIRECTORY.path(), data);
});
