//! The closed set of meanings that a cell of the screen can have.

/// Declares the roles once: name, how it is spelled in a file, where it falls back to.
macro_rules! roles {
    ($( $(#[$doc:meta])* $role:ident = $name:literal => $fallback:expr ; )+) => {
        /// A meaning. Panes draw with roles; themes say what each looks like.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Role { $( $(#[$doc])* $role ),+ }

        impl Role {
            /// Every role, in order.
            pub const ALL: [Self; Self::COUNT] = [ $( Self::$role ),+ ];
            /// How many there are.
            pub const COUNT: usize = [ $( $name ),+ ].len();

            /// As theme files spell it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$role => $name ),+ }
            }

            /// The role that lends its look when neither a theme nor its parents style this one.
            #[must_use]
            pub const fn fallback(self) -> Option<Self> {
                match self { $( Self::$role => $fallback ),+ }
            }
        }
    };
}

roles! {
    /// Ordinary text.
    Text = "text" => None;
    /// What is well and can wait: units, second-rank text. Never the only carrier of a fact.
    Quiet = "quiet" => Some(Self::Text);
    /// The word of a sentence that matters.
    Strong = "strong" => Some(Self::Text);
    /// Heads of columns and sections.
    Label = "label" => Some(Self::Quiet);
    /// Rules and borders.
    Rule = "rule" => Some(Self::Quiet);
    /// The program's name, titles of panes and dialogs.
    Title = "title" => Some(Self::Strong);
    /// The tab that is open.
    Tab = "tab" => Some(Self::Strong);
    /// A key to press.
    Key = "key" => Some(Self::Strong);
    /// Text being typed.
    Input = "input" => Some(Self::Strong);
    /// Something to paste: a command, a line of YAML.
    Code = "code" => Some(Self::Strong);
    /// What just happened: copied, saved, not understood.
    Notice = "notice" => Some(Self::Strong);

    /// As it should be.
    Ok = "ok" => Some(Self::Text);
    /// On its way.
    Waiting = "waiting" => Some(Self::Text);
    /// Works, but worse than it should.
    Warn = "warn" => Some(Self::Strong);
    /// Broken.
    Fail = "fail" => Some(Self::Warn);
    /// Can't be told.
    Unknown = "unknown" => Some(Self::Quiet);
    /// Refused by permissions.
    Forbidden = "forbidden" => Some(Self::Unknown);
    /// Worth knowing, changes nothing.
    Info = "info" => Some(Self::Text);

    /// P2P inside a host or over multi-node NVLink.
    P2p = "p2p" => Some(Self::Ok);
    /// P2P, indirect or by copy engine.
    P2pWeak = "p2p-weak" => Some(Self::P2p);
    /// Shared host memory.
    Shm = "shm" => Some(Self::Text);
    /// Network with GPUDirect RDMA.
    NetGdr = "net-gdr" => Some(Self::Net);
    /// RDMA network staged through host memory.
    Net = "net" => Some(Self::Text);
    /// TCP sockets.
    Tcp = "tcp" => Some(Self::Net);
    /// CollNet.
    CollNet = "collnet" => Some(Self::Net);
    /// Same communicator, no edge needed.
    Missing = "missing" => Some(Self::Quiet);
    /// Not known yet, or open whose it is.
    Doubt = "doubt" => Some(Self::Unknown);

    /// The done part of a bar.
    BarDone = "bar-done" => Some(Self::Ok);
    /// The part of a bar still to come.
    BarRest = "bar-rest" => Some(Self::Rule);
    /// Reserved part of a memory bar.
    BarReserve = "bar-reserve" => Some(Self::BarRest);
    /// Taken by something else.
    BarOther = "bar-other" => Some(Self::Warn);

    /// Stamp of a log line.
    LogTime = "log-time" => Some(Self::Quiet);
    /// Pod, process or rank that a log line comes from.
    LogSource = "log-source" => Some(Self::Label);

    /// Overlay: the line that keys act on.
    Selected = "selected" => None;
    /// Overlay: the cell that keys act on.
    Cursor = "cursor" => Some(Self::Selected);
    /// Overlay: what is pointed at, for people who look on.
    Pointer = "pointer" => Some(Self::Cursor);
    /// Overlay: text that the filter matched.
    Match = "match" => Some(Self::Selected);
    /// Overlay: worse than its place allows.
    Downgrade = "downgrade" => Some(Self::Selected);
}

impl Role {
    /// Laid over text that already has a role; it changes background and attributes only.
    #[must_use]
    pub const fn is_overlay(self) -> bool {
        matches!(
            self,
            Self::Selected | Self::Cursor | Self::Pointer | Self::Match | Self::Downgrade
        )
    }

    /// The role with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.name() == name)
    }
}
