//! Command line, clocks, random, streams and polling.

use wasip2::cli::{environment, stderr, stdin, stdout, terminal_stderr, terminal_stdin, terminal_stdout};
use wasip2::clocks::{monotonic_clock, wall_clock};
use wasip2::filesystem::types::filesystem_error_code;
use wasip2::http::types::http_error_code;
use wasip2::io::poll;
use wasip2::io::streams::{InputStream, OutputStream, StreamError};
use wasip2::random::{insecure, insecure_seed, random};

use crate::calls::Calls;

pub(crate) const STREAMS: &str = "wasi:io/streams";
pub(crate) const POLL: &str = "wasi:io/poll";

pub(crate) fn all(calls: &mut Calls) {
    calls.made("wasi:cli/environment", "get-environment", environment::get_environment());
    calls.made("wasi:cli/environment", "get-arguments", environment::get_arguments());
    calls.made("wasi:cli/environment", "initial-cwd", environment::initial_cwd());
    calls.made("wasi:cli/terminal-stdin", "get-terminal-stdin", terminal_stdin::get_terminal_stdin());
    calls.made("wasi:cli/terminal-stdout", "get-terminal-stdout", terminal_stdout::get_terminal_stdout());
    calls.made("wasi:cli/terminal-stderr", "get-terminal-stderr", terminal_stderr::get_terminal_stderr());

    calls.made("wasi:clocks/wall-clock", "now", wall_clock::now());
    calls.made("wasi:clocks/wall-clock", "resolution", wall_clock::resolution());
    let clock = "wasi:clocks/monotonic-clock";
    let now = calls.made(clock, "now", monotonic_clock::now());
    calls.made(clock, "resolution", monotonic_clock::resolution());
    let instant = calls.made(clock, "subscribe-instant", monotonic_clock::subscribe_instant(now));
    let duration = calls.made(clock, "subscribe-duration", monotonic_clock::subscribe_duration(1));
    calls.made(POLL, "poll", poll::poll(&[&instant, &duration]));
    calls.made(POLL, "[method]pollable.ready", instant.ready());
    instant.block();
    calls.made(POLL, "[method]pollable.block", ());

    calls.made("wasi:random/random", "get-random-bytes", random::get_random_bytes(8));
    calls.made("wasi:random/random", "get-random-u64", random::get_random_u64());
    calls.made("wasi:random/insecure", "get-insecure-random-bytes", insecure::get_insecure_random_bytes(8));
    calls.made("wasi:random/insecure", "get-insecure-random-u64", insecure::get_insecure_random_u64());
    calls.made("wasi:random/insecure-seed", "insecure-seed", insecure_seed::insecure_seed());

    let out = calls.made("wasi:cli/stdout", "get-stdout", stdout::get_stdout());
    let err = calls.made("wasi:cli/stderr", "get-stderr", stderr::get_stderr());
    let input = calls.made("wasi:cli/stdin", "get-stdin", stdin::get_stdin());
    outgoing(calls, &out, &input);
    outgoing(calls, &err, &input);
    incoming(calls, &input);
}

/// Every method of an input stream. The blocking ones come back because the stream has data or an end.
pub(crate) fn incoming(calls: &mut Calls, stream: &InputStream) {
    calls.made(STREAMS, "[method]input-stream.subscribe", stream.subscribe());
    let read = stream.read(1);
    errors(calls, &read);
    calls.tried(STREAMS, "[method]input-stream.read", read);
    calls.tried(STREAMS, "[method]input-stream.blocking-read", stream.blocking_read(1));
    calls.tried(STREAMS, "[method]input-stream.skip", stream.skip(1));
    calls.tried(STREAMS, "[method]input-stream.blocking-skip", stream.blocking_skip(1));
}

/// Every method of an output stream.
pub(crate) fn outgoing(calls: &mut Calls, stream: &OutputStream, source: &InputStream) {
    calls.made(STREAMS, "[method]output-stream.subscribe", stream.subscribe());
    let room = calls.tried(STREAMS, "[method]output-stream.check-write", stream.check_write()).unwrap_or_default();
    // Writing more than `check-write` allowed is a trap.
    if room >= 1 {
        let written = stream.write(b"c");
        errors(calls, &written);
        calls.tried(STREAMS, "[method]output-stream.write", written);
    }
    calls.tried(STREAMS, "[method]output-stream.flush", stream.flush());
    // A write to a file that may only be read fails here at the latest.
    let flushed = stream.blocking_flush();
    errors(calls, &flushed);
    calls.tried(STREAMS, "[method]output-stream.blocking-flush", flushed);
    if calls.tried(STREAMS, "[method]output-stream.check-write", stream.check_write()).unwrap_or_default() >= 1 {
        calls.tried(STREAMS, "[method]output-stream.write-zeroes", stream.write_zeroes(1));
    }
    calls.tried(
        STREAMS,
        "[method]output-stream.blocking-write-and-flush",
        stream.blocking_write_and_flush(b"census\n"),
    );
    calls.tried(
        STREAMS,
        "[method]output-stream.blocking-write-zeroes-and-flush",
        stream.blocking_write_zeroes_and_flush(1),
    );
    calls.tried(STREAMS, "[method]output-stream.splice", stream.splice(source, 1));
    calls.tried(STREAMS, "[method]output-stream.blocking-splice", stream.blocking_splice(source, 1));
}

/// The functions on a stream's error, when there is one.
fn errors<T>(calls: &mut Calls, result: &Result<T, StreamError>) {
    if let Err(StreamError::LastOperationFailed(error)) = result {
        calls.made("wasi:io/error", "[method]error.to-debug-string", error.to_debug_string());
        calls.made("wasi:filesystem/types", "filesystem-error-code", filesystem_error_code(error));
        calls.made("wasi:http/types", "http-error-code", http_error_code(error));
    }
}
