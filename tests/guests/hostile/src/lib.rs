//! A guest that tries what it must not do. The input names the behaviour; where the host lets the guest survive, the
//! output lists what was tried and how it ended. Behaviours that cannot end well simply do not return.

#![allow(missing_docs, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

mod attempts;
mod files;
mod floods;
mod identity;
mod leaks;
mod network;

use handshake_step::bindings::exports::handshake::step::handler as raw;
use handshake_step::prelude::*;
use handshake_step::serde_json::{self, Value};
use handshake_step::step;

use attempts::{Attempt, Attempts};

#[data]
#[serde(deny_unknown_fields)]
pub struct Input {
    behaviour: Behaviour,
    /// What the behaviour aims at: a path, a host, an artifact's hash, a name. Each has a default.
    #[serde(default)]
    target: Option<String>,
    /// How often, or how many bytes. Each behaviour has a default.
    #[serde(default)]
    count: Option<u64>,
}

#[data]
#[derive(Clone, Copy)]
#[serde(rename_all = "kebab-case")]
pub enum Behaviour {
    // Time and stack.
    EndlessLoop,
    EndlessRecursion,
    SleepForever,
    TrapInRun,
    PanicInRun,
    ExitZero,
    ExitOne,
    // Floods.
    #[serde(rename = "memory-10gb")]
    Memory10gb,
    #[serde(rename = "output-1gb")]
    Output1gb,
    LogMillion,
    ProgressMillion,
    StdoutFlood,
    #[serde(rename = "open-100000-handles")]
    Open100000Handles,
    #[serde(rename = "pollables-100000")]
    Pollables100000,
    HostMemory,
    HostCallsMillion,
    RandomFlood,
    // Files.
    EscapeDotdot,
    EscapeAbsolute,
    EscapeSymlink,
    SymlinkCreate,
    RenameOut,
    WriteDenied,
    ReadFile,
    WriteFile,
    // Network.
    HttpRequest,
    TcpConnect,
    UdpSend,
    DnsLookup,
    // Identity and data.
    ForgeContext,
    ReadForeignArtifact,
    WriteArtifact,
    ModelDenied,
    EmbedDenied,
    SecretDenied,
    ConfigRead,
    DocumentRead,
    DocumentPropose,
    EnvRead,
    Clock,
    LeakEverywhere,
    // Output that is not what it should be.
    TerminalEscapes,
    TerminalEscapesError,
    OutputNotJson,
    OutputWrongType,
    OutputNul,
    OutputDeep,
    MetricNan,
    FailTransient,
    FailPermanent,
    FailDenied,
}

#[data]
pub struct Output {
    attempts: Vec<Attempt>,
    /// Whatever else the behaviour returns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extra: Option<Value>,
}

const CAPABILITIES: &[&str] = &[
    "fs.read",
    "fs.write",
    "net.http",
    "net.tcp",
    "net.udp",
    "net.dns",
    "env.read",
    "secrets.use",
    "model.infer",
    "model.embed",
    "doc.read",
    "doc.propose",
    "artifact.read",
    "artifact.write",
    "config.read",
];

// By hand, because some behaviours return what the typed way cannot.
struct Hostile;

