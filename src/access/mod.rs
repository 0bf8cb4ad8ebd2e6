//! The files by which later steps reach a cluster, as `in` and `nodectl` write them.
