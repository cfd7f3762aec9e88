//! What a link lacks, and which law a run or a sync breaks.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;

use isthmus::model::lock::Lock;
use isthmus::model::trust::{TrustField, Verdict};
use isthmus::pipeline::plan::Plan;
use isthmus::types::explanation::Code;
use rustc_hash::FxBuildHasher;

use super::law::{ALL_NEEDS, Broken, Law, LinkNeed, MissingNeed, ReaderAndPeer, Why, broken, short};
use super::{FleetMesh, PEERS_FILE, Trees, cluster_name, folder_of};
use crate::file::{FleetFile, FleetFiles};
use crate::istiod::{RelayRoute, SimulatedIstiod, SimulatedNetwork};
use crate::site::{ClusterTrouble, FleetCluster};
use crate::wish::WantedSpecs;

impl FleetMesh {
    // ---------------------------------------------------------------- what a link lacks

    /// What a link lacks, its secret having this data key; one cluster may be thought to hold other objects than it does,
    /// but for its remote secrets.
    pub(super) fn lacks<'f>(
        &'f self,
        (reader, peer): ReaderAndPeer,
        id: &str,
        thought: Option<(&'f str, &'f SimulatedIstiod)>,
    ) -> BTreeSet<MissingNeed> {
        let (from, to) = (self.site(reader), self.site(peer));
        let istiod = |site: &'f FleetCluster| match thought {
            Some((name, istiod)) if name == site.name => istiod,
            _ => &site.istiod,
        };
        let (reading, read) = (istiod(from), istiod(to));
        let mut lacks = BTreeSet::new();
        let mut need = |need, there: bool, value: &dyn Fn() -> String| {
            if !there {
                lacks.insert((need, value()));
            }
        };
        let (to_roots, from_roots) = (to.used_roots(self.now), from.used_roots(self.now));
        for root in &to_roots {
            need(LinkNeed::RootsOfPeer, reading.roots.contains(&root.squeezed), &|| root.squeezed.clone());
        }
        for root in &from_roots {
            need(LinkNeed::RootsOfReader, read.roots.contains(&root.squeezed), &|| root.squeezed.clone());
        }
        let is_one = from.domain() == to.domain();
        need(LinkNeed::DomainOfPeer, is_one || reading.accepts(&to.domain(), &to_roots), &|| to.domain());
        need(LinkNeed::DomainOfReader, is_one || read.accepts(&from.domain(), &from_roots), &|| from.domain());
        let network = reading.networks.get(&to.network());
        let gateway = format!("{}:15443", to.gateway());
        let is_reached = |network: &SimulatedNetwork| {
            network.gateways.len() == 1 && network.gateways.contains(&gateway) && network.registries.contains(id)
        };
        need(LinkNeed::Network, network.is_some_and(is_reached), &|| to.network());
        need(LinkNeed::CrossNetwork, read.lets_in, &String::new);
        let is_way = |route: &RelayRoute| route.id == id && route.uuid == to.uuid() && route.host == to.api_host();
        need(LinkNeed::Route, reading.relays() && reading.routes.iter().any(is_way), &|| to.api_host());
        // each of its relay's replicas serves a certificate of one of them
        let known = from.istiod.relay_cas.get(peer);
        for ca in from.used_relay_cas(self.now) {
            let is_known = known.is_some_and(|known| known.contains(&ca.squeezed));
            need(LinkNeed::RelayCa, is_known, &|| ca.squeezed.clone());
        }
        need(LinkNeed::Admission, from.is_admitted(read), &|| from.uuid());
        let ids: BTreeSet<&str> = reading.routes.iter().map(|route| route.id.as_str()).collect();
        let same = from.istiod.secrets.iter().filter(|(other, (known, _))| *other != peer && known == id).count();
        need(LinkNeed::OneId, ids.len() == reading.routes.len() && same == 0, &|| id.to_owned());
        lacks
    }

    /// The live secret of a link: its data key.
    pub(super) fn live_id(&self, (reader, peer): ReaderAndPeer) -> Option<String> {
        self.site(reader).istiod.secrets.get(peer).map(|(id, _)| id.clone())
    }

    /// What each live link lacks.
    pub(super) fn lacking(&self) -> BTreeMap<ReaderAndPeer, BTreeSet<MissingNeed>> {
        let live = self.pairs().into_iter().filter_map(|pair| Some((pair, self.live_id(pair)?)));
        live.map(|(pair, id)| (pair, self.lacks(pair, &id, None))).collect()
    }

    /// Lacks that are someone's fault. `held` are the links whose secrets the tree had.
    pub(super) fn judged<'l>(
        &self,
        (law, held): (Law, &BTreeSet<ReaderAndPeer>),
        pair: ReaderAndPeer,
        lacks: impl IntoIterator<Item = &'l MissingNeed>,
    ) -> Vec<MissingNeed> {
        let is_held = held.contains(&pair);
        let is_fault = |lack: &&MissingNeed| {
            let excused = self.excused.get(&(pair, (*lack).clone())).copied();
            let misled = [pair.0, pair.1].into_iter().filter_map(|name| Some((name, self.misled.get(name)?)));
            let misled = misled.flat_map(|(name, whys)| whys.iter().map(move |(need, why)| (name, *need, *why)));
            let misled = misled.filter(|(_, need, _)| *need == lack.0);
            // until it answers, no run knows that it was made anew
            let unknown = misled.clone().any(|(name, _, why)| why == Why::Rebuilt && !self.is_accepted(name));
            let known = misled.map(|(_, _, why)| why).find(|why| why.excuses(law, is_held));
            let why = excused.filter(|why| why.excuses(law, is_held)).or(known).or(unknown.then_some(Why::Rebuilt));
            why.inspect(|why| self.excuse(law, *why)).is_none()
        };
        lacks.into_iter().filter(is_fault).cloned().collect()
    }

    /// Whether the lock has the cluster as it is now.
    fn is_accepted(&self, cluster: &str) -> bool {
        let file = self.checkout.get(&format!("lock/clusters/{cluster}.yaml"));
        file.is_some_and(|bytes| String::from_utf8_lossy(bytes).contains(&self.site(cluster).uuid()))
    }

    /// Whether the lock takes it for what it is: whose untrue identity was accepted is another cluster, which nothing was said of.
    pub(super) fn is_itself(&self, cluster: &str) -> bool {
        let is_untrue = |(_, why): &(LinkNeed, Why)| *why == Why::Accepted;
        !self.misled.get(cluster).is_some_and(|whys| whys.iter().any(is_untrue))
    }

    pub(super) fn excuse(&self, law: Law, why: Why) {
        *self.used.borrow_mut().entry((law, why)).or_default() += 1;
    }

    /// Links whose secrets are in the tree. What a hand brought back of a cluster that is, or was, stated to be lost is closed all the same,
    /// until it has left.
    pub(super) fn held(&self) -> BTreeSet<ReaderAndPeer> {
        let lock = if self.reverted { self.lock().unwrap_or_default() } else { Lock::default() };
        let was_lost = |name: &str| lock.clusters.get(&cluster_name(name)).is_some_and(|locked| locked.lost);
        let is_lost = |name: &str| self.wish.state(name) == Some("lost") || was_lost(name);
        let is_closed = |(reader, peer): ReaderAndPeer| self.reverted && (is_lost(reader) || is_lost(peer));
        self.pairs().into_iter().filter(|pair| self.id_in_tree(*pair).is_some() && !is_closed(*pair)).collect()
    }

    /// Excuses end when the link has what it lacked. Of a link whose secret is nowhere any more only what a locked run cannot see is left.
    pub(super) fn tidy_excuses(&mut self) {
        if self.excused.is_empty() {
            return;
        }
        let now = self.ids();
        let lacks: BTreeMap<ReaderAndPeer, BTreeSet<MissingNeed>> =
            self.last_ids.iter().map(|(pair, id)| (*pair, self.lacks(*pair, id, None))).collect();
        self.excused.retain(|(pair, lack), why| {
            match (*why, now.contains_key(pair)) {
                (Why::Event | Why::Hand, false) => *why = Why::Unseen,
                (Why::Unseen, true) => *why = Why::Event,
                (_, true) | (Why::Unseen, false) => {}
                (_, false) => return false,
            }
            lacks.get(pair).is_some_and(|lacks| lacks.contains(lack))
        });
    }

    /// At rest nothing is left of what was untrue, unless it is still said.
    pub(super) fn forget_untruths(&mut self) {
        self.reverted = false;
        let stated = self.misleading(&self.wish);
        let lacking = self.lacking();
        self.misled.retain(|name, needs| {
            let touches = |pair: &ReaderAndPeer| pair.0 == *name || pair.1 == *name;
            let lacks =
                |lacks: &BTreeSet<MissingNeed>| lacks.iter().any(|(need, _)| needs.iter().any(|(of, _)| of == need));
            let lies = self.sites.get(name).is_some_and(FleetCluster::lies_of_itself);
            let is_taken_in = lies && needs.iter().any(|(_, why)| *why == Why::Accepted);
            stated.contains_key(name)
                || is_taken_in
                || lacking.iter().any(|(pair, lacking)| touches(pair) && lacks(lacking))
        });
    }

    /// What specs and exporters say that is not so, by cluster.
    pub(super) fn misleading(&self, wish: &WantedSpecs) -> BTreeMap<&'static str, BTreeSet<(LinkNeed, Why)>> {
        let mut untrue: BTreeMap<&'static str, BTreeSet<(LinkNeed, Why)>> = BTreeMap::new();
        for (name, fields) in &wish.clusters {
            let Some(site) = self.sites.get(name) else { continue };
            let mut mislead = |why, needs: &[LinkNeed]| {
                untrue.entry(*name).or_default().extend(needs.iter().map(|need| (*need, why)));
            };
            let says = |field: &str| fields.get(field);
            if says("network").is_some_and(|network| *network != site.network()) {
                mislead(Why::Stated, &[LinkNeed::Network]);
            }
            if says("trustDomain").is_some_and(|domain| *domain != site.domain()) {
                mislead(Why::Stated, &[LinkNeed::DomainOfPeer, LinkNeed::DomainOfReader]);
            }
            if says("flatNetwork").is_some_and(|flat| *flat == true) {
                mislead(Why::Stated, &[LinkNeed::Network, LinkNeed::CrossNetwork]);
            }
            if says("gateways").is_some_and(|all| !(all.to_string().contains(&format!("\"{}\"", site.gateway())))) {
                mislead(Why::Stated, &[LinkNeed::Network, LinkNeed::CrossNetwork]);
            }
            if says("api.host").is_some_and(|host| *host != site.api_host()) {
                mislead(Why::Stated, &[LinkNeed::Route, LinkNeed::Admission]);
            }
            if says("evidence").is_some_and(|rule| *rule != "required") {
                mislead(Why::Vouched, &ALL_NEEDS);
            }
            if says("state").is_some_and(|state| *state == "lost") {
                mislead(Why::Lost, &ALL_NEEDS);
            }
            // what is written there istiod does not read, and what was there came back by hand
            if self.reverted && says("istio.namespace").is_some() {
                mislead(Why::Stated, &ALL_NEEDS);
            }
            if says("reconciler").is_some_and(|who| *who != "rendered" && *who != "agent") {
                mislead(Why::Deployed, &ALL_NEEDS);
            }
        }
        for site in self.sites.values() {
            let mut mislead = |needs: &[LinkNeed]| {
                untrue.entry(site.name).or_default().extend(needs.iter().map(|need| (*need, Why::Lies)));
            };
            match site.trouble {
                Some(ClusterTrouble::OtherNetwork) => mislead(&[LinkNeed::Network]),
                // who never said another one is taken to be in the domain that all have
                Some(ClusterTrouble::Bare) => mislead(&[LinkNeed::DomainOfPeer, LinkNeed::DomainOfReader]),
                Some(ClusterTrouble::OtherHost) => mislead(&[LinkNeed::Route, LinkNeed::Admission]),
                _ => {}
            }
        }
        untrue
    }

    pub(super) fn judge_sync(
        &mut self,
        (cluster, file): (&str, &str),
        before: &BTreeMap<ReaderAndPeer, BTreeSet<MissingNeed>>,
        after: &BTreeMap<ReaderAndPeer, BTreeSet<MissingNeed>>,
    ) -> Result<(), Broken> {
        let held = self.held();
        for (pair, lacks) in after {
            let nothing = BTreeSet::new();
            let new = lacks.difference(before.get(pair).unwrap_or(&nothing));
            let new: Vec<MissingNeed> = new.cloned().collect();
            if self.tree_by_hand || self.reverted {
                self.excused.extend(new.iter().map(|lack| ((*pair, lack.clone()), Why::Hand)));
            }
            let is_taken = is_left_to_others(&self.checkout, cluster) && !self.site(cluster).live.contains_key(file);
            let law = match (before.contains_key(pair), is_taken) {
                (true, true) => Law::LiveTaking,
                (true, false) => Law::LiveClosing,
                (false, _) => Law::LiveOpening,
            };
            // no evidence shows it, and no gate waits for it
            let new = new.iter().filter(|(need, _)| law != Law::LiveOpening || *need != LinkNeed::CrossNetwork);
            let new = self.judged((law, &held), *pair, new);
            if !new.is_empty() {
                return broken(law, format!("{}/{} by {file} in {cluster}: {}", pair.0, pair.1, short(&new)));
            }
        }
        for (pair, lacks) in before {
            if !after.contains_key(pair) && lacks.is_empty() && !self.stated.contains(pair) {
                if self.tree_by_hand || self.reverted {
                    self.excuse(Law::LiveSilentCut, Why::Hand);
                    continue;
                }
                return broken(Law::LiveSilentCut, format!("{}/{} by {file} in {cluster}", pair.0, pair.1));
            }
        }
        Ok(())
    }

    // ---------------------------------------------------------------- runs

    /// What each live link would lack if one of its ends were synced, but for its remote secrets.
    pub(super) fn hypotheses(&self, trees: &Trees) -> BTreeMap<(ReaderAndPeer, &'static str), BTreeSet<MissingNeed>> {
        let (mut found, nothing) = (BTreeMap::new(), Rc::default());
        for pair in self.pairs() {
            let Some(id) = self.live_id(pair) else { continue };
            for end in [pair.0, pair.1] {
                found.insert((pair, end), self.lacks(pair, &id, Some((end, trees.get(end).unwrap_or(&nothing)))));
            }
        }
        found
    }

    /// `held` are links whose secrets were in the tree, `shows` clusters that showed the run what their istiod reads, if it asked.
    pub(super) fn judge_run(
        &self,
        (before, after): (&Trees, &Trees),
        nearly: &BTreeMap<(ReaderAndPeer, &'static str), BTreeSet<MissingNeed>>,
        (held, shows): (&BTreeSet<ReaderAndPeer>, Option<&BTreeSet<&'static str>>),
    ) -> Result<(), Broken> {
        let opening = if shows.is_none() { Law::LockedOpening } else { Law::Opening };
        for pair @ (reader, peer) in self.pairs() {
            let secret = |trees: &Trees| trees.get(reader)?.secrets.get(peer).cloned();
            let live = self.site(reader).istiod.secrets.get(peer);
            match (secret(before), secret(after)) {
                (old, Some(new)) if old.as_ref() != Some(&new) && live != Some(&new) => {
                    let mut lacks = self.lacks(pair, &new.0, None);
                    // those of the secret that is written, not of the one that is live
                    lacks.retain(|(need, _)| *need != LinkNeed::RelayCa);
                    let known = after.get(reader).and_then(|tree| tree.relay_cas.get(peer));
                    let used = self.site(reader).used_relay_cas(self.now).into_iter().map(|ca| ca.squeezed.clone());
                    let unknown = used.filter(|ca| known.is_none_or(|known| !known.contains(ca)));
                    lacks.extend(unknown.map(|ca| (LinkNeed::RelayCa, ca)));
                    let lacks = lacks.iter().filter(|(need, _)| *need != LinkNeed::CrossNetwork);
                    let lacks = self.judged((opening, held), pair, lacks);
                    if !lacks.is_empty() {
                        return broken(opening, format!("{reader}/{peer}: {}", short(&lacks)));
                    }
                }
                (Some(_), None) if self.reverted && self.wish.says(reader, "istio.namespace").is_some() => {
                    self.excuse(Law::SilentCut, Why::Hand);
                }
                (Some(_), None) if live.is_some() && !self.stated.contains(&pair) => {
                    return broken(Law::SilentCut, format!("{reader}/{peer}"));
                }
                _ => {}
            }
        }
        for ((pair, end), lacks) in self.hypotheses(after) {
            let id = self.live_id(pair).unwrap();
            let mut known = self.lacks(pair, &id, None);
            known.extend(nearly.get(&(pair, end)).cloned().unwrap_or_default());
            let new = self.judged((Law::Closing, held), pair, lacks.difference(&known));
            // the revert of a join took its secret out of the tree, and no one showed the run that it is live
            let is_shown = shows.is_some_and(|shows| shows.contains(pair.0));
            let is_unseen = self.reverted && !is_shown && self.id_in_tree(pair).is_none();
            if !new.is_empty() {
                if is_unseen {
                    self.excuse(Law::Closing, Why::Hand);
                    continue;
                }
                return broken(Law::Closing, format!("{}/{} when {end} is synced: {}", pair.0, pair.1, short(&new)));
            }
        }
        Ok(())
    }

    /// An alias comes when it is said, and goes when it is said or its peers go.
    pub(super) fn judge_merged(&self, before: &Trees, after: &Trees) -> Result<(), Broken> {
        // a file that was lost comes back as the lock has it
        if self.tree_by_hand {
            self.excuse(Law::Merged, Why::Hand);
            return Ok(());
        }
        for (name, now) in after.iter().filter(|(name, _)| self.is_itself(name)) {
            let stated = self.wish.says(name, "mergeTrustDomains").and_then(serde_json::Value::as_bool);
            let nothing = BTreeSet::new();
            let old = before.get(name).map_or(&nothing, |old| &old.aliases);
            if let Some(domain) = now.aliases.difference(old).next().filter(|_| stated != Some(true)) {
                return broken(Law::Merged, format!("{name} with {domain}, and {stated:?} is said"));
            }
            let is_read = |domain: &String| now.secrets.keys().any(|peer| self.site(peer).domain() == *domain);
            let gone = old.difference(&now.aliases).find(|domain| is_read(domain));
            if let Some(domain) = gone.filter(|_| stated != Some(false)) {
                return broken(Law::Merged, format!("{name} no more with {domain}, and {stated:?} is said"));
            }
        }
        Ok(())
    }

    /// What the checker withholds is what a stage before it should not have let through, unless a hand was in the tree.
    pub(super) fn judge_checker(&self, plan: &Plan) -> Result<(), Broken> {
        let explanations = plan.steps.iter().flat_map(|step| step.state.explanations());
        let found = explanations.into_iter().find(|explanation| explanation.code == Code::Law);
        let Some(found) = found else { return Ok(()) };
        if self.tree_by_hand || self.reverted {
            self.excuse(Law::Withheld, Why::Hand);
            return Ok(());
        }
        broken(Law::Withheld, found.to_string())
    }

    /// The first document of ours takes up the networks of the configuration that it replaces; none takes them away.
    pub(super) fn judge_standard(&self, before: &Trees, after: &Trees) -> Result<(), Broken> {
        for (name, now) in after {
            let Some(standard) = self.site(name).standard_network() else { continue };
            let replaces = |tree: &SimulatedIstiod| !tree.networks.is_empty() && !tree.networks.contains_key(&standard);
            if !replaces(now) || before.get(name).is_some_and(|tree| replaces(tree)) {
                continue;
            }
            let whys = self.misled.get(name).into_iter().flatten().map(|(_, why)| *why);
            match whys.into_iter().find(|why| matches!(why, Why::Vouched | Why::Deployed)) {
                Some(why) => self.excuse(Law::Replaced, why),
                None => return broken(Law::Replaced, format!("{standard} of {name}")),
            }
        }
        Ok(())
    }

    /// Whatever is newly trusted of a cluster is in the plan as a trust change that was approved.
    pub(super) fn judge_trust(&self, before: &FleetFiles, plan: &Plan) -> Result<(), Broken> {
        for name in self.names() {
            let path = format!("lock/clusters/{name}.yaml");
            let (old, new) = (before.get(&path), self.checkout.get(&path));
            if old == new {
                continue;
            }
            let Some(new) = new.map(|bytes| Trusted::read(bytes)) else { continue };
            let approved = plan.trust_changes.iter().filter(|change| change.verdict == Verdict::Approved);
            let approved = approved.filter(|change| change.cluster.as_str() == name);
            let is_listed = |field: Option<TrustField>| {
                let mut findings = approved.clone().flat_map(|change| &change.findings);
                findings.any(|finding| field.is_none_or(|field| finding.what == field))
            };
            let is_known = |(path, bytes): (&String, &FleetFile)| {
                let is_its = path.ends_with(&format!("/secret-istio-remote-secret-{name}.yaml"))
                    || path.starts_with(&format!("rendered/{name}/secret-istio-remote-secret-"));
                let text = String::from_utf8_lossy(bytes);
                let admits = || {
                    path.ends_with("/configmap-isthmus-peers.yaml") && text.contains(&format!("{{\"name\":\"{name}\""))
                };
                (is_its && text.contains("istio/multiCluster")) || admits()
            };
            match old.map(|bytes| Trusted::read(bytes)) {
                None if before.iter().any(is_known) && !is_listed(None) => {
                    return broken(Law::Unlisted, format!("{name} is taken for a new cluster"));
                }
                None => {}
                Some(old) => {
                    let changed = old.changes(&new).into_iter().find(|field| !is_listed(Some(*field)));
                    if let Some(field) = changed {
                        return broken(Law::Unlisted, format!("{field} of {name}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// A cluster with a file of someone else keeps all files and all stages.
    pub(super) fn judge_foreign(&self, before: &FleetFiles, restores: bool) -> Result<(), Broken> {
        let is_there =
            |(path, (bytes, _)): &(&String, &(FleetFile, Option<FleetFile>))| before.get(*path) == Some(bytes);
        for (path, _) in self.foreign.iter().filter(is_there) {
            let cluster = path.split('/').nth(1).unwrap();
            let is_its = |path: &String| {
                path.starts_with(&format!("rendered/{cluster}/")) || *path == format!("lock/links/{cluster}.yaml")
            };
            // links that the lock lost are taken from the tree, which stays as it is
            let is_restored = |path: &String| restores && path.starts_with("lock/") && !before.contains_key(path);
            let mut paths = before.keys().chain(self.checkout.keys()).filter(|path| is_its(path) && !is_restored(path));
            if let Some(written) = paths.find(|path| before.get(*path) != self.checkout.get(*path)) {
                return broken(Law::Halved, format!("{written} beside {path}"));
            }
        }
        Ok(())
    }

    /// What another checkout has, and does not leave, is not written while links of this one rest on it: their lock says who has it. Nor
    /// where it is seen and nothing was written here before.
    pub(super) fn judge_writers(&self, before: &FleetFiles, asks: bool) -> Result<(), Broken> {
        // whose untrue identity was accepted is another cluster for the lock
        let is_misled = |why: &BTreeSet<(LinkNeed, Why)>| why.iter().any(|(_, why)| *why == Why::Accepted);
        let is_itself = |site: &FleetCluster| !self.misled.get(site.name).is_some_and(is_misled);
        let is_seen = |site: &FleetCluster| {
            let is_shown = self.wish.keys().iter().any(|key| site.istiod.engine.contains(key));
            asks && site.trouble.is_none() && is_shown && folder_of(before, site.name).is_empty()
        };
        let is_theirs = |site: &FleetCluster| {
            let is_known = is_left_to_others(before, site.name) || is_seen(site);
            is_known && site.is_kept_by_others() && is_itself(site)
        };
        let written = |site: &&FleetCluster| is_theirs(site) && self.folder(site.name).contains_key(PEERS_FILE);
        match self.sites.values().find(written) {
            Some(site) => broken(Law::TwoWriters, site.name),
            None => Ok(()),
        }
    }

    /// What was written to the lock reads back as what was written, file by file.
    pub(super) fn judge_lock(&self) -> Result<(), Broken> {
        for (path, bytes) in self.lock_files() {
            let key = (path, bytes);
            if READ_BACK.with_borrow(|known| known.contains(&key)) {
                continue;
            }
            let (path, bytes) = &key;
            let read = Lock::parse([(path.as_str(), &**bytes)]);
            let again = read.or_else(|findings| broken(Law::Unread, format!("{findings:?}")))?.to_files().unwrap();
            if !again.iter().map(|(path, text)| (path, text.as_bytes())).eq([(path, &**bytes)]) {
                return broken(Law::Unread, path.clone());
            }
            READ_BACK.with_borrow_mut(|known| {
                if known.len() >= MOST_READ_BACK {
                    known.clear();
                }
                known.insert(key);
            });
        }
        Ok(())
    }
}

/// Most files that are known at a time to read back.
const MOST_READ_BACK: usize = 5_000;

thread_local! {
    /// Files of locks that read back; the same are written again and again.
    static READ_BACK: RefCell<HashSet<(String, FleetFile), FxBuildHasher>> = RefCell::default();
}

/// What a cluster is trusted with, as its file of the lock says.
struct Trusted {
    values: BTreeMap<&'static str, String>,
    roots: BTreeSet<String>,
}

impl Trusted {
    fn read(bytes: &[u8]) -> Self {
        let file: serde_yaml::Value = serde_yaml::from_slice(bytes).unwrap();
        let at = |path: &[&str]| {
            let value = path.iter().try_fold(&file, |value, key| value.get(*key));
            value.and_then(serde_yaml::Value::as_str).map(str::to_owned)
        };
        let digests = |list: Option<&serde_yaml::Value>| {
            let list = list.and_then(serde_yaml::Value::as_sequence).cloned().unwrap_or_default();
            let digest = |root: &serde_yaml::Value| {
                let root = root.get("root").unwrap_or(root);
                root.get("sha256")?.as_str().map(str::to_owned)
            };
            list.iter().filter_map(digest).collect::<Vec<_>>()
        };
        let published = file.get("public").and_then(|public| public.get("rootCA"));
        let roots = digests(published).into_iter().chain(digests(file.get("retiring"))).collect();
        let values = [
            ("uuid", at(&["public", "clusterUUID"])),
            ("key", at(&["public", "authnKey", "sha256"])),
            ("relay", at(&["public", "relayCA"])),
            ("domain", Some(at(&["public", "trustDomain"]).unwrap_or_else(|| "cluster.local".to_owned()))),
            ("id", at(&["private", "clusterID"])),
            ("api", at(&["private", "apiCA"])),
        ];
        let values = values.into_iter().filter_map(|(field, value)| Some((field, value?))).collect();
        Self { values, roots }
    }

    /// What is another, or is new among the roots.
    fn changes(&self, new: &Self) -> Vec<TrustField> {
        let fields = [
            ("uuid", TrustField::ClusterUuid),
            ("key", TrustField::AuthnKey),
            ("relay", TrustField::RelayCa),
            ("domain", TrustField::TrustDomain),
            ("id", TrustField::ClusterId),
            ("api", TrustField::ApiCa),
        ];
        let differs = |name: &str| {
            let both = self.values.get(name).zip(new.values.get(name));
            both.is_some_and(|(old, new)| old != new)
        };
        let mut changed: Vec<TrustField> =
            fields.into_iter().filter(|(name, _)| differs(name)).map(|(_, field)| field).collect();
        changed.extend((!new.roots.is_subset(&self.roots)).then_some(TrustField::RootCa));
        changed
    }
}

/// Whether the lock says that another checkout acts in a cluster.
pub(super) fn is_left_to_others(checkout: &FleetFiles, cluster: &str) -> bool {
    let file = checkout.get(&format!("lock/clusters/{cluster}.yaml"));
    file.is_some_and(|bytes| String::from_utf8_lossy(bytes).contains("reconciler: external"))
}
