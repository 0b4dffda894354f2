//! `ncclscope config`: where the file is, what is in force, whether it is right.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};

use super::config::{self, Config};
use super::themes::Themes;
use crate::theme::Terminal;

/// What to do with it.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum ConfigVerb {
    /// Print where the file is, or would be
    Path,
    /// Print every setting with where it comes from
    Print {
        /// As in this context of the kubeconfig
        #[arg(long, env = "NCCLSCOPE_CONTEXT", value_name = "NAME")]
        context: Option<String>,
    },
    /// Say what is wrong, with line and column
    Validate {
        /// Another file than that of the XDG folder
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// Does it.
///
/// # Errors
/// What is wrong in the file; standard output can't be written.
pub fn run(verb: &ConfigVerb) -> anyhow::Result<ExitCode> {
    match verb {
        ConfigVerb::Path => {
            let path = config::path().ok_or_else(|| anyhow!("there is no home folder"))?;
            super::print(format!("{}\n", path.display()).as_bytes())
        }
        ConfigVerb::Print { context } => {
            let config = Config::load().map_err(|all| anyhow!(all.join("\n")))?;
            let context = context.as_deref().or_else(|| config.context());
            super::print(config.print(context).as_bytes())
        }
        ConfigVerb::Validate { file } => {
            let path = match file {
                Some(file) => file.clone(),
                None => config::path().ok_or_else(|| anyhow!("there is no home folder"))?,
            };
            let place = path.display();
            let bytes = match std::fs::read(&path) {
                Err(e) if file.is_none() && config::is_absent(&path, &e) => {
                    let said = format!("{place}: there is no such file, and none is needed\n");
                    return super::print(said.as_bytes());
                }
                read => read.with_context(|| place.to_string())?,
            };
            let config = Config::at(&path, &bytes).map_err(|all| anyhow!(all.join("\n")))?;
            // Whether there is such a theme depends on the folder beside the file, too.
            let themes = Themes::of_user(Terminal::default()).names();
            let unknown = config
                .every("theme")
                .find(|t| !themes.iter().any(|n| n == t));
            if let Some(name) = unknown {
                bail!("{place}: no theme {name}: {}", themes.join(", "));
            }
            super::print(format!("{place}: nothing is wrong\n").as_bytes())
        }
    }
}
