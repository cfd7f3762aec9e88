//! The graph of steps: what comes after what, in one stable order.
//!
//! Nodes are steps, an edge points from a step to one that needs it. The order is by kind, cluster and peer wherever the
//! edges leave a choice, so that two runs, and two machines, list the same plan.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt::Write as _;

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};
use rustc_hash::FxHashMap;

use crate::model::lock::Lock;
use crate::model::mesh::{Cluster, Mesh};
use crate::model::needs::{NeedRow, NeedScope};
use crate::types::name::ClusterName;
use crate::types::step::{StepId, StepKind};

/// Most clusters of which the drawn graph shows every step; above, it shows one node a kind.
pub const MAX_DRAWN_CLUSTERS: usize = 8;

/// Steps that need each other in a circle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("steps need each other in a circle: {}", path.iter().map(ToString::to_string).collect::<Vec<_>>().join(" → "))]
pub struct Cycle {
    /// The circle; its first step is repeated at its end.
    pub path: Vec<StepId>,
}

/// The graph of steps.
#[derive(Debug, Clone)]
pub struct Graph {
    graph: DiGraph<StepId, ()>,
    order: Vec<NodeIndex>,
}

impl Graph {
    /// The steps of a mesh, as the table of [`needs`](crate::model::needs) has them: of the links that the spec wants, and of
    /// those that the lock still has. With `only`, the steps of one cluster and those they need.
    pub fn build(mesh: &Mesh, lock: &Lock, only: Option<&ClusterName>) -> Result<Self, Cycle> {
        let drawn = StepKind::ALL.map(|kind| (kind, NeedRow::of(kind).drawn()));
        let mut edges = Edges::default();
        for (name, cluster) in mesh.clusters.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
            let wanted = mesh.peers_of(name).map(|peer| (&peer.name, Some(peer)));
            let leaving = lock.links.get(name).into_iter().flat_map(|links| links.keys());
            let peers = wanted.chain(leaving.map(|peer| (peer, mesh.clusters.get(peer))));
            let here = Neighbours { own: (name, Some(cluster)), peers: &peers.collect() };
            for (kind, needs) in drawn.iter().filter(|(kind, _)| NeedRow::of(*kind).place.holds(Some(cluster))) {
                if *kind == StepKind::RenderSecret {
                    for (peer, declared) in here.peers {
                        here.draw(&StepId::secret(name, peer), Some((peer, *declared)), needs, &mut edges);
                    }
                } else {
                    here.draw(&StepId::of(*kind, name), None, needs, &mut edges);
                }
            }
        }
        edges.sorted()
    }

    /// A graph of these steps and edges (`before`, `after`).
    #[cfg(test)]
    fn from_edges(
        nodes: impl IntoIterator<Item = StepId>,
        edges: impl IntoIterator<Item = (StepId, StepId)>,
    ) -> Result<Self, Cycle> {
        let mut all = Edges::default();
        for node in nodes {
            all.node(node);
        }
        for (before, after) in edges {
            all.add(before, after);
        }
        all.sorted()
    }

    /// All steps, each after those it needs.
    pub fn order(&self) -> impl Iterator<Item = &StepId> {
        self.order.iter().filter_map(|index| self.graph.node_weight(*index))
    }

    /// Edges as (`before`, `after`), in the order of their ends.
    pub fn edges(&self) -> impl Iterator<Item = (&StepId, &StepId)> {
        self.order.iter().flat_map(move |index| {
            let mut before: Vec<_> = self.graph.neighbors_directed(*index, Direction::Incoming).collect();
            before.sort_unstable();
            before.into_iter().filter_map(move |from| self.graph.node_weight(from).zip(self.graph.node_weight(*index)))
        })
    }

    fn clusters(&self) -> usize {
        self.graph.node_weights().map(|step| &step.cluster).collect::<BTreeSet<_>>().len()
    }

    /// Boxes and arrows for people: every step of a small mesh, one box a kind of a large one.
    fn drawing(&self) -> Drawing {
        let mut drawing = Drawing::default();
        if self.clusters() <= MAX_DRAWN_CLUSTERS {
            for step in self.order() {
                drawing.boxes.push((step.to_string(), step.to_string(), Some(step.cluster.to_string())));
            }
            drawing.arrows = self.edges().map(|(a, b)| (a.to_string(), b.to_string(), String::new())).collect();
            return drawing;
        }
        let mut steps: BTreeMap<StepKind, usize> = BTreeMap::new();
        for step in self.order() {
            *steps.entry(step.kind).or_default() += 1;
        }
        let mut arrows: BTreeMap<(StepKind, StepKind), usize> = BTreeMap::new();
        for (before, after) in self.edges() {
            *arrows.entry((before.kind, after.kind)).or_default() += 1;
        }
        drawing.boxes =
            steps.iter().map(|(kind, count)| (kind.to_string(), format!("{kind} ×{count}"), None)).collect();
        drawing.arrows =
            arrows.iter().map(|((a, b), count)| (a.to_string(), b.to_string(), format!("×{count}"))).collect();
        drawing
    }

    /// The graph in Graphviz's language, DOT.
    pub fn to_dot(&self) -> String {
        let drawing = self.drawing();
        let mut out = String::from(
            "digraph isthmus {\n  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n",
        );
        let groups: BTreeSet<_> = drawing.boxes.iter().filter_map(|(_, _, group)| group.as_ref()).collect();
        for group in groups {
            let _ = writeln!(out, "  subgraph \"cluster_{group}\" {{\n    label=\"{group}\";");
            for (id, label, _) in drawing.boxes.iter().filter(|(_, _, own)| own.as_ref() == Some(group)) {
                let _ = writeln!(out, "    \"{id}\" [label=\"{label}\"];");
            }
            out.push_str("  }\n");
        }
        for (id, label, _) in drawing.boxes.iter().filter(|(_, _, group)| group.is_none()) {
            let _ = writeln!(out, "  \"{id}\" [label=\"{label}\"];");
        }
        for (before, after, label) in &drawing.arrows {
            let label = if label.is_empty() { String::new() } else { format!(" [label=\"{label}\"]") };
            let _ = writeln!(out, "  \"{before}\" -> \"{after}\"{label};");
        }
        out.push_str("}\n");
        out
    }

    /// Mermaid, as code hosts draw it in Markdown.
    pub fn to_mermaid(&self) -> String {
        let drawing = self.drawing();
        let ids: BTreeMap<&str, String> =
            drawing.boxes.iter().enumerate().map(|(at, (id, _, _))| (id.as_str(), format!("s{at}"))).collect();
        let id_of = |id: &str| ids.get(id).cloned().unwrap_or_default();
        let mut out = String::from("flowchart LR\n");
        let groups: BTreeSet<_> = drawing.boxes.iter().map(|(_, _, group)| group.as_ref()).collect();
        for group in groups {
            let indent = if let Some(group) = group {
                let _ = writeln!(out, "  subgraph {group}");
                "    "
            } else {
                "  "
            };
            for (id, label, _) in drawing.boxes.iter().filter(|(_, _, own)| own.as_ref() == group) {
                let _ = writeln!(out, "{indent}{}[\"{label}\"]", id_of(id));
            }
            if group.is_some() {
                out.push_str("  end\n");
            }
        }
        for (before, after, label) in &drawing.arrows {
            let label = if label.is_empty() { String::new() } else { format!("|\"{label}\"|") };
            let _ = writeln!(out, "  {} -->{label} {}", id_of(before), id_of(after));
        }
        out
    }

    /// All steps and edges, whatever their number.
    pub fn to_json(&self) -> serde_json::Value {
        let edges: Vec<_> = self.edges().map(|(before, after)| serde_json::json!([before, after])).collect();
        serde_json::json!({ "version": 1, "steps": self.order().collect::<Vec<_>>(), "edges": edges })
    }
}

