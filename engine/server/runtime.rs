//! Threads for what waits for the network.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// A runtime with so many threads. `purpose` says in an error what it was for, as in "asking clusters".
pub fn runtime(workers: usize, purpose: &str) -> io::Result<Runtime> {
    let built = Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    built
        .map_err(|error| io::Error::new(error.kind(), format!("cannot start {workers} threads for {purpose}: {error}")))
}
