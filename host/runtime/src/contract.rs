//! What a component imports and exports, read from its type: which versions of the interfaces it wants, and which
//! functions.

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

/// Packages of which this host has the versions that begin so. Within them a later one only adds, so any is like any
/// other to the linker.
const SUPPORTED: [(&str, u64, u64, &str); 2] =
    [("handshake:step/", 0, 1, "handshake:step 0.1 (>=0.1.0, <0.2.0)"), ("wasi:", 0, 2, "WASI 0.2 (>=0.2.0, <0.3.0)")];

/// A function that a component imports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Imported {
    /// Interface, without version.
    pub interface: String,
    /// The version that the component was built against.
    pub version: String,
    /// The function, as components name it.
    pub function: String,
}

/// All functions that a component imports, by interface.
pub(crate) fn imported(engine: &Engine, component: &Component) -> Vec<Imported> {
    let ty = component.component_type();
    let mut found = Vec::new();
    for (name, item) in ty.imports(engine) {
        let (interface, version) = name.split_once('@').unwrap_or((name, ""));
        let mut add = |function: &str| {
            found.push(Imported {
                interface: interface.to_owned(),
                version: version.to_owned(),
                function: function.to_owned(),
            });
        };
        match item.ty {
            ComponentItem::ComponentInstance(instance) => {
                for (function, item) in instance.exports(engine) {
                    if matches!(item.ty, ComponentItem::ComponentFunc(_)) {
                        add(function);
                    }
                }
            }
            ComponentItem::ComponentFunc(_) => add(""),
            _ => {}
        }
    }
    found.sort();
    found
}

/// Refuses a component that was built for a version of an interface that this host does not have.
pub(crate) fn check_versions(engine: &Engine, component: &Component) -> Result<(), String> {
    let ty = component.component_type();
    let imports = ty.imports(engine).map(|(name, _)| ("imports", name));
    let exports = ty.exports(engine).map(|(name, _)| ("exports", name));
    imports.chain(exports).try_for_each(|(does, name)| {
        let Some((package, major, minor, range)) = SUPPORTED.iter().find(|(package, ..)| name.starts_with(package))
        else {
            return Ok(());
        };
        let version = name.split_once('@').map_or("", |(_, version)| version);
        let mut numbers = version.split('.').map(|part| part.parse::<u64>().ok());
        let is_supported = numbers.next() == Some(Some(*major)) && numbers.next() == Some(Some(*minor));
        if is_supported {
            return Ok(());
        }
        let remedy = match *package {
            "wasi:" => "build it for the target wasm32-wasip2",
            _ => "build it against the WIT of that range, or use a later host",
        };
        Err(format!("it {does} `{name}`, but this host supports {range}; {remedy}"))
    })
}
