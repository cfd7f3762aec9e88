//! How far long work has come, for whoever shows it.

/// Work that takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkStage {
    /// Clusters are asked; one step a document.
    Asking,
    /// Clusters are rendered and compared; one step a cluster.
    Comparing,
    /// Files are written; one step a file.
    Writing,
}

/// Sees how far long work has come.
pub trait Meter: Sync {
    /// A stage begins, of so many steps.
    fn begin(&self, stage: WorkStage, total: usize);

    /// One more step is done.
    fn step(&self);

    /// The stage is over, and something may be printed.
    fn end(&self);
}

/// Measures nothing, for runs whose times are not shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unmetered;

impl Meter for Unmetered {
    fn begin(&self, _stage: WorkStage, _total: usize) {}

    fn step(&self) {}

    fn end(&self) {}
}
