//! The metadata-exporter: what a cluster says of itself, and who may hear it.
//!
//! Sources are watched ([`crate::cluster::watched`]); [`documents`] composes what is published of them, [`evidence`] folds what
//! pods say; [`CollectedEvidence`] keeps that with the times at which it held; [`PublishedAnswers`] answers from all of it, without IO.

mod collect;
pub mod documents;
pub mod evidence;
mod gathered;
mod istiod;
mod options;
mod published;
pub mod reasons;
mod restarts;
mod run;
mod sources;

pub use crate::roles::exporter::gathered::{CollectedEvidence, Confirmed, FieldTimes, Gathered, MAX_AGE, Relation};
pub use crate::roles::exporter::options::ExporterOptions;
pub use crate::roles::exporter::published::{Audit, Exporter, Moment, Published, PublishedAnswers};
pub use crate::roles::exporter::run::{metrics, start, start_with_max_age};
