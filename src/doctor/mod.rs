//! What this container can and cannot do, and what would cure it.
