//! The end of a walk: all is well again, and the fleet becomes what the specs say.

use std::collections::{BTreeMap, BTreeSet};

use isthmus::pipeline::plan::Plan;
use isthmus::types::explanation::Code;
use isthmus::types::name::ClusterName;

use super::judge::is_left_to_others;
use super::law::{Broken, Law, ReaderAndPeer, broken, short};
use super::{FleetMesh, FleetOutcome, HOUR, RunFlags, cluster_name};
use crate::file::FleetFile;
use crate::site::NAMES;
use crate::wish::{FieldValues, WantedSpecs};

/// Fields that no edit changes while links rest on them.
const JOINED_WITH: [&str; 5] =
    ["metadata.name", "credentials.requireToken", "reconciler", "istio.config", "multicluster.enabled"];

impl FleetMesh {
    /// Brings back what a plan says was lost, by the command that it names: each file as it was last, other than it
    /// is and was when it was named before. Whether anything was brought back.
    fn restore(&mut self, plan: &Plan, named: &mut BTreeMap<String, Vec<FleetFile>>) -> bool {
        let hints = plan.steps.iter().flat_map(|step| step.state.explanations()).filter_map(|why| why.hint.as_ref());
        let file = |hint: &String| {
            let (_, rest) = hint.split_once("`git checkout COMMIT~1 -- ")?;
            Some(rest.split_once('`').unwrap().0.to_owned())
        };
        let files: BTreeSet<String> = hints.filter_map(file).collect();
        for file in &files {
            let tried = named.entry(file.clone()).or_default();
            tried.extend(self.checkout.get(file).cloned());
            let mut versions = self.commits.iter().rev().filter_map(|commit| commit.checkout.get(file));
            let untried = versions.find(|bytes| !tried.contains(*bytes)).cloned();
            if let Some(bytes) = untried {
                self.checkout.insert(file.clone(), bytes);
            }
        }
        if !files.is_empty() {
            self.commit();
        }
        !files.is_empty()
    }

    /// All is well again, everybody syncs, nothing untrue is stated: the fleet becomes what the specs say, soon.
    pub(crate) fn calm(&mut self) -> Result<(), Broken> {
        for site in self.sites.values_mut() {
            (site.trouble, site.is_agent_down) = (None, false);
            site.drop_held();
        }
        for name in NAMES {
            self.take_foreign(name);
        }
        for name in self.names().into_iter().filter(|name| self.site(name).is_kept_by_others()).collect::<Vec<_>>() {
            self.go_to_others(name);
        }
        let mut target = self.wish.mended(&self.sites);
        if let Some(mesh) = self.mesh_of_tree() {
            target.mesh.remove("metadata.name");
            if mesh != "shop" {
                target.mesh.insert("metadata.name", mesh.into());
            }
        }
        let mut named = BTreeMap::new();
        for _ in 0..8 {
            self.wish = target.clone();
            let outcome = self.run(RunFlags { locked: true, ..RunFlags::default() })?;
            let FleetOutcome::Done(plan) = outcome else { break };
            if !self.restore(&plan, &mut named) {
                break;
            }
        }
        self.sweep(&target);
        self.declare_lost(&mut target);
        self.wish = target.clone();
        for attempt in 0.. {
            let outcome = self.settle()?;
            match outcome {
                FleetOutcome::Done(_) => break,
                FleetOutcome::Refused(reasons) if attempt < 3 => self.way_out(&reasons, 3)?,
                FleetOutcome::Refused(reasons) => return broken(Law::Unrest, format!("no way out of {reasons:?}")),
            }
            self.wish = target.clone();
        }
        // no one syncs a cluster that no document declares
        let declared = self.pairs().into_iter().filter(|(reader, _)| self.wish.clusters.contains_key(reader));
        for pair @ (reader, peer) in declared.collect::<Vec<_>>() {
            let wanted = self.wish.links(reader, peer);
            // what was left to another checkout is that one's to take away
            if !wanted && self.is_marked(pair) {
                continue;
            }
            if wanted != self.live_id(pair).is_some() {
                return broken(Law::Wrong, format!("{reader}/{peer} is wanted: {wanted}"));
            }
            if let Some(id) = self.live_id(pair) {
                let stated = self.wish.says(reader, "mergeTrustDomains").and_then(serde_json::Value::as_bool);
                let (from, to) = (self.site(reader), self.site(peer));
                let is_merged = from.istiod.aliases.contains(&to.domain());
                if from.domain() != to.domain() && stated.is_some_and(|stated| stated != is_merged) {
                    return broken(Law::Wrong, format!("{reader} is merged with {}: {is_merged}", to.domain()));
                }
                let lacks = self.lacks(pair, &id, None);
                if !lacks.is_empty() {
                    return broken(Law::Wrong, format!("{reader}/{peer} at rest: {}", short(&Vec::from_iter(lacks))));
                }
            }
        }
        Ok(())
    }

