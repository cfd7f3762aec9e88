//! A lock that is understood is written as it was read.

#![no_main]

use isthmus::model::lock::Lock;
use libfuzzer_sys::fuzz_target;

const PATHS: [&str; 3] = ["lock/clusters/ams.yaml", "lock/links/ams.yaml", "lock/mesh.yaml"];

fuzz_target!(|input: &[u8]| {
    for path in PATHS {
        let Ok((lock, unreadable)) = Lock::read([(path, input)]) else { continue };
        if unreadable.findings().next().is_some() {
            continue;
        }
        let files = lock.to_files().unwrap_or_else(|error| panic!("{error}"));
        let again = Lock::parse(files.iter().map(|(path, text)| (path.as_str(), text.as_bytes())));
        let again = again.unwrap_or_else(|found| panic!("{path}: {found:?}"));
        assert_eq!(again.to_files().unwrap_or_else(|error| panic!("{error}")), files, "{path}");
    }
});
