//! Tokens: minting, and the one strict verifier that every server uses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a token asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// Kubernetes through the api-proxy.
    #[serde(rename = "api")]
    Api,
    /// `private/federation.json`.
    #[serde(rename = "private-federation")]
    PrivateFederation,
    /// `private/multicluster.json`.
    #[serde(rename = "private-multicluster")]
    PrivateMulticluster,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Api => "api",
            Self::PrivateFederation => "private-federation",
            Self::PrivateMulticluster => "private-multicluster",
        })
    }
}

impl FromStr for Scope {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Api, Self::PrivateFederation, Self::PrivateMulticluster]
            .into_iter()
            .find(|scope| scope.to_string() == text)
            .ok_or(())
    }
}
