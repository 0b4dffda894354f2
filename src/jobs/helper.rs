//! Tests from the dashboard: `:allreduce` plans, asks with the manifest, runs; `:allreduce cancel` asks and ends it.
//!
//! A test is a task of its own, not one of the workload's helpers: when another workload is chosen or the program is
//! left it still cleans up behind itself, and whoever leaves waits for it.

use futures::FutureExt as _;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::drive::drive;
use super::options::TestArgs;
use super::plan::{Plan, plan};
use super::{inside, prepare, submit};
use crate::model::event::{Errand, Event, PodKey};
use crate::model::screen::{ALLREDUCE, CANCEL};
use crate::model::testrun::TestEvent;
use crate::sources::cluster::{Access, Helper, Shown};
use crate::sources::gate::Action;

/// Who runs tests for a screen; tests under way are in `chores`.
#[must_use]
pub fn helper(chores: TaskTracker) -> Helper {
    Box::new(move |access| serve(access, chores.clone()).boxed())
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

async fn serve(access: Access, chores: TaskTracker) {
    let mut errands = access.errands();
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
    let plan = plan(&pods, &wish).map_err(|e| e.to_string())?;
    let missing = prepare::missing_rules(&link, &plan).await;
    let missing = missing.unwrap_or_default();
    if !missing.is_empty() {
        return Err(format!(
            "not allowed in namespace {}: {}",
            plan.namespace,
            missing.join(", ")
        ));
    }
    let room = prepare::room(&link, &plan).await;
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
    let running = Running {
        object: format!("job/{}/{}", plan.namespace, plan.name()),
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
            let ended = drive(&link, &plan, planned, leave.permit(), &tx, &cancel).await;
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
    Ok(running)
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
    let running = Running {
        object: format!("the test inside {workload}"),
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
            let ending = inside.drive(access.link(), &tx, &cancel).await;
            drop(tx);
            ending
        };
        let (ending, ()) = tokio::join!(work, pass_on(&access, rx, &cancel));
        leave.done(format!("{ending:?}"));
        drop(over);
    });
    Ok(running)
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
        out.push_str(prepare::OFFERS);
        out.push('\n');
    }
    for warning in &plan.warnings {
        out.push_str(&format!("Warning: {warning}.\n"));
    }
    out.push('\n');
    out.push_str(&plan.yaml(true));
    out
}
