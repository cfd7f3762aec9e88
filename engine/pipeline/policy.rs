//! The policy of a checkout: what its specs and its lock may hold, and which clusters may come into its mesh. Pure.
//!
//! What is declared, and what the lock already holds, is judged before anything else, and a violation stops the run. What a
//! cluster publishes is judged when it would come into the lock, and a violation keeps out that cluster alone.
#![deny(clippy::wildcard_enum_match_arm)]

use std::fmt;

use crate::model::known::engine_keys;
use crate::model::lock::{Lock, LockedCluster};
use crate::model::mesh::{Cluster, EvidenceRule, FirstContact, Mesh, Reconciler};
use crate::model::policy::{Policy, has_digest};
use crate::model::trust::{TrustChange, TrustField, TrustFinding, TrustMeaning, Verdict};
use crate::pipeline::accept::{Accepted, Assessment, DocumentState, Refusals, digest_of};
use crate::types::address::{Endpoint, Host};
use crate::types::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::name::ClusterName;

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Image,
    Digest,
    Uuid,
    Host,
    TrustDomain,
    RootCa,
    Reconciler,
    Namespace,
    Scope,
    EngineKey,
    Evidence,
    FirstContact,
}

/// Something that a rule does not admit.
struct Violation {
    subject: Subject,
    /// Whose; `None`: the mesh's.
    cluster: Option<ClusterName>,
    found: String,
    at: Location,
}

impl Subject {
    /// The rule, as the policy spells it.
    fn rule(self) -> &'static str {
        match self {
            Self::Image => "images.allow",
            Self::Digest => "images.requireDigest",
            Self::Uuid => "clusters.uuids",
            Self::Host => "clusters.hosts",
            Self::TrustDomain => "clusters.trustDomains",
            Self::RootCa => "clusters.rootCAs",
            Self::Reconciler => "clusters.reconcilers",
            Self::Namespace => "clusters.namespaces",
            Self::Scope => "clusters.scopes",
            Self::EngineKey => "engineKeys",
            Self::Evidence => "clusters.withoutEvidence",
            Self::FirstContact => "firstContact",
        }
    }

    /// What it is in the lock, for what a cluster publishes.
    fn trusted(self) -> Option<TrustField> {
        match self {
            Self::Uuid => Some(TrustField::ClusterUuid),
            Self::Host => Some(TrustField::ApiHost),
            Self::TrustDomain => Some(TrustField::TrustDomain),
            Self::RootCa => Some(TrustField::RootCa),
            Self::Scope => Some(TrustField::FurtherAuthnKey),
            Self::Image
            | Self::Digest
            | Self::Reconciler
            | Self::Namespace
            | Self::EngineKey
            | Self::Evidence
            | Self::FirstContact => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "an image",
            Self::Digest => "an image by its digest",
            Self::Uuid => "a cluster UUID",
            Self::Host => "a host",
            Self::TrustDomain => "a trust domain",
            Self::RootCa => "a root CA",
            Self::Reconciler => "a reconciler",
            Self::Namespace => "a namespace",
            Self::Scope => "a scope of further keys",
            Self::EngineKey => "an engine key",
            Self::Evidence => "a cluster that may do without evidence",
            Self::FirstContact => "another `firstContact`",
        })
    }
}

impl Explain for Violation {
    fn explanation(&self) -> Explanation {
        let Self { subject, cluster, found, .. } = self;
        let of = cluster.as_ref().map_or_else(|| "the mesh".to_owned(), |cluster| format!("cluster `{cluster}`"));
        let message =
            format!("{of}: expected {subject} that `{}` of the policy admits, found `{found}`", subject.rule());
        Explanation::new(Code::PolicyViolated, message)
            .hint("change what is declared; a change of the policy is its owners' to review")
    }
}

