//! One thing that a reviewer has to see: what it is about, old and new values, and what it means.

#![deny(clippy::wildcard_enum_match_arm)]

use crate::model::layout::POLICY;
use crate::model::link::Link;
use crate::model::mesh::Reconciler;
use crate::pipeline::plan::action::Action;
use crate::pipeline::plan::diff::{FieldChange, ValueChange, diff_files};
use crate::pipeline::plan::reasons::CompareRefusal;
use crate::pipeline::plan::security::link_change::LinkChange;
use crate::pipeline::plan::security::names::{link_text, named};
use crate::pipeline::plan::security::policy_rule::PolicyRule;
use crate::pipeline::plan::security::share_change::{ShareChange, text};
use crate::pipeline::plan::security::spec_field::SpecField;
use crate::pipeline::template::Overridden;
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::key::KeyId;
use crate::types::name::{ClusterName, Digest};
use crate::types::text::quoted;

/// Most characters of someone's text in a sentence.
const LONGEST: usize = 100;
/// Something that a reviewer has to see before any object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityItem {
    pub change: SecurityChange,
    /// Whether it keeps the plan from being carried out, or the pull request from being merged as it is: exit code 4.
    pub refused: bool,
    /// A step of the plan says it, too, and counts it.
    pub is_step: bool,
}

/// How a new cluster comes into the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admittance {
    /// This run takes it.
    Taken,
    /// At its first contact, and no one is asked.
    Unasked,
    /// When someone accepts its first contact.
    Approved,
}

impl SecurityItem {
    /// What may be done, and has to be seen.
    pub(crate) fn listed(change: SecurityChange) -> Self {
        Self { change, refused: false, is_step: false }
    }

    pub(crate) fn refused(change: SecurityChange) -> Self {
        Self { change, refused: true, is_step: false }
    }
}

impl SecurityItem {
    /// A file of `rendered/` or `values/` that a pull request changes, and not to what it renders.
    pub(crate) fn tree_edit(path: &str, before: Option<&[u8]>, after: Option<&[u8]>) -> Option<Self> {
        let (action, fields) = (Action::between(before, after)?, diff_files(before, after));
        Some(Self::refused(SecurityChange::TreeEdit { path: path.to_owned(), action, fields }))
    }

    /// A document of a `file://` endpoint that a pull request changes.
    pub(crate) fn document_edit(
        cluster: &ClusterName,
        path: &str,
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) -> Option<Self> {
        let (action, fields) = (Action::between(before, after)?, diff_files(before, after));
        let (cluster, path) = (cluster.clone(), path.to_owned());
        Some(Self::listed(SecurityChange::Document { cluster, path, action, fields }))
    }
}