/// A cluster and what is declared of it, if anything is.
type Declared<'a> = (&'a ClusterName, Option<&'a Cluster>);

/// A cluster and its peers.
struct Neighbours<'a> {
    own: Declared<'a>,
    peers: &'a BTreeMap<&'a ClusterName, Option<&'a Cluster>>,
}

impl Neighbours<'_> {
    /// The edges to one step from all that it needs, as far as there are such steps.
    fn draw(&self, step: &StepId, peer: Option<Declared<'_>>, needs: &[(StepKind, NeedScope)], edges: &mut Edges) {
        for (needed, of) in needs {
            let place = NeedRow::of(*needed).place;
            let mut from = |(name, declared): Declared<'_>| {
                if place.holds(declared) {
                    edges.add(StepId::of(*needed, name), step.clone());
                }
            };
            match of {
                NeedScope::Own => from(self.own),
                NeedScope::Peer => peer.into_iter().for_each(from),
                NeedScope::EachPeer => self.peers.iter().for_each(|(name, declared)| from((name, *declared))),
            }
        }
    }
}

#[derive(Default)]
struct Drawing {
    /// Id, label, group.
    boxes: Vec<(String, String, Option<String>)>,
    /// Before, after, label.
    arrows: Vec<(String, String, String)>,
}

/// Steps by number, in the order of their coming, and edges between the numbers: a mesh of 1,000 clusters has a million
/// steps and ten times as many edges.
#[derive(Default)]
struct Edges {
    numbers: FxHashMap<StepId, u32>,
    edges: Vec<(u32, u32)>,
}

impl Edges {
    fn node(&mut self, step: StepId) -> u32 {
        let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        *self.numbers.entry(step).or_insert(next)
    }

    fn add(&mut self, before: StepId, after: StepId) {
        let edge = (self.node(before), self.node(after));
        self.edges.push(edge);
    }

