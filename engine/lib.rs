//! isthmus joins Istio clusters that each keep their own root CA into one mesh, from files in git.

// words
pub mod address;
pub mod argocd;
pub mod bundle;
pub mod certificate;
pub mod diagnostic;
pub mod failure;
pub mod identity;
pub mod json;
pub mod key;
pub mod metadata;
pub mod name;
pub mod object;
pub mod peers;
pub mod routes;
pub mod spiffe;
pub mod step;
mod text;
pub mod token;

// what is known
pub mod fact;
pub mod lock;
pub mod mesh;

// stages
pub mod accept;
pub mod advance;
pub mod compile;
pub mod demo;
pub mod diff;
pub mod draft;
pub mod gitops;
pub mod graph;
pub mod invite;
pub mod observe;
pub mod picture;
pub mod plan;
pub mod render;
pub mod signer;
pub mod spec;
pub mod survey;
pub mod template;
pub mod tree;
pub mod watch;

// edges
pub mod checkout;
pub mod cli;
pub mod cluster;
pub mod git;
pub mod pipeline;
pub mod server;
