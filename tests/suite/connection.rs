//! What keeps the cluster from telling more is a sentence on every pane.

use ncclscope::model::event::{EdgeEvent, EdgeState, Event, Stamped};
use ncclscope::model::screen::Screen;
use ncclscope::model::{Model, update};
use ncclscope::panes;
use ncclscope::rules::scene::Scene;
use ncclscope::theme::Theme;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

fn shown(w: u16, h: u16, edges: &[(&str, EdgeState)]) -> String {
    let mut model = Model::for_screen();
    model.screen = Screen::new(w, h);
    for (seq, (edge, state)) in (1..).zip(edges) {
        let event = Event::Edge(EdgeEvent {
            edge: (*edge).into(),
            state: state.clone(),
        });
        update(&mut model, Stamped { seq, at: 0, event });
    }
    picture(&model)
}

fn picture(model: &Model) -> String {
    let (w, h) = model.screen.size;
    let area = Rect::new(0, 0, w, h);
    let mut frame = Buffer::empty(area);
    panes::view(
        &Scene::of(model),
        model,
        &Theme::probe(false),
        area,
        &mut frame,
    );
    ncclscope::panes::export::text(&frame)
}

#[test]
fn a_refused_connection_is_one_sentence() {
    let why = "https://10.0.0.1:6443 refuses the connection".to_owned();
    let state = EdgeState::Retrying {
        why: why.clone(),
        in_ms: 2_400,
    };
    let text = shown(120, 30, &[("pods", state.clone()), ("events", state)]);
    assert!(
        text.contains(&format!("no events, pods: {why}; again in 3 s")),
        "{text}"
    );
    assert_eq!(text.matches(&why).count(), 1, "said once: {text}");
}

#[test]
fn what_is_forbidden_is_named_with_the_rule_and_comes_first() {
    let rule = "list and watch pods in namespace prod".to_owned();
    let retrying = EdgeState::Retrying {
        why: "the server is overloaded".into(),
        in_ms: 500,
    };
    let edges = [
        ("events", retrying),
        ("pods", EdgeState::Forbidden { rule }),
    ];
    for (w, h) in [(160, 40), (140, 12)] {
        let text = shown(w, h, &edges);
        let at = |needle: &str| {
            text.find(needle)
                .unwrap_or_else(|| panic!("no `{needle}` in {text}"))
        };
        let refused = at("no pods: not allowed to list and watch pods in namespace prod");
        assert!(refused < at("no events: the server is overloaded"));
    }
}

#[test]
fn what_works_says_nothing() {
    let text = shown(
        120,
        30,
        &[("pods", EdgeState::Up), ("events", EdgeState::Up)],
    );
    assert!(
        !text.contains("no pods") && !text.contains("no events"),
        "{text}"
    );
}
