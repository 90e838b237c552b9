//! Configuration: from YAML files to a checked [`Plan`], without opening a port.
//!
//! The [`catalogue`] lists what may stand at the top level: the node's own [`sections`] and those that
//! components bring, of which nothing is known here. One table per section is the only source of keys, types,
//! defaults and words. What is read from it: values with their places ([`setting`]), everything that is wrong at once
//! ([`problem`], [`report`]), the JSON Schema ([`schema`]), the reference page ([`reference`](mod@reference))
//! and the configuration in effect ([`print`](mod@print)). Semantics (references, combinations that cannot work)
//! are checked while the plan is built.
//!
//! Invariants: nothing here panics or hangs on a file, whatever is in it; a secret is never printed; a
//! plan is handed out only when nothing at all is wrong.
//!
//! Reading order: [`load`](mod@load), [`source`], [`tree`], [`vars`], [`secrets`], [`merge`], [`setting`], [`catalogue`], [`sections`], [`options`],
//! `routes`, [`plan`], `kept`, [`watch`].

mod build;
pub mod catalogue;
mod kept;
pub mod leaf;
pub mod load;
pub mod merge;
pub mod options;
pub mod overlay;
mod pem;
pub mod plan;
pub mod print;
pub mod problem;
pub mod reference;
mod remembered;
pub mod report;
mod routes;
pub mod schema;
pub mod secrets;
pub mod sections;
pub mod setting;
pub mod source;
pub mod text;
pub mod tree;
pub mod vars;
pub mod watch;

pub use load::{Loaded, Loader, Refused, load};
pub use plan::Plan;
pub use secrets::Commands;