/// What has to be seen. In the order in which it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecurityChange {
    /// A file that is not ours lies where only ours do.
    File(CompareRefusal),
    /// A pull request changes a file that runs write, and not to what its own revision renders.
    TreeEdit {
        /// Path below the checkout.
        path: String,
        action: Action,
        fields: Vec<FieldChange>,
    },
    /// A pull request changes a file of the lock, which only runs write.
    LockEdit {
        /// Path below the checkout.
        path: String,
        action: Action,
        fields: Vec<FieldChange>,
        /// Links that it has as `joined` and the base has not.
        opened: Vec<Link>,
    },
    /// A cluster comes into the mesh.
    NewCluster {
        cluster: ClusterName,
        /// What is stated of it.
        fields: Vec<FieldChange>,
        /// Its root CAs, as far as they are known: published, else pinned.
        roots: Vec<Digest>,
        /// Who trusts them.
        readers: Vec<ClusterName>,
        /// How it comes in.
        entry: Admittance,
    },
    /// A remote secret that was made by hand is given to the mesh, and listed until ours takes its place.
    SecretByHand {
        /// In whose folder.
        reader: ClusterName,
        /// Path below the checkout.
        path: String,
    },
    /// Links open or close.
    Links(LinkChange),
    /// The objects of a cluster's links go to who is to act there.
    HandOver {
        cluster: ClusterName,
        from: Reconciler,
        to: Reconciler,
        /// This run leaves them to it; else it begins to.
        is_given: bool,
    },
    /// A run of another checkout is live in a cluster that is joined from here.
    Contested {
        cluster: ClusterName,
        /// The key of the engine that made that run.
        key: KeyId,
    },
    /// Clusters share other namespaces with peers.
    Share(ShareChange),
    /// A stated address that its cluster does not publish.
    Cut {
        cluster: ClusterName,
        stated: Vec<String>,
        /// Readers whose links use it.
        readers: Vec<ClusterName>,
    },
    Spec {
        /// Of which clusters; none: of the Mesh.
        clusters: Vec<ClusterName>,
        field: SpecField,
        /// Its value at the base.
        before: Option<String>,
        /// Its value now.
        after: Option<String>,
        /// Whether links name the cluster, or any, where it is of the Mesh.
        is_linked: bool,
    },
    /// A field of an override of a template.
    Override {
        /// Path of the override below the checkout.
        path: String,
        /// What it changes of the built-in template; at the base, where it is no more.
        overridden: Overridden,
        /// Its value at the base: that of the built-in template, where the base has no override.
        before: Option<String>,
        /// Its value now.
        after: Option<String>,
        clusters: Vec<ClusterName>,
    },
    /// A rule of the policy.
    Policy {
        rule: PolicyRule,
        /// What it admits at the base; `None`: everything.
        before: Option<String>,
        /// What it admits now.
        after: Option<String>,
    },
    /// A document of a `file://` endpoint, which the next run reads as what the cluster publishes.
    Document {
        cluster: ClusterName,
        /// Path below the checkout.
        path: String,
        action: Action,
        fields: Vec<FieldChange>,
    },
    /// The specs of the base have findings: what is edited in them cannot be determined.
    BaseNotCompared { revision: String },
}

impl SecurityChange {
    /// Its place in the block: what is refused and what opens first; edits of one document beside each other.
    pub(crate) fn order(&self) -> (u8, Option<ClusterName>, Option<SpecField>) {
        let rank = match self {
            Self::File(_) => 0,
            Self::TreeEdit { .. } => 1,
            Self::LockEdit { .. } => 2,
            Self::BaseNotCompared { .. } => 3,
            Self::NewCluster { .. } => 4,
            Self::SecretByHand { .. } => 5,
            Self::Links(_) | Self::HandOver { .. } | Self::Contested { .. } => 6,
            Self::Cut { .. } | Self::Share(_) => 7,
            Self::Policy { .. } => 8,
            Self::Spec { clusters, field, .. } => {
                return (9 + field.rank(), clusters.first().cloned(), Some(*field));
            }
            Self::Document { .. } => 20,
            Self::Override { overridden, .. } => 21 + u8::from(is_for_people(&overridden.field)),
        };
        (rank, None, None)
    }

    /// What it is about, in short.
    pub fn subject(&self) -> String {
        match self {
            Self::File(refusal) => refusal.path(),
            Self::TreeEdit { path, .. }
            | Self::LockEdit { path, .. }
            | Self::Document { path, .. }
            | Self::SecretByHand { path, .. } => path.clone(),
            Self::NewCluster { cluster, .. } => format!("new cluster `{cluster}`"),
            Self::Links(change) => change.subject(),
            Self::Share(change) => change.subject(),
            Self::HandOver { cluster, .. } => format!("hand-over of cluster `{cluster}`"),
            Self::Contested { cluster, .. } => format!("writer of cluster `{cluster}`"),
            Self::Cut { cluster, .. } => format!("addresses of cluster `{cluster}`"),
            Self::Spec { clusters, field, .. } => match clusters.as_slice() {
                [] => format!("{} of the Mesh", field.as_str()),
                [cluster] => format!("{} of cluster `{cluster}`", field.as_str()),
                clusters => format!("{} of {} clusters: {}", field.as_str(), clusters.len(), named(clusters.iter())),
            },
            Self::Override { path, overridden, .. } => {
                format!("{path}: {} {}", overridden.object, overridden.field)
            }
            Self::Policy { rule, .. } => format!("policy.yaml: {}", rule.as_str()),
            Self::BaseNotCompared { revision } => format!("specs of `{}`", quoted(revision, LONGEST)),
        }
    }

