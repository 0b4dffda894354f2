//! A test from its creation to its last trace, whoever looks on.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::plan::{Plan, Runner};
use super::{clean, follow, submit, upload};
use crate::model::testrun::{Ending, Phase, Planned, TestEvent};
use crate::sources::cluster::{Connection, Trouble};
use crate::sources::gate::Permit;

/// Creates what was shown, follows it to its end or to ours, and removes it; each thing is told as it happens.
///
/// Where nobody listens any more, or `cancel` says so, it ends early; it is cleaned up all the same.
pub async fn drive(
    link: &Connection,
    plan: &Plan,
    planned: Planned,
    permit: &Permit,
    tx: &mpsc::Sender<TestEvent>,
    cancel: &CancellationToken,
) -> Result<Ending, Trouble> {
    // A listener that has gone is seen where the test is followed.
    let tell = async |event| drop(tx.send(event).await);
    tell(TestEvent::Planned(Arc::new(planned))).await;
    if let Err(trouble) = submit::submit(link, plan, permit).await {
        tell(TestEvent::Ended(Ending::Failed(trouble.text.clone()))).await;
        // What was created on the way was removed there.
        tell(TestEvent::Cleaned(Vec::new())).await;
        return Err(trouble);
    }
    tell(TestEvent::Phase(Phase::Created, None)).await;
    let ending = if plan.runner == Runner::WorkerOverExec {
        let hand_in = async {
            match upload::upload(link, plan).await {
                Ok(()) => std::future::pending().await,
                Err(why) => why,
            }
        };
        tokio::select! {
            ending = follow::follow(link, plan, tx, cancel) => ending,
            why = hand_in => Ending::Failed(why),
        }
    } else {
        follow::follow(link, plan, tx, cancel).await
    };
    tell(TestEvent::Ended(ending.clone())).await;
    if ending == Ending::Complete {
        tell(TestEvent::Phase(Phase::Done, None)).await;
    }
    tell(TestEvent::Phase(Phase::Cleaning, None)).await;
    let left = clean::run(link, &plan.namespace, plan.name()).await;
    tell(TestEvent::Cleaned(left)).await;
    Ok(ending)
}