impl raw::Guest for Hostile {
    fn describe() -> raw::Descriptor {
        step::describe(run, env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"), CAPABILITIES)
    }

    fn run(context: Context, input: String) -> Result<raw::Output, raw::StepError> {
        let value = match serde_json::from_str::<Input>(&input).map(|input| input.behaviour) {
            Ok(Behaviour::OutputNotJson) => "{not json".to_owned(),
            Ok(Behaviour::OutputWrongType) => r#"["not", "an", "object"]"#.to_owned(),
            Ok(Behaviour::OutputNul) => r#"{"attempts":[],"extra":"a\u0000b"}"#.to_owned(),
            Ok(Behaviour::OutputDeep) => {
                format!(r#"{{"attempts":[],"extra":{}{}}}"#, "[".repeat(20_000), "]".repeat(20_000))
            }
            _ => return step::run(run, context, &input),
        };
        Ok(raw::Output { value, metrics: Vec::new() })
    }
}

handshake_step::bindings::export_handler!(Hostile with_types_in handshake_step::bindings);

fn run(context: Context, input: Input) -> Result<Measured<Output>, StepError> {
    let mut attempts = Attempts::default();
    let mut extra = None;
    let target = input.target.as_deref();
    let count = |default: u64| input.count.unwrap_or(default);
    let mut metric = None;
    match input.behaviour {
        Behaviour::EndlessLoop => floods::endless_loop(),
        Behaviour::EndlessRecursion => extra = Some(floods::endless_recursion().into()),
        Behaviour::SleepForever => std::thread::sleep(std::time::Duration::from_secs(count(3600))),
        // On this target an abort is the `unreachable` instruction.
        Behaviour::TrapInRun => std::process::abort(),
        Behaviour::PanicInRun => panic!("a guest's panic \u{1b}[31mwith escapes"),
        Behaviour::ExitZero => std::process::exit(0),
        Behaviour::ExitOne => std::process::exit(1),
        Behaviour::Memory10gb => floods::memory(&mut attempts, count(10 << 30)),
        Behaviour::Output1gb => extra = Some(floods::output(&mut attempts, count(1 << 30)).into()),
        Behaviour::LogMillion => floods::logs(count(1_000_000)),
        Behaviour::ProgressMillion => floods::progress(count(1_000_000)),
        Behaviour::StdoutFlood => floods::stdout(&mut attempts, count(1 << 30)),
        Behaviour::Open100000Handles => files::open_handles(&mut attempts, count(100_000)),
        Behaviour::Pollables100000 => floods::pollables(&mut attempts, count(100_000)),
        Behaviour::HostMemory => network::header_flood(&mut attempts, count(1 << 30)),
        Behaviour::HostCallsMillion => floods::host_calls(&mut attempts, count(1_000_000)),
        Behaviour::RandomFlood => floods::random(&mut attempts, count(1 << 30)),
        Behaviour::EscapeDotdot => files::escape_dotdot(&mut attempts),
        Behaviour::EscapeAbsolute => files::escape_absolute(&mut attempts, target.unwrap_or("/etc/passwd")),
        Behaviour::EscapeSymlink => files::escape_symlink(&mut attempts, target.unwrap_or("link")),
        Behaviour::SymlinkCreate => files::symlink_create(&mut attempts, target.unwrap_or("/etc/passwd")),
        Behaviour::RenameOut => files::rename_out(&mut attempts),
        Behaviour::WriteDenied => files::write_denied(&mut attempts),
        Behaviour::ReadFile => files::read(&mut attempts, target.unwrap_or("/in/file.txt")),
        Behaviour::WriteFile => files::write(&mut attempts, target.unwrap_or("/out/file.txt")),
        Behaviour::HttpRequest => network::http(&mut attempts, target.unwrap_or("127.0.0.1:80")),
        Behaviour::TcpConnect => network::tcp(&mut attempts, target.unwrap_or("127.0.0.1:80")),
        Behaviour::UdpSend => network::udp(&mut attempts, target.unwrap_or("127.0.0.1:53")),
        Behaviour::DnsLookup => network::dns(&mut attempts, target.unwrap_or("localhost")),
        Behaviour::ForgeContext => extra = Some(identity::forge_context(&mut attempts, &context)),
        Behaviour::ReadForeignArtifact => {
            identity::read_artifact(&mut attempts, target.unwrap_or(&"0".repeat(64)));
        }
        Behaviour::WriteArtifact => identity::write_artifact(&mut attempts, target.unwrap_or("text/plain")),
        Behaviour::ModelDenied => identity::infer(&mut attempts, target.unwrap_or("default")),
        Behaviour::EmbedDenied => identity::embed(&mut attempts, target.unwrap_or("default")),
        Behaviour::SecretDenied => identity::secret(&mut attempts, target.unwrap_or("token")),
        Behaviour::ConfigRead => identity::config(&mut attempts, target.unwrap_or("key")),
        Behaviour::DocumentRead => identity::document_read(&mut attempts, target.unwrap_or("doc-1")),
        Behaviour::DocumentPropose => identity::document_propose(&mut attempts, target.unwrap_or("doc-1")),
        Behaviour::EnvRead => extra = Some(identity::environment(&mut attempts)),
        Behaviour::Clock => extra = Some(identity::clock(&mut attempts)),
        Behaviour::TerminalEscapes => {
            extra = Some(identity::terminal_escapes(&mut attempts).into());
            metric = Some((format!("metric {}", identity::ESCAPES), 1.0));
        }
        Behaviour::TerminalEscapesError => {
            return Err(StepError::permanent(format!("a failed step {}", identity::ESCAPES)));
        }
        Behaviour::LeakEverywhere => return Err(leaks::everywhere(target.unwrap_or("/in/secrets.txt"))),
        Behaviour::MetricNan => metric = Some(("nan".to_owned(), f64::NAN)),
        Behaviour::FailTransient => return Err(StepError::transient(target.unwrap_or("not now"))),
        Behaviour::FailPermanent => return Err(StepError::permanent(target.unwrap_or("never"))),
        Behaviour::FailDenied => return Err(identity::forged_denial(target.unwrap_or("model.infer:default"))),
        Behaviour::OutputNotJson | Behaviour::OutputWrongType | Behaviour::OutputNul | Behaviour::OutputDeep => {}
    }
    let output = Measured::new(Output { attempts: attempts.list, extra });
    Ok(match metric {
        Some((name, value)) => output.metric(name, value),
        None => output,
    })
}
