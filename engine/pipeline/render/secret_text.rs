//! A remote secret as the texts of its reader and what is filled into them.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use crate::pipeline::render::kubeconfig::kubeconfig;
use crate::pipeline::render::memo::Memo;
use crate::pipeline::render::text_template::TextTemplate;
use crate::types::diagnostic::Diagnostics;
use crate::types::name::{ClusterId, ClusterName, Digest};

/// Stands for a peer's cluster ID while the texts of a reader's secrets are made.
pub(super) const ID: &str = "stand-in-for-a-cluster-id-xq7v3k9w2m5r8t4z";

/// Stands for the CA of a reader's relay: it begins as PEM does, so YAML treats its base64 alike.
pub(super) const CA: &str = "-----BEGIN STAND-IN-xq7v3k9w2m5r8t4z";

/// Digest over the public inputs of a secret: a plan that holds no key sees by it that nothing changed.
pub(super) fn inputs(value: &serde_json::Value) -> Digest {
    Digest::of(value.to_string().as_bytes())
}

/// Kubeconfigs by the base of a relay's URLs and the file of the token that istiod shows.
pub(super) type Kubeconfigs = Memo<(String, Option<&'static str>), Option<Arc<TextTemplate>>>;

/// Where the relay is and what it asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RelayAddress {
    pub(super) base: String,
    pub(super) ca: Digest,
    /// File of the token that istiod shows.
    pub(super) token_file: Option<&'static str>,
}

impl RelayAddress {
    pub(super) fn inputs(&self, id: &ClusterId) -> Digest {
        let (server, ca) = (format!("{}{id}", self.base), &self.ca);
        inputs(&match self.token_file {
            Some(path) => json!({ "mode": "relay", "clusterID": id, "server": server, "ca": ca, "tokenFile": path }),
            None => json!({ "mode": "relay", "clusterID": id, "server": server, "ca": ca }),
        })
    }

    /// A kubeconfig of the relay at this place, for a cluster ID and the base64 of a CA.
    pub(super) fn kubeconfig(&self, all: &Kubeconfigs) -> Result<Option<Arc<TextTemplate>>, Diagnostics> {
        all.get((self.base.clone(), self.token_file), |_| {
            let text = kubeconfig(ID, &format!("{}{ID}", self.base), CA, self.token_file)?;
            Ok(TextTemplate::cut(&text, &[(ID, 7), (&BASE64.encode(CA), 1)]).map(Arc::new))
        })
    }
}

/// The texts that the secrets of one reader are filled into.
#[derive(Debug)]
pub(super) struct SecretTexts {
    pub(super) place: RelayAddress,
    /// The relay's CA in base64.
    pub(super) ca: String,
    pub(super) kubeconfig: Arc<TextTemplate>,
    pub(super) secret: TextTemplate,
    /// A digest over all of these, made when someone asks for it.
    inputs: OnceLock<Digest>,
}

impl SecretTexts {
    pub(super) fn new(place: RelayAddress, ca: String, kubeconfig: Arc<TextTemplate>, secret: TextTemplate) -> Self {
        Self { place, ca, kubeconfig, secret, inputs: OnceLock::new() }
    }

    fn inputs(&self) -> &Digest {
        let Self { place, kubeconfig, secret, .. } = self;
        self.inputs.get_or_init(|| Digest::of(format!("{place:?} {kubeconfig:?} {secret:?}").as_bytes()))
    }
}

impl PartialEq for SecretTexts {
    fn eq(&self, other: &Self) -> bool {
        let (one, two) = (self, other);
        (&one.place, &one.ca, &one.kubeconfig, &one.secret) == (&two.place, &two.ca, &two.kubeconfig, &two.secret)
    }
}

/// A remote secret: texts of its reader, and what is filled in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SecretText {
    pub(super) shared: Arc<SecretTexts>,
    pub(super) id: ClusterId,
    pub(super) peer: ClusterName,
}

impl SecretText {
    /// The canonical text.
    pub(super) fn text(&self) -> String {
        let id = self.id.as_str();
        let data = BASE64.encode(self.shared.kubeconfig.fill(&[id, &self.shared.ca]));
        let inputs = self.shared.place.inputs(&self.id).to_string();
        self.shared.secret.fill(&[id, self.peer.as_str(), &inputs, &data])
    }

    /// A digest over all that the text is made of.
    pub(super) fn inputs(&self) -> Digest {
        // neither name holds a NUL
        let parts =
            [self.shared.inputs().bytes().as_slice(), self.id.as_str().as_bytes(), &[0], self.peer.as_str().as_bytes()];
        Digest::of(&parts.concat())
    }
}
