//! A link between two clusters, in one direction.

use std::fmt;

use crate::types::name::ClusterName;
use crate::types::step::StepId;

/// Who reads, and whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// Who reads.
    pub reader: ClusterName,
    /// Who is read.
    pub peer: ClusterName,
}

impl Link {
    /// The link from one cluster to another.
    pub fn new(reader: &ClusterName, peer: &ClusterName) -> Self {
        Self { reader: reader.clone(), peer: peer.clone() }
    }

    /// The link that a step is about; only remote secrets have one.
    pub fn of(step: &StepId) -> Option<Self> {
        step.peer.as_ref().map(|peer| Self::new(&step.cluster, peer))
    }

    /// The same two clusters in the other direction.
    #[must_use]
    pub fn back(&self) -> Self {
        Self::new(&self.peer, &self.reader)
    }

    /// Both clusters, the reader first.
    pub fn ends(&self) -> [&ClusterName; 2] {
        [&self.reader, &self.peer]
    }

    /// The step that renders its remote secret.
    pub fn secret(&self) -> StepId {
        StepId::secret(&self.reader, &self.peer)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.reader, self.peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_written_as_its_step_is() {
        let link = Link::new(&"east".parse().unwrap(), &"west".parse().unwrap());
        assert_eq!(link.secret().to_string(), format!("render-secret/{link}"));
        assert_eq!((Link::of(&link.secret()), link.back().back()), (Some(link.clone()), link));
    }
}
