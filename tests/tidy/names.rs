//! No two types share a name, so that one name means one thing wherever it is read.

use std::collections::BTreeMap;
use std::path::Path;

use proc_macro2::Ident;
use syn::visit::{self, Visit};

/// Names that two types may have, and why.
const SHARED: &[(&str, &str)] = &[("Checkout", "the program's is opened in a folder; the tests' makes that folder")];

/// Types of a file, by name and line.
struct Types(Vec<(String, usize)>);

impl Types {
    fn of(text: &str) -> Self {
        let mut types = Self(Vec::new());
        types.visit_file(&syn::parse_file(text).unwrap());
        types
    }

    fn add(&mut self, name: &Ident) {
        self.0.push((name.to_string(), name.span().start().line));
    }
}

impl<'ast> Visit<'ast> for Types {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.add(&item.ident);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.add(&item.ident);
    }

    fn visit_item_union(&mut self, item: &'ast syn::ItemUnion) {
        self.add(&item.ident);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.add(&item.ident);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.add(&item.ident);
        visit::visit_item_trait(self, item);
    }
}

/// Names of more than one type, each with where they are.
fn shared(files: &[(String, String)], admitted: &[(&str, &str)]) -> Vec<String> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in files {
        for (name, line) in Types::of(text).0 {
            places.entry(name).or_default().push(format!("{path}:{line}"));
        }
    }
    let admitted = |name: &str, places: &[String]| places.len() == 2 && admitted.iter().any(|(of, _)| *of == name);
    let shared = places.into_iter().filter(|(name, places)| places.len() > 1 && !admitted(name, places));
    shared.map(|(name, places)| format!("`{name}`: {}", places.join(", "))).collect()
}

/// All sources of the program, its tests and its benchmarks.
fn everything() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let below = |folder: &'static str| {
        super::sources(&root.join(folder)).into_iter().map(move |(path, text)| (format!("{folder}/{path}"), text))
    };
    ["engine", "tests", "benches"].into_iter().flat_map(below).collect()
}

#[test]
fn no_two_types_share_a_name() {
    let files = everything();
    let shared = shared(&files, SHARED);
    assert!(shared.is_empty(), "expected one type of each name, found\n{}", shared.join("\n"));
    for (name, _) in SHARED {
        let count = files.iter().flat_map(|(_, text)| Types::of(text).0).filter(|(of, _)| of == name).count();
        assert_eq!(count, 2, "`{name}` is listed as shared");
    }
}

#[test]
fn which_types_are_compared() {
    let of = |texts: &[&str], admitted: &[(&str, &str)]| {
        let file = |(number, text): (usize, &&str)| (format!("{number}.rs"), (*text).to_owned());
        shared(&texts.iter().enumerate().map(file).collect::<Vec<_>>(), admitted)
    };
    assert_eq!(of(&["struct A; enum B {}", "enum A {}"], &[]), ["`A`: 0.rs:1, 1.rs:1"]);
    assert_eq!(of(&["trait A {}", "mod a {\n union A { b: u8 } }"], &[]), ["`A`: 0.rs:1, 1.rs:2"]);
    assert_eq!(of(&["fn f() { struct A; }", "type A = u8;"], &[]), ["`A`: 0.rs:1, 1.rs:1"]);
    assert_eq!(of(&["struct A;", "struct A;"], &[("A", "so it is")]), [""; 0]);
    assert_eq!(of(&["struct A;", "struct A;", "struct A;"], &[("A", "so it is")]).len(), 1);
    assert_eq!(of(&["struct A; impl B for A { type C = u8; }", "enum D { A } struct C;"], &[]), [""; 0]);
}
