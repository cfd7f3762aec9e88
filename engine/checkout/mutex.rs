//! One engine at a time.
//!
//! The lock is the kernel's `flock` on the checkout's own folder: it needs no file, so nothing is written and nothing
//! stale is left when its holder is killed.

use std::ops::Deref;

use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, flock, openat};
use rustix::io::Errno;

use crate::checkout::flags::FOLDER;
use crate::checkout::{Checkout, CheckoutError, Left};

/// The right to change a checkout, for as long as it lives. Everything that reads works on it as well.
#[derive(Debug)]
pub struct Guard<'a> {
    pub(super) checkout: &'a Checkout,
    lock: OwnedFd,
}

impl Drop for Guard<'_> {
    /// Unlocked by word: closing alone would leave the lock to a process that was forked in between and has not yet
    /// closed its copy.
    fn drop(&mut self) {
        let _closing_frees_it_as_well = flock(&self.lock, FlockOperation::Unlock);
    }
}

impl Checkout {
    /// Takes the lock, without waiting: `Busy` when another engine, or another part of this one, holds it.
    pub fn lock(&self) -> Result<Guard<'_>, CheckoutError> {
        let fail = |cause| CheckoutError::io("lock", &self.dir.to_string_lossy(), cause, Left::Untouched);
        // Opened anew, since a lock belongs to what `open` gave: one on `root` itself would let everyone here in.
        let lock = openat(&self.root, ".", FOLDER, Mode::empty()).map_err(fail)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                // what was listed before may have changed since
                self.forget_listed();
                Ok(Guard { checkout: self, lock })
            }
            Err(Errno::WOULDBLOCK) => Err(CheckoutError::Busy(self.dir.clone())),
            Err(cause) => Err(fail(cause)),
        }
    }
}

impl Deref for Guard<'_> {
    type Target = Checkout;

    fn deref(&self) -> &Checkout {
        self.checkout
    }
}
