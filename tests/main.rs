//! tests
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod acting;
mod agent;
mod agreement;
mod argocd;
mod bad;
mod browser;
mod bundle;
mod certificate;
mod chart;
mod checkout;
mod ci_templates;
mod codes;
mod command_line;
mod day_two;
mod deckhouse;
mod demo;
mod disaster;
mod documents;
mod draft;
mod exporter;
mod fetch;
mod flags;
mod former;
mod git;
mod hand_over;
mod hostile_peer;
mod hostile_pull_request;
mod init;
mod inventory;
mod invite;
mod kill;
mod kubeconfig;
mod law;
mod laws;
mod manifests;
mod next_steps;
mod observe;
mod outputs;
mod overrides;
mod parting;
mod picture;
mod policy;
mod policy_file;
mod pre_commit;
mod projection;
mod protobuf;
mod proxy;
mod pull_requests;
mod reference;
mod relay;
mod render;
mod request_info;
mod restored;
mod sealed;
mod server;
mod smuggling;
mod spec;
mod spiffe;
mod standard_networks;
mod terminal;
mod tidy;
mod token;
mod trust;
mod upgrade;
mod upstream;
mod watch;
mod yaml;

mod support {
    pub(crate) mod apiserver;
    pub(crate) mod checkout;
    pub(crate) mod deckhouse;
    pub(crate) mod environment;
    pub(crate) mod kube;
    pub(crate) mod law;
    pub(crate) mod links;
    pub(crate) mod live;
    pub(crate) mod merge_patch;
    pub(crate) mod naive;
    pub(crate) mod objects;
    pub(crate) mod peer;
    pub(crate) mod projected;
    pub(crate) mod protobuf;
    pub(crate) mod road;
    pub(crate) mod story;
    pub(crate) mod world;
    #[path = "../../benches/support/worst_yaml.rs"]
    pub(crate) mod worst_yaml;
}
