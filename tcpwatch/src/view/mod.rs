//! Pure formatting: what the model knows, as a person or a program reads it.

pub mod csv;
pub mod json;
pub mod number;
pub mod text;
pub mod time;
pub mod trace;
