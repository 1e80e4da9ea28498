//! The bindings of `handshake:step@0.1.0`, generated from the WIT.

#![allow(missing_docs, unreachable_pub, reason = "generated code; the WIT documents every item")]

wasmtime::component::bindgen!({
    path: "../../wit/step-0.1.0",
    world: "step",
    // The spans name interface and function of each call; the completeness test compares them with the record.
    imports: { default: async | tracing | trappable },
    exports: { default: async },
});
