//! Exit codes.

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, nothing to do, or only waiting.
    Done = 0,
    /// Failed; errors of the specs too.
    Failed = 1,
    /// `plan --detailed-exitcode` found changes.
    Changes = 2,
    /// A cluster failed, the rest is done.
    Partial = 3,
    /// Held back or refused.
    Refused = 4,
    /// Another engine works here.
    Busy = 5,
    /// Files or network of this machine.
    Machine = 6,
    Usage = 64,
}

impl Exit {
    /// Where several hold, this order decides.
    const ORDER: [Self; 8] =
        [Self::Usage, Self::Machine, Self::Busy, Self::Failed, Self::Refused, Self::Partial, Self::Changes, Self::Done];

    /// The stronger of two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::ORDER.into_iter().find(|exit| *exit == self || *exit == other).unwrap_or(self)
    }

    /// The number that the process ends with.
    pub fn code(self) -> u8 {
        self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stronger_code_wins_in_either_order() {
        for (a, b, wins) in [
            (Exit::Done, Exit::Changes, Exit::Changes),
            (Exit::Partial, Exit::Refused, Exit::Refused),
            (Exit::Failed, Exit::Refused, Exit::Failed),
            (Exit::Busy, Exit::Machine, Exit::Machine),
            (Exit::Usage, Exit::Machine, Exit::Usage),
        ] {
            assert_eq!(a.and(b), wins);
            assert_eq!(b.and(a), wins);
        }
    }
}
