//! Comments of documentation: public items have one, and none repeats only what the item's name and type say.
//!
//! The compiler's own lint asks for one at every field and variant too, which are told by name, type and message; what
//! is written for a lint alone says nothing.

use std::collections::BTreeSet;

use proc_macro2::Ident;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, Lit, Meta, Visibility};

/// Words that say nothing by themselves.
const EMPTY: &[&str] = &[
    "a", "all", "an", "and", "are", "as", "at", "each", "field", "for", "from", "has", "have", "here", "how", "in",
    "is", "it", "its", "no", "none", "of", "on", "one", "or", "that", "the", "their", "them", "there", "these", "they",
    "thing", "this", "those", "to", "value", "was", "what", "when", "where", "which", "who", "whom", "whose", "why",
    "with",
];

/// Longest comment, in words, that is judged: a longer one that only repeats words puts them in an order.
const LONGEST: usize = 4;

/// Documentation of a file's items.
struct Items {
    found: Vec<String>,
    path: String,
}

/// The text of documentation; `None` where there is none.
fn documentation(attributes: &[Attribute]) -> Option<String> {
    let line = |attribute: &Attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    let lines: Vec<String> = attributes.iter().filter_map(line).collect();
    (!lines.is_empty()).then(|| lines.join(" "))
}

/// Parts of a name: of `snake_case`, `SCREAMING_CASE` and `CamelCase`, in lower case and without an `s` at the end.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut before = '_';
    for character in name.chars() {
        if character == '_' || (character.is_uppercase() && !before.is_uppercase()) {
            parts.push(String::new());
        }
        parts.last_mut().unwrap().extend(character.to_lowercase().filter(|character| *character != '_'));
        before = character;
    }
    parts.iter().map(|part| stem(part)).collect()
}

fn stem(word: &str) -> String {
    word.trim_end_matches("'s").trim_end_matches('s').to_lowercase()
}

/// Parts of all names in a type.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl Visit<'_> for Names {
    fn visit_ident(&mut self, name: &Ident) {
        self.0.extend(parts(&name.to_string()));
    }
}

/// Whether a comment has no word that is neither empty nor in the names. Code in it is something said.
fn repeats(text: &str, names: &BTreeSet<String>) -> bool {
    let spoken: Vec<&str> = text
        .split(|character: char| !character.is_alphanumeric() && character != '\'')
        .filter(|word| !word.is_empty())
        .collect();
    let is_known = |word: &&str| EMPTY.contains(&word.to_lowercase().as_str()) || names.contains(&stem(word));
    !text.contains('`') && !spoken.is_empty() && spoken.len() <= LONGEST && spoken.iter().all(is_known)
}

impl Items {
    fn of(path: &str, text: &str) -> Vec<String> {
        let mut items = Self { found: Vec::new(), path: path.to_owned() };
        items.visit_file(&syn::parse_file(text).unwrap());
        items.found
    }

    /// Judges an item's documentation by its name, and by names that are read with it.
    fn judge(&mut self, attributes: &[Attribute], name: &Ident, mut beside: Names) {
        let Some(text) = documentation(attributes) else { return };
        beside.visit_ident(name);
        if repeats(&text, &beside.0) {
            let line = name.span().start().line;
            self.found.push(format!("{}:{line}: `{name}`: `{}` only repeats its name", self.path, text.trim()));
        }
    }

    /// The same of an item, which has to have documentation where it is public.
    fn item(&mut self, attributes: &[Attribute], visibility: &Visibility, name: &Ident) {
        if matches!(visibility, Visibility::Public(_)) && documentation(attributes).is_none() {
            let line = name.span().start().line;
            self.found.push(format!("{}:{line}: `{name}` is public and has no documentation", self.path));
        }
        self.judge(attributes, name, Names::default());
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        matches!(&attribute.meta, Meta::List(list) if list.path.is_ident("cfg") && list.tokens.to_string().contains("test"))
    })
}

impl<'ast> Visit<'ast> for Items {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_for_tests(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.item(&item.attrs, &item.vis, &item.ident);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.item(&item.attrs, &item.vis, &item.ident);
        for variant in &item.variants {
            let mut beside = Names::default();
            beside.visit_ident(&item.ident);
            self.judge(&variant.attrs, &variant.ident, beside);
        }
        visit::visit_item_enum(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.item(&item.attrs, &item.vis, &item.ident);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.item(&item.attrs, &item.vis, &item.ident);
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.item(&item.attrs, &item.vis, &item.ident);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.item(&item.attrs, &item.vis, &item.sig.ident);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if item.trait_.is_none() {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.item(&item.attrs, &item.vis, &item.sig.ident);
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.item(&item.attrs, &item.vis, &item.ident);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.judge(&item.attrs, &item.sig.ident, Names::default());
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if let Some(name) = &field.ident {
            let mut beside = Names::default();
            beside.visit_type(&field.ty);
            self.judge(&field.attrs, name, beside);
        }
    }
}

#[test]
fn documentation_says_more_than_the_name() {
    let mut found = Vec::new();
    for (path, text) in super::engine() {
        // of the command line's arguments it is the help text
        if !path.starts_with("cli/") && !["watch/options.rs", "report/format.rs"].contains(&path.as_str()) {
            found.extend(Items::of(&format!("engine/{path}"), &text));
        }
    }
    assert!(found.is_empty(), "{} comments:\n{}", found.len(), found.join("\n"));
}

#[test]
fn which_documentation_says_nothing() {
    let wrong = |text: &str| !Items::of("a.rs", text).is_empty();
    for text in [
        "/// The cluster.\nstruct Cluster;",
        "struct A { /// Its name.\n name: String }",
        "struct A { /// The limits.\n of: Limits }",
        "enum Fault { /// What is at fault.\n Other { why: String } }",
        "pub struct A;",
        "/// What it is.\nfn f() {}",
        "struct A; impl A { /// Its paths.\n fn path(&self) {} }",
        "struct A; impl A { pub fn path(&self) {} }",
    ] {
        assert!(wrong(text), "{text}");
    }
    for text in [
        "/// A cluster as its spec declares it.\npub struct Cluster;",
        "struct A { name: String, /// In seconds.\n age: u64, /// Like `name`.\n other: u8 }",
        "enum Fault { Other, /// No longer than a line.\n Name(String) }",
        "#[cfg(test)] mod tests { pub fn f() {} }",
        "struct A; impl std::fmt::Display for A { fn fmt(&self) {} }",
        "mod a;",
    ] {
        assert!(!wrong(text), "{text}");
    }
}
