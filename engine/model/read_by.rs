//! Who read what a cluster publishes: the engine itself, or the relay of another cluster.

use serde::{Deserialize, Serialize};

use crate::types::name::ClusterName;

/// Who read a cluster's documents: another cluster's relay, by its key; `None`: the engine itself, or no one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadBy {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<ClusterName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private: Option<ClusterName>,
}

impl ReadBy {
    /// Whether no relay read any of them.
    pub fn is_own(&self) -> bool {
        *self == Self::default()
    }

    /// A relay that read one of them.
    pub fn any(&self) -> Option<ClusterName> {
        self.public.clone().or_else(|| self.private.clone())
    }

    /// Both readers for programs; `null` is the engine.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({ "public": self.public, "private": self.private })
    }

    /// Both readers for people, such as `engine` or `public engine, private relay of east`.
    pub fn text(&self) -> String {
        let who = |reader: &Option<ClusterName>| match reader {
            Some(reader) => format!("relay of {reader}"),
            None => "engine".to_owned(),
        };
        let (public, private) = (who(&self.public), who(&self.private));
        if public == private { public } else { format!("public {public}, private {private}") }
    }
}

/// Who counts as the reader of what is kept: whoever read it first, until the engine reads the same itself. So a peer that the engine
/// reaches now and then changes no file by that.
pub fn first_reader(is_same: bool, before: Option<&ClusterName>, now: Option<&ClusterName>) -> Option<ClusterName> {
    if is_same && now.is_some() { before.cloned() } else { now.cloned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_read_a_document_first_is_kept_until_the_engine_reads_the_same_itself() {
        let (east, north): (ClusterName, ClusterName) = ("east".parse().unwrap(), "north".parse().unwrap());
        assert_eq!(first_reader(true, Some(&east), Some(&north)), Some(east.clone()), "another relay reads the same");
        assert_eq!(first_reader(true, None, Some(&north)), None, "the engine read it before");
        assert_eq!(first_reader(true, Some(&east), None), None, "the engine reads it now");
        assert_eq!(first_reader(false, Some(&east), Some(&north)), Some(north), "it is another document");
        assert_eq!(first_reader(false, Some(&east), None), None);
    }

    #[test]
    fn both_readers_are_named_where_they_differ() {
        let (engine, east) = (None, "east".parse().ok());
        let text = |public: &Option<ClusterName>, private: &Option<ClusterName>| {
            ReadBy { public: public.clone(), private: private.clone() }.text()
        };
        assert_eq!(text(&engine, &engine), "engine");
        assert_eq!(text(&east, &east), "relay of east");
        assert_eq!(text(&engine, &east), "public engine, private relay of east");
    }
}
