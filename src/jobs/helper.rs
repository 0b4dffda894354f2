//! Tests from the dashboard: `:allreduce` plans, asks with the manifest, runs; `:allreduce cancel` asks and ends it.
//!
//! A test is a task of its own, not one of the workload's helpers: when another workload is chosen or the program is
//! left it still cleans up behind itself, and whoever leaves waits for it.

use futures::FutureExt as _;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::drive::drive;
use super::inside::{self, Inside};
use super::options::TestArgs;
use super::plan::{Plan, plan};
use super::{prepare, room, submit};
use crate::model::event::{Errand, Event, PodKey};
use crate::model::screen::{ALLREDUCE, CANCEL};
use crate::model::testrun::{Ending, Planned, TestEvent};
use crate::sources::cluster::{Access, Connection, Errands, Helper, Leave, Shown, Trouble};
use crate::sources::gate::{Action, Permit};

/// Who runs tests for a screen; tests under way are in `chores`.
#[must_use]
pub fn helper(chores: TaskTracker) -> Helper {
    Box::new(move |access, errands| serve(access, errands, chores.clone()).boxed())
}

/// What ending a test does.
pub const ENDS: &str = "The test ends before its time, and everything that it created is removed.";

/// A test under way.
struct Running {
    /// `job/prod/ncclscope-x`.
    object: String,
    cancel: CancellationToken,
    over: CancellationToken,
}

async fn serve(access: Access, mut errands: Errands, chores: TaskTracker) {
    let mut running: Option<Running> = None;
    loop {
        let line = match errands.recv().await {
            Ok(Errand::Line(line)) => line,
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => continue,
            Err(broadcast::error::RecvError::Closed) => return,
        };
        let Some(rest) = line.strip_prefix(ALLREDUCE) else {
            continue;
        };
        running = running.filter(|r| !r.over.is_cancelled());
        let said = match &running {
            Some(r) if line == CANCEL => {
                end(&access, r).await;
                Ok(())
            }
            None if line == CANCEL => Err("no test runs".into()),
            Some(r) => Err(format!("{} runs already; :{CANCEL} ends it", r.object)),
            None => launch(&access, &chores, rest)
                .await
                .map(|r| running = Some(r)),
        };
        if let Err(text) = said {
            access.tell(Event::Note { text, bad: true }).await;
        }
    }
}

/// Asks, and ends the test.
async fn end(access: &Access, running: &Running) {
    let action = Action::Delete {
        object: running.object.clone(),
    };
    let shown = Shown {
        body: ENDS.into(),
        word: None,
    };
    tokio::select! {
        // Nothing is left to be asked.
        () = running.over.cancelled() => {}
        answer = access.ask(action, shown) => if let Ok(leave) = answer {
            running.cancel.cancel();
            running.over.cancelled().await;
            leave.done("cancelled");
        }
    }
}

/// Name of the workload on screen, else of its first pod, and its pods.
fn on_screen(access: &Access) -> Result<(String, Vec<PodKey>), String> {
    let seen = access.seen();
    let seen = seen.borrow();
    let keys: Vec<PodKey> = seen.pods.keys().cloned().collect();
    let first = keys
        .first()
        .ok_or("no pod of a workload is on screen yet")?;
    let name = seen.workload.as_ref().map_or(&first.name, |w| &w.name);
    Ok((name.clone(), keys))
}

/// Plans a test, asks, and sets it going.
async fn launch(access: &Access, chores: &TaskTracker, typed: &str) -> Result<Running, String> {
    let args = TestArgs::typed(typed)?;
    let table = args.table()?;
    if args.inside {
        return launch_inside(access, chores, &args).await;
    }
    let link = access.link().clone();
    let (workload, keys) = on_screen(access)?;
    let note = |text: &str| Event::Note {
        text: text.into(),
        bad: false,
    };
    access.tell(note("planning the test")).await;
    let pods = prepare::pods(&link, &keys).await.map_err(|t| t.text)?;
    let wish = args.wish(prepare::run_name(), &workload);
    let mut plan = plan(&pods, &wish).map_err(|e| e.to_string())?;
    prepare::preemption(&link, &mut plan).await;
    let missing = prepare::missing_rules(&link, &plan).await;
    let missing = missing.unwrap_or_default();
    if !missing.is_empty() {
        return Err(format!(
            "not allowed in namespace {}: {}",
            plan.namespace,
            missing.join(", ")
        ));
    }
    let room = room::room(&link, &plan).await;
    let shown = Shown {
        body: body(
            link.context().unwrap_or_else(|| link.server()),
            &plan,
            &room,
        ),
        word: None,
    };
    let leave = access.ask(submit::action(&plan), shown).await;
    let leave = leave.map_err(|refusal| format!("no test: {refusal}"))?;
    let mut planned = plan.planned();
    planned.table = table;
    let object = format!("job/{}/{}", plan.namespace, plan.name());
    let work = Work::Created(Box::new(plan), Box::new(planned));
    Ok(work.set_going(access, chores, leave, object))
}

