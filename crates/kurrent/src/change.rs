//! Deleting a stream, so that it can begin again, and ending it for ever.

use weft_events::{Expected, Rejected, head::Life, store::Change};
use weft_kernel::Error;
use weft_proxy::Reply;

use crate::{
    answer,
    append::{expected, stream},
    fault::Fault,
    frame::Requests,
    messages::{ChangeRequest, ChangeResponse, Empty, change_response::At},
    target::Kurrent,
};

/// `Streams/Delete` and `Streams/Tombstone`
pub(crate) async fn change(
    kurrent: &Kurrent,
    mut requests: Requests,
    change: Change,
) -> Result<Reply, Fault> {
    let target = requests.only::<ChangeRequest>().await?.options.unwrap_or_default();
    let stream = stream(target.stream_identifier.as_ref())?;
    let expected = expected(&target)?;
    let info = kurrent.events.stream(&stream).await?;
    // A deletion is no event here, and so it has no position.
    let done = || answer::message(&ChangeResponse { at: Some(At::NoPosition(Empty {})) });
    match info.map(|info| info.life) {
        Some(Life::Ended) => return Err(Fault::deleted(&stream)),
        // There is nothing that could be deleted.
        None | Some(Life::Deleted)
            if change == Change::Delete && matches!(expected, Expected::Any | Expected::None) =>
        {
            return Ok(done());
        }
        _ => {}
    }
    match kurrent.events.change(&stream, expected, change).await {
        Ok(_) => Ok(done()),
        Err(Rejected::Conflict(conflict)) if conflict.is_ended => Err(Fault::deleted(&stream)),
        Err(Rejected::Conflict(conflict)) => {
            Err(Fault::wrong_version(&stream, expected, conflict.actual))
        }
        Err(rejected) => Err(Error::from(rejected).into()),
    }
}
