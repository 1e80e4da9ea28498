//! What wit-bindgen makes of the contract. Steps use the typed modules beside it; the raw form is public so that a
//! guest can do by hand what they do not offer.

#![allow(missing_docs, unreachable_pub, unused_qualifications, unsafe_code, clippy::all)]

wit_bindgen::generate!({
    path: "wit",
    world: "step",
    pub_export_macro: true,
    export_macro_name: "export_handler",
    default_bindings_module: "handshake_step::bindings",
});