    /// The clusters that it is about.
    pub fn clusters(&self) -> &[ClusterName] {
        match self {
            Self::NewCluster { cluster, .. }
            | Self::HandOver { cluster, .. }
            | Self::Contested { cluster, .. }
            | Self::Cut { cluster, .. }
            | Self::Document { cluster, .. } => std::slice::from_ref(cluster),
            Self::SecretByHand { reader, .. } => std::slice::from_ref(reader),
            Self::Share(change) => &change.clusters,
            Self::Spec { clusters, .. } | Self::Override { clusters, .. } => clusters,
            Self::File(_)
            | Self::TreeEdit { .. }
            | Self::LockEdit { .. }
            | Self::Links(_)
            | Self::Policy { .. }
            | Self::BaseNotCompared { .. } => &[],
        }
    }

    /// The file that it is about, where it is one.
    pub fn path(&self) -> Option<String> {
        match self {
            Self::File(refusal) => Some(refusal.path()),
            Self::TreeEdit { path, .. }
            | Self::LockEdit { path, .. }
            | Self::SecretByHand { path, .. }
            | Self::Override { path, .. }
            | Self::Document { path, .. } => Some(path.clone()),
            Self::Policy { .. } => Some(POLICY.to_owned()),
            Self::NewCluster { .. }
            | Self::HandOver { .. }
            | Self::Contested { .. }
            | Self::Links(_)
            | Self::Share(_)
            | Self::Cut { .. }
            | Self::Spec { .. }
            | Self::BaseNotCompared { .. } => None,
        }
    }

    /// The links that it is about.
    pub fn links(&self) -> &[Link] {
        match self {
            Self::Links(change) => &change.links,
            Self::Share(change) => &change.links,
            Self::LockEdit { opened, .. } => opened,
            Self::File(_)
            | Self::TreeEdit { .. }
            | Self::NewCluster { .. }
            | Self::SecretByHand { .. }
            | Self::HandOver { .. }
            | Self::Contested { .. }
            | Self::Cut { .. }
            | Self::Spec { .. }
            | Self::Override { .. }
            | Self::Policy { .. }
            | Self::Document { .. }
            | Self::BaseNotCompared { .. } => &[],
        }
    }

    /// What becomes of it.
    pub fn action(&self) -> Action {
        let by_values = |before: &Option<String>, after: &Option<String>| match (before, after) {
            (None, Some(_)) => Action::Create,
            (Some(_), None) => Action::Delete,
            (Some(_), Some(_)) | (None, None) => Action::Update,
        };
        match self {
            Self::File(_) | Self::NewCluster { .. } | Self::SecretByHand { .. } => Action::Create,
            Self::TreeEdit { action, .. } | Self::LockEdit { action, .. } | Self::Document { action, .. } => *action,
            Self::Links(change) => change.effect.action(),
            Self::Share(change) => change.action(),
            Self::Spec { before, after, .. }
            | Self::Override { before, after, .. }
            | Self::Policy { before, after, .. } => by_values(before, after),
            Self::HandOver { .. } | Self::Contested { .. } | Self::Cut { .. } | Self::BaseNotCompared { .. } => {
                Action::Update
            }
        }
    }

