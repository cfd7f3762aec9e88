//! Each check is shown to be red: small crates with one thing wrong, and what is said of it.

use super::{TidyFindings, check};

fn found(files: &[(&str, &str)]) -> TidyFindings {
    let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    check(files, &[]).unwrap()
}

#[track_caller]
fn circles(files: &[(&str, &str)], expected: &[&str]) {
    assert_eq!(found(files).circles, expected);
}

#[track_caller]
fn layers(files: &[(&str, &str)], expected: &[&str]) {
    assert_eq!(found(files).layers, expected);
}

#[track_caller]
fn purity(text: &str, expected: &[&str]) {
    assert_eq!(found(&[("types/a.rs", text)]).purity, expected, "{text}");
}

#[test]
fn an_import_that_goes_up() {
    layers(
        &[("types/name.rs", "use crate::model::lock::Lock;"), ("model/lock.rs", "pub struct Lock;")],
        &["types/name.rs:1 imports model/lock.rs: upward, from types (1) to model (3): Lock"],
    );
}

#[test]
fn an_import_that_goes_sideways() {
    layers(
        &[("server/tls.rs", "use crate::wire::{peers::{Peer, self}};"), ("wire/peers.rs", "pub struct Peer;")],
        &["server/tls.rs:1 imports wire/peers.rs: sideways, from server to wire (both 2): Peer"],
    );
}

#[test]
fn a_layer_below_that_the_table_leaves_out() {
    layers(
        &[("spec/read.rs", "fn f(_: crate::wire::peers::Peer) {}"), ("wire/peers.rs", "pub struct Peer;")],
        &["spec/read.rs:1 imports wire/peers.rs: spec may import types, model, not wire: Peer"],
    );
}

#[test]
fn what_the_table_allows() {
    layers(
        &[
            ("lib.rs", "pub mod cli; pub use cli::run;"),
            ("main.rs", "fn main() { isthmus::cli::run() }"),
            ("types/name.rs", "pub struct Name;"),
            ("checkout/read.rs", "use crate::types::name::Name;"),
            ("git/run.rs", "use crate::types::name::Name;"),
            ("roles/proxy/mod.rs", "use crate::roles::role::Role;"),
            ("roles/role.rs", "pub struct Role;"),
            ("cli/mod.rs", "use crate::git::run; pub fn run() {}"),
        ],
        &[],
    );
}

#[test]
fn a_role_that_imports_another_and_what_they_share_that_imports_one() {
    layers(
        &[
            ("roles/proxy/mod.rs", "use crate::roles::relay::admit::admit;"),
            ("roles/relay/admit.rs", "pub fn admit() {}"),
            ("roles/api/headers.rs", "fn f() { super::super::relay::admit::admit() }"),
        ],
        &[
            "roles/api/headers.rs:1 imports roles/relay/admit.rs: upward, from what roles share to roles/relay: admit",
            "roles/proxy/mod.rs:1 imports roles/relay/admit.rs: sideways, from roles/proxy to roles/relay: admit",
        ],
    );
}

#[test]
fn a_folder_and_a_file_in_no_layer() {
    layers(
        &[("lib.rs", ""), ("words/name.rs", ""), ("words/key.rs", ""), ("stray.rs", "")],
        &[
            "stray.rs: no layer has it; tests/tidy/layers.rs lists them",
            "words: no layer has it; tests/tidy/layers.rs lists them",
        ],
    );
}

#[test]
fn what_the_root_defines_is_above_all() {
    layers(
        &[("lib.rs", "pub struct Root;"), ("types/a.rs", "fn f(_: crate::Root) {}")],
        &["types/a.rs:1 imports lib.rs: upward, to the crate's root: Root"],
    );
}

