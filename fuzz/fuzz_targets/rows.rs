#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| peselgate::fuzzing::rows(data));
