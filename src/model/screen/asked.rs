//! Questions: one at a time on the screen, the others behind it, each answered once.

use super::{Ask, Mode, Screen, Typed};
use crate::model::event::{Effect, Errand, Question};

impl Screen {
    /// The question that waits for an answer, if one is on screen.
    #[must_use]
    pub fn question(&self) -> Option<&Question> {
        let shown = |m| matches!(m, Mode::Confirm(Ask::Errand) | Mode::Word);
        self.modes().any(shown).then(|| self.questions.front())?
    }

    /// Puts a question, after those that wait.
    pub fn ask(&mut self, question: Question) {
        self.questions.push_back(question);
        self.put();
    }

    /// Takes a question back.
    pub fn unask(&mut self, number: u64) {
        if self.question().is_some_and(|q| q.number == number) {
            self.layers
                .retain(|l| !matches!(l.mode, Mode::Confirm(Ask::Errand) | Mode::Word));
        }
        self.questions.retain(|q| q.number != number);
        self.put();
    }

    /// Shows the next question, unless somebody types: what is typed must never become an answer.
    pub(super) fn put(&mut self) {
        let busy = matches!(
            self.mode(),
            Mode::Filter | Mode::CommandLine | Mode::Word | Mode::Confirm(_)
        );
        if !busy && !self.questions.is_empty() {
            self.open(Mode::Confirm(Ask::Errand));
        }
    }

    pub(super) fn confirm(&mut self, yes: bool) -> Vec<Effect> {
        let Mode::Confirm(ask) = self.mode() else {
            return Vec::new();
        };
        if let (Ask::Errand, true, Some(q)) = (ask, yes, self.questions.front())
            && q.word.is_some()
        {
            self.typed = Typed::default();
            self.open(Mode::Word);
            return Vec::new();
        }
        self.layers.pop();
        match (ask, yes) {
            (Ask::Quit, true) => vec![Effect::Quit],
            (Ask::Quit, false) => Vec::new(),
            (Ask::Errand, yes) => self.answer(yes),
        }
    }

    pub(super) fn answer(&mut self, yes: bool) -> Vec<Effect> {
        let Some(question) = self.questions.pop_front() else {
            return Vec::new();
        };
        let number = question.number;
        vec![Effect::Errand(Errand::Answer { number, yes })]
    }
}
