//! HTTP, and placeholders in it.

use std::collections::BTreeMap;

use handshake_step::prelude::*;
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
};
use wasip2::io::streams::StreamError;

use crate::Done;

#[data]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    #[serde(default = "get")]
    method: String,
    /// `http` or `https`.
    scheme: String,
    authority: String,
    path: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    body: String,
    /// Whether to follow a redirect, once.
    #[serde(default)]
    follow: bool,
    /// How long to wait for the answer and for each piece of it.
    #[serde(default)]
    patience_ms: Option<u64>,
    /// Bytes of the answer to read; all of it when left out.
    #[serde(default)]
    read: Option<usize>,
}

fn get() -> String {
    "GET".to_owned()
}

pub(crate) fn send(wanted: Wanted, placeholders: &mut BTreeMap<String, String>) -> Result<Done, StepError> {
    let mut filled = wanted;
    for text in [&mut filled.path, &mut filled.body] {
        *text = fill(text, placeholders)?;
    }
    for (name, value) in &mut filled.headers {
        *name = fill(name, placeholders)?;
        *value = fill(value, placeholders)?;
    }
    let response = match answer(&filled) {
        Ok(response) => response,
        Err(error) => return Ok(Done::failed(error)),
    };
    let location = response.headers().get("location").into_iter().next();
    let location = location.and_then(|value| String::from_utf8(value).ok());
    let Some(location) = location.filter(|_| filled.follow && (300..400).contains(&response.status())) else {
        return Ok(read(response, filled.read));
    };
    let Some((scheme, rest)) = location.split_once("://") else { return Ok(Done::failed("location")) };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let next = Wanted {
        scheme: scheme.to_owned(),
        authority: authority.to_owned(),
        path: format!("/{path}"),
        follow: false,
        ..filled
    };
    Ok(match answer(&next) {
        Ok(response) => read(response, next.read),
        Err(error) => Done::failed(error),
    })
}

/// Puts a placeholder where `{name}` stands.
fn fill(text: &str, placeholders: &mut BTreeMap<String, String>) -> Result<String, StepError> {
    let Some((before, rest)) = text.split_once('{') else { return Ok(text.to_owned()) };
    let Some((name, after)) = rest.split_once('}') else { return Ok(text.to_owned()) };
    let placeholder = match placeholders.get(name) {
        Some(placeholder) => placeholder.clone(),
        None => secrets::placeholder(name)?,
    };
    placeholders.insert(name.to_owned(), placeholder.clone());
    Ok(format!("{before}{placeholder}{after}"))
}

fn answer(wanted: &Wanted) -> Result<IncomingResponse, String> {
    let headers: Vec<_> =
        wanted.headers.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect();
    let fields = Fields::from_list(&headers).map_err(|error| format!("{error:?}"))?;
    let request = OutgoingRequest::new(fields);
    let method = match wanted.method.as_str() {
        "GET" => Method::Get,
        "POST" => Method::Post,
        other => Method::Other(other.to_owned()),
    };
    let scheme = match wanted.scheme.as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    let set = request.set_method(&method).is_ok()
        && request.set_scheme(Some(&scheme)).is_ok()
        && request.set_authority(Some(&wanted.authority)).is_ok()
        && request.set_path_with_query(Some(&wanted.path)).is_ok();
    if !set {
        return Err("not a request".to_owned());
    }
    let body = request.body().map_err(|()| "no body".to_owned())?;
    let options = RequestOptions::new();
    let patience = wanted.patience_ms.map(|patience| patience * 1_000_000);
    let set = options.set_first_byte_timeout(patience).is_ok() && options.set_between_bytes_timeout(patience).is_ok();
    if !set {
        return Err("no options".to_owned());
    }
    let future = handle(request, Some(options)).map_err(|code| name_of(&code))?;
    if !wanted.body.is_empty() {
        let stream = body.write().map_err(|()| "no stream".to_owned())?;
        // A request that is refused closes it.
        let _ = stream.blocking_write_and_flush(wanted.body.as_bytes());
    }
    let _ = OutgoingBody::finish(body, None);
    future.subscribe().block();
    match future.get() {
        Some(Ok(answer)) => answer.map_err(|code| name_of(&code)),
        _ => Err("no answer".to_owned()),
    }
}

fn name_of(code: &ErrorCode) -> String {
    format!("{code:?}").split(['(', '{', ' ']).next().unwrap_or_default().trim_start_matches("ErrorCode::").to_owned()
}

fn read(response: IncomingResponse, most: Option<usize>) -> Done {
    let status = response.status();
    let headers = response.headers().entries();
    let headers = headers.into_iter().map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned()));
    let mut done = Done { ok: true, status: Some(status), headers: headers.collect(), ..Done::default() };
    let Ok(body) = response.consume() else { return Done::failed("no body") };
    let mut bytes = Vec::new();
    if let Ok(stream) = body.stream() {
        while most.is_none_or(|most| bytes.len() < most) {
            match stream.blocking_read(64 * 1024) {
                Ok(chunk) => bytes.extend(chunk),
                Err(StreamError::Closed) => break,
                Err(StreamError::LastOperationFailed(error)) => {
                    done.ok = false;
                    done.error = Some(error.to_debug_string());
                    break;
                }
            }
        }
    }
    if most.is_none() {
        let _ = IncomingBody::finish(body);
    }
    done.text = String::from_utf8_lossy(&bytes).into_owned();
    done
}
