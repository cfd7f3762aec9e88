//! What a checkout brings into a cluster, as its roles read it: peers, routes and identity. What is read is the same after it is
//! written, and no one is admitted twice.

#![no_main]

use isthmus::wire::identity::Identity;
use isthmus::wire::peers::PeersFile;
use isthmus::wire::routes::RoutesFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    drop(Identity::parse(input));
    drop(RoutesFile::parse(input));
    let Ok(file) = PeersFile::parse(input) else { return };
    let written = serde_json::to_vec(&file).unwrap_or_else(|error| panic!("{error}"));
    let again = PeersFile::parse(&written).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again, file);
    for peer in &file.peers {
        assert_eq!(file.peer(&peer.cluster_uuid), Some(peer));
    }
});
