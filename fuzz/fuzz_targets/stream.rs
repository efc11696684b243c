#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| criquet::fuzz::stream(data));
