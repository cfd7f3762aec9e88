//! A kubeconfig of anyone is read or says what is wrong with it; nothing is started and no file is opened for that.

#![no_main]

use std::path::Path;

use isthmus::cluster::kubeconfig::Kubeconfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut read = Kubeconfig::default();
    if let Err(fault) = read.add(Path::new("config"), input) {
        let message = fault.to_string();
        assert!(!message.chars().any(char::is_control), "{message:?}");
    }
});
