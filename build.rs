//! What a binary tells of how it was built, and only a build script knows: the target, and the compiler's version.
#![allow(
    clippy::disallowed_methods,
    reason = "cargo tells a build script by the environment, and the compiler is asked by its command"
)]

use std::env;
use std::process::Command;

fn main() {
    // neither depends on a file of ours
    println!("cargo::rerun-if-changed=build.rs");
    let given = |name: &str| env::var(name).unwrap_or_else(|_| "unknown".to_owned());
    let asked = Command::new(given("RUSTC")).arg("--version").output();
    let rustc = asked.ok().and_then(|asked| String::from_utf8(asked.stdout).ok()).unwrap_or_default();
    let rustc = rustc.trim().trim_start_matches("rustc ");
    println!("cargo::rustc-env=ISTHMUS_TARGET={}", given("TARGET"));
    println!("cargo::rustc-env=ISTHMUS_RUSTC={}", if rustc.is_empty() { "unknown" } else { rustc });
}
