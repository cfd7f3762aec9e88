//! The metadata-exporter: what a cluster says of itself, and who may hear it.
//!
//! Sources are watched ([`crate::cluster::watched`]); [`documents`] composes what is published of them, [`evidence`] folds what
//! pods say; [`respond`] answers from that, without IO.

pub mod documents;
pub mod evidence;
mod look;
mod options;
mod published;
pub mod reasons;
mod run;

pub use crate::roles::exporter::options::ExporterOptions;
pub use crate::roles::exporter::published::{Audit, Exporter, Published, Relation, respond};
pub use crate::roles::exporter::run::start;
