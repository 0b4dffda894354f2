//! A line that is typed.

use crate::model::event::Command;

/// A line that is typed, with the place of the cursor between its two halves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Typed {
    /// Left of the cursor.
    pub before: String,
    /// Right of it.
    pub after: String,
}

impl Typed {
    /// The whole line.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}{}", self.before, self.after)
    }

    pub(super) fn set(&mut self, text: &str) {
        self.before = text.to_owned();
        self.after.clear();
    }

    /// Whether the command was one for a line.
    pub(super) fn edit(&mut self, command: &Command) -> bool {
        match command {
            Command::Insert(c) if !c.is_control() => self.before.push(*c),
            Command::Paste(text) => self.before.extend(text.chars().filter(|c| !c.is_control())),
            Command::Erase => {
                self.before.pop();
            }
            Command::EraseWord => {
                let kept = self.before.trim_end();
                let cut = kept.rfind(' ').map_or(0, |i| i + 1);
                self.before.truncate(cut);
            }
            Command::Left => {
                if let Some(c) = self.before.pop() {
                    self.after.insert(0, c);
                }
            }
            Command::Right => {
                if !self.after.is_empty() {
                    self.before.push(self.after.remove(0));
                }
            }
            Command::Home => self.after.insert_str(0, &std::mem::take(&mut self.before)),
            Command::End => self.before.push_str(&std::mem::take(&mut self.after)),
            _ => return false,
        }
        true
    }
}
