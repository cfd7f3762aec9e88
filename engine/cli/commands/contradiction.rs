//! Flags of `plan` and `apply` of which one would do nothing beside the other: said instead of ignored.
#![deny(clippy::wildcard_enum_match_arm)]

use crate::session::command_error::{CommandError, EndsCommand};
use crate::session::exit::Exit;
use crate::types::explanation::{Code, Explain, Explanation};

/// Two flags that cannot both do what they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.explanation())]
pub(crate) enum Contradiction {
    /// A flag that a stored plan holds already.
    HeldByPlan {
        /// The flag.
        flag: &'static str,
    },
    /// `PLAN --locked`.
    PlanAsks,
    /// `PLAN --wait`.
    PlanIsOneRun,
    /// `PLAN --create-keys`.
    KeyNotInPlan,
    /// `--max-age` without PLAN.
    AgeOfNothing,
    /// A flag that decides something, in a run that decides nothing.
    NothingDecided {
        /// The flag that asks for such a run.
        mode: &'static str,
        /// The flag that would have nothing to do.
        flag: &'static str,
    },
    /// `--cluster --accept-trust`.
    TrustOfAll,
    /// `--cluster --restore-links`.
    RestoredOfOne,
    /// `--restore-links` with a stored plan.
    RestoredByPlan,
}

impl Contradiction {
    /// This error, where it holds.
    pub(super) fn when(self, holds: bool) -> Result<(), CommandError> {
        if holds { Err(self.into()) } else { Ok(()) }
    }

    /// The flags that have nothing to do beside a mode, of those that are given.
    pub(super) fn nothing_decided(mode: &'static str, flags: &[(&'static str, bool)]) -> Result<(), CommandError> {
        flags.iter().try_for_each(|(flag, given)| Self::NothingDecided { mode, flag }.when(*given))
    }
}

impl Explain for Contradiction {
    fn explanation(&self) -> Explanation {
        let (message, hint) = match self {
            Self::HeldByPlan { flag } => (
                format!("{flag} cannot be used with PLAN: a stored plan holds what was asked of it"),
                format!("give {flag} to `engine plan --out`"),
            ),
            Self::PlanAsks => (
                "--locked cannot be used with PLAN: a stored plan is carried out after the clusters were asked again"
                    .to_owned(),
                "leave one of the two out".to_owned(),
            ),
            Self::PlanIsOneRun => (
                "--wait cannot be used with PLAN: a stored plan is one run, and what follows it was not planned"
                    .to_owned(),
                "run `engine apply --wait` after it".to_owned(),
            ),
            Self::KeyNotInPlan => (
                "--create-keys cannot be used with PLAN: a key that is made now is not what was planned with"
                    .to_owned(),
                "run `engine keys new`, then plan again".to_owned(),
            ),
            Self::AgeOfNothing => (
                "--max-age needs PLAN: it is the age of a stored plan".to_owned(),
                "name a plan, or leave it out".to_owned(),
            ),
            Self::NothingDecided { mode, flag } => (
                format!("{flag} cannot be used with {mode}: such a run asks no cluster and decides nothing"),
                "leave one of the two out".to_owned(),
            ),
            Self::RestoredByPlan => (
                "--restore-links cannot be used with a stored plan, PLAN or --out: it is carried out beside the lock as it is"
                    .to_owned(),
                "run `engine apply --restore-links`".to_owned(),
            ),
            Self::RestoredOfOne => (
                "--restore-links cannot be used with --cluster: a link rests on the files of both its clusters"
                    .to_owned(),
                "leave --cluster out".to_owned(),
            ),
            Self::TrustOfAll => (
                "--accept-trust cannot be used with --cluster: what a cluster is trusted for concerns all its readers"
                    .to_owned(),
                "leave --cluster out".to_owned(),
            ),
        };
        Explanation::new(Code::InvalidArguments, message).hint(hint)
    }
}

impl EndsCommand for Contradiction {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}
