#![no_main]

cimd_cache_libfuzzer::drive!(cimd_cache_fuzz::rows::run);