/// What of the specs and of the lock the policy does not admit, each at its rule.
pub(crate) fn judge(policy: &Policy, mesh: &Mesh, lock: &Lock) -> Diagnostics {
    let mut violations = Vec::new();
    of_mesh(policy, mesh, lock, &mut violations);
    // whoever leaves is on the way to be admitted no longer
    for cluster in mesh.clusters.values().filter(|cluster| !cluster.state.is_going()) {
        of_spec(policy, cluster, &mut violations);
        if let Some(entry) = lock.clusters.get(&cluster.name) {
            of_entry(policy, &cluster.name, entry, &mut violations);
        }
    }
    let mut findings = Diagnostics::new();
    for violation in violations {
        findings.push(Diagnostic::refusal(Some(violation.at.clone()), violation));
    }
    findings.excerpts(|at| policy.text.lines().nth(at.line.saturating_sub(1)).map(ToOwned::to_owned));
    findings
}

/// Keeps out of the lock what clusters publish and the policy does not admit, each cluster by itself.
pub(crate) fn keep_out(policy: &Policy, before: &Lock, accepted: &mut Accepted) {
    let mut kept_out = Vec::new();
    for (name, entry) in &accepted.lock.clusters {
        if before.clusters.get(name) == Some(entry) {
            continue;
        }
        let mut violations = Vec::new();
        of_entry(policy, name, entry, &mut violations);
        let findings: Vec<TrustFinding> = violations.into_iter().filter_map(published).collect();
        if !findings.is_empty() {
            kept_out.push((name.clone(), findings));
        }
    }
    for (name, findings) in kept_out {
        match before.clusters.get(&name) {
            Some(entry) => accepted.lock.clusters.insert(name.clone(), entry.clone()),
            None => accepted.lock.clusters.remove(&name),
        };
        accepted.trust_changes.retain(|change| change.cluster != name);
        let digest = digest_of(&name, &findings, &[]);
        let read_by = accepted.assessments.get(&name).map(|assessment| assessment.read_by.clone()).unwrap_or_default();
        let change = TrustChange {
            cluster: name.clone(),
            digest,
            findings: findings.clone(),
            verdict: Verdict::Refused,
            read_by: read_by.any(),
        };
        accepted.trust_changes.push(change);
        let refused = Assessment::set_aside(&DocumentState::Refused(Refusals(findings)));
        accepted.assessments.insert(name, Assessment { read_by, ..refused });
    }
}

fn published(violation: Violation) -> Option<TrustFinding> {
    let what = violation.subject.trusted()?;
    let (found, rule) = (violation.found, violation.at.to_string());
    let meaning = TrustMeaning::NotInPolicy { what, found: found.clone(), rule };
    Some(TrustFinding { what, before: None, after: Some(found), meaning })
}

fn of_mesh(policy: &Policy, mesh: &Mesh, lock: &Lock, violations: &mut Vec<Violation>) {
    if let Some(rule) = policy.first_contact.as_ref().filter(|rule| rule.value != mesh.first_contact) {
        let found = match mesh.first_contact {
            FirstContact::Tls => "tls",
            FirstContact::Approve => "approve",
        };
        let (subject, at) = (Subject::FirstContact, rule.at.clone());
        violations.push(Violation { subject, cluster: None, found: found.to_owned(), at });
    }
    if let Some(rule) = &policy.engine_keys {
        for key in engine_keys(mesh, lock).values() {
            let fingerprint = key.fingerprint();
            if !rule.value.contains(&fingerprint) {
                let (subject, at) = (Subject::EngineKey, rule.at.clone());
                violations.push(Violation { subject, cluster: None, found: fingerprint.to_string(), at });
            }
        }
    }
}

