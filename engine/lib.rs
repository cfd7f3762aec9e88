//! isthmus joins Istio clusters that each keep their own root CA into one mesh, from files in git.

// words
pub mod address;
pub mod diagnostic;
pub mod json;
pub mod name;
pub mod object;
