//! Runs of agents inside clusters, and what they may not do.

use std::collections::BTreeSet;

use super::law::{Broken, Law, ReaderAndPeer, Why, broken};
use super::{FleetMesh, PEERS_FILE};
use crate::agents::{self, ApiserverWrite, MULTICLUSTER};
use crate::file::{FleetFile, FleetFiles};
use crate::site::{FleetCluster, is_of_links};

/// The agent's specs, and what it is told.
const SPECS: &str = "configmap-isthmus-agent.yaml";
/// Runs after which an agent has done what it can at the moment.
const RUNS: usize = 6;

impl FleetMesh {
    /// The agent of a cluster takes a run, if there is one; it may be cut off after so many writes. Whether it changed anything, or waits
    /// for something else.
    pub(crate) fn agent(&mut self, cluster: &'static str, lasts: Option<usize>) -> Result<bool, Broken> {
        if !self.site(cluster).has_agent() {
            return Ok(false);
        }
        self.now += 1;
        let site = self.site(cluster);
        let all: Vec<&FleetCluster> = self.sites.values().collect();
        let outside = site.outside(&all, self.now);
        let outcome = agents::run(agents::apiserver(&site.live, &site.records, lasts), outside);
        if self.prints {
            println!("    agent of {cluster}: {:?}", outcome.problem);
            for write in &outcome.writes {
                println!("        {} {}", if write.object.is_some() { "writes" } else { "deletes" }, write.file);
            }
        }
        self.sites.get_mut(cluster).unwrap().agent_problem = outcome.problem;
        let mut before = self.lacking();
        let closes = self.closes(cluster, &outcome.writes);
        self.stated.extend(&closes);
        for write in &outcome.writes {
            self.judge_agent(cluster, write)?;
            self.change_live((cluster, &write.file), &mut before, |site| site.agent_wrote(write))?;
        }
        self.stated.retain(|pair| !closes.contains(pair));
        if lasts.is_none() {
            self.judge_shown(&closes)?;
        }
        if self.prints {
            self.site(cluster).shown_of_links().into_iter().for_each(|line| println!("        {line}"));
        }
        // what is shown of links alone changes nothing
        Ok(outcome.writes.iter().any(|write| write.object.is_none() || !write.file.starts_with(MULTICLUSTER)))
    }

    /// All agents take runs until nothing changes by them.
    pub(crate) fn agents(&mut self) -> Result<(), Broken> {
        for _ in 0..RUNS {
            let mut changed = false;
            for name in self.names() {
                changed |= self.agent(name, None)?;
            }
            if !changed {
                break;
            }
        }
        Ok(())
    }

    /// All clusters are to be rendered again; whether any was an agent's.
    pub(crate) fn take_back_from_agents(&mut self) -> bool {
        let mut was = false;
        for fields in self.wish.clusters.values_mut() {
            if fields.get("reconciler").is_some_and(|who| *who == "agent") {
                fields.remove("reconciler");
                was = true;
            }
        }
        was
    }

    /// Someone accepts the trust changes that the agent of a cluster shows, of its peers and of the cluster itself.
    pub(crate) fn accept_in_agent(&mut self, cluster: &'static str) {
        let site = self.sites.get_mut(cluster).unwrap();
        let mut own = None;
        for (_, record) in site.records.iter_mut().filter(|(file, _)| file.starts_with(MULTICLUSTER)) {
            if let Some(digest) = record.status["trustChange"]["digest"].as_str() {
                record.accepts = Some(digest.to_owned());
            }
            let conditions = record.status["conditions"].as_array().into_iter().flatten();
            let held = conditions.filter(|condition| condition["reason"] == "OwnTrustChange");
            let digest = |condition: &serde_json::Value| {
                let (_, rest) = condition["message"].as_str()?.split_once("sha256:")?;
                Some(format!("sha256:{}", rest.get(..64)?))
            };
            own = held.filter_map(digest).next_back().or(own);
        }
        if own.is_some() && site.live.contains_key(SPECS) {
            site.records.entry(SPECS.to_owned()).or_default().accepts = own;
        }
    }

