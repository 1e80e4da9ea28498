//! A program as anybody would write it, with the standard library alone. It knows nothing of the host.

#![allow(clippy::disallowed_methods, reason = "it asks the clocks that it is given")]

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs};

fn main() -> io::Result<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["copy", from, to] => copy(from, to)?,
        ["say", words @ ..] => say(words)?,
        ["clocks"] => clocks(),
        ["variables"] => env::vars().for_each(|(name, value)| println!("{name}={value}")),
        ["dial", address] => dial(address)?,
        ["bytes"] => io::stdout().write_all(&[0xff, 0xfe])?,
        ["exit", code, words @ ..] => {
            eprint!("first line\n{}", words.join(" "));
            std::process::exit(code.parse().map_err(io::Error::other)?);
        }
        ["fail"] => return Ok(ExitCode::FAILURE),
        ["panic"] => panic!("as told"),
        other => return Err(io::Error::other(format!("what is {other:?}?"))),
    }
    Ok(ExitCode::SUCCESS)
}

/// Copies a folder in capital letters, and counts.
fn copy(from: &str, to: &str) -> io::Result<()> {
    let mut words = BTreeMap::<String, usize>::new();
    let mut entries = fs::read_dir(from)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        println!("{} {}", name.display(), if kind.is_dir() { "folder" } else { "file" });
        if kind.is_file() {
            let text = fs::read_to_string(entry.path())?;
            text.split_whitespace().for_each(|word| *words.entry(word.to_lowercase()).or_default() += 1);
            let target = format!("{to}/{}", name.display());
            fs::write(&target, text.to_uppercase())?;
            println!("{} bytes", fs::metadata(&target)?.len());
        }
    }
    words.iter().for_each(|(word, count)| println!("{count} {word}"));
    fs::create_dir(format!("{to}/sub"))?;
    fs::rename(format!("{to}/a.txt"), format!("{to}/sub/b.txt"))?;
    match fs::read(format!("{from}/../secret.txt")) {
        Ok(_) => println!("out of the folder"),
        Err(_) => println!("not out of the folder"),
    }
    println!("{:?}", fs::read(format!("{from}/missing")).map_err(|error| error.kind()));
    Ok(())
}

/// Repeats arguments and standard input.
fn say(words: &[&str]) -> io::Result<()> {
    println!("{}", words.join("|"));
    for (at, line) in io::stdin().lock().lines().enumerate() {
        println!("{at}: {}", line?);
    }
    Ok(())
}

fn clocks() {
    let (started, wall) = (Instant::now(), SystemTime::now());
    std::thread::sleep(Duration::from_millis(5));
    println!("{}", started.elapsed() >= Duration::from_millis(5));
    println!("{}", wall.duration_since(SystemTime::UNIX_EPOCH).is_ok());
}

fn dial(address: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"hello\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    print!("{answer}");
    Ok(())
}
