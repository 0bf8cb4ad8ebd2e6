//! The keys of a cluster, and the seed that puts them into its nodes.
pub mod keys;
