//! Specs: what is read, and that what is wrong is said at once, in words, with its place.

use isthmus::diagnostic::render;
use isthmus::spec::{Source, parse};

use crate::bad_input_specs::source;

fn findings(sources: &[Source]) -> String {
    match parse(sources) {
        Ok(spec) => format!("{spec:#?}"),
        Err(findings) => render(&findings),
    }
}

#[test]
fn two_slips_in_one_document_and_one_in_the_next_are_said_at_once() {
    let text = "\
apiVersion: isthmus.dev/v1alpha1
kind: Cluster
metadata: {name: East}
spec:
  reconcilr: rendered
  metadata:
    endpoint: http://istio-metadata.east.example.com/metadata
  gateways: [{address: 0x7f.1, port: 0}]
---
kind: Clutser
apiVersion: isthmus.dev/v1alpha1
---
a: {
---
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: shop}
spec: {acceptForeignRoots: yes, topolgy: full}
";
    insta::assert_snapshot!(findings(&[source("specs/a.yaml", text)]));
}