fn of_spec(policy: &Policy, cluster: &Cluster, violations: &mut Vec<Violation>) {
    let mut violated = |subject: Subject, at: &Location, found: String| {
        violations.push(Violation { subject, cluster: Some(cluster.name.clone()), found, at: at.clone() });
    };
    if let Some(image) = cluster.components.as_ref().and_then(|components| components.image.as_ref()) {
        if let Some(rule) = &policy.images
            && !rule.value.iter().any(|pattern| pattern.admits(image))
        {
            violated(Subject::Image, &rule.at, image.clone());
        }
        if let Some(rule) = policy.require_digest.as_ref().filter(|rule| rule.value && !has_digest(image)) {
            violated(Subject::Digest, &rule.at, image.clone());
        }
    }
    if let Some(rule) = &policy.hosts {
        let endpoint = match &cluster.endpoint {
            Endpoint::Https { host, .. } => Some(host),
            Endpoint::File(_) => None,
        };
        let stated = cluster.components.as_ref().and_then(|components| components.api_host.as_ref());
        let api = stated.into_iter().chain(&cluster.api.host).map(|api| &api.host);
        let is_admitted = |host: &Host| rule.value.iter().any(|pattern| pattern.matches(host));
        for host in endpoint.into_iter().chain(api).filter(|host| !is_admitted(host)) {
            violated(Subject::Host, &rule.at, host.to_string());
        }
    }
    if let (Some(rule), Some(domain)) = (&policy.trust_domains, &cluster.trust_domain)
        && !rule.value.contains(domain)
    {
        violated(Subject::TrustDomain, &rule.at, domain.to_string());
    }
    if let Some(rule) = policy.reconcilers.as_ref().filter(|rule| !rule.value.contains(&cluster.reconciler)) {
        violated(Subject::Reconciler, &rule.at, cluster.reconciler.as_str().to_owned());
    }
    if let Some(rule) = policy.namespaces.as_ref().filter(|_| cluster.is_ours())
        && !rule.value.contains(&cluster.stated().istio_namespace)
    {
        violated(Subject::Namespace, &rule.at, cluster.stated().istio_namespace.to_string());
    }
    if let Some(rule) = policy.without_evidence.as_ref().filter(|rule| !rule.value.contains(&cluster.name)) {
        let attested = match &cluster.evidence {
            EvidenceRule::Required if cluster.istio.prepared => Some("istio.prepared: true".to_owned()),
            EvidenceRule::Required => None,
            EvidenceRule::None => Some(match (&cluster.endpoint, cluster.reconciler) {
                // these need not say it
                (Endpoint::File(path), _) => format!("metadata.endpoint: file://{path}"),
                (_, Reconciler::Deckhouse) => "reconciler: deckhouse".to_owned(),
                (Endpoint::Https { .. }, Reconciler::Rendered | Reconciler::Agent | Reconciler::External) => {
                    "evidence: none".to_owned()
                }
            }),
            EvidenceRule::Attested(fields) => {
                let fields: Vec<&str> = fields.iter().map(|field| field.as_str()).collect();
                Some(format!("evidence: {{attested: [{}]}}", fields.join(", ")))
            }
        };
        if let Some(found) = attested {
            violated(Subject::Evidence, &rule.at, found);
        }
    }
}

fn of_entry(policy: &Policy, name: &ClusterName, entry: &LockedCluster, violations: &mut Vec<Violation>) {
    let mut violated = |subject: Subject, at: &Location, found: String| {
        violations.push(Violation { subject, cluster: Some(name.clone()), found, at: at.clone() });
    };
    let public = &entry.public;
    if let Some(rule) = policy.uuids.as_ref().filter(|rule| !rule.value.contains(&public.cluster_uuid)) {
        violated(Subject::Uuid, &rule.at, public.cluster_uuid.to_string());
    }
    if let Some(rule) = &policy.root_cas {
        for root in public.roots.iter().filter(|root| !rule.value.contains(&root.digest)) {
            violated(Subject::RootCa, &rule.at, root.digest.to_string());
        }
    }
    if let (Some(rule), Some(domain)) = (&policy.trust_domains, &public.trust_domain)
        && !rule.value.contains(domain)
    {
        violated(Subject::TrustDomain, &rule.at, domain.to_string());
    }
    if let (Some(rule), Some(private)) = (&policy.hosts, &entry.private)
        && !rule.value.iter().any(|pattern| pattern.matches(&private.api_host.host))
    {
        violated(Subject::Host, &rule.at, private.api_host.host.to_string());
    }
    if let Some(rule) = &policy.scopes {
        let scopes = public.authn_keys.values().flat_map(|key| &key.scopes);
        for scope in scopes.filter(|scope| !rule.value.contains(scope)) {
            violated(Subject::Scope, &rule.at, scope.as_str().to_owned());
        }
    }
}
