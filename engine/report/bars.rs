//! Bars of progress on a terminal, one a stage.

use std::sync::{Mutex, PoisonError};

use crate::pipeline::meter::{Meter, WorkStage};
use crate::report::text::{Printer, WorkProgress};

/// Shows how far a run has come.
#[derive(Debug)]
pub struct Bars<'a> {
    printer: &'a Printer,
    shown: Mutex<Option<WorkProgress>>,
}

impl<'a> Bars<'a> {
    /// Bars of this printer: nothing where it has no terminal.
    pub fn new(printer: &'a Printer) -> Self {
        Self { printer, shown: Mutex::default() }
    }
}

impl Meter for Bars<'_> {
    fn begin(&self, stage: WorkStage, total: usize) {
        let title = match stage {
            WorkStage::Asking => "asking clusters",
            WorkStage::Comparing => "comparing",
            WorkStage::Writing => "writing",
        };
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        // the one before is cleared first
        *shown = None;
        *shown = Some(self.printer.progress(title, total));
    }

    fn step(&self) {
        if let Some(bar) = &*self.shown.lock().unwrap_or_else(PoisonError::into_inner) {
            bar.step();
        }
    }

    fn end(&self) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
