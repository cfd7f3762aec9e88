//! isthmus joins Istio clusters that each keep their own root CA into one mesh, from files in git.