    /// The graph, its nodes by kind, cluster and peer.
    fn sorted(self) -> Result<Graph, Cycle> {
        let mut steps: Vec<(StepId, u32)> = self.numbers.into_iter().collect();
        steps.sort_unstable_by(|(a, _), (b, _)| (a.kind, &a.cluster, &a.peer).cmp(&(b.kind, &b.cluster, &b.peer)));
        let mut graph = DiGraph::with_capacity(steps.len(), self.edges.len());
        let mut places = vec![NodeIndex::default(); steps.len()];
        for (step, number) in steps {
            let place = graph.add_node(step);
            if let Some(slot) = usize::try_from(number).ok().and_then(|number| places.get_mut(number)) {
                *slot = place;
            }
        }
        let place = |number: u32| places.get(usize::try_from(number).unwrap_or(usize::MAX)).copied();
        let mut edges: Vec<_> = self.edges.iter().filter_map(|(a, b)| Some((place(*a)?, place(*b)?))).collect();
        edges.sort_unstable();
        edges.dedup();
        for (before, after) in edges {
            graph.add_edge(before, after, ());
        }
        let order = sort(&graph)?;
        Ok(Graph { graph, order })
    }
}

/// Kahn's algorithm with a heap: of the steps that are ready, the one that was inserted first.
fn sort(graph: &DiGraph<StepId, ()>) -> Result<Vec<NodeIndex>, Cycle> {
    let mut missing: Vec<usize> =
        graph.node_indices().map(|node| graph.neighbors_directed(node, Direction::Incoming).count()).collect();
    let mut ready: BinaryHeap<Reverse<NodeIndex>> = graph
        .node_indices()
        .zip(&missing)
        .filter(|(_, missing)| **missing == 0)
        .map(|(node, _)| Reverse(node))
        .collect();
    let mut order = Vec::with_capacity(graph.node_count());
    while let Some(Reverse(node)) = ready.pop() {
        order.push(node);
        for after in graph.neighbors(node) {
            if let Some(missing) = missing.get_mut(after.index()) {
                *missing -= 1;
                if *missing == 0 {
                    ready.push(Reverse(after));
                }
            }
        }
    }
    if order.len() == graph.node_count() { Ok(order) } else { Err(circle(graph, &missing)) }
}

/// A circle among the steps that never got ready: each of them needs another of them.
fn circle(graph: &DiGraph<StepId, ()>, missing: &[usize]) -> Cycle {
    let stuck = |node: &NodeIndex| missing.get(node.index()).is_some_and(|missing| *missing > 0);
    let mut seen: Vec<NodeIndex> = Vec::new();
    let mut next = graph.node_indices().find(|node| stuck(node));
    while let Some(node) = next {
        if let Some(at) = seen.iter().position(|seen| *seen == node) {
            let mut path: Vec<_> = seen.split_off(at);
            path.reverse();
            let least = path.iter().enumerate().min_by_key(|(_, node)| **node).map_or(0, |(at, _)| at);
            path.rotate_left(least);
            path.extend(path.first().copied());
            return Cycle { path: path.iter().filter_map(|node| graph.node_weight(*node).cloned()).collect() };
        }
        seen.push(node);
        next = graph.neighbors_directed(node, Direction::Incoming).filter(stuck).min();
    }
    Cycle { path: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn step(text: &str) -> StepId {
        text.parse().unwrap()
    }

    #[test]
    fn a_circle_prints_its_path() {
        let edges = [
            ("fetch-ca/a", "fetch-ca/b"),
            ("fetch-ca/b", "fetch-ca/c"),
            ("fetch-ca/c", "fetch-ca/a"),
            ("fetch-ca/c", "fetch-ca/d"),
        ];
        let cycle = Graph::from_edges([], edges.map(|(a, b)| (step(a), step(b)))).unwrap_err();
        assert_eq!(
            cycle.to_string(),
            "steps need each other in a circle: fetch-ca/a → fetch-ca/b → fetch-ca/c → fetch-ca/a"
        );
    }

    fn arbitrary_edges() -> impl Strategy<Value = Vec<(u8, u8)>> {
        prop::collection::vec((0u8..12, 0u8..12), 0..40)
    }

    proptest! {
        #[test]
        fn the_order_respects_every_edge_and_no_order_means_a_real_circle(edges in arbitrary_edges()) {
            let steps = |(a, b): &(u8, u8)| (step(&format!("fetch-ca/c{a}")), step(&format!("fetch-ca/c{b}")));
            let edges: Vec<_> = edges.iter().map(steps).collect();
            match Graph::from_edges([], edges.clone()) {
                Ok(graph) => {
                    let place: BTreeMap<_, _> = graph.order().enumerate().map(|(at, step)| (step.clone(), at)).collect();
                    for (before, after) in &edges {
                        prop_assert!(place[before] < place[after]);
                    }
                    let mut reversed = edges.clone();
                    reversed.reverse();
                    let again = Graph::from_edges([], reversed).unwrap();
                    prop_assert!(graph.order().eq(again.order()));
                }
                Err(cycle) => {
                    prop_assert!(cycle.path.len() >= 2 && cycle.path.first() == cycle.path.last());
                    for pair in cycle.path.windows(2) {
                        prop_assert!(edges.contains(&(pair[0].clone(), pair[1].clone())));
                    }
                }
            }
        }
    }
}
