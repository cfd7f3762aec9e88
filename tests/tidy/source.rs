//! What one file says: the names it makes, the paths it speaks of, and where it waits. Code for tests alone is not heard.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::parse::Parser as _;
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ImplItem, Item, Meta, Token, TraitItem, UseTree, Visibility};

/// A path as it is written, `["crate", "types", "name"]`.
pub(super) type Segments = Vec<String>;

/// A name in a module.
pub(super) enum ModuleName {
    /// Something defined here; what is not a type has no paths into it.
    Item { is_type: bool, variants: BTreeSet<String> },
    /// Brought here by `use`, public or not.
    Import(Segments),
}

/// A module: a file's own, or one written out inside it.
#[derive(Default)]
pub(super) struct ModuleScope {
    /// Its path from the crate's root.
    pub(super) module: Segments,
    pub(super) names: BTreeMap<String, Vec<ModuleName>>,
    /// What `use …::*` names.
    pub(super) globs: Vec<Segments>,
    /// Words in macros called here: what they define is not seen, so a name that is found nowhere else may be one of them.
    pub(super) spoken: BTreeSet<String>,
}

/// A path that is spoken of.
pub(super) struct Mention {
    /// The module it is spoken of in, by its place in [`Source::scopes`].
    pub(super) scope: usize,
    pub(super) path: Segments,
    pub(super) line: usize,
    /// A `use …::*`, of which `path` is what stands before the star.
    pub(super) glob: bool,
}

/// One file, read.
pub(super) struct Source {
    pub(super) scopes: Vec<ModuleScope>,
    pub(super) mentions: Vec<Mention>,
    /// `async` and `.await`, by line.
    pub(super) waits: Vec<(usize, &'static str)>,
    /// Modules of other files that are declared here for tests alone.
    pub(super) test_modules: Vec<Segments>,
}

/// Reads the file of `module`.
pub(super) fn read(module: Segments, text: &str) -> Result<Source, syn::Error> {
    let file = syn::parse_file(text)?;
    let mut reader = SourceReader {
        source: Source {
            scopes: vec![ModuleScope { module, ..ModuleScope::default() }],
            mentions: Vec::new(),
            waits: Vec::new(),
            test_modules: Vec::new(),
        },
        scope: 0,
        in_attribute: false,
    };
    reader.visit_file(&file);
    Ok(reader.source)
}

struct SourceReader {
    source: Source,
    /// The module being read.
    scope: usize,
    /// A string in an attribute may be a path: `#[serde(with = "crate::types::hex")]`.
    in_attribute: bool,
}

impl SourceReader {
    fn here(&mut self) -> &mut ModuleScope {
        &mut self.source.scopes[self.scope]
    }

    fn mention(&mut self, path: Segments, line: usize, glob: bool) {
        self.source.mentions.push(Mention { scope: self.scope, path, line, glob });
    }

    fn define(&mut self, ident: &Ident, is_type: bool, variants: BTreeSet<String>) {
        self.here().names.entry(text(ident)).or_default().push(ModuleName::Item { is_type, variants });
    }

    /// A `use` and its branches. Passing a name on is no use of it.
    fn import(&mut self, tree: &UseTree, before: &[String], passes_on: bool) {
        let with = |ident: &Ident| {
            let mut path = before.to_vec();
            // `a::{self}` is `a`
            if path.is_empty() || ident != "self" {
                path.push(text(ident));
            }
            path
        };
        let (path, name, line) = match tree {
            UseTree::Path(next) => return self.import(&next.tree, &with(&next.ident), passes_on),
            UseTree::Group(group) => return group.items.iter().for_each(|tree| self.import(tree, before, passes_on)),
            UseTree::Glob(glob) => {
                self.here().globs.push(before.to_vec());
                if !passes_on {
                    self.mention(before.to_vec(), glob.star_token.spans[0].start().line, true);
                }
                return;
            }
            UseTree::Name(name) => (with(&name.ident), None, line(&name.ident)),
            UseTree::Rename(rename) => (with(&rename.ident), Some(text(&rename.rename)), line(&rename.ident)),
        };
        let name = name.or_else(|| path.last().cloned()).unwrap_or_default();
        if name != "_" {
            self.here().names.entry(name).or_default().push(ModuleName::Import(path.clone()));
        }
        if !passes_on {
            self.mention(path, line, false);
        }
    }

