//! The gate of a link: what a move from joining to joined still lacks, by what both ends show.
//!
//! It judges what the table of [`needs`](crate::model::needs) lists for a remote secret, all of it and nothing else.

use std::collections::BTreeSet;

use crate::model::known::{KnownCluster, PeerEndpoint};
use crate::model::mesh::EvidenceField;
use crate::model::needs::{Condition, NeedRow};
use crate::pipeline::accept::UnseenReason;
use crate::pipeline::advance::domains;
use crate::pipeline::advance::reasons::{LinkWait, Unproven};
use crate::types::name::ClusterName;
use crate::types::step::StepKind;
use crate::types::time::Timestamp;
use crate::wire::metadata::{Evidence, Reported, RouteState};

/// One end of a link.
pub(super) struct End<'a> {
    pub(super) known: KnownCluster<'a>,
    /// This run's evidence; `None`: it publishes none; an error says why it was not seen.
    pub(super) showing: Result<Option<&'a Evidence>, &'a UnseenReason>,
    /// Whether its link to the other end has an alias for the other's trust domain; `None`: it has no such link.
    pub(super) merged: Option<bool>,
    /// Whether one of its links may be live, so that its standard networks are replaced already.
    pub(super) has_live_links: bool,
    /// Whether its relay asks istiod for a token.
    pub(super) requires_token: bool,
    /// `credentials.requireToken` of the Mesh.
    pub(super) states_token: bool,
}

/// A link at the gate.
pub(super) struct Gate<'a> {
    /// Who reads.
    pub(super) reader: End<'a>,
    /// Who is read.
    pub(super) peer: End<'a>,
    /// The standard mesh configuration of the reader hides what is written for it.
    pub(super) hides_our_roots: bool,
    pub(super) back: BackLink,
}

/// The other direction, by which the peer reads the reader.
#[derive(Debug, Clone, Copy)]
pub(super) struct BackLink {
    /// An earlier run joined it.
    pub(super) is_joined: bool,
    /// How long it is waited for that the peer is seen to read.
    pub(super) until: Timestamp,
    /// Whether that is over.
    pub(super) is_settled: bool,
}

/// What the gate found.
#[derive(Debug, Default)]
pub(super) struct GateFindings {
    /// What the link waits for; it may pass when this is empty.
    pub(super) waits: Vec<LinkWait>,
    /// What could not be proven because a cluster publishes no evidence.
    pub(super) unproven: Vec<Unproven>,
}

/// What a condition lacks.
enum Lack {
    /// It is not so yet, or no one knows.
    Wait(LinkWait),
    /// No one can show it.
    Unproven(Unproven),
}

type GateResult = Result<(), Lack>;

fn wait(reason: LinkWait) -> GateResult {
    Err(Lack::Wait(reason))
}

