//! The protocol of `check`, `in` and `out`: request, response, version, metadata.
//!
//! A request is read from standard input by [`call::stdin`] and made out by [`request`]; the answer is a [`Response`] on
//! standard output, and nothing else is ever written there.

pub mod call;
pub mod environment;
pub mod request;
pub mod response;
pub mod token;
pub mod version;

pub use environment::BuildEnv;
pub use request::{CheckRequest, InRequest, OutRequest, PutParams, Source};
pub use response::{Metadata, Response};
pub use token::Token;
pub use version::{State, Version};
