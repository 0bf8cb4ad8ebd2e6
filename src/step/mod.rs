//! The steps of a build: `put` boots (or ends) a cluster, `get` writes what later steps reach it by.

pub mod get;
pub mod metadata;
pub mod put;
