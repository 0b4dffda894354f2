//! Panes as people see them.

use ncclscope::model::event::Command;
use ncclscope::model::screen::PaneId;

use crate::stage;

fn pane(id: PaneId) -> Command {
    Command::Pane(id.id().into())
}

#[test]
fn look() {
    let (w, h) = match std::env::var("LOOK_SIZE") {
        Ok(s) => s
            .split_once('x')
            .map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap()))
            .unwrap(),
        Err(_) => (120, 34),
    };
    for (name, scene) in [
        ("healthy", stage::healthy()),
        ("sockets", stage::sockets()),
        ("64", stage::sixty_four()),
        ("1024", stage::thousand()),
    ] {
        for id in PaneId::ALL {
            let mut model = stage::model(w, h);
            stage::act(&scene, &mut model, &[pane(*id)]);
            println!("=== {name} {}", id.id());
            for row in stage::text(&stage::draw(
                &scene,
                &model,
                &ncclscope::theme::Theme::probe(false),
            )) {
                println!("{row}");
            }
        }
    }
}
