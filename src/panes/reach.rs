//! Why nothing is known of a cluster: where it does not answer, that is the news, and not that nothing was read.

use super::View;
use crate::model::event::{EdgeState, Feed, Session};

/// A sentence, where no pod and no line has come and a connection says why.
pub(super) fn unreached(view: &View<'_>) -> Option<String> {
    let scene = view.scene;
    let silent = scene.pods.is_empty() && scene.sources.iter().all(|s| s.lines == 0);
    if view.session.feed != Feed::Cluster || !silent {
        return None;
    }
    let edges = ["discovery", "pods"].map(|edge| view.model.edges.get(edge));
    let awaited = edges
        .first()
        .copied()
        .flatten()
        .and_then(|s| s.awaited("discovery"));
    if let Some(what) = awaited {
        let mut letters = what.chars();
        let first = letters.next().map(|c| c.to_ascii_uppercase());
        return Some(first.into_iter().chain(letters).chain(['.']).collect());
    }
    edges.into_iter().flatten().find_map(|state| match state {
        EdgeState::Up => None,
        EdgeState::Retrying { why, .. } => Some(reason(why) + &tried(view.session)),
        EdgeState::Down { why } => {
            Some(format!("Nothing can be read: {why}.") + &tried(view.session))
        }
        EdgeState::Forbidden { rule } => {
            Some(format!("Nothing can be read: not allowed to {rule}."))
        }
    })
}

/// Which address that is, and who says so.
fn tried(session: &Session) -> String {
    let Some(server) = &session.server else {
        return String::new();
    };
    let from = match (&session.context, &session.kubeconfig) {
        (Some(context), Some(files)) => format!("context {context} of {files}"),
        (Some(context), None) => format!("context {context}"),
        _ => "as pods of the cluster are told".into(),
    };
    format!(" Tried: {server}, {from}.")
}

/// The API server is named once.
fn reason(why: &str) -> String {
    let said = match why.strip_prefix("the API server can't be reached: ") {
        Some(rest) => rest.to_owned(),
        None => match why.strip_prefix("the API server ") {
            Some(rest) => format!("it {rest}"),
            None => why.to_owned(),
        },
    };
    format!("The API server can't be reached: {said}.")
}
