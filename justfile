# List the recipes.
default:
    @just --list

# A whole mesh in one process, on loopback: the guided tour.
demo:
    cargo run --release -- demo

# All tests; those of the bed skip themselves until `just testbed` has run once.
test:
    cargo test

# What a reviewer would have to say otherwise: format, lints, documentation.
check:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

# Format the code, as `just check` wants it.
fmt:
    cargo fmt

# Accept what snapshots show now, of the tests whose names contain FILTER; read the diff before you commit.
accept FILTER="":
    INSTA_UPDATE=always ISTHMUS_BED=later cargo test {{FILTER}}
    git --no-pager diff --stat -- '*.snap'

# Write docs/reference/ and charts/ anew from the program; without it a page that is stale fails its test.
reference:
    ISTHMUS_REFERENCE=write cargo test --quiet --test integration -- reference:: chart::

# What nothing needs: items that neither the binary nor a test reaches, dependencies nobody names.
dead-code:
    ci/dead-code

# The image as an OCI archive, without a daemon, the same bytes each time (needs buildah).
image:
    ci/image

# All of a release but its signatures: built here, and judged.
release-check:
    ci/release-check

# Licences, banned crates and sources of all dependencies.
deny:
    ci/deny

# The figures of docs/performance.md.
bench:
    cargo bench

# What the page's tests in Chromium need beside Chromium and node; without it they skip themselves.
browser:
    npm ci --prefix tests/browser --no-audit --no-fund

# Build etcd, kube-apiserver and istiod for the real test bed (once, 10 to 25 minutes, needs Go).
testbed:
    tests/testbed/bed build

# The real test bed: our output against a real kube-apiserver and a real istiod.
e2e:
    cargo test --test bed -- --nocapture

# What takes longer than CI may: laws on many more cases, and a mesh of 1,000 clusters.
drill:
    ci/drill

# What peers are given of an apiserver's answers, by libFuzzer, for so many SECONDS.
fuzz SECONDS="600":
    ci/fuzz {{SECONDS}}

# Everything that CI runs.
ci:
    .ci/run
