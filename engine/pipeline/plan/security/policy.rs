//! Edits of the policy, rule by rule.

#![deny(clippy::wildcard_enum_match_arm)]

use std::fmt::Display;

use crate::model::mesh::{FirstContact, Reconciler};
use crate::model::policy::Policy;
use crate::pipeline::plan::security::item::{SecurityChange, SecurityItem};
use crate::pipeline::plan::security::policy_rule::PolicyRule;

fn join<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    let all: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
}

fn rules(policy: &Policy) -> [(PolicyRule, Option<String>); 12] {
    let Policy {
        text: _,
        images,
        require_digest,
        uuids,
        hosts,
        trust_domains,
        root_cas,
        reconcilers,
        namespaces,
        scopes,
        engine_keys,
        without_evidence,
        first_contact,
    } = policy;
    let reconciler = |reconciler: &Reconciler| reconciler.as_str();
    let contact = |contact: FirstContact| match contact {
        FirstContact::Tls => "tls",
        FirstContact::Approve => "approve",
    };
    [
        (PolicyRule::Images, images.as_ref().map(|rule| join(&rule.value))),
        (PolicyRule::RequireDigest, require_digest.as_ref().map(|rule| rule.value.to_string())),
        (PolicyRule::Uuids, uuids.as_ref().map(|rule| join(&rule.value))),
        (PolicyRule::Hosts, hosts.as_ref().map(|rule| join(&rule.value))),
        (PolicyRule::TrustDomains, trust_domains.as_ref().map(|rule| join(&rule.value))),
        (PolicyRule::RootCas, root_cas.as_ref().map(|rule| join(&rule.value))),
        (PolicyRule::Reconcilers, reconcilers.as_ref().map(|rule| join(rule.value.iter().map(reconciler)))),
        (PolicyRule::Namespaces, namespaces.as_ref().map(|rule| join(&rule.value))),
        (PolicyRule::Scopes, scopes.as_ref().map(|rule| join(rule.value.iter().map(|scope| scope.as_str())))),
        (PolicyRule::WithoutEvidence, without_evidence.as_ref().map(|rule| join(&rule.value))),
        (PolicyRule::EngineKeys, engine_keys.as_ref().map(|rule| join(&rule.value))),
        (PolicyRule::FirstContact, first_contact.as_ref().map(|rule| contact(rule.value).to_owned())),
    ]
}

/// Every rule that differs; a policy that is not there has none.
pub(super) fn policy_edits(before: Option<&Policy>, after: Option<&Policy>) -> Vec<SecurityItem> {
    let none = Policy::default();
    let (before, after) = (rules(before.unwrap_or(&none)), rules(after.unwrap_or(&none)));
    let pairs = before.into_iter().zip(after).filter(|((_, before), (_, after))| before != after);
    pairs
        .map(|((rule, before), (_, after))| SecurityItem::listed(SecurityChange::Policy { rule, before, after }))
        .collect()
}