    /// Paths among a macro's tokens.
    fn tokens(&mut self, tokens: TokenStream, spoken: bool) {
        let mut path: Vec<Ident> = Vec::new();
        let (mut colons, mut after_dot) = (0, false);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end_of(&mut path);
                    }
                    if spoken {
                        self.here().spoken.insert(text(&ident));
                    }
                    match text(&ident).as_str() {
                        "async" => self.source.waits.push((line(&ident), "async")),
                        "await" if after_dot => self.source.waits.push((line(&ident), ".await")),
                        // a method or a field
                        _ if after_dot => {}
                        _ => path.push(ident),
                    }
                    (colons, after_dot) = (0, false);
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => {
                    colons += 1;
                    after_dot = false;
                    if colons > 2 {
                        self.end_of(&mut path);
                    }
                }
                TokenTree::Punct(mark) => {
                    self.end_of(&mut path);
                    colons = 0;
                    after_dot = mark.as_char() == '.';
                }
                TokenTree::Group(group) => {
                    self.end_of(&mut path);
                    (colons, after_dot) = (0, false);
                    self.tokens(group.stream(), spoken);
                }
                TokenTree::Literal(literal) => {
                    self.end_of(&mut path);
                    (colons, after_dot) = (0, false);
                    if self.in_attribute {
                        self.path_in_string(&literal.to_string(), literal.span().start().line);
                    }
                }
            }
        }
        self.end_of(&mut path);
    }

    fn end_of(&mut self, path: &mut Vec<Ident>) {
        if let Some(first) = path.first() {
            let line = line(first);
            let segments = path.drain(..).map(|ident| text(&ident)).collect();
            self.mention(segments, line, false);
        }
    }

    fn path_in_string(&mut self, literal: &str, line: usize) {
        let segments: Segments = literal.trim_matches('"').split("::").map(str::to_owned).collect();
        if segments.len() > 1 && segments.iter().all(|word| syn::parse_str::<syn::PathSegment>(word).is_ok()) {
            self.mention(segments, line, false);
        }
    }
}

