//! The scenarios that travel inside the program; a test compares the list with the folder.

macro_rules! shipped {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../../assets/scenarios/", $name, ".yaml")))),+]
    };
}

/// Name and text, in the order of `demo --list`.
pub const SHIPPED: &[(&str, &str)] = shipped!["healthy", "sockets-inside-host",];