    /// Someone deletes a secret by hand where a plan waits for that and names it as the way out. Only one that is marked not to be pruned, in a
    /// cluster that was stated to be lost when it was left with it, and is not.
    fn delete_marked(&mut self, plan: &Plan) {
        let waits = plan.steps.iter().flat_map(|step| step.state.explanations());
        let waits = waits.filter(|why| why.hint.as_ref().is_some_and(|hint| hint.contains("delete it by hand")));
        let messages: Vec<&str> = waits.map(|why| why.message.as_str()).collect();
        let is_named = |(reader, peer): &ReaderAndPeer| {
            let what = format!("the remote secret of `{peer}` to be gone from `{reader}`");
            messages.iter().any(|message| message.contains(&what))
        };
        let named: Vec<ReaderAndPeer> =
            self.lost_while_left.iter().filter(|pair| is_named(pair) && self.is_marked(**pair)).copied().collect();
        for (reader, peer) in named {
            if let Some(site) = self.sites.get_mut(reader) {
                site.put(&format!("secret-istio-remote-secret-{peer}.yaml"), None);
            }
        }
    }

    /// Someone declares what a cluster of another checkout reads, where a plan names that as the way to take it over.
    fn declare_linked(&mut self, plan: &Plan) {
        let whys = plan.steps.iter().flat_map(|step| step.state.explanations());
        let whys = whys.filter(|why| why.hint.as_ref().is_some_and(|hint| hint.contains("declare here each cluster")));
        let messages: Vec<&str> = whys.map(|why| why.message.as_str()).collect();
        for (name, site) in &self.sites {
            let is_named = |message: &&str| message.contains(&format!("what is live in `{name}`"));
            if messages.iter().any(is_named) {
                for peer in NAMES.into_iter().filter(|peer| site.istiod.secrets.contains_key(*peer)) {
                    self.wish.clusters.entry(peer).or_default();
                }
            }
        }
    }

    /// A cluster that leaves and was made anew meanwhile cannot show what the old one holds.
    fn declare_lost(&self, wish: &mut WantedSpecs) {
        let lock = self.lock().unwrap_or_default();
        for (name, fields) in &mut wish.clusters {
            let locked = lock.clusters.get(&cluster_name(name));
            let is_itself = locked.is_none_or(|it| it.public.cluster_uuid.to_string() == self.sites[name].uuid());
            if !is_itself && fields.get("state").is_some_and(|state| *state == "leaving") {
                fields.insert("state", "lost".into());
            }
        }
    }

    /// Whose the tree is.
    fn mesh_of_tree(&self) -> Option<String> {
        let mut texts = self.checkout.iter().filter(|(path, _)| path.starts_with("rendered/"));
        texts.find_map(|(_, bytes)| {
            let text = String::from_utf8_lossy(bytes);
            let line = text.lines().find_map(|line| line.trim().strip_prefix("isthmus.dev/mesh: "))?;
            Some(line.to_owned())
        })
    }

    /// Files of clusters that neither specs nor lock know go by hand, as their refusal says.
    fn sweep(&mut self, wish: &WantedSpecs) {
        let lock = self.lock().unwrap_or_default();
        for cluster in self.names() {
            let is_known = |known: &ClusterName| known.as_str() == cluster;
            if !wish.clusters.contains_key(cluster) && !lock.clusters.keys().chain(lock.linked()).any(is_known) {
                let folders = ["rendered", "values"].map(|folder| format!("{folder}/{cluster}/"));
                self.checkout.retain(|path, _| !folders.iter().any(|folder| path.starts_with(folder)));
            }
        }
    }

