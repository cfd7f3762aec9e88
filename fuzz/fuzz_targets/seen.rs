//! What relays read of peers, as an exporter and the engine read it: it is the same after it is written, and no list outgrows its
//! limit.

#![no_main]

use isthmus::wire::seen::{MAX_PEERS_SEEN, PeerSeen};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(all) = PeerSeen::answer(input) else { return };
    let written = PeerSeen::to_answer(&all);
    assert!(written.len() <= MAX_PEERS_SEEN + 64, "{}", written.len());
    let again = PeerSeen::answer(written.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again, all);
    for seen in &all {
        assert_eq!(seen.clone().better(seen.clone()), *seen);
    }
});
