//! Projections over HTTP: rows of the one table ([`weft_api`]), on the admin API and on routes.

mod consistency;
mod moment;
mod read;
mod rows;
mod state;
pub(crate) mod token;

use weft_api::{Noun, Row};
use weft_events::{
    EventStore,
    projection::{Projection, Projections},
};
use weft_kernel::{Error, Reason, Result};
use weft_net::Stop;

pub use self::{
    consistency::{CONSISTENCY, Consistency, ConsistencyPolicies},
    rows::PROJECTION_OPERATIONS,
};
use crate::below::{Below, BelowTargets};

/// A projection.
pub static PROJECTION: Noun =
    Noun { name: "projection", about: "read models that are folded from events" };

/// The handler of routes that offer projections; its settings are an [`ApiPath`](crate::ApiPath).
pub const PROJECTIONS: &str = "projections";

/// The local handler of projections.
pub type ProjectionTargets = BelowTargets<Projected>;

/// What the rows operate.
#[derive(Clone)]
pub struct Projected {
    /// The store of events.
    pub events: EventStore,
    /// The projections.
    pub projections: Projections,
    /// Ends what follows.
    pub stop: Stop,
}

impl Below for Projected {
    const HANDLER: &'static str = PROJECTIONS;

    fn rows() -> &'static [Row<Self>] {
        PROJECTION_OPERATIONS
    }
}

/// A request about projections.
type Ask<'a> = weft_api::Ask<'a, Projected>;

/// The projection of the path.
fn projection<'a>(ask: &Ask<'a>) -> Result<&'a Projection> {
    ask.state.projections.get(ask.names.at(0))
}

/// That a projection has not got as far as a token says, within the time that there was.
fn behind(of: &Projection) -> Error {
    let say = format!("the projection `{}` is {} events behind", of.name(), of.lag());
    Error::new(Reason::ProjectionBehind, say)
}
