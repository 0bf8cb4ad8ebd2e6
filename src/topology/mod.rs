//! What was asked for (raw, as written) → what it means (validated) → what will be made (planned).

pub mod model;
pub mod name;
pub mod plan;
