//! Where a plan is carried out.

use crate::checkout::FileChange;
use crate::pipeline::meter::Meter;
use crate::pipeline::program::{Program, Stop};
use crate::pipeline::run::{Run, Written};

/// Where a plan is carried out.
pub trait Sink {
    /// Sees the whole plan before anything of it is written.
    fn planned(&mut self, program: &Program, run: &Run);

    /// Writes all changes, or none.
    fn write(&mut self, changes: &[FileChange], meter: &dyn Meter) -> Result<Written, Stop>;
}