/// The same inside the workload's own pods.
async fn launch_inside(
    access: &Access,
    chores: &TaskTracker,
    args: &TestArgs,
) -> Result<Running, String> {
    let (workload, _) = on_screen(access)?;
    let inside = inside::check(access, &workload, args).await?;
    let (action, shown) = inside.question();
    let leave = access.ask(action, shown).await;
    let leave = leave.map_err(|refusal| format!("no test: {refusal}"))?;
    let object = format!("the test inside {workload}");
    Ok(Work::Inside(inside).set_going(access, chores, leave, object))
}

/// What a test is, once it was allowed.
enum Work {
    /// Pods of its own, and what is told of them.
    Created(Box<Plan>, Box<Planned>),
    /// Inside the workload's pods.
    Inside(Inside),
}

impl Work {
    /// Sets it going: a task of its own that tells what happens and gives the leave back.
    fn set_going(
        self,
        access: &Access,
        chores: &TaskTracker,
        leave: Leave,
        object: String,
    ) -> Running {
        let running = Running {
            object,
            // Leaving the workload is leaving its test.
            cancel: access.until().child_token(),
            over: CancellationToken::new(),
        };
        let (cancel, over, access) = (
            running.cancel.clone(),
            running.over.clone().drop_guard(),
            access.clone(),
        );
        chores.spawn(async move {
            let (tx, rx) = mpsc::channel(64);
            let work = async {
                let ended = self.run(access.link(), leave.permit(), &tx, &cancel).await;
                drop(tx);
                ended
            };
            let (ended, ()) = tokio::join!(work, pass_on(&access, rx, &cancel));
            match ended {
                Ok(ending) => leave.done(format!("{ending:?}")),
                Err(t) => {
                    let text = format!("no test: {}", t.text);
                    access.tell(Event::Note { text, bad: true }).await;
                    leave.done(t.text);
                }
            }
            drop(over);
        });
        running
    }

    async fn run(
        self,
        link: &Connection,
        permit: &Permit,
        tx: &mpsc::Sender<TestEvent>,
        cancel: &CancellationToken,
    ) -> Result<Ending, Trouble> {
        match self {
            Self::Created(plan, planned) => drive(link, &plan, *planned, permit, tx, cancel).await,
            Self::Inside(inside) => Ok(inside.drive(link, tx, cancel).await),
        }
    }
}

/// Hands on what happens; where nobody listens any more the test is ended.
async fn pass_on(access: &Access, mut rx: mpsc::Receiver<TestEvent>, cancel: &CancellationToken) {
    while let Some(event) = rx.recv().await {
        if !access.tell(Event::Test(event)).await {
            cancel.cancel();
        }
    }
}

/// What is shown before the answer: where, what is in the way, what could hurt, the objects.
#[must_use]
pub fn body(cluster: &str, plan: &Plan, room: &[String]) -> String {
    let nodes = if plan.nodes.is_empty() {
        "any node that suits".to_owned()
    } else {
        plan.nodes.join(", ")
    };
    let mut out = format!(
        "Cluster {cluster}, namespace {}, on {nodes}.\n",
        plan.namespace
    );
    for full in room {
        out.push_str(&format!("Room: {full}.\n"));
    }
    if !room.is_empty() {
        out.push_str(room::OFFERS);
        out.push('\n');
    }
    for warning in &plan.warnings {
        out.push_str(&format!("Warning: {warning}.\n"));
    }
    out.push('\n');
    out.push_str(&plan.yaml(true));
    out
}