/// Every way in which one file can speak of another.
#[test]
fn each_form_of_a_path_is_an_import() {
    let lock = (
        "model/lock.rs",
        "pub struct Lock; impl Lock { pub const OF: u8 = 0; } pub fn read() {} pub enum Kind { Old }",
    );
    for text in [
        "use crate::model::lock::Lock;",
        "use crate::model::lock::{Lock as Other};",
        "use crate::{model::{lock::{read, Kind}}};",
        "use crate::model::lock::*;",
        "use crate::model::lock::Kind::*;",
        "use crate::model; fn f(_: model::lock::Lock) {}",
        "use crate::model::lock as other; fn f() { other::read() }",
        "use crate::model::{self as m}; fn f() { m::lock::read() }",
        "fn f() { crate::model::lock::read() }",
        "fn f() { let _ = crate::model::lock::Lock::OF; }",
        "fn f() { use crate::model::lock; lock::read(); }",
        "fn f(x: u8) { match x { crate::model::lock::Lock::OF => {} _ => {} } }",
        "type T = Vec<Option<crate::model::lock::Lock>>;",
        "impl From<crate::model::lock::Lock> for u8 { }",
        "fn f() { println!(\"{}\", [1, crate::model::lock::Lock::OF].len()); }",
        "fn f() { use crate::model::lock; assert!(vec![lock::read()].is_empty()); }",
        "macro_rules! m { () => { $crate::model::lock::read() } }",
        "#[derive(Serialize)] struct S { #[serde(with = \"crate::model::lock::read\")] a: u8 }",
        "#[arg(value_parser = crate::model::lock::read)] struct S;",
        "mod inner { pub(in crate::types) use crate::model::lock; fn f() { lock::read() } }",
        "pub use crate::model::lock::read; fn f() { read() }",
        "fn f() { super::super::model::lock::read() }",
        "fn f() { crate::model::lock::MadeByAMacro::new() }",
        "#[cfg(not(test))] use crate::model::lock::Lock;",
        "#[cfg(any(test, unix))] use crate::model::lock::Lock;",
    ] {
        let reported = found(&[("types/a.rs", text), lock]).layers;
        let beginning = "types/a.rs:1 imports model/lock.rs: upward, from types (1) to model (3): ";
        assert!(matches!(reported.as_slice(), [one] if one.starts_with(beginning)), "{text}\n{reported:?}");
    }
}

#[test]
fn what_is_no_import() {
    let lock = ("model/lock.rs", "pub struct Lock; pub fn read() {}");
    for text in [
        "pub use crate::model::lock::Lock;",
        "pub(super) use crate::model::lock::*;",
        "use crate::model::lock;",
        "#[cfg(test)] use crate::model::lock::Lock;",
        "#[cfg(all(test, unix))] mod tests { use crate::model::lock::Lock; }",
        "#[test] fn f() { crate::model::lock::read() }",
        "fn f() { #[cfg(test)] crate::model::lock::read(); }",
        "struct S { #[cfg(test)] lock: crate::model::lock::Lock }",
        "impl S { #[cfg(test)] fn f() { crate::model::lock::read() } }",
        "/// Reads as [`crate::model::lock::read`] does.\nfn f() {}",
        "pub(in crate::model) fn f() {}",
        "fn f() { let crate_model_lock = \"crate::model::lock::read\"; }",
        "fn f() { other::model::lock::read() }",
    ] {
        assert_eq!(found(&[("types/a.rs", text), lock]).layers, [""; 0], "{text}");
    }
}

#[test]
fn a_file_for_tests_alone_is_not_heard() {
    layers(
        &[
            ("types/mod.rs", "#[cfg(test)] mod laws; #[cfg(test)] mod more;"),
            ("types/laws.rs", "use crate::cli::run;"),
            ("types/more/deep.rs", "use crate::cli::run;"),
            ("cli/mod.rs", "pub fn run() {}"),
        ],
        &[],
    );
}

#[test]
fn a_circle_of_two_by_super_and_inline() {
    circles(
        &[
            ("wire/mod.rs", "mod a; mod b;"),
            ("wire/a.rs", "use super::b::B;\npub struct A;"),
            ("wire/b.rs", "pub struct B;\nimpl B { fn f() -> super::a::A { super::a::A } }"),
        ],
        &["2 files import each other in a circle:\
            \n    wire/a.rs:1 -> wire/b.rs: B\
            \n    wire/b.rs:2 -> wire/a.rs: A"],
    );
}