    /// Runs and syncs until nothing changes and nothing waits, or a run is refused.
    fn settle(&mut self) -> Result<FleetOutcome, Broken> {
        let mut named = BTreeMap::new();
        let mut restore = false;
        for _ in 0..16 {
            self.sync_all()?;
            self.agents()?;
            self.names().into_iter().for_each(|name| self.accept_in_agent(name));
            for name in self.names() {
                let (folder, argo) = (self.folder(name), self.argo);
                self.sites.get_mut(name).unwrap().drop_left(&folder, argo);
            }
            self.agents()?;
            self.now += 30 * HOUR;
            let outcome = self.run(RunFlags { allow_delete: true, accept: true, restore, ..RunFlags::default() })?;
            restore = matches!(&outcome, FleetOutcome::Done(plan) if asks_to_restore(plan));
            if (outcome.is_idle() && self.is_synced()) || matches!(outcome, FleetOutcome::Refused(_)) {
                return Ok(outcome);
            }
            let FleetOutcome::Done(plan) = &outcome else { continue };
            self.delete_marked(plan);
            self.declare_linked(plan);
            if self.restore(plan, &mut named) {
                let mut wish = self.wish.clone();
                self.declare_lost(&mut wish);
                self.wish = wish;
            }
        }
        self.prints = true;
        let behind = self.names().into_iter().map(|name| (name, self.behind(name)));
        let behind: Vec<_> = behind.filter(|(_, files)| !files.is_empty()).collect();
        let last = self.run(RunFlags { allow_delete: true, accept: true, ..RunFlags::default() })?;
        // another checkout, which is not simulated, has to leave the cluster first
        let waits =
            |name: &&str| is_left_to_others(&self.checkout, name) && self.wish.says(name, "reconciler").is_none();
        let waiting = self.names().into_iter().filter(waits);
        let waiting: Vec<(Code, String)> = waiting.map(|name| (Code::HandOver, format!("`{name}`"))).collect();
        if waiting.is_empty() {
            broken(Law::Unrest, format!("{}; not synced: {behind:?}", last.open()))
        } else {
            Ok(FleetOutcome::Refused(waiting))
        }
    }

    /// Takes an edit back that a refusal names with the value that links rest on.
    fn say_as_joined(&mut self, reason: &str) {
        let Some((cluster, rest)) = reason.strip_prefix('`').and_then(|rest| rest.split_once("` is joined with `"))
        else {
            return;
        };
        let (field, value) = rest.split_once('`').unwrap().0.split_once(": ").unwrap();
        let field = field.trim_end_matches(" of the Mesh");
        let field = JOINED_WITH.into_iter().find(|known| *known == field).unwrap();
        let value = serde_json::from_str::<bool>(value).map_or_else(|_| value.into(), serde_json::Value::from);
        let of_mesh = ["metadata.name", "credentials.requireToken"].contains(&field);
        let fields = if of_mesh { Some(&mut self.wish.mesh) } else { self.wish.clusters.get_mut(cluster) };
        if let Some(fields) = fields {
            fields.insert(field, value);
        }
    }

    /// What a refusal tells to do: take the edit back, let the clusters leave, and edit then. It may hide so many others.
    fn way_out(&mut self, reasons: &[(Code, String)], hidden: usize) -> Result<(), Broken> {
        let lock = match self.lock() {
            Ok(lock) => lock,
            Err(problem) => return broken(Law::Unrest, problem),
        };
        let known: BTreeSet<String> = lock.clusters.keys().chain(lock.linked()).map(ToString::to_string).collect();
        take_back(&mut self.wish.mesh, &self.taken.mesh);
        for name in NAMES.into_iter().filter(|name| known.contains(*name)) {
            let fields = self.wish.clusters.entry(name).or_default();
            if let Some(taken) = self.taken.clusters.get(name) {
                take_back(fields, taken);
            }
            // who was left to others comes back: they take nothing over, and offer what they took
            if fields.get("reconciler").is_some_and(|who| *who == "external") {
                fields.remove("reconciler");
            }
            for (_, reason) in reasons {
                self.say_as_joined(reason);
            }
            let fields = self.wish.clusters.entry(name).or_default();
            if reasons.iter().any(|(_, reason)| reason.contains(&format!("`{name}`"))) {
                let locked = lock.clusters.get(&cluster_name(name));
                let is_itself = locked.is_none_or(|it| it.public.cluster_uuid.to_string() == self.sites[name].uuid());
                // what another tool deploys is not simulated: no one answers there
                let waits = reasons.iter().any(|(code, _)| *code == Code::HandOver);
                let is_simulated = fields.get("reconciler").is_none_or(|who| *who == "rendered" || *who == "agent");
                let answers = is_itself && !waits && is_simulated;
                fields.insert("state", if answers { "leaving" } else { "lost" }.into());
            }
        }
        match self.settle()? {
            FleetOutcome::Done(_) => Ok(()),
            // one refusal hid another
            FleetOutcome::Refused(others) if hidden > 0 => self.way_out(&others, hidden - 1),
            FleetOutcome::Refused(others) => broken(Law::Unrest, format!("{reasons:?} and then {others:?}")),
        }
    }
}

/// Whether a plan names restored links as the way out.
fn asks_to_restore(plan: &Plan) -> bool {
    let mut hints = plan.steps.iter().flat_map(|step| step.state.explanations()).filter_map(|why| why.hint.as_ref());
    hints.any(|hint| hint.contains("--restore-links"))
}

/// Fields that rest on links say again what they said.
fn take_back(fields: &mut FieldValues, taken: &FieldValues) {
    fields.retain(|field, _| !JOINED_WITH.contains(field));
    let before = taken.iter().filter(|(field, _)| JOINED_WITH.contains(field));
    fields.extend(before.map(|(field, value)| (*field, value.clone())));
}
