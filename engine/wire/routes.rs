//! `routes.json` of ConfigMap `isthmus-routes`: which peers a relay reaches, where, and whom it takes for them; and whose metadata
//! it reads for the engine.
//!
//! The engine renders it, the relay reads it. It holds nothing secret. Unknown fields are ignored, so that a newer engine
//! may serve an older relay; an unknown version, and a cluster ID that comes twice, are errors.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::types::address::{ApiHost, Cidr, Endpoint};
use crate::types::cause::Cause;
use crate::types::json::{JsonError, parse_strict};
use crate::types::name::{ClusterId, ClusterUuid, NetworkName};

/// Name of the ConfigMap.
pub const ROUTES: &str = "isthmus-routes";
/// Key of the file in it.
pub const ROUTES_FILE: &str = "routes.json";
/// The version that is written and read.
pub const ROUTES_VERSION: u32 = 1;

/// All routes of a relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutesFile {
    /// [`ROUTES_VERSION`].
    pub version: u32,
    /// The cluster whose relay may take these routes; `None`: written by an older engine, for whoever reads it.
    #[serde(rename = "clusterUUID", default, skip_serializing_if = "Option::is_none")]
    pub of: Option<ClusterUuid>,
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Peers whose metadata the relay reads with the cluster's own key, so that the engine needs none of theirs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<WantedMetadata>,
}

/// A peer whose metadata a relay reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedMetadata {
    /// Where it is; `https://` alone.
    #[serde(serialize_with = "to_text", deserialize_with = "https")]
    pub endpoint: Endpoint,
    /// Its UUID as it was accepted, for which tokens are made; `None`: not known yet, and only the public document is read.
    #[serde(rename = "clusterUUID", default, skip_serializing_if = "Option::is_none")]
    pub cluster_uuid: Option<ClusterUuid>,
    /// The only roots trusted for the endpoint, PEM; `None`: public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Ranges that its addresses have to be in; empty: any outward one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Cidr>,
}

/// The way to a peer's api-proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The ID the peer is known by, which is the path below `/to/`.
    #[serde(rename = "clusterID")]
    pub cluster_id: ClusterId,
    /// Its UUID, for which tokens are made.
    #[serde(rename = "clusterUUID")]
    pub cluster_uuid: ClusterUuid,
    /// Address of its api-proxy.
    #[serde(rename = "apiHost", serialize_with = "to_text", deserialize_with = "from_text")]
    pub api_host: ApiHost,
    /// CA of its api-proxy, PEM; `None` is a public one.
    #[serde(rename = "apiCA", default)]
    pub api_ca: Option<String>,
    /// Inside addresses that the peer's spec allows by name; no others are dialled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Cidr>,
    /// Its network as it was reviewed, which is that of all its `WorkloadEntries`; `None`: written by an older engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkName>,
}

fn to_text<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn https<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Endpoint, D::Error> {
    match String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)? {
        Endpoint::File(_) => {
            Err(serde::de::Error::custom("expected a metadata endpoint with `https://`, found a folder"))
        }
        endpoint @ Endpoint::Https { .. } => Ok(endpoint),
    }
}

fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ApiHost, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

/// A file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoutesError {
    /// Not JSON as we read it.
    #[error("cannot read `routes.json`: {0}; render ConfigMap `isthmus-routes` again")]
    Json(#[from] JsonError),
    /// A field of a wrong type or grammar.
    #[error("cannot read `routes.json`: {0}; render ConfigMap `isthmus-routes` again")]
    Field(Cause<serde_json::Error>),
    /// Written by a newer engine.
    #[error("`routes.json`: expected version {ROUTES_VERSION}, found {0}; use a newer image here")]
    Version(u32),
    /// Synced into another cluster than it was rendered for, such as one that was rebuilt.
    #[error(
        "`routes.json` is for the cluster `{of}`, and this one is `{own}`; accept the rebuilt cluster, and sync what is rendered then"
    )]
    OfAnother {
        /// Whose routes they are.
        of: ClusterUuid,
        /// The cluster that read them.
        own: ClusterUuid,
    },
    /// Two routes for one ID.
    #[error("`routes.json` has two routes to cluster ID `{0}`; render ConfigMap `isthmus-routes` again")]
    Twice(ClusterId),
    /// Two peers at one metadata endpoint.
    #[error("`routes.json` has the metadata endpoint {0} twice; render ConfigMap `isthmus-routes` again")]
    EndpointTwice(Endpoint),
}

