//! Themes by name: those that travel in the binary, and the files of the person's own folder.

use std::path::PathBuf;

use crate::theme::{self, Theme};

/// A theme with what is wrong in its file, each with its place.
pub type Loaded = (Theme, Vec<String>);

/// Where themes come from, and for which terminal.
#[derive(Debug, Clone)]
pub struct Themes {
    /// `~/.config/ncclscope/themes`, if there is a home at all.
    folder: Option<PathBuf>,
    can: theme::Terminal,
}

impl Themes {
    /// Themes in the folder that the XDG rules name.
    #[must_use]
    pub fn of_user(can: theme::Terminal) -> Self {
        Self::new(super::config::folder().map(|f| f.join("themes")), can)
    }

    /// Themes in this folder.
    #[must_use]
    pub fn new(folder: Option<PathBuf>, can: theme::Terminal) -> Self {
        Self { folder, can }
    }

    /// Every name, sorted; a person's own file goes before a bundled theme of its name.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = theme::BUNDLED
            .iter()
            .map(|(n, _)| (*n).to_owned())
            .collect();
        let files = self.folder.iter().filter_map(|f| f.read_dir().ok());
        for file in files.flatten().flatten() {
            let path = file.path();
            let stem = path.file_stem().and_then(|s| s.to_str());
            if let (Some("yaml"), Some(stem)) = (path.extension().and_then(|e| e.to_str()), stem) {
                names.push(stem.to_owned());
            }
        }
        names.sort();
        names.dedup();
        names
    }

    /// The theme of that name, read anew. A file with mistakes still gives a theme: each costs only itself.
    pub fn load(&self, name: &str) -> Result<Loaded, String> {
        // A name, never a way through the file system.
        let plain = !name.is_empty() && !name.contains(['/', '\\']) && !name.starts_with('.');
        let own = self.folder.as_ref().filter(|_| plain);
        if let Some(path) = own.map(|f| f.join(format!("{name}.yaml"))) {
            match std::fs::read(&path) {
                Ok(bytes) => {
                    let text = String::from_utf8_lossy(&bytes);
                    let (theme, warnings) = Theme::load(name, &text, self.can);
                    let place = path.display();
                    let said = warnings.iter().map(|w| format!("{place}: {w}")).collect();
                    return Ok((theme, said));
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(format!("{}: {e}", path.display())),
            }
        }
        match Theme::bundled(name, self.can) {
            Some(theme) => Ok((theme, Vec::new())),
            None => Err(format!("no theme {name}: {}", self.names().join(", "))),
        }
    }
}

/// One sentence for the footer about what is wrong in a theme's file; nothing if nothing is.
#[must_use]
pub fn said(warnings: &[String]) -> Option<String> {
    let (first, more) = warnings.split_first()?;
    Some(match more.len() {
        0 => first.clone(),
        n => format!("{first} (and {n} more; --log warn tells all)"),
    })
}
