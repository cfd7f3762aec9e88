//! `engine watch`: a run whenever the checkout or the metadata change, and on time.
//!
//! 1. `run`: the loop. What happens outside becomes an event of the pure [scheduler], whose next action it does.
//! 2. `files`: what differs in the checkout since the last scan, and who wakes us.
//! 3. `contacts`: asks clusters beside everything else.
//! 4. `history`: commits, pulls and pushes.
//! 5. `live`: the table on a terminal; `pages`: health, metrics and the page over HTTP.
#![allow(clippy::disallowed_methods, reason = "this edge asks the clock")]

mod contacts;
mod error;
mod event;
mod files;
mod history;
mod live;
mod options;
mod pages;
mod run;
pub mod scheduler;

use std::sync::mpsc;

pub use self::options::{Flags, Watch};
pub use self::pages::metrics;

use self::error::WatchError;
use self::event::EventSender;
use self::run::Watcher;
use crate::report::text::Printer;
use crate::session::command_error::CommandError;
use crate::session::exit::Exit;

/// `engine watch`.
pub fn run(flags: &Flags, watch: &Watch, printer: &Printer) -> Result<Exit, CommandError> {
    if flags.narrowed {
        return Err(WatchError::Narrowed.into());
    }
    let (sender, events) = mpsc::channel();
    Watcher::new(flags, watch, printer, EventSender(sender))?.until_stopped(&events)
}
