//! Which file imports which, and which go round in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;

use super::resolve::{Crate, Target};

/// What one file has of another.
pub(super) struct FileImport {
    pub(super) from: String,
    pub(super) to: String,
    /// The first line that speaks of it.
    pub(super) line: usize,
    /// What it has: the first word of each path that is no module's, as far as its spelling tells.
    pub(super) names: BTreeSet<String>,
}

impl FileImport {
    pub(super) fn names(&self) -> String {
        self.names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// All imports, by file.
pub(super) fn imports(of: &Crate) -> Vec<FileImport> {
    let mut found: BTreeMap<(&str, &str), (usize, BTreeSet<String>)> = BTreeMap::new();
    for (file, source) in of.sources.iter().enumerate() {
        for mention in &source.mentions {
            for target in of.targets(file, mention) {
                let to = match target {
                    Target::Item(to, _) => to,
                    // a module's name is a way to its names; taking all of them is using it
                    Target::Module(place) if mention.glob => place.file,
                    Target::Module(_) | Target::Outside(_) => continue,
                };
                if to != file {
                    let (line, names) = found
                        .entry((&of.paths[file], &of.paths[to]))
                        .or_insert_with(|| (mention.line, BTreeSet::new()));
                    *line = mention.line.min(*line);
                    names.insert(if mention.glob { "*".to_owned() } else { name(&mention.path).to_owned() });
                }
            }
        }
    }
    let import =
        |((from, to), (line, names)): ((&str, &str), _)| FileImport { from: from.into(), to: to.into(), line, names };
    found.into_iter().map(import).collect()
}

fn name(path: &[String]) -> &str {
    path.iter().find(|word| word.starts_with(char::is_uppercase)).or(path.last()).map_or("", String::as_str)
}

/// Each set of files that import each other in a circle, with the imports that close it.
pub(super) fn circles(imports: &[FileImport]) -> Vec<String> {
    let mut graph = DiGraph::<&str, ()>::new();
    let mut nodes = BTreeMap::new();
    for import in imports {
        let [from, to] =
            [&import.from, &import.to].map(|file| *nodes.entry(file).or_insert_with(|| graph.add_node(file)));
        graph.add_edge(from, to, ());
    }
    let mut found: Vec<String> = Vec::new();
    for files in tarjan_scc(&graph) {
        if files.len() < 2 {
            continue;
        }
        let files: Vec<&str> = files.into_iter().map(|node| graph[node]).collect();
        let mut text = format!("{} files import each other in a circle:", files.len());
        for import in imports {
            if files.contains(&import.from.as_str()) && files.contains(&import.to.as_str()) {
                let _ = write!(text, "\n    {}:{} -> {}: {}", import.from, import.line, import.to, import.names());
            }
        }
        found.push(text);
    }
    found.sort();
    found
}
