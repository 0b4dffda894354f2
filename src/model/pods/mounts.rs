//! Files of a container that come from ConfigMaps.

use crate::model::event::{ContainerView, Mount};

impl ContainerView {
    /// The ConfigMap and the key in it that the file at this path is made of.
    #[must_use]
    pub fn config_map_of(&self, path: &str) -> Option<(&str, String)> {
        // The deepest mount above a file hides those above it.
        let (mount, below) = self
            .mounts
            .iter()
            .filter_map(|m| Some((m, under(path, &m.path)?)))
            .max_by_key(|(m, _)| m.path.trim_end_matches('/').len())?;
        let file = inside(mount, below)?;
        let (name, key) = mount.config_maps.iter().find_map(|(name, files)| {
            if files.is_empty() {
                return Some((name, file.clone()));
            }
            let (key, _) = files.iter().find(|(_, path)| *path == file)?;
            Some((name, key.clone()))
        })?;
        // A key is one name; several whole ConfigMaps in one volume leave open which of them has it.
        let whole = mount.config_maps.iter().filter(|(_, f)| f.is_empty());
        let clear = mount.config_maps.len() == 1 || whole.count() == 0;
        (clear && !key.contains('/')).then_some((name.as_str(), key))
    }
}

/// What of a path lies below a folder; empty for the folder itself.
fn under<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(folder.trim_end_matches('/'))?;
    match rest.strip_prefix('/') {
        Some(below) => Some(below),
        None => rest.is_empty().then_some(rest),
    }
}

/// The file of the volume that a path below its mount is.
fn inside(mount: &Mount, below: &str) -> Option<String> {
    let file = match (&mount.sub_path, below) {
        (Some(sub), "") => sub.clone(),
        (Some(sub), below) => format!("{}/{below}", sub.trim_end_matches('/')),
        (None, "") => return None,
        (None, below) => below.to_owned(),
    };
    let plain = file.split('/').all(|part| !matches!(part, "" | "." | ".."));
    plain.then_some(file)
}