    /// Old and new values.
    pub fn fields(&self) -> Vec<FieldChange> {
        let one = |path: &str, before: &Option<String>, after: &Option<String>| {
            let change = match (before.clone(), after.clone()) {
                (Some(before), Some(after)) => ValueChange::Changed(before, after),
                (Some(before), None) => ValueChange::Removed(before),
                (None, Some(after)) => ValueChange::Added(after),
                (None, None) => return Vec::new(),
            };
            vec![FieldChange { path: path.to_owned(), change }]
        };
        match self {
            Self::TreeEdit { fields, .. }
            | Self::LockEdit { fields, .. }
            | Self::NewCluster { fields, .. }
            | Self::Document { fields, .. } => fields.clone(),
            Self::Share(ShareChange { before, after, .. }) => one("share", &Some(text(before)), &Some(text(after))),
            Self::Spec { field, before, after, .. } => one(field.as_str(), before, after),
            Self::Override { overridden, before, after, .. } => one(&overridden.field, before, after),
            Self::Policy { rule, before, after } => one(rule.as_str(), before, after),
            Self::File(_)
            | Self::SecretByHand { .. }
            | Self::Links(_)
            | Self::HandOver { .. }
            | Self::Contested { .. }
            | Self::Cut { .. }
            | Self::BaseNotCompared { .. } => Vec::new(),
        }
    }

    /// What the reason is called by machines.
    pub fn code(&self) -> Code {
        match self {
            Self::File(refusal) => refusal.code(),
            Self::TreeEdit { .. } => Code::FileNotRendered,
            Self::LockEdit { .. } => Code::LockEdited,
            Self::NewCluster { .. } => Code::NewCluster,
            Self::SecretByHand { .. } => Code::SecretByHand,
            Self::Links(change) => change.effect.code(),
            Self::Share(change) => change.code(),
            Self::HandOver { .. } | Self::Contested { .. } => Code::HandOver,
            Self::Cut { .. } => Code::LinksCut,
            Self::Spec { .. } => Code::SpecEdited,
            Self::Override { .. } => Code::OverrideEdited,
            Self::Policy { .. } => Code::PolicyEdited,
            Self::Document { .. } => Code::DocumentEdited,
            Self::BaseNotCompared { .. } => Code::BaseNotRendered,
        }
    }

