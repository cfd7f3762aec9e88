//! How far long work has come, for whoever shows it.

/// Work that takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
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
    fn begin(&self, stage: Stage, total: usize);

    /// One more step is done.
    fn step(&self);

    /// The stage is over, and something may be printed.
    fn end(&self);
}

/// Sees nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unmetered;

impl Meter for Unmetered {
    fn begin(&self, _stage: Stage, _total: usize) {}

    fn step(&self) {}

    fn end(&self) {}
}