impl Gate<'_> {
    /// Judges every condition of the table, in its order.
    pub(super) fn judge(&self) -> GateFindings {
        let proxy = self.peer.known.endpoint();
        let mut findings = GateFindings::default();
        for condition in NeedRow::of(StepKind::RenderSecret).conditions() {
            match self.meets(condition, proxy.as_ref()) {
                Ok(()) => {}
                Err(Lack::Wait(reason)) => findings.waits.push(reason),
                Err(Lack::Unproven(reason)) => findings.unproven.push(reason),
            }
        }
        findings
    }

    fn meets(&self, condition: Condition, proxy: Option<&PeerEndpoint>) -> GateResult {
        let Self { reader, peer, .. } = self;
        match (condition, proxy) {
            (Condition::ReaderDocument, _) => reader.document(),
            (Condition::PeerDocument, _) => peer.document(),
            (Condition::RelayCa, _) => reader.relay_ca(),
            // no one knows yet what would have to be seen
            (_, None) => Ok(()),
            (Condition::ReaderEvidence, Some(_)) => reader.evidence(),
            (Condition::PeerRootsInReader, Some(_)) => reader.trusts(peer),
            (Condition::PeerDomainInReader, Some(_)) => reader.accepts(peer),
            (Condition::StandardNetworks, Some(_)) => reader.standard_networks(),
            (Condition::PeerNetwork, Some(proxy)) => reader.network(peer, proxy),
            (Condition::Route, Some(proxy)) => reader.route(peer, proxy),
            (Condition::Admission, Some(proxy)) => reader.admission(peer, proxy),
            (Condition::ReaderPrepared, Some(_)) => reader.prepared(),
            (Condition::RelayToken, Some(_)) => reader.relay_token(),
            (Condition::PeerEvidence, Some(_)) => peer.evidence(),
            (Condition::ReaderRootsInPeer, Some(_)) => peer.trusts(reader),
            (Condition::ReaderDomainInPeer, Some(_)) => peer.accepts(reader),
            (Condition::PeerPrepared, Some(_)) => peer.prepared(),
            (Condition::RootsNotHidden, Some(_)) => self.roots_not_hidden(),
            (Condition::PeerReads, Some(_)) => self.peer_reads(),
        }
    }

    fn roots_not_hidden(&self) -> GateResult {
        if !self.hides_our_roots {
            return Ok(());
        }
        wait(LinkWait::HiddenRootCas { cluster: self.reader.name() })
    }

    /// A Deckhouse does not show whether it trusts the reader. Its istiod asks the reader's api-proxy with what its module gave it
    /// together with that trust, so its link comes first, and its token is seen.
    fn peer_reads(&self) -> GateResult {
        let Self { reader, peer, back, .. } = self;
        if !peer.known.is_deckhouse() || !matches!(peer.showing, Ok(None)) {
            return Ok(());
        }
        let reads = |until| LinkWait::PeerReads { peer: peer.name(), reader: reader.name(), until };
        if !back.is_joined {
            return wait(reads(None));
        }
        // where no one can see it, its order is all that there is
        let Some(Ok(used)) = reader.shown().map(|evidence| seen(&evidence.credentials)) else { return Ok(()) };
        let is_seen = used.iter().any(|used| used.cluster_uuid == *peer.known.uuid() && used.last_used.is_some());
        match (is_seen, back.is_settled) {
            (true, _) => Ok(()),
            (false, false) => wait(reads(Some(back.until))),
            (false, true) => Err(Lack::Unproven(Unproven::NotSeenToRead { peer: peer.name(), reader: reader.name() })),
        }
    }
}

