//! What was asked for (raw, as written) → what it means (validated) → what will be made (planned).
//!
//! A user's document is read by [`load()`], put under what stands inline by [`overlay`], and becomes a
//! [`model::Topology`] by [`validate()`], which tells everything that is wrong at once; [`open`] does both for a file that a person names. [`plan::plan`] then chooses names,
//! addresses and MACs. [`schema`] is what editors and other programs know about the form.

pub mod document;
pub mod inputs;
pub mod limits;
pub mod load;
pub mod model;
pub mod name;
pub mod plan;
pub mod problems;
pub mod raw;
pub(crate) mod reader;
pub mod validate;

pub use inputs::Inputs;
pub use load::{load, open, overlay};
pub use problems::{Problem, Problems};
pub use raw::schema;
pub use validate::validate;
