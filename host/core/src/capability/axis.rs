//! The registry of axes: the one source of truth for what can be asked for (R8.1).

use std::fmt;

macro_rules! axes {
    ($(#[doc = $doc:literal] $variant:ident = $name:literal, effectful: $effectful:literal, grantable: $grantable:literal, scope: $scope:ident;)*) => {
        /// One kind of thing that a step can ask for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Axis { $(#[doc = $doc] $variant,)* }

        /// Every axis, in the order of the reference.
        pub const AXES: &[Axis] = &[$(Axis::$variant,)*];

        impl Axis {
            /// The canonical name, for example `fs.read`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
            /// Whether the effect must wait until the decision is durable.
            pub const fn is_effectful(self) -> bool {
                match self { $(Self::$variant => $effectful,)* }
            }
            /// Whether this version can grant it at all. What it cannot grant it still decides and records.
            pub const fn is_grantable(self) -> bool {
                match self { $(Self::$variant => $grantable,)* }
            }
            /// What may stand behind the colon.
            pub const fn scope_form(self) -> ScopeForm {
                match self { $(Self::$variant => ScopeForm::$scope,)* }
            }
            /// What it covers, in one sentence.
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }
        }
    };
}

/// The form of scope that an axis takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeForm {
    /// A mount's name and an optional path pattern: `in`, `in/reports/**`.
    Mount,
    /// A name: `default`.
    Name,
    /// HTTP requests: `https://*.example.com:443/v1/`, `GET,HEAD https://api.example.com`.
    Http,
    /// Sockets: `db.example.com:5432`, `*.example.com:443`, `10.0.0.0/8:5432`, `[fd00::]/8:443`.
    Socket,
    /// Host names: `example.com`, `*.example.com`.
    Host,
    /// Names of environment variables: `LANG`, `APP_*`.
    Variable,
    /// None: only the bare axis is understood.
    Bare,
}

axes! {
    #[doc = "Reads files and folders of a mount."]
    FsRead = "fs.read", effectful: false, grantable: true, scope: Mount;
    #[doc = "Creates, changes and removes files and folders of a mount."]
    FsWrite = "fs.write", effectful: true, grantable: true, scope: Mount;
    #[doc = "Sends HTTP requests."]
    NetHttp = "net.http", effectful: true, grantable: true, scope: Http;
    #[doc = "Opens TCP connections, and listens for them."]
    NetTcp = "net.tcp", effectful: true, grantable: true, scope: Socket;
    #[doc = "Sends UDP datagrams, and receives them on a port."]
    NetUdp = "net.udp", effectful: true, grantable: true, scope: Socket;
    #[doc = "Resolves host names."]
    NetDns = "net.dns", effectful: true, grantable: true, scope: Host;
    #[doc = "Reads those environment variables that the operator passes on."]
    EnvRead = "env.read", effectful: false, grantable: true, scope: Variable;
    #[doc = "Gets a placeholder for a secret."]
    SecretsUse = "secrets.use", effectful: true, grantable: true, scope: Name;
    #[doc = "Asks a model for text."]
    ModelInfer = "model.infer", effectful: true, grantable: true, scope: Name;
    #[doc = "Asks a model for vectors."]
    ModelEmbed = "model.embed", effectful: true, grantable: true, scope: Name;
    #[doc = "Reads documents of the workspace."]
    DocRead = "doc.read", effectful: false, grantable: true, scope: Name;
    #[doc = "Proposes changes to documents."]
    DocPropose = "doc.propose", effectful: true, grantable: true, scope: Name;
    #[doc = "Reads artifacts of the run."]
    ArtifactRead = "artifact.read", effectful: false, grantable: true, scope: Bare;
    #[doc = "Stores artifacts with the run."]
    ArtifactWrite = "artifact.write", effectful: true, grantable: true, scope: Bare;
    #[doc = "Reads settings that the operator gave the plugin."]
    ConfigRead = "config.read", effectful: false, grantable: true, scope: Name;
    #[doc = "Starts processes; reserved and never granted."]
    ProcExec = "proc.exec", effectful: true, grantable: false, scope: Bare;
    #[doc = "Uses devices; reserved and never granted."]
    Device = "device", effectful: true, grantable: false, scope: Bare;
}

impl ScopeForm {
    /// How it is written, for people.
    pub const fn shown(self) -> &'static str {
        match self {
            Self::Mount => "mount[/pattern]",
            Self::Name => "name",
            Self::Http => "[METHOD ]scheme://host[:port][/path]",
            Self::Socket => "host:port",
            Self::Host => "host",
            Self::Variable => "NAME or PREFIX*",
            Self::Bare => "-",
        }
    }
}

impl Axis {
    /// Whether what calls are about can be an address of the network.
    pub(super) const fn has_addresses(self) -> bool {
        matches!(self.scope_form(), ScopeForm::Http | ScopeForm::Socket | ScopeForm::Host)
    }

    /// Whether what was done stays done when the attempt that did it is lost: the question that recovery asks. What
    /// a model answered, a step proposed or a run stored for itself is gone with the attempt, and asking again leaves
    /// nothing behind but its cost.
    pub const fn is_lasting(self) -> bool {
        match self {
            Self::FsWrite | Self::NetHttp | Self::NetTcp | Self::NetUdp | Self::NetDns => true,
            Self::ProcExec | Self::Device => true,
            Self::FsRead | Self::EnvRead | Self::DocRead | Self::ArtifactRead | Self::ConfigRead => false,
            Self::SecretsUse | Self::ModelInfer | Self::ModelEmbed | Self::DocPropose | Self::ArtifactWrite => false,
        }
    }

    /// Finds an axis by its canonical name.
    pub fn from_name(name: &str) -> Option<Self> {
        AXES.iter().copied().find(|axis| axis.name() == name)
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
