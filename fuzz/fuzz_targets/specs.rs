//! Specs of anyone are read or have findings, none of which steers a terminal.

#![no_main]

use isthmus::pipeline::{Input, Program, Stop};
use isthmus::spec::SourceFile;
use isthmus::types::diagnostic::{Diagnostics, render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let specs = vec![SourceFile { path: "specs/mesh.yaml".into(), bytes: input.to_vec() }];
    match Program::load(&Input { specs, ..Input::default() }, &|_| None) {
        Ok(program) => harmless(&program.warnings),
        Err(Stop::Findings(findings)) => {
            assert!(!findings.sorted().is_empty());
            harmless(&findings);
        }
        Err(other) => panic!("{other}"),
    }
});

fn harmless(findings: &Diagnostics) {
    let text = render(findings);
    assert!(!text.chars().any(|sign| sign.is_control() && sign != '\n'), "{text:?}");
}
