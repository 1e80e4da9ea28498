//! Using more than one may have: time, stack, memory, output, calls.

use std::hint::black_box;
use std::io::Write;

use handshake_step::prelude::*;
use wasip2::clocks::monotonic_clock;

use crate::attempts::{Attempts, Outcome};

pub(crate) fn endless_loop() {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Calls itself through a pointer that the optimiser cannot see through, and uses the result, so that no tail call
/// comes out of it.
pub(crate) fn endless_recursion() -> u64 {
    fn deeper(depth: u64) -> u64 {
        let next: fn(u64) -> u64 = black_box(deeper);
        next(depth + 1).rotate_left(3) ^ depth
    }
    deeper(0)
}

/// Takes memory by the megabyte and touches each page until it gets no more.
pub(crate) fn memory(attempts: &mut Attempts, bytes: u64) {
    const CHUNK: usize = 1 << 20;
    let mut chunks: Vec<Vec<u8>> = Vec::new();
    let mut taken = 0_u64;
    let refused = loop {
        if taken >= bytes {
            break false;
        }
        let mut chunk = Vec::new();
        if chunk.try_reserve_exact(CHUNK).is_err() || chunks.try_reserve(1).is_err() {
            break true;
        }
        chunk.resize(CHUNK, 0x5a);
        taken += CHUNK as u64;
        chunks.push(black_box(chunk));
    };
    drop(chunks);
    let outcome = if refused { Outcome::Denied } else { Outcome::Ok };
    attempts.add("memory", outcome, format!("{taken} bytes"));
}

/// As large a string as memory lets, with room left to write it as JSON.
pub(crate) fn output(attempts: &mut Attempts, bytes: u64) -> String {
    let mut size = usize::try_from(bytes).unwrap_or(usize::MAX >> 2);
    let mut flood = String::new();
    while size > 0 && flood.try_reserve_exact(size).is_err() {
        size /= 2;
    }
    drop(flood);
    // While it is written, the JSON buffer holds it up to twice more.
    let size = size / 6;
    attempts.add("output", Outcome::Ok, format!("{size} bytes"));
    "x".repeat(size)
}

pub(crate) fn logs(count: u64) {
    for number in 0..count {
        log::info(&format!("line {number}"));
    }
}

pub(crate) fn progress(count: u64) {
    for number in 0..count {
        progress::report(number, count, "flood");
    }
}

pub(crate) fn stdout(attempts: &mut Attempts, bytes: u64) {
    let line = [b'x'; 4096];
    for (name, out) in
        [("stdout", &mut std::io::stdout() as &mut dyn Write), ("stderr", &mut std::io::stderr() as &mut dyn Write)]
    {
        let mut written = 0;
        let mut result = Ok(());
        while written < bytes && result.is_ok() {
            result = out.write_all(&line);
            written += line.len() as u64;
        }
        attempts.io(format!("{name} of {written} bytes"), result);
    }
}

/// Handles that no decision guards.
pub(crate) fn pollables(attempts: &mut Attempts, count: u64) {
    let pollables: Vec<_> = (0..count).map(|_| monotonic_clock::subscribe_duration(1)).collect();
    attempts.add("pollables", Outcome::Ok, format!("{} held", pollables.len()));
}

/// The same small question, over and over.
pub(crate) fn host_calls(attempts: &mut Attempts, count: u64) {
    let (mut ok, mut denied, mut failed) = (0_u64, 0_u64, 0_u64);
    let mut last = String::new();
    for _ in 0..count {
        match config::get::<handshake_step::serde_json::Value>("key") {
            Ok(_) => ok += 1,
            Err(CallError::Denied(denial)) => {
                denied += 1;
                last = denial.to_string();
            }
            Err(error) => {
                failed += 1;
                last = error.to_string();
            }
        }
    }
    let outcome = if denied > 0 { Outcome::Denied } else { Outcome::Ok };
    attempts.add("host calls", outcome, format!("{ok} ok, {denied} denied, {failed} failed: {last}"));
}

/// More random bytes than this guest's memory has room for, in one call and then piece by piece.
pub(crate) fn random(attempts: &mut Attempts, bytes: u64) {
    const PIECE: u64 = 64 * 1024;
    let mut got = 0;
    while got < bytes.min(64 << 20) {
        got += wasip2::random::random::get_random_bytes(PIECE).len() as u64;
    }
    attempts.add("random by the piece", Outcome::Ok, format!("{got} bytes"));
    let at_once = wasip2::random::random::get_random_bytes(bytes).len();
    attempts.add("random at once", Outcome::Ok, format!("{at_once} bytes"));
}
