//! Looks up names of pods and containers with those who know them, in the background: no reading waits for them.

pub mod kubernetes;
