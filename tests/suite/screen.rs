//! What commands do to the screen.

use ncclscope::model::event::{Command, Effect, Errand, Question};
use ncclscope::model::screen::{Ask, Counts, LAST, Mode, PaneId, Screen};

fn screen(rows: usize) -> Screen {
    let mut screen = Screen::new(120, 40);
    screen.counts = Counts {
        rows,
        page: 5,
        findings: 2,
        causes: 2,
        ..Counts::default()
    };
    screen
}

fn typed(screen: &mut Screen, line: &str) -> Vec<Effect> {
    screen.apply(&Command::StartCommand);
    for c in line.chars() {
        screen.apply(&Command::Insert(c));
    }
    screen.apply(&Command::Submit)
}

fn row(screen: &Screen) -> Option<usize> {
    screen.cursor().row(screen.counts.first, screen.counts.rows)
}

#[test]
fn q_goes_back_step_by_step_and_asks_at_the_top() {
    let mut s = screen(3);
    s.apply(&Command::Pane("pods".into()));
    s.apply(&Command::StartFilter);
    s.apply(&Command::Paste("llm".into()));
    s.apply(&Command::Submit);
    s.apply(&Command::Enter);
    s.apply(&Command::Help);
    assert_eq!(s.mode(), Mode::Help);
    s.apply(&Command::AskQuit);
    assert_eq!(s.mode(), Mode::Drill);
    s.apply(&Command::AskQuit);
    assert_eq!((s.mode(), s.filter()), (Mode::Normal, "llm"));
    s.apply(&Command::AskQuit);
    assert_eq!((s.pane, s.filter()), (PaneId::Pods, ""));
    s.apply(&Command::AskQuit);
    assert_eq!((s.pane, s.mode()), (PaneId::Overview, Mode::Normal));
    s.apply(&Command::AskQuit);
    assert_eq!(s.mode(), Mode::Confirm(Ask::Quit));
    assert_eq!(s.apply(&Command::Confirm(false)), []);
    assert_eq!(s.mode(), Mode::Normal);
    s.apply(&Command::AskQuit);
    assert_eq!(s.apply(&Command::Confirm(true)), [Effect::Quit]);
}

#[test]
fn esc_never_quits() {
    let mut s = screen(3);
    for _ in 0..10 {
        assert_eq!(s.apply(&Command::Back), []);
        assert_eq!((s.pane, s.mode()), (PaneId::Overview, Mode::Normal));
    }
}

#[test]
fn a_yes_without_a_question_does_nothing() {
    assert_eq!(screen(1).apply(&Command::Confirm(true)), []);
}

#[test]
fn selection_stays_inside_and_on_its_row() {
    let mut s = screen(8);
    s.apply(&Command::Pane("pods".into()));
    s.apply(&Command::Up);
    assert_eq!(row(&s), Some(0));
    s.apply(&Command::PageDown);
    s.apply(&Command::PageDown);
    s.apply(&Command::PageDown);
    assert_eq!(row(&s), Some(7));
    assert_eq!(s.cursor().top(0, 8, 5), 3);
    // Rows vanish: the selection is clamped where it is read, and comes back when they do.
    s.counts.rows = 2;
    assert_eq!(row(&s), Some(1));
    s.counts.rows = 8;
    assert_eq!(row(&s), Some(7));
    s.counts.rows = 0;
    assert_eq!(row(&s), None);
    s.apply(&Command::Down);
    s.apply(&Command::Home);
    s.counts.rows = 1;
    assert_eq!(row(&s), Some(0));
}

#[test]
fn logs_follow_until_one_goes_up_and_again_at_the_end() {
    let mut s = screen(100);
    s.apply(&Command::Pane("logs".into()));
    assert_eq!(row(&s), Some(99));
    s.counts.rows = 150;
    assert_eq!(row(&s), Some(149), "followed");
    s.apply(&Command::Up);
    s.counts.rows = 200;
    assert_eq!(row(&s), Some(148), "stays where it was left");
    // The ring forgot the first 50: the row keeps its number.
    s.counts.first = 50;
    s.counts.rows = 150;
    assert_eq!(row(&s), Some(148));
    s.counts.first = 500;
    assert_eq!(row(&s), Some(500), "forgotten: the oldest there is");
    s.apply(&Command::End);
    assert_eq!(s.cursor().selected, LAST);
    s.apply(&Command::Up);
    s.apply(&Command::Down);
    assert_eq!(s.cursor().selected, LAST, "the last row is followed again");
}

