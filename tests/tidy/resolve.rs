//! From a path to the file that defines what it names, through every `use` and `pub use` between.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{self, Mention, ModuleName, ModuleScope, Segments, Source};

/// What a path leads to.
pub(super) enum Target {
    /// Something in a file, with its variants where it has such.
    Item(usize, BTreeSet<String>),
    /// A module as such.
    Module(ModulePlace),
    /// Something of another crate, by its whole path.
    Outside(Segments),
}

/// A module, by its file and its place among the file's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ModulePlace {
    pub(super) file: usize,
    pub(super) scope: usize,
}

/// All files of a crate.
pub(super) struct Crate {
    /// Paths from the crate's folder.
    pub(super) paths: Vec<String>,
    pub(super) sources: Vec<Source>,
    modules: BTreeMap<Segments, ModulePlace>,
}

/// What is being followed, so that names which lead to each other end somewhere.
type Trail = Vec<(ModulePlace, String)>;

impl Crate {
    /// Reads files, given as path and text. A `lib.rs` or `mod.rs` that is not given is taken for an empty one.
    pub(super) fn new(files: Vec<(String, String)>) -> Result<Self, String> {
        let mut read = BTreeMap::new();
        for (path, text) in files {
            let module = module_of(&path);
            for length in 0..module.len() {
                let parent = module.get(..length).unwrap_or_default();
                let path = if parent.is_empty() { "lib.rs".to_owned() } else { format!("{}/mod.rs", parent.join("/")) };
                read.entry(parent.to_vec()).or_insert((path, String::new()));
            }
            read.insert(module, (path, text));
        }
        let mut this = Self { paths: Vec::new(), sources: Vec::new(), modules: BTreeMap::new() };
        for (module, (path, text)) in read {
            this.sources.push(source::read(module, &text).map_err(|error| format!("{path}: {error}"))?);
            this.paths.push(path);
        }
        let for_tests: Vec<Segments> = this.sources.iter().flat_map(|source| source.test_modules.clone()).collect();
        for (file, source) in this.sources.iter_mut().enumerate() {
            if for_tests.iter().any(|module| source.scopes[0].module.starts_with(module)) {
                source.mentions.clear();
                source.waits.clear();
                continue;
            }
            for (scope, ModuleScope { module, .. }) in source.scopes.iter().enumerate() {
                this.modules.insert(module.clone(), ModulePlace { file, scope });
            }
        }
        Ok(this)
    }

    /// Where a path leads; several ways where a name stands for several things.
    pub(super) fn targets(&self, file: usize, mention: &Mention) -> Vec<Target> {
        self.resolve(ModulePlace { file, scope: mention.scope }, &mention.path, &mut Trail::new())
    }

    fn scope(&self, place: ModulePlace) -> &ModuleScope {
        &self.sources[place.file].scopes[place.scope]
    }

    fn root(&self) -> ModulePlace {
        self.modules.get([].as_slice()).copied().unwrap_or(ModulePlace { file: 0, scope: 0 })
    }

    fn resolve(&self, from: ModulePlace, path: &[String], trail: &mut Trail) -> Vec<Target> {
        let Some((first, rest)) = path.split_first() else { return vec![Target::Module(self.root())] };
        match first.as_str() {
            "crate" => self.within(self.root(), rest, trail),
            "self" => self.within(from, rest, trail),
            "super" => {
                let mut module = self.scope(from).module.clone();
                module.pop();
                let mut rest = rest;
                while let Some(("super", further)) = rest.split_first().map(|(word, further)| (word.as_str(), further))
                {
                    module.pop();
                    rest = further;
                }
                self.modules.get(&module).map_or_else(Vec::new, |place| self.within(*place, rest, trail))
            }
            _ => {
                let found = self.find(from, path, trail);
                if !found.is_empty() {
                    return found;
                }
                // the crate's own binary names it like any other crate
                if first == "isthmus" {
                    return self.within(self.root(), rest, trail);
                }
                let mut outside = vec![Target::Outside(path.to_vec())];
                for glob in &self.scope(from).globs {
                    // a glob that is being followed has no say in where it leads itself
                    if glob.first() != Some(first) && !is_own(glob) {
                        outside.push(Target::Outside([glob.as_slice(), path].concat()));
                    }
                }
                outside
            }
        }
    }

    /// A path from a module on. What the module does not know by name, a macro may have made there.
    fn within(&self, module: ModulePlace, path: &[String], trail: &mut Trail) -> Vec<Target> {
        let found = self.find(module, path, trail);
        if found.is_empty() { vec![Target::Item(module.file, BTreeSet::new())] } else { found }
    }

    fn find(&self, module: ModulePlace, path: &[String], trail: &mut Trail) -> Vec<Target> {
        let Some((first, rest)) = path.split_first() else { return vec![Target::Module(module)] };
        let scope = self.scope(module);
        let mut found = Vec::new();
        let child: Segments = scope.module.iter().chain([first]).cloned().collect();
        if let Some(child) = self.modules.get(&child) {
            found.extend(self.within(*child, rest, trail));
        }
        for name in scope.names.get(first).into_iter().flatten() {
            match name {
                ModuleName::Item { is_type, variants } if *is_type || rest.is_empty() => {
                    found.push(Target::Item(module.file, variants.clone()));
                }
                ModuleName::Item { .. } => {}
                ModuleName::Import(path) => found.extend(self.import(module, first, path, rest, trail)),
            }
        }
        if found.is_empty() {
            for glob in &scope.globs {
                found.extend(self.through(module, glob, path, trail));
            }
        }
        if found.is_empty() && scope.spoken.contains(first) {
            found.push(Target::Item(module.file, BTreeSet::new()));
        }
        found
    }

    /// What a module finds of a path in what it has by `use …::*`.
    fn through(&self, module: ModulePlace, glob: &[String], path: &[String], trail: &mut Trail) -> Vec<Target> {
        let step = (module, format!("{}::*", glob.join("::")));
        if trail.contains(&step) {
            return Vec::new();
        }
        trail.push(step);
        let mut found = Vec::new();
        for target in self.resolve(module, glob, trail) {
            match target {
                Target::Module(inner) => found.extend(self.find(inner, path, trail)),
                Target::Item(file, variants) if path.first().is_some_and(|first| variants.contains(first)) => {
                    found.push(Target::Item(file, BTreeSet::new()));
                }
                Target::Item(..) | Target::Outside(_) => {}
            }
        }
        trail.pop();
        found
    }

    fn import(&self, at: ModulePlace, name: &str, path: &[String], rest: &[String], trail: &mut Trail) -> Vec<Target> {
        let step = (at, name.to_owned());
        if trail.contains(&step) {
            return Vec::new();
        }
        trail.push(step);
        let mut found = Vec::new();
        for target in self.resolve(at, path, trail) {
            match target {
                Target::Module(module) => found.extend(self.within(module, rest, trail)),
                Target::Outside(segments) => found.push(Target::Outside([&segments, rest].concat())),
                item @ Target::Item(..) => found.push(item),
            }
        }
        trail.pop();
        found
    }
}

fn is_own(path: &[String]) -> bool {
    path.first().is_some_and(|first| matches!(first.as_str(), "crate" | "self" | "super"))
}

/// The module of a file: `a/b.rs` and `a/b/mod.rs` are `a::b`; the binary's stands aside.
fn module_of(path: &str) -> Segments {
    let mut segments: Segments = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    match segments.last().map(String::as_str) {
        Some("mod") => drop(segments.pop()),
        Some("lib") if segments.len() == 1 => segments.clear(),
        _ => {}
    }
    segments
}
