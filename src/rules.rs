//! Model in, conclusions out: the scene that panes draw and the report prints.

pub mod advice;
mod assemble;
pub mod busbw;
pub mod checks;
pub mod comms;
pub mod crowd;
pub mod devices;
pub mod edges;
pub mod explain;
pub mod findings;
mod former;
pub mod gpus;
pub mod kept;
pub mod layout;
pub mod links;
pub mod matrix;
pub mod modelfiles;
pub mod modelsize;
pub mod pairs;
pub mod pods;
pub mod policy;
pub mod probes;
pub mod rating;
pub mod room;
pub mod routes;
pub mod scene;
pub mod serving;
pub mod startup;
pub mod still;
pub mod testing;
pub mod variables;
mod verdict;

pub use findings::KNOWN;