#[test]
fn a_folder_that_drives_its_children_is_imported_by_none_of_them() {
    circles(
        &[
            ("wire/mod.rs", "mod a;\npub struct W;\nfn f() { a::run() }"),
            ("wire/a.rs", "pub fn run() -> super::W { super::W }"),
        ],
        &["2 files import each other in a circle:\
            \n    wire/a.rs:1 -> wire/mod.rs: W\
            \n    wire/mod.rs:3 -> wire/a.rs: run"],
    );
}

#[test]
fn a_folder_that_only_passes_on_is_in_no_circle() {
    circles(
        &[
            ("wire/mod.rs", "mod a; mod b; pub use a::A; pub use b::*;"),
            ("wire/a.rs", "pub struct A;"),
            ("wire/b.rs", "pub struct B(super::A);"),
        ],
        &[],
    );
}

#[test]
fn a_circle_through_re_exports() {
    circles(
        &[
            ("wire/mod.rs", "mod a; mod b; pub use a::A as First; pub use b::*;"),
            ("wire/a.rs", "pub struct A(super::B);"),
            ("wire/b.rs", "pub struct B(Box<crate::wire::First>);"),
        ],
        &["2 files import each other in a circle:\
            \n    wire/a.rs:1 -> wire/b.rs: B\
            \n    wire/b.rs:1 -> wire/a.rs: First"],
    );
}

#[test]
fn a_circle_through_globs_of_globs_and_a_variant() {
    circles(
        &[
            ("wire/mod.rs", "mod a; mod c; pub use c::*;"),
            ("wire/a.rs", "pub fn a() { super::Old; }"),
            ("wire/c/mod.rs", "mod d; pub use d::*; pub use super::*;"),
            ("wire/c/d.rs", "pub enum Kind { Old } pub use Kind::*; fn f() { crate::wire::a::a() }"),
        ],
        &["2 files import each other in a circle:\
            \n    wire/a.rs:1 -> wire/c/d.rs: Old\
            \n    wire/c/d.rs:1 -> wire/a.rs: a"],
    );
}

#[test]
fn a_circle_of_three_across_folders() {
    circles(
        &[
            ("types/a.rs", "use crate::wire::b::B; pub struct A;"),
            ("wire/b.rs", "use crate::model::c::C; pub struct B;"),
            ("model/c.rs", "use crate::types::a::A; pub struct C;"),
            ("model/d.rs", "use crate::types::a::A;"),
        ],
        &["3 files import each other in a circle:\
            \n    model/c.rs:1 -> types/a.rs: A\
            \n    types/a.rs:1 -> wire/b.rs: B\
            \n    wire/b.rs:1 -> model/c.rs: C"],
    );
}

#[test]
fn each_word_of_the_world() {
    for (text, reported) in [
        ("use std::fs;", "std::fs"),
        ("use std::{io, fs::File};", "std::fs::File"),
        ("use std::*;", "std::*"),
        ("fn f() { std::env::var(\"A\"); }", "std::env::var"),
        ("use std::net::{IpAddr, TcpStream};", "std::net::TcpStream"),
        ("fn f() { ::std::process::exit(1) }", "std::process::exit"),
        ("use std::thread::spawn;", "std::thread::spawn"),
        ("use std::time; fn f(_: time::Instant) {}", "std::time::Instant"),
        ("use std::time::SystemTime as S;", "std::time::SystemTime"),
        ("use jiff::Timestamp; fn f() { Timestamp::now(); }", "jiff::Timestamp::now"),
        ("use jiff::*; fn f() { Zoned::now(); }", "jiff::Zoned::now"),
        ("fn f() { vec![tokio::time::sleep()]; }", "tokio::time::sleep"),
        ("use reqwest::Client;", "reqwest::Client"),
        ("use hyper::body::Body;", "hyper::body::Body"),
        ("use kube::{Client, ResourceExt};", "kube::Client"),
        ("fn f() { rand::random() }", "rand::random"),
        ("use aws_lc_rs::{digest, rand};", "aws_lc_rs::rand"),
        ("use rcgen::KeyPair; fn f() { KeyPair::generate_for(); }", "rcgen::KeyPair::generate_for"),
        ("async fn f() {}", "async"),
        ("fn f() { async move {}; }", "async"),
        ("fn f() { async || {}; }", "async"),
        ("fn f() { select!(x.await); }", ".await"),
        ("trait T { async fn f(); }", "async"),
    ] {
        purity(text, &[&format!("types/a.rs:1 is pure and speaks of `{reported}`")]);
    }
    purity(
        "async fn f() {\n x.await\n}",
        &["types/a.rs:1 is pure and speaks of `async`", "types/a.rs:2 is pure and speaks of `.await`"],
    );
}

