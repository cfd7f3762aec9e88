//! `engine invite`: what another team needs to declare a cluster of ours.
#![deny(clippy::wildcard_enum_match_arm)]

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::checkout::Checkout;
use crate::cli::global::Global;
use crate::onboarding::invite::{Invitation, InvitationForm, InviteError};
use crate::report::format::Output;
use crate::report::text::Printer;
use crate::session::command_error::{CommandError, EndsCommand};
use crate::session::error::UnknownCluster;
use crate::session::exit::Exit;
use crate::session::session::Session;
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::name::ClusterName;

/// Arguments of `invite`.
#[derive(Debug, Args)]
pub(crate) struct Invite {
    /// The cluster that they are to declare.
    #[arg(value_name = "CLUSTER")]
    pub(crate) name: ClusterName,
    /// What the other team uses.
    #[arg(long = "for", value_enum, default_value_t = InvitationReader::Isthmus)]
    pub(crate) reader: InvitationReader,
    /// Kind of the document that is printed.
    #[arg(long = "as", value_enum, default_value_t = As::Multicluster)]
    pub(crate) form: As,
    /// Print only UUID and fingerprints, also of another team's cluster: what both sides compare.
    #[arg(long, conflicts_with_all = ["reader", "form"])]
    pub(crate) fingerprint: bool,
}

/// Who reads an invitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InvitationReader {
    /// A checkout of isthmus.
    Isthmus,
    /// Deckhouse's istio module, whose IstioMulticluster has fewer fields.
    Deckhouse,
}

/// Kinds of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum As {
    /// `IstioMulticluster`.
    Multicluster,
    /// `Cluster` with `reconciler: external`.
    Cluster,
}

/// `engine invite`.
pub(crate) fn run(arguments: &Global, invite: &Invite, printer: &Printer) -> Result<Exit, CommandError> {
    let form = match (invite.reader, invite.form) {
        (InvitationReader::Isthmus, As::Multicluster) => InvitationForm::Multicluster,
        (InvitationReader::Isthmus, As::Cluster) => InvitationForm::Cluster,
        (InvitationReader::Deckhouse, As::Multicluster) => InvitationForm::Deckhouse,
        (InvitationReader::Deckhouse, As::Cluster) => {
            return Err(InvitationError::ForDeckhouse.into());
        }
    };
    let checkout = Checkout::open(&arguments.directory)?;
    let session = Session::open(&checkout, arguments.cluster.as_ref(), printer, false)?;
    let (mesh, lock) = (&session.program.mesh, &session.program.lock);
    let unknown = || UnknownCluster::new(mesh, None, invite.name.as_str());
    let cluster = mesh.clusters.get(&invite.name).ok_or_else(unknown)?;
    let locked = lock.clusters.get(&invite.name);
    let invitation =
        if invite.fingerprint { Invitation::known(cluster, locked) } else { Invitation::ours(cluster, locked) };
    let invitation = invitation.map_err(InvitationError::Invite)?;
    let document = (!invite.fingerprint).then(|| invitation.document(&mesh.name, form)).transpose();
    let document = document.map_err(InvitationError::Invite)?;
    if arguments.output == Output::Json {
        let json = json!({
            "version": 1, "cluster": invitation.name, "endpoint": invitation.endpoint.to_string(),
            "clusterUUID": invitation.uuid, "authnKey": invitation.authn_key, "rootCA": invitation.roots,
            "endpointCA": invitation.ca_digests(), "fingerprint": invitation.fingerprint(), "words": invitation.phrase(),
            "document": document,
        });
        printer.out(&format!("{json}\n"));
        return Ok(Exit::Done);
    }
    if let Some(document) = document {
        printer.out(&document);
        printer.status(&format!(
            "compare by telephone, after they have it: {} (`engine invite {} --fingerprint`)",
            invitation.phrase(),
            invitation.name
        ));
    } else {
        let lines: Vec<String> =
            invitation.facts().into_iter().map(|(name, value)| format!("{name:<14} {value}\n")).collect();
        printer.out(&lines.concat());
    }
    Ok(Exit::Done)
}

/// Why there is no invitation.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explanation())]
pub(crate) enum InvitationError {
    /// A document that its reader does not know.
    ForDeckhouse,
    /// The cluster is not one to be invited to.
    Invite(#[source] InviteError),
}

impl Explain for InvitationError {
    fn explanation(&self) -> Explanation {
        match self {
            Self::ForDeckhouse => {
                let message = "--as cluster is a document of isthmus' own, and Deckhouse knows none";
                Explanation::new(Code::InvalidArguments, message).hint("leave one of the two out")
            }
            Self::Invite(error) => {
                let code = match error {
                    InviteError::NeverReached(_) => Code::ClusterNotReached,
                    InviteError::NotOurs(_)
                    | InviteError::Leaving(_)
                    | InviteError::Files(_)
                    | InviteError::DeckhouseEndpoint(..) => Code::NotForCluster,
                    InviteError::Yaml(_) => Code::NotRendered,
                };
                Explanation::new(code, error.to_string())
            }
        }
    }
}

impl EndsCommand for InvitationError {
    fn exit(&self) -> Exit {
        match self {
            Self::ForDeckhouse => Exit::Usage,
            Self::Invite(_) => Exit::Failed,
        }
    }
}
