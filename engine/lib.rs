//! isthmus joins Istio clusters that each keep their own root CA into one mesh, from files in git.
//!
//! The modules in reading order, from the ground up. A module imports only modules above it in this list.

// values, and the edges that know nothing of meshes
pub mod types;

pub mod checkout;
pub mod git;

// what crosses a border, and the small HTTPS server
pub mod server;
pub mod wire;

// what is true, and how clusters are asked
pub mod cluster;
pub mod model;

// what users write, and what istiod shows
pub mod istio;
pub mod spec;

// the road from specs to files
pub mod pipeline;

// what rests on it
pub mod conformance;
pub mod gitops;
pub mod onboarding;
pub mod report;
pub mod roles;

// one run on one checkout, runs on events, the command line
pub mod agent;
pub mod session;
pub mod simulation;
pub mod watch;

pub mod cli;