    /// Links that an agent closes by itself, and no plan of a checkout has shown.
    fn closes(&self, cluster: &'static str, writes: &[ApiserverWrite]) -> BTreeSet<ReaderAndPeer> {
        let gone = |pair: &ReaderAndPeer| {
            let secret = format!("secret-istio-remote-secret-{}.yaml", pair.1);
            writes.iter().any(|write| write.object.is_none() && write.file == secret)
        };
        let pairs = self.pairs().into_iter().filter(|pair| pair.0 == cluster && !self.stated.contains(pair));
        pairs.filter(gone).collect()
    }

    /// What an agent closes it shows on the object of the peer, where there is one: it has no plan.
    fn judge_shown(&self, closes: &BTreeSet<ReaderAndPeer>) -> Result<(), Broken> {
        match closes.iter().find(|(reader, peer)| self.site(reader).shows_joined(peer)) {
            Some((reader, peer)) => {
                broken(Law::LiveSilentCut, format!("the agent of {reader} closes {peer}, and shows it as joined"))
            }
            None => Ok(()),
        }
    }

    /// What a tool has is not the agent's to write, unless its checkout gives it away.
    fn judge_agent(&self, cluster: &str, write: &ApiserverWrite) -> Result<(), Broken> {
        let site = self.site(cluster);
        let Some(live) = site.live.get(&write.file).filter(|_| is_of_links(&write.file)) else { return Ok(()) };
        let is_given = || {
            let object: serde_yaml::Value = serde_yaml::from_slice(live).unwrap();
            object["metadata"]["annotations"]["isthmus.dev/hand-over"].as_str() == Some("agent")
        };
        if site.is_tracked(&write.file) && !is_given() {
            return broken(Law::TwoWriters, format!("the agent of {cluster} writes {}", write.file));
        }
        Ok(())
    }

    /// Whether an object is that of an agent which acts, where a link is live. Where none is, an edit of `reconciler` takes effect at once.
    fn is_agents(&self, cluster: &str, file: &str) -> bool {
        let site = self.site(cluster);
        let is_read = self.sites.values().any(|site| site.istiod.secrets.contains_key(cluster));
        let is_linked = is_read || !site.istiod.secrets.is_empty();
        // whose untrue identity was accepted is another cluster for the lock
        self.is_itself(cluster)
            && is_linked
            && site.istiod.agent_acts()
            && site.live.contains_key(file)
            && !site.is_tracked(file)
    }

    /// What an agent writes is not the tool's to overwrite, while it acts.
    pub(super) fn judge_overwriting(
        &self,
        cluster: &str,
        file: &str,
        wanted: Option<&FleetFile>,
    ) -> Result<(), Broken> {
        let is_agents = self.is_agents(cluster, file);
        if wanted.is_none() || !is_of_links(file) || !is_agents {
            return Ok(());
        }
        if self.tree_by_hand || self.reverted {
            self.excuse(Law::TwoWriters, Why::Hand);
            return Ok(());
        }
        broken(Law::TwoWriters, format!("the tool writes {file} of {cluster}, whose agent acts"))
    }

    /// A run does not begin to write what an agent has and does not leave.
    pub(super) fn judge_acting(&self, before: &FleetFiles) -> Result<(), Broken> {
        let had = |name: &str| before.contains_key(&format!("rendered/{name}/{PEERS_FILE}"));
        let begins = |name: &&&'static str| {
            self.is_agents(name, PEERS_FILE) && !had(name) && self.folder(name).contains_key(PEERS_FILE)
        };
        let names = self.names();
        match names.iter().find(begins) {
            Some(_) if self.tree_by_hand || self.reverted => {
                self.excuse(Law::TwoWriters, Why::Hand);
                Ok(())
            }
            Some(name) => broken(Law::TwoWriters, format!("a run writes objects of {name}, whose agent acts")),
            None => Ok(()),
        }
    }
}
