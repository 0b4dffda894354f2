//! Paths that name a container: where the kubelet keeps logs, or a folder that was copied from there.
//!
//! ```text
//! /var/log/pods/NAMESPACE_POD_UID/CONTAINER/RESTART.log
//! /var/log/containers/POD_NAMESPACE_CONTAINER-ID.log
//! ```

use std::path::Path;

use super::rotate;
use crate::model::event::{ContainerKey, PodKey};

/// Digits of a container's id.
const ID: usize = 64;

/// What a path says of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// Whose log it is.
    pub(super) container: ContainerKey,
    /// How often the container had been restarted when it began.
    pub(super) restart: Option<u32>,
}

impl Told {
    pub(super) fn by(path: &Path) -> Option<Self> {
        let part = |p: Option<&Path>| p?.file_name()?.to_str().map(str::to_owned);
        let name = rotate::unstamped(rotate::unpacked(&part(Some(path))?));
        let folder = path.parent();
        let container = part(folder);
        let pod = part(folder.and_then(Path::parent));
        let of_pod = || {
            let restart = rotate::restart(&name)?;
            let (container, pod) = (container?, pod?);
            let (namespace, pod, uid) = three(&pod)?;
            let hexadecimal = |b: u8| b.is_ascii_hexdigit() || b == b'-';
            // A pod of the node's own has a hash for its uid.
            let fits = matches!(uid.len(), 32 | 36) && uid.bytes().all(hexadecimal);
            let container = key(namespace, pod, &container).filter(|_| fits)?;
            Some(Self {
                container,
                restart: Some(restart),
            })
        };
        of_pod().or_else(|| {
            let (pod, namespace, rest) = three(name.strip_suffix(".log")?)?;
            let (container, id) = rest.rsplit_once('-')?;
            let fits = id.len() == ID && id.bytes().all(|b| b.is_ascii_hexdigit());
            let container = key(namespace, pod, container).filter(|_| fits)?;
            Some(Self {
                container,
                restart: None,
            })
        })
    }
}

/// Kubernetes names hold no `_`.
fn three(text: &str) -> Option<(&str, &str, &str)> {
    let (first, rest) = text.split_once('_')?;
    let (second, third) = rest.split_once('_')?;
    (!third.contains('_')).then_some((first, second, third))
}

fn key(namespace: &str, pod: &str, container: &str) -> Option<ContainerKey> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    let named = |name: &str| !name.is_empty() && name.len() <= 253 && name.bytes().all(plain);
    [namespace, pod, container]
        .into_iter()
        .all(named)
        .then(|| ContainerKey {
            pod: PodKey {
                namespace: namespace.to_owned(),
                name: pod.to_owned(),
            },
            container: container.to_owned(),
        })
}
