//! The attributes of `handshake-step`. They only put tokens around an item (`derive` lists, one macro call), so
//! they need no parser and cost nothing to compile.

use proc_macro::{Delimiter, TokenStream, TokenTree};

/// Makes a function the step that this crate exports.
///
/// ```text
/// #[step(capabilities = ["model.infer"])]
/// fn run(context: Context, input: Input) -> Result<Output, StepError> { … }
/// ```
///
/// `capabilities` lists what the step may ask for. `name` and `version` are the package's unless given.
#[proc_macro_attribute]
pub fn step(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let Some(function) = function_name(item.clone()) else {
        return r#"compile_error!("`step` goes in front of a function");"#.parse().unwrap_or_default();
    };
    let export = format!("::handshake_step::export!({function}, {arguments});");
    let mut expanded = item;
    expanded.extend(export.parse::<TokenStream>().unwrap_or_default());
    expanded
}

/// Makes a type usable in a step's input and output: derives serde's traits and the JSON Schema.
///
/// Attributes of serde and schemars, such as `#[serde(deny_unknown_fields)]`, go below it as usual.
#[proc_macro_attribute]
pub fn data(arguments: TokenStream, item: TokenStream) -> TokenStream {
    if !arguments.is_empty() {
        return r#"compile_error!("`data` takes no arguments");"#.parse().unwrap_or_default();
    }
    const DERIVES: &str = r#"
        #[derive(
            ::handshake_step::serde::Serialize,
            ::handshake_step::serde::Deserialize,
            ::handshake_step::schemars::JsonSchema,
        )]
        #[serde(crate = "::handshake_step::serde")]
        #[schemars(crate = "::handshake_step::schemars")]
    "#;
    let mut expanded = DERIVES.parse::<TokenStream>().unwrap_or_default();
    expanded.extend(item);
    expanded
}

/// The identifier behind the first `fn` that is not inside brackets.
fn function_name(item: TokenStream) -> Option<String> {
    let mut tokens = item.into_iter();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(word) if word.to_string() == "fn" => {
                return match tokens.next() {
                    Some(TokenTree::Ident(name)) => Some(name.to_string()),
                    _ => None,
                };
            }
            // The body: there was no `fn` in front of it.
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => return None,
            _ => {}
        }
    }
    None
}