#[test]
fn filters_belong_to_their_pane_and_esc_takes_back_what_was_typed() {
    let mut s = screen(10);
    s.apply(&Command::Pane("logs".into()));
    s.apply(&Command::StartFilter);
    s.apply(&Command::Paste("NET/\u{1b}[31mIB\n".into()));
    assert_eq!(s.filter(), "NET/[31mIB", "no control characters");
    s.apply(&Command::Submit);
    s.apply(&Command::StartFilter);
    s.apply(&Command::EraseWord);
    assert_eq!(s.filter(), "");
    s.apply(&Command::Insert('x'));
    s.apply(&Command::Back);
    assert_eq!(s.filter(), "NET/[31mIB");
    s.apply(&Command::Pane("pods".into()));
    assert_eq!(s.filter(), "");
    s.apply(&Command::Pane("logs".into()));
    assert_eq!(s.filter(), "NET/[31mIB");
}

#[test]
fn the_matrix_cursor_walks_the_axis_and_keeps_to_numbers() {
    let mut s = screen(0);
    s.counts.axis = vec![0, 1, 2, 8, 9];
    s.counts.bad_cells = vec![(2, 8), (8, 9)];
    s.counts.tabs = vec!["all".into(), "tp:0".into()];
    s.counts.matrices.clone_from(&s.counts.tabs);
    s.apply(&Command::Pane("matrix".into()));
    assert_eq!(
        s.matrix.at(&s.counts),
        Some((2, 8)),
        "starts at what matters"
    );
    s.apply(&Command::Down);
    s.apply(&Command::Right);
    assert_eq!(s.matrix.at(&s.counts), Some((8, 9)));
    // A rank in between appears.
    s.counts.axis = vec![0, 1, 2, 3, 8, 9];
    assert_eq!(s.matrix.at(&s.counts), Some((8, 9)));
    s.apply(&Command::NextProblem);
    assert_eq!(s.matrix.at(&s.counts), Some((2, 8)), "around the end");
    typed(&mut s, "cell 1 9");
    assert_eq!(s.matrix.at(&s.counts), Some((1, 9)));
    typed(&mut s, "cell 1 70");
    assert_eq!(s.matrix.at(&s.counts), Some((1, 9)), "the nearest there is");
    typed(&mut s, "tab tp:0");
    assert_eq!((s.matrix.tab, s.matrix.cell), (1, None));
    s.apply(&Command::NextTab);
    assert_eq!(s.matrix.tab, 0);
    s.counts.axis.clear();
    s.counts.bad_cells.clear();
    assert_eq!(s.matrix.at(&s.counts), None);
    s.apply(&Command::Down);
}

#[test]
fn nodes_are_zoomed_into_and_left_again() {
    let mut s = screen(0);
    s.counts.axis = vec![0, 1];
    s.counts.folded = true;
    s.apply(&Command::Pane("matrix".into()));
    s.apply(&Command::Enter);
    assert_eq!(s.matrix.zoom, Some((0, 1)));
    s.apply(&Command::Back);
    assert_eq!((s.matrix.zoom, s.pane), (None, PaneId::Matrix));
}

#[test]
fn names_jump_and_mistakes_are_answered() {
    let mut s = screen(2);
    s.apply(&Command::Pane("logs".into()));
    typed(&mut s, "finding 2");
    assert_eq!((s.pane, s.mode()), (PaneId::Findings, Mode::Drill));
    assert_eq!(s.list(PaneId::Findings).cursor.row(0, 2), Some(1));
    s.apply(&Command::Back);
    s.apply(&Command::Back);
    assert_eq!(s.pane, PaneId::Logs, "back to where the jump began");
    typed(&mut s, "finding 3");
    assert!(
        s.note
            .as_ref()
            .is_some_and(|n| n.bad && n.text.contains("there are 2"))
    );
    typed(&mut s, "nonsense");
    assert!(s.note.as_ref().is_some_and(|n| n.text.contains("nonsense")));
    assert_eq!(
        typed(&mut s, "theme light"),
        [Effect::Theme("light".into())]
    );
    assert_eq!(typed(&mut s, "q"), [Effect::Quit]);
}

#[test]
fn the_command_line_completes_and_remembers() {
    let mut s = screen(2);
    s.themes = vec!["dark".into(), "deuteranopia".into(), "light".into()];
    s.apply(&Command::StartCommand);
    s.apply(&Command::Paste("theme d".into()));
    s.apply(&Command::NextTab);
    assert_eq!(s.typed.text(), "theme dark");
    s.apply(&Command::NextTab);
    assert_eq!(s.typed.text(), "theme deuteranopia");
    s.apply(&Command::PrevTab);
    assert_eq!(s.typed.text(), "theme dark");
    assert_eq!(s.completions().0.len(), 2);
    s.apply(&Command::Submit);
    typed(&mut s, "cell 1 2");
    s.apply(&Command::StartCommand);
    s.apply(&Command::Up);
    assert_eq!(s.typed.text(), "cell 1 2");
    s.apply(&Command::Up);
    s.apply(&Command::Up);
    assert_eq!(s.typed.text(), "theme dark");
    s.apply(&Command::Down);
    s.apply(&Command::Down);
    assert_eq!(s.typed.text(), "");
    s.apply(&Command::Erase);
    assert_eq!(s.mode(), Mode::Normal, "erasing an empty line leaves it");
}

