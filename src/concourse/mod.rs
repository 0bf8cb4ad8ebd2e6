//! The protocol of `check`, `in` and `out`: request, response, version, metadata.