    /// What it means, and what it allows, for people and machines alike.
    pub fn explanation(&self) -> Explanation {
        let code = self.code();
        let new = |message: String| Explanation::new(code, message);
        match self {
            Self::File(refusal) => refusal.explanation(),
            Self::TreeEdit { action, .. } => {
                let does = match action {
                    Action::Create => "adds it",
                    Action::Update => "changes it",
                    Action::Delete => "deletes it",
                };
                new(format!(
                    "the pull request {does}, and its specs, templates and lock do not ask for that; whatever syncs the folder takes it before a run corrects it"
                ))
                .hint("take the edit back; where the base has moved on, merge it first")
            }
            Self::LockEdit { opened, .. } if !opened.is_empty() => new(format!(
                "edited by hand, {} counts as joined: the next run writes the remote secret, which sends live traffic, and no cluster has shown that what it needs is live",
                named(opened.iter().map(link_text))
            ))
            .hint("take the edit back; the run that opens a link writes its stage"),
            Self::LockEdit { .. } => new(
                "edited by hand: runs take its values as learned, accepted and live, and only runs write the lock"
                    .to_owned(),
            )
            .hint("take the edit back, or have whoever merges it vouch for each value"),
            Self::NewCluster { cluster, roots, readers, entry, .. } => {
                let when = match entry {
                    Admittance::Taken => format!("this run takes `{cluster}` into the mesh"),
                    Admittance::Unasked => format!("as soon as it answers, `{cluster}` is in the mesh"),
                    Admittance::Approved => format!("once it is accepted, `{cluster}` is in the mesh"),
                };
                let roots = match roots.as_slice() {
                    [] => "the root CA that it publishes".to_owned(),
                    [root] => format!("its root CA {root}"),
                    roots => {
                        let all: Vec<String> = roots.iter().map(ToString::to_string).collect();
                        format!("each of its root CAs {}", all.join(", "))
                    }
                };
                let by = match readers.as_slice() {
                    [] => "no cluster is linked with it yet".to_owned(),
                    readers => format!(
                        "its peers ({}) trust {roots}, which can then sign every identity of every accepted trust domain",
                        named(readers.iter())
                    ),
                };
                new(format!("{when}; {by}"))
            }
            Self::SecretByHand { reader, .. } => new(format!(
                "made by hand and given to the mesh: istiod of `{reader}` goes where it says, with the credential in it, until ours takes its place"
            )),
            Self::Links(change) => new(change.message()),
            Self::Share(change) => change.explanation(),
            Self::HandOver { cluster, from, to, is_given } => new(handed_over(cluster, *from, *to, *is_given)),
            Self::Contested { cluster, key } => new(format!(
                "another checkout, whose engine has key `{key}`, wrote what is live in `{cluster}` and does not leave it: each of both takes \
                 the place of what the other writes"
            ))
            .hint(format!("have one of both set `reconciler: external` for `{cluster}`, and sync it no more")),
            Self::Cut { cluster, stated, readers } => new(format!(
                "`{cluster}` does not publish the {} that its spec states: where nothing answers there, its links from {} are cut",
                stated.join(" and the "),
                named(readers.iter())
            )),
            Self::Spec { field, before, after, is_linked, .. } => {
                new(field.message(before.as_deref(), after.as_deref(), *is_linked))
            }
            Self::Override { overridden, clusters, .. } => {
                let clusters: Vec<String> = clusters.iter().map(ToString::to_string).collect();
                let within = if clusters.is_empty() { "no cluster yet".to_owned() } else { named(clusters.iter()) };
                new(format!("{}; in {within}", overridden_field(&overridden.field)))
            }
            Self::Policy { rule, before, after } => new(rule.message(before.as_deref(), after.as_deref())),
            Self::Document { cluster, .. } => {
                new(format!("the next run reads it as what `{cluster}` publishes; what it is trusted for is then held back"))
            }
            Self::BaseNotCompared { revision } => new(format!(
                "those of `{}` have findings, so what is edited in specs, templates and policy is not listed here",
                quoted(revision, LONGEST)
            ))
            .hint("read the diff of these folders"),
        }
    }
}

/// What a hand-over means.
fn handed_over(cluster: &ClusterName, from: Reconciler, to: Reconciler, is_given: bool) -> String {
    match (from, to, is_given) {
        (from, Reconciler::External, true) => {
            let who = if from == Reconciler::Agent { "its agent continues" } else { "no one follows up what changes" };
            format!(
                "from now on nothing in `{cluster}` is managed from here: all objects of `rendered/{cluster}/` stay in the cluster, since they are \
                 marked not to be pruned; until another checkout takes them, {who}; from then on links between `{cluster}` and clusters of other \
                 teams are known here no more"
            )
        }
        (_, Reconciler::External, false) => format!(
            "this checkout is to leave `{cluster}` to another one: every object of `rendered/{cluster}/` is marked to stay in the cluster; they \
             leave the checkout once that is seen"
        ),
        (Reconciler::External, _, true) => format!(
            "from now on `{cluster}` is managed from here: `rendered/{cluster}/` takes the places of what another checkout left there"
        ),
        (Reconciler::External, _, false) => format!(
            "the links of `{cluster}` stay joined while this checkout waits to take it from another one, which has to leave it first"
        ),
        (_, Reconciler::Agent, true) => format!(
            "from now on the agent of `{cluster}` writes what its links use: those objects leave `rendered/{cluster}/` and stay in the \
             cluster, since they are marked not to be pruned, and the agent takes them as they are"
        ),
        (_, _, true) => format!(
            "from now on `rendered/{cluster}/` has what the links of `{cluster}` use: its agent left these objects as they are, and goes \
             with its CRD and every IstioMulticluster object"
        ),
        (_, _, false) => format!(
            "the links of `{cluster}` stay joined while what they use is handed over to who acts as `{}`; it is given once its agent \
             shows that nothing would go",
            to.as_str()
        ),
    }
}

