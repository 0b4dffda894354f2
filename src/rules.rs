//! Model in, conclusions out: the scene that panes draw and the report prints.

pub mod pods;
pub mod scene;