/// Each condition that rests on evidence holds while there is none: that there is none is a condition of its own.
impl End<'_> {
    fn name(&self) -> ClusterName {
        self.known.cluster.name.clone()
    }

    fn shown(&self) -> Option<&Evidence> {
        self.showing.as_ref().ok().copied().flatten()
    }

    fn document(&self) -> GateResult {
        if self.known.endpoint().is_some() {
            return Ok(());
        }
        wait(LinkWait::PrivateDocument { cluster: self.name() })
    }

    fn relay_ca(&self) -> GateResult {
        if self.known.locked.public.relay_ca.is_some() {
            return Ok(());
        }
        wait(LinkWait::RelayCa { cluster: self.name() })
    }

    fn evidence(&self) -> GateResult {
        match &self.showing {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Lack::Unproven(Unproven::NoEvidence { cluster: self.name() })),
            Err(reason) => wait(LinkWait::Evidence { cluster: self.name(), reason: (*reason).clone() }),
        }
    }

    /// It trusts all roots of the other, unless both are in one root.
    fn trusts(&self, other: &Self) -> GateResult {
        let Some(evidence) = self.shown().filter(|_| !self.known.shares_roots_with(&other.known)) else {
            return Ok(());
        };
        match self.field(EvidenceField::Trusts, &evidence.trusts) {
            Ok(trusts) if other.known.roots().all(|root| trusts.contains(&root.digest)) => Ok(()),
            Ok(_) => wait(LinkWait::RootCa { of: other.name(), within: self.name() }),
            Err(lack) => Err(lack),
        }
    }

    /// It accepts identities of the other's trust domain.
    fn accepts(&self, other: &Self) -> GateResult {
        let Some(lack) = domains::lack(&self.known, &other.known, self.merged) else { return Ok(()) };
        wait(LinkWait::TrustDomain { domain: other.known.trust_domain(), of: other.name(), within: self.name(), lack })
    }

    fn standard_networks(&self) -> GateResult {
        if self.has_live_links || !self.known.awaits_standard_networks() {
            return Ok(());
        }
        let is_shown = self.known.cluster.shows_mesh_networks();
        wait(LinkWait::StandardNetworks { cluster: self.name(), is_shown })
    }

    fn network(&self, peer: &Self, proxy: &PeerEndpoint) -> GateResult {
        let own = self.known.endpoint().map(|own| own.network);
        let Some(evidence) = self.shown() else { return Ok(()) };
        if peer.known.cluster.flat_network || own.as_ref() == Some(&proxy.network) {
            return Ok(());
        }
        let wanted: BTreeSet<_> = proxy.gateways.iter().collect();
        match self.field(EvidenceField::Networks, &evidence.networks) {
            Ok(networks) => {
                let live = networks.iter().find(|network| network.name == proxy.network);
                if live.is_some_and(|live| live.gateways.iter().collect::<BTreeSet<_>>() == wanted) {
                    return Ok(());
                }
                wait(LinkWait::Network { of: peer.name(), within: self.name() })
            }
            Err(lack) => Err(lack),
        }
    }

    fn route(&self, peer: &Self, proxy: &PeerEndpoint) -> GateResult {
        let Some(evidence) = self.shown() else { return Ok(()) };
        match self.field(EvidenceField::Routes, &evidence.routes) {
            Ok(_) if self.state_of_route(peer, proxy).is_some() => Ok(()),
            Ok(_) => wait(LinkWait::Route { to: peer.name(), within: self.name() }),
            Err(lack) => Err(lack),
        }
    }

    /// The peer answers what comes over the route; without the route there is nothing to say of it.
    fn admission(&self, peer: &Self, proxy: &PeerEndpoint) -> GateResult {
        match self.state_of_route(peer, proxy) {
            Some((RouteState::Ok, _)) | None => Ok(()),
            Some((_, reason)) => {
                let reason = reason.map(str::to_owned);
                wait(LinkWait::Admission { reader: self.name(), peer: peer.name(), reason })
            }
        }
    }

    /// How the route to the peer fares, and why.
    fn state_of_route(&self, peer: &Self, proxy: &PeerEndpoint) -> Option<(RouteState, Option<&str>)> {
        let id = peer.known.cluster_id();
        let routes = seen(&self.shown()?.routes).ok()?;
        let route = routes.iter().find(|route| route.cluster_id == id && route.api_host == proxy.api_host)?;
        Some((route.state, route.reason.as_deref()))
    }

    fn prepared(&self) -> GateResult {
        let Some(evidence) = self.shown().filter(|_| !self.known.cluster.istio.prepared) else { return Ok(()) };
        match self.field(EvidenceField::Prepared, &evidence.prepared) {
            Ok(true) => Ok(()),
            Ok(false) => wait(LinkWait::Preparation { cluster: self.name() }),
            Err(lack) => Err(lack),
        }
    }

    /// Older exporters do not show the token: there the Mesh vouches for it, which states that it is required.
    fn relay_token(&self) -> GateResult {
        let Some(evidence) = self.shown().filter(|_| self.requires_token) else { return Ok(()) };
        match seen(&evidence.relay_token) {
            Ok(true) => Ok(()),
            Err(_) if self.states_token => Ok(()),
            Ok(false) | Err(_) => wait(LinkWait::RelayToken { cluster: self.name() }),
        }
    }

    /// A field that was seen. One that is unknown waits, unless the spec says that it stays so.
    fn field<'e, T>(&self, field: EvidenceField, shown: &'e Reported<T>) -> Result<&'e T, Lack> {
        let cluster = self.name();
        match seen(shown) {
            Ok(value) => Ok(value),
            Err(reason) if self.known.cluster.evidence.requires(field) => {
                Err(Lack::Wait(LinkWait::Unknown { cluster, field, reason: reason.to_owned() }))
            }
            Err(_) => Err(Lack::Unproven(Unproven::Attested { cluster, field })),
        }
    }
}

/// A field of evidence, or why it is unknown, in the text of its cluster.
pub(super) fn seen<T>(shown: &Reported<T>) -> Result<&T, &str> {
    match shown {
        Reported::Seen(value) => Ok(value),
        Reported::Unknown(reason) => Err(reason),
    }
}