#[test]
fn a_line_is_edited_in_its_middle_whatever_the_script() {
    let mut s = screen(2);
    s.apply(&Command::StartCommand);
    s.apply(&Command::Paste("añb".into()));
    s.apply(&Command::Left);
    s.apply(&Command::Left);
    s.apply(&Command::Erase);
    s.apply(&Command::Insert('日'));
    assert_eq!(
        (s.typed.before.as_str(), s.typed.after.as_str()),
        ("日", "ñb")
    );
    s.apply(&Command::End);
    s.apply(&Command::Right);
    assert_eq!(s.typed.before, "日ñb");
}

#[test]
fn what_is_copied_is_said() {
    let mut s = screen(2);
    assert_eq!(s.apply(&Command::Copy), []);
    s.counts.copy = Some("kubectl  get\npods".into());
    assert_eq!(
        s.apply(&Command::Copy),
        [Effect::Copy("kubectl  get\npods".into())]
    );
    assert_eq!(
        s.note.as_ref().map(|n| n.text.as_str()),
        Some("copied: kubectl get pods")
    );
    let ticks = (0..100).take_while(|_| !s.tick()).count();
    assert!((3..10).contains(&ticks) && s.note.is_none(), "{ticks}");
}

#[test]
fn problems_are_walked_around() {
    let mut s = screen(10);
    s.counts.problems = vec![2, 7];
    s.apply(&Command::Pane("pods".into()));
    let mut seen = Vec::new();
    for _ in 0..3 {
        s.apply(&Command::NextProblem);
        seen.push(row(&s));
    }
    s.apply(&Command::PrevProblem);
    seen.push(row(&s));
    assert_eq!(seen, [Some(2), Some(7), Some(2), Some(7)]);
    s.counts.problems.clear();
    s.apply(&Command::NextProblem);
    assert!(s.note.is_some());
}

#[test]
fn toggles_exclude_each_other_where_they_must() {
    let mut s = screen(1);
    s.apply(&Command::Toggle("rings".into()));
    s.apply(&Command::Toggle("trees".into()));
    assert!(s.is_on("trees") && !s.is_on("rings"));
    s.apply(&Command::Toggle("trees".into()));
    assert!(!s.is_on("trees"));
}

fn question(number: u64, word: Option<&str>) -> Question {
    Question {
        number,
        text: "Create job/prod/x?".into(),
        word: word.map(str::to_owned),
        ..Question::default()
    }
}

#[test]
fn a_question_waits_while_somebody_types_and_keeps_its_turn() {
    let mut s = Screen::new(80, 24);
    s.apply(&Command::StartCommand);
    s.ask(question(7, None));
    s.ask(question(8, None));
    assert_eq!(s.mode(), Mode::CommandLine, "what is typed is no answer");
    assert_eq!(s.question(), None);
    s.apply(&Command::Insert('y'));
    s.apply(&Command::Back);
    assert_eq!(s.question().map(|q| q.number), Some(7));
    let yes = |number| Effect::Errand(Errand::Answer { number, yes: true });
    assert_eq!(s.apply(&Command::Confirm(true)), [yes(7)]);
    assert_eq!(s.question().map(|q| q.number), Some(8));
    s.unask(8);
    assert_eq!(s.mode(), Mode::Normal);
    assert_eq!(s.apply(&Command::Confirm(true)), []);
}

#[test]
fn a_word_must_be_the_word_and_leaving_it_is_a_no() {
    let mut s = Screen::new(80, 24);
    s.ask(question(1, Some("mixtral")));
    assert_eq!(s.apply(&Command::Confirm(true)), []);
    assert_eq!(s.mode(), Mode::Word);
    for c in "mixtra".chars() {
        s.apply(&Command::Insert(c));
    }
    assert_eq!(s.apply(&Command::Submit), []);
    assert!(s.note.as_ref().is_some_and(|n| n.text.contains("mixtral")));
    s.apply(&Command::Insert('l'));
    let answer = |yes| Effect::Errand(Errand::Answer { number: 1, yes });
    assert_eq!(s.apply(&Command::Submit), [answer(true)]);
    assert_eq!(s.mode(), Mode::Normal);

    s.ask(question(1, Some("mixtral")));
    s.apply(&Command::Confirm(true));
    assert_eq!(s.apply(&Command::Back), [answer(false)]);
    assert_eq!(s.mode(), Mode::Normal);
}