/// Whether a field is a label or an annotation that only people and their dashboards read.
fn is_for_people(field: &str) -> bool {
    const READ_BY_PEOPLE: [&str; 5] =
        ["backstage.io/", "datadoghq.com/", "checksum/", "kubernetes.io/description", "app.kubernetes.io/"];
    READ_BY_PEOPLE.iter().any(|prefix| field.contains(prefix))
}

/// What an override of a field allows.
fn overridden_field(field: &str) -> &'static str {
    const KINDS: [(&str, &str); 15] = [
        ("imagePullSecrets", "images are pulled with the credentials of another Secret"),
        ("nodeSelector", "which nodes run the servers that hold the cluster's private key"),
        ("affinity", "which nodes run the servers that hold the cluster's private key"),
        ("tolerations", "which nodes run the servers that hold the cluster's private key"),
        ("topologySpreadConstraints", "how the servers are spread over nodes"),
        ("priorityClassName", "which pods make room for the servers, and for which they make room"),
        ("resources", "how much of a node a server may use; too little stops it"),
        ("Probe", "when a server is taken for dead or for ready"),
        ("strategy", "how a server is replaced by its next version"),
        ("replicas", "how many of the server run"),
        ("externalTrafficPolicy", "whether the server sees the addresses of those who ask it"),
        ("loadBalancerClass", "which load balancer the server is reached through"),
        ("annotations", "whatever in the cluster or at its cloud obeys this annotation acts on it"),
        ("labels", "whatever in the cluster selects this label acts on it"),
        ("", "what the built-in template says no longer holds"),
    ];
    KINDS.into_iter().find(|(part, _)| field.contains(part)).map_or("", |(_, text)| text)
}

#[cfg(test)]
impl SecurityItem {
    /// One of each kind that may repeat the text of someone else, with this text wherever it may.
    pub(crate) fn all_saying(message: &str) -> Vec<Self> {
        use crate::pipeline::plan::reasons::Foreigner;
        let message = || message.to_owned();
        let field = |change| FieldChange { path: message(), change };
        let fields = || {
            let lines = ValueChange::Lines(vec![format!("+{}", message()), message()]);
            let changes = [ValueChange::Added(message()), ValueChange::Changed(message(), message()), lines];
            changes.map(field).to_vec()
        };
        let (cluster, action): (ClusterName, Action) = ("east".parse().unwrap(), Action::Update);
        let owner = Foreigner::Tool { object: message(), tool: message(), mesh: Some(message()) };
        let overridden =
            Overridden { object: message(), field: message(), before: Some(message()), after: Some(message()) };
        let (before, after) = (Some(message()), Some(message()));
        let all = [
            SecurityChange::File(CompareRefusal::Foreign { path: message(), owner }),
            SecurityChange::File(CompareRefusal::ListedByKustomization { path: message(), entry: message() }),
            SecurityChange::TreeEdit { path: message(), action, fields: fields() },
            SecurityChange::LockEdit { path: message(), action, fields: fields(), opened: Vec::new() },
            SecurityChange::SecretByHand { reader: cluster.clone(), path: message() },
            SecurityChange::Cut { cluster: cluster.clone(), stated: vec![message()], readers: vec![cluster.clone()] },
            SecurityChange::Spec {
                clusters: vec![cluster.clone()],
                field: SpecField::Image,
                before: before.clone(),
                after: after.clone(),
                is_linked: true,
            },
            SecurityChange::Policy { rule: PolicyRule::Images, before: before.clone(), after: after.clone() },
            SecurityChange::Override { path: message(), overridden, before, after, clusters: vec![cluster.clone()] },
            SecurityChange::Document { cluster, path: message(), action, fields: fields() },
            SecurityChange::BaseNotCompared { revision: message() },
        ];
        let both = all.into_iter().flat_map(|change| [Self::refused(change.clone()), Self::listed(change)]);
        both.collect()
    }
}
