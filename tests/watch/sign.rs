//! `engine watch --commit --sign`: commits carry the user's signature, or are not made.

use std::path::{Path, PathBuf};

use super::git::{environment, state_gateway};
use crate::git::git;
use crate::support::checkout::Checkout;
use crate::support::environment::{Ran, TestEnvironment};

const ONCE: [&str; 6] = ["watch", "--once", "--commit", "--sign", "--author", "mesh <mesh@example.com>"];

/// A repository with something to commit, and the folder with keys of its environment's user.
struct SigningWorld {
    checkout: Checkout,
    keys: PathBuf,
}

impl SigningWorld {
    fn new() -> Self {
        let checkout = Checkout::in_environment(environment());
        checkout.engine(&["apply"]).done();
        let dir = checkout.path("");
        git(&dir, &["init", "-q", "-b", "main"]);
        git(&dir, &["add", "-A"]);
        git(&dir, &["commit", "-qm", "first"]);
        let keys = checkout.environment.path("keys");
        std::fs::create_dir(&keys).unwrap();
        Self { checkout, keys }
    }

    fn environment(&self) -> &TestEnvironment {
        &self.checkout.environment
    }

    fn dir(&self) -> PathBuf {
        self.checkout.path("")
    }

    /// Makes an ssh key.
    fn key(&self, name: &str, passphrase: &str) -> PathBuf {
        let path = self.keys.join(name);
        let mut make = self.environment().program("ssh-keygen");
        make.args(["-q", "-t", "ed25519", "-N", passphrase, "-C", name, "-f"]).arg(&path);
        self.environment().end(&mut make).done();
        path
    }

    /// A setting of the user's own.
    fn set(&self, name: &str, value: &Path) {
        self.checkout.git(&["config", "--global", name, value.to_str().unwrap()]);
    }

    /// Something to commit is there, committed as a spec.
    fn edit(&self, address: &str) {
        state_gateway(&self.dir(), "east", address);
        git(&self.dir(), &["commit", "-qam", "specs"]);
    }

    fn head(&self) -> String {
        git(&self.dir(), &["rev-parse", "HEAD"])
    }

    fn verified(&self) -> Ran {
        let mut verify = self.environment().program("git");
        self.environment().end(verify.current_dir(self.dir()).args(["verify-commit", "HEAD"]))
    }
}

#[test]
fn a_commit_has_the_signature_of_the_users_key() {
    let world = SigningWorld::new();
    let (key, other) = (world.key("mine", ""), world.key("other", ""));
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let signers = world.keys.join("signers");
    std::fs::write(&signers, format!("mesh@example.com {public}")).unwrap();
    world.set("gpg.format", Path::new("ssh"));
    world.set("user.signingKey", &key.with_extension("pub"));
    world.set("gpg.ssh.allowedSignersFile", &signers);
    // what the repository says of keys and programs has no part in it
    let hook = world.keys.join("program");
    std::fs::write(&hook, format!("#!/bin/sh\ntouch {}\nexit 1\n", world.keys.join("was-run").display())).unwrap();
    for (name, value) in [("user.signingKey", &other), ("gpg.ssh.program", &hook), ("gpg.ssh.defaultKeyCommand", &hook)]
    {
        git(&world.dir(), &["config", name, value.to_str().unwrap()]);
    }
    git(&world.dir(), &["config", "gpg.format", "openpgp"]);
    world.edit("203.0.113.70");
    let before = world.head();
    world.checkout.engine(&ONCE).done();
    assert_ne!(world.head(), before);
    git(&world.dir(), &["config", "--unset", "gpg.ssh.program"]);
    git(&world.dir(), &["config", "--unset", "gpg.format"]);
    let verified = world.verified();
    assert_eq!(verified.code, 0, "{verified}");
    assert!(verified.says("Good \"git\" signature for mesh@example.com"), "{verified}");
    assert!(!world.keys.join("was-run").exists());
    // without --sign none is signed, whatever the user's configuration says
    world.set("commit.gpgSign", Path::new("true"));
    world.edit("203.0.113.71");
    world.checkout.engine(&["watch", "--once", "--commit"]).done();
    assert_ne!(world.verified().code, 0);
}

#[test]
fn nothing_is_committed_without_a_usable_key() {
    let world = SigningWorld::new();
    world.edit("203.0.113.70");
    let before = world.head();
    let refused = |arguments: &[&str]| {
        let ran = world.checkout.engine(&ONCE);
        assert_eq!(ran.code, 6, "{ran}");
        for word in arguments {
            assert!(ran.stderr.contains(word), "`{word}` is missing in\n{ran}");
        }
        assert_eq!(world.head(), before);
    };
    refused(&["names no key to sign with", "git config --global user.signingkey"]);
    // that of the repository is not the user's
    let key = world.key("mine", "");
    git(&world.dir(), &["config", "user.signingKey", key.to_str().unwrap()]);
    refused(&["names no key to sign with", "the repository's own configuration says does not count"]);
    world.set("gpg.format", Path::new("ssh"));
    world.set("user.signingKey", &world.keys.join("gone.pub"));
    refused(&["cannot sign with the key of your configuration", "user.signingkey"]);
    // no one is asked for a passphrase
    let locked = world.key("locked", "a long passphrase");
    world.set("user.signingKey", &locked);
    refused(&["cannot sign", "ssh-agent"]);
    world.set("user.signingKey", &key);
    world.checkout.engine(&ONCE).done();
    assert_ne!(world.head(), before);
    assert!(git(&world.dir(), &["cat-file", "commit", "HEAD"]).contains("BEGIN SSH SIGNATURE"));
}