#[test]
fn what_is_not_the_world() {
    for text in [
        "use std::net::{IpAddr, Ipv4Addr}; use std::time::Duration; use std::io::Write; use std::fmt::*;",
        "use jiff::Timestamp; fn f(t: Timestamp) { t.now(); Timestamp::MAX; }",
        "use kube::core::ObjectMeta; use aws_lc_rs::digest; use rcgen::KeyPair;",
        "#[cfg(test)] mod tests { use std::fs; }",
        "/// As `std::fs` has it.\nfn fs() { let env = \"std::env\"; }",
    ] {
        purity(text, &[]);
    }
}

#[test]
fn the_world_by_way_of_a_re_export() {
    let found = found(&[("git/mod.rs", "pub use std::fs as files;"), ("gitops/a.rs", "use crate::git::files::read;")]);
    assert_eq!(found.purity, ["gitops/a.rs:1 is pure and speaks of `std::fs::read`"]);
}

#[test]
fn an_edge_may_speak_of_the_world_and_the_pipelines_stages_may_not() {
    let text = "use std::fs;";
    let paths =
        ["checkout/a.rs", "pipeline/mod.rs", "pipeline/observe/mod.rs", "pipeline/plan/mod.rs", "report/text.rs"];
    assert_eq!(
        found(&paths.map(|path| (path, text))).purity,
        ["pipeline/plan/mod.rs:1 is pure and speaks of `std::fs`"]
    );
}

#[test]
fn what_is_admitted_must_be_asked_for() {
    let files = || vec![("types/a.rs".to_owned(), "use std::env;".to_owned())];
    let admitted = [("types/a.rs", "std::env", "for this test")];
    assert_eq!(check(files(), &admitted).unwrap().purity, [""; 0]);
    let admitted = [("types/a.rs", "std::env", "for this test"), ("types/a.rs", "std::fs", "for this test")];
    assert_eq!(
        check(files(), &admitted).unwrap().purity,
        ["types/a.rs no longer speaks of `std::fs`; tests/tidy/purity.rs need not admit it"]
    );
}

#[test]
fn a_file_that_is_no_rust() {
    let error = check(vec![("types/a.rs".into(), "fn".into())], &[]).err();
    assert_eq!(error.as_deref(), Some("types/a.rs: unexpected end of input, expected identifier"));
}

#[test]
fn a_stage_that_is_called_from_outside() {
    let files = [
        ("cli/mod.rs", "fn f() { crate::pipeline::accept::accept(); crate::pipeline::plan::fields(); }"),
        ("session/mod.rs", "use crate::pipeline::accept::Accepted;"),
        ("pipeline/mod.rs", "fn run() { accept::accept(); }"),
        ("pipeline/accept/mod.rs", "pub struct Accepted; pub fn accept() {}"),
        ("pipeline/plan/mod.rs", "pub fn fields() {}"),
    ];
    assert_eq!(
        found(&files).stages,
        ["cli/mod.rs:1 calls a stage of pipeline/accept/mod.rs, not the road in pipeline/mod.rs: accept"]
    );
}
