//! Which code is pure, and what pure code may not speak of.

use super::layers::is_in;
use super::resolve::{Crate, Target};

/// Folders and files, without the `.rs`.
pub(super) const PURE: &[&str] = &[
    "types",
    "wire",
    "model",
    "spec",
    "pipeline/compile",
    "pipeline/accept",
    "pipeline/advance",
    "pipeline/template",
    "pipeline/render",
    "pipeline/plan",
    "onboarding/survey",
    "onboarding/draft",
    "onboarding/invite",
    "gitops",
    "report/health",
    "report/picture",
    "watch/scheduler",
];

/// The world: files, the environment, other processes, the network, the clock and chance. A star ends a word that may continue.
const WORLD: &[&str] = &[
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::os",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::net::Tcp*",
    "std::net::Udp*",
    "std::net::ToSocketAddrs",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::hash::RandomState",
    "std::collections::hash_map::RandomState",
    "jiff::Timestamp::now",
    "jiff::Zoned::now",
    "tokio",
    "tokio_rustls",
    "futures_util",
    "hyper",
    "hyper_util",
    "reqwest",
    "kube::Client",
    "kube::client",
    "kube::Config",
    "notify",
    "rustix",
    "socket2",
    "rustls_native_certs",
    "rand",
    "aws_lc_rs::rand",
    "rcgen::KeyPair::generate*",
];

/// What pure code may speak of all the same: the file, the path, and why.
pub(super) const ADMITTED: &[(&str, &str, &str)] = &[];

/// Every word of the world in pure code, and every admission that nothing asks for any more.
pub(super) fn breaches(of: &Crate, admitted: &[(&str, &str, &str)]) -> Vec<String> {
    let mut found = Vec::new();
    let mut asked = vec![false; admitted.len()];
    for (file, source) in of.sources.iter().enumerate() {
        let path = &of.paths[file];
        if !PURE.iter().any(|place| is_in(path, place)) {
            continue;
        }
        let mut mentioned: Vec<(usize, String)> =
            source.waits.iter().map(|(line, word)| (*line, (*word).to_owned())).collect();
        for mention in &source.mentions {
            for target in of.targets(file, mention) {
                let Target::Outside(segments) = target else { continue };
                let Some(world) = WORLD.iter().find(|world| speaks_of(&segments, world, mention.glob)) else {
                    continue;
                };
                match admitted.iter().position(|(file, word, _)| file == path && word == world) {
                    Some(place) => asked[place] = true,
                    None => mentioned.push((mention.line, segments.join("::") + if mention.glob { "::*" } else { "" })),
                }
            }
        }
        mentioned.sort();
        mentioned.dedup();
        found.extend(mentioned.into_iter().map(|(line, word)| format!("{path}:{line} is pure and speaks of `{word}`")));
    }
    for ((file, word, _), asked) in admitted.iter().zip(asked) {
        if !asked {
            found.push(format!("{file} no longer speaks of `{word}`; tests/tidy/purity.rs need not admit it"));
        }
    }
    found
}

/// Whether a path is the word, leads into it, or takes everything beside it.
fn speaks_of(path: &[String], world: &str, glob: bool) -> bool {
    let world: Vec<&str> = world.split("::").collect();
    let fits = |(word, world): (&String, &&str)| {
        world.strip_suffix('*').map_or(word == world, |beginning| word.starts_with(beginning))
    };
    let length = path.len().min(world.len());
    path.iter().zip(&world).all(fits) && (length == world.len() || glob && length + 1 == world.len())
}