impl RoutesFile {
    /// Reads `routes.json`. Fails on broken JSON, another version, and values that break their grammar or limit.
    pub fn parse(bytes: &[u8]) -> Result<Self, RoutesError> {
        let file: Self =
            serde_json::from_value(parse_strict(bytes)?).map_err(|error| RoutesError::Field(error.into()))?;
        if file.version != ROUTES_VERSION {
            return Err(RoutesError::Version(file.version));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = file.routes.iter().find(|route| !seen.insert(&route.cluster_id)) {
            return Err(RoutesError::Twice(twice.cluster_id.clone()));
        }
        let mut seen = BTreeSet::new();
        match file.metadata.iter().find(|wanted| !seen.insert(&wanted.endpoint)) {
            Some(twice) => Err(RoutesError::EndpointTwice(twice.endpoint.clone())),
            None => Ok(file),
        }
    }

    /// The routes, if they are those of this cluster.
    pub fn taken_by(self, own: &ClusterUuid) -> Result<Self, RoutesError> {
        match self.of {
            Some(of) if of != *own => Err(RoutesError::OfAnother { of, own: own.clone() }),
            Some(_) | None => Ok(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EAST: &str = r#"{"clusterID":"east","clusterUUID":"2f0a77f0-5c6f-4a65-9d21-0e6a1f8b9c31",
        "apiHost":"api.east.example.com:6443","apiCA":null,"later":1}"#;

    #[test]
    fn a_file_reads_what_it_writes_and_says_what_is_wrong() {
        let file = |routes: &str| format!("{{\"version\":1,\"routes\":[{routes}]}}");
        let routes = RoutesFile::parse(file(EAST).as_bytes()).unwrap();
        assert_eq!(routes.routes[0].api_host.port, Some(6443));
        let written = serde_json::to_vec(&routes).unwrap();
        assert_eq!(RoutesFile::parse(&written).unwrap(), routes);
        assert!(RoutesFile::parse(b"{\"version\":1}").unwrap().routes.is_empty());

        let own = "2f0a77f0-5c6f-4a65-9d21-0e6a1f8b9c31".parse().unwrap();
        let rebuilt = "1f0a77f0-5c6f-4a65-9d21-0e6a1f8b9c31".parse().unwrap();
        let of = format!("{{\"version\":1,\"clusterUUID\":\"{own}\"}}");
        assert!(RoutesFile::parse(of.as_bytes()).unwrap().taken_by(&own).is_ok());
        let refused = RoutesFile::parse(of.as_bytes()).unwrap().taken_by(&rebuilt);
        assert_eq!(refused, Err(RoutesError::OfAnother { of: own, own: rebuilt.clone() }));
        assert!(routes.clone().taken_by(&rebuilt).is_ok(), "an older engine names no cluster");

        let twice = RoutesFile::parse(file(&format!("{EAST},{EAST}")).as_bytes()).unwrap_err();
        assert!(twice.to_string().contains("two routes to cluster ID `east`"), "{twice}");
        let wanted = r#"{"endpoint":"https://istio-metadata.deck.example.com/metadata"}"#;
        let wants = |all: &str| RoutesFile::parse(format!("{{\"version\":1,\"metadata\":[{all}]}}").as_bytes());
        let read = wants(wanted).unwrap();
        assert_eq!((read.metadata.len(), &read.metadata[0].cluster_uuid, &read.metadata[0].ca), (1, &None, &None));
        assert_eq!(RoutesFile::parse(&serde_json::to_vec(&read).unwrap()).unwrap(), read);
        assert!(matches!(wants(&format!("{wanted},{wanted}")), Err(RoutesError::EndpointTwice(_))));
        assert!(matches!(wants(r#"{"endpoint":"file://metadata/deck"}"#), Err(RoutesError::Field(_))));
        assert_eq!(RoutesFile::parse(b"{\"version\":2}"), Err(RoutesError::Version(2)));
        for (from, to) in [("api.east", "https://api"), ("\"east\"", "\"ea/st\""), ("2f0a", "2F0A")] {
            assert!(matches!(RoutesFile::parse(file(&EAST.replace(from, to)).as_bytes()), Err(RoutesError::Field(_))));
        }
        assert!(matches!(RoutesFile::parse(b"{\"version\":1,\"version\":1}"), Err(RoutesError::Json(_))));
    }
}