impl<'ast> Visit<'ast> for SourceReader {
    fn visit_item(&mut self, item: &'ast Item) {
        if for_tests(of_item(item)) {
            if let Item::Mod(module) = item {
                let mut path = self.here().module.clone();
                path.push(text(&module.ident));
                self.source.test_modules.push(path);
            }
            return;
        }
        let none = BTreeSet::new;
        match item {
            Item::Const(item) => self.define(&item.ident, false, none()),
            Item::Static(item) => self.define(&item.ident, false, none()),
            Item::Fn(item) => self.define(&item.sig.ident, false, none()),
            Item::Struct(item) => self.define(&item.ident, true, none()),
            Item::Union(item) => self.define(&item.ident, true, none()),
            Item::Trait(item) => self.define(&item.ident, true, none()),
            Item::TraitAlias(item) => self.define(&item.ident, true, none()),
            Item::Type(item) => self.define(&item.ident, true, none()),
            Item::Enum(item) => {
                let variants = item.variants.iter().map(|variant| text(&variant.ident)).collect();
                self.define(&item.ident, true, variants);
            }
            Item::Macro(item) => match &item.ident {
                Some(ident) => self.define(ident, false, none()),
                None => return self.tokens(item.mac.tokens.clone(), true),
            },
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let Some((_, items)) = &item.content else { return };
        let outer = self.scope;
        let mut module = self.here().module.clone();
        module.push(text(&item.ident));
        self.scope = self.source.scopes.len();
        self.source.scopes.push(ModuleScope { module, ..ModuleScope::default() });
        for item in items {
            self.visit_item(item);
        }
        self.scope = outer;
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(&item.tree, &[], !matches!(item.vis, Visibility::Inherited));
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if !for_tests(of_impl_item(item)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        if !for_tests(of_trait_item(item)) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !for_tests(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        if !for_tests(&variant.attrs) {
            visit::visit_variant(self, variant);
        }
    }

    fn visit_field_value(&mut self, field: &'ast syn::FieldValue) {
        if !for_tests(&field.attrs) {
            visit::visit_field_value(self, field);
        }
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if !for_tests(&arm.attrs) {
            visit::visit_arm(self, arm);
        }
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if !for_tests(&local.attrs) {
            visit::visit_local(self, local);
        }
    }

    fn visit_stmt_macro(&mut self, statement: &'ast syn::StmtMacro) {
        if !for_tests(&statement.attrs) {
            visit::visit_stmt_macro(self, statement);
        }
    }

    fn visit_expr(&mut self, expression: &'ast Expr) {
        if !for_tests(of_expression(expression)) {
            visit::visit_expr(self, expression);
        }
    }

    /// `pub(in crate::types)` uses nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if let Some(first) = path.segments.first() {
            let segments = path.segments.iter().map(|segment| text(&segment.ident)).collect();
            self.mention(segments, line(&first.ident), false);
        }
        visit::visit_path(self, path);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if attribute.path().is_ident("doc") {
            return;
        }
        let outer = std::mem::replace(&mut self.in_attribute, true);
        visit::visit_attribute(self, attribute);
        self.in_attribute = outer;
    }

    fn visit_lit_str(&mut self, string: &'ast syn::LitStr) {
        if self.in_attribute {
            self.path_in_string(&string.value(), string.span().start().line);
        }
    }

    fn visit_token_stream(&mut self, tokens: &'ast TokenStream) {
        self.tokens(tokens.clone(), false);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if let Some(word) = &signature.asyncness {
            self.source.waits.push((word.span.start().line, "async"));
        }
        visit::visit_signature(self, signature);
    }

    fn visit_expr_closure(&mut self, closure: &'ast syn::ExprClosure) {
        if let Some(word) = &closure.asyncness {
            self.source.waits.push((word.span.start().line, "async"));
        }
        visit::visit_expr_closure(self, closure);
    }

    fn visit_expr_async(&mut self, block: &'ast syn::ExprAsync) {
        self.source.waits.push((block.async_token.span.start().line, "async"));
        visit::visit_expr_async(self, block);
    }

    fn visit_expr_await(&mut self, expression: &'ast syn::ExprAwait) {
        self.source.waits.push((expression.await_token.span.start().line, ".await"));
        visit::visit_expr_await(self, expression);
    }
}

fn text(ident: &Ident) -> String {
    ident.to_string().trim_start_matches("r#").to_owned()
}

fn line(ident: &Ident) -> usize {
    ident.span().start().line
}

/// Whether `#[cfg(…)]` leaves it out of everything but tests.
fn for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute.parse_args::<Meta>().is_ok_and(|condition| outside_tests(&condition) == Some(false))
    })
}

/// What a condition of `cfg` comes to outside tests, where that alone decides it.
fn outside_tests(condition: &Meta) -> Option<bool> {
    match condition {
        Meta::Path(path) => path.is_ident("test").then_some(false),
        Meta::List(list) => {
            let inner = Punctuated::<Meta, Token![,]>::parse_terminated.parse2(list.tokens.clone()).ok()?;
            let mut inner = inner.iter().map(outside_tests);
            if list.path.is_ident("not") {
                inner.next()?.map(|value| !value)
            } else if list.path.is_ident("all") {
                inner.any(|value| value == Some(false)).then_some(false)
            } else {
                inner.all(|value| value == Some(false)).then_some(false)
            }
        }
        Meta::NameValue(_) => None,
    }
}

macro_rules! attributes {
    ($name:ident, $kind:ident: $($variant:ident)*) => {
        fn $name(node: &$kind) -> &[Attribute] {
            match node {
                $($kind::$variant(node) => &node.attrs,)*
                _ => &[],
            }
        }
    };
}
attributes!(of_item, Item: Const Enum ExternCrate Fn ForeignMod Impl Macro Mod Static Struct Trait TraitAlias Type Union Use);
attributes!(of_impl_item, ImplItem: Const Fn Type Macro);
attributes!(of_trait_item, TraitItem: Const Fn Type Macro);
attributes!(of_expression, Expr: Block Call If Let Loop Macro Match MethodCall Path Struct Unsafe);
