//! How many cases a law is tried on.

use proptest::prelude::ProptestConfig;

/// As many as are said, times what `PROPTEST_CASES` has above proptest's own 256: `PROPTEST_CASES=2560` tries ten times as many.
pub(crate) fn cases(usual: u32) -> ProptestConfig {
    let wished = ProptestConfig::default();
    let cases = u64::from(usual) * u64::from(wished.cases) / 256;
    let cases = u32::try_from(cases.max(1)).unwrap_or(u32::MAX);
    ProptestConfig { cases, failure_persistence: None, ..wished }
}
