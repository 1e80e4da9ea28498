//! Servers on the loopback device that count who comes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

/// What a server received, connection by connection.
#[derive(Clone, Default)]
pub(crate) struct Received(Arc<Mutex<Vec<String>>>);

impl Received {
    fn push(&self, text: String) -> usize {
        let mut list = self.0.lock().unwrap();
        list.push(text);
        list.len()
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) received: Received,
}

impl Server {
    /// `127.0.0.1:port`
    pub(crate) fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `http://127.0.0.1:port`
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.authority())
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.received.all()
    }

    /// Answers each request with these pieces, written one after the other.
    pub(crate) fn answering(answer: impl Fn(&str) -> Vec<Vec<u8>> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, received) = (listener.local_addr().unwrap().port(), Received::default());
        let seen = received.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let request = read_request(&stream);
                seen.push(request.clone());
                for piece in answer(&request) {
                    let mut stream = &stream;
                    // A client that has had enough is no matter here.
                    let _ = stream.write_all(&piece).and_then(|()| stream.flush());
                    thread::sleep(std::time::Duration::from_millis(20));
                }
            }
        });
        Self { port, received }
    }

    /// Answers with this text.
    pub(crate) fn saying(text: &'static str) -> Self {
        Self::answering(move |_| vec![ok(text)])
    }

    /// Sends back what it reads to the end.
    pub(crate) fn echoing() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, received) = (listener.local_addr().unwrap().port(), Received::default());
        let seen = received.clone();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut text = String::new();
                let _ = stream.read_to_string(&mut text);
                seen.push(text.clone());
                let _ = stream.write_all(text.as_bytes());
            }
        });
        Self { port, received }
    }

    /// Sends back each datagram.
    pub(crate) fn echoing_datagrams() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (port, received) = (socket.local_addr().unwrap().port(), Received::default());
        let seen = received.clone();
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                seen.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
                let _ = socket.send_to(&buffer[..length], peer);
            }
        });
        Self { port, received }
    }
}

/// A whole answer with this body.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    with_headers("200 OK", &[], body)
}

pub(crate) fn with_headers(status: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}").into_bytes()
}

/// Head and body of a request.
fn read_request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while reader.read_line(&mut head).is_ok_and(|read| read > 2) {}
    let header = |name: &str| {
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix(&format!("{name}: ")).map(str::to_owned))
    };
    let mut body = Vec::new();
    if let Some(length) = header("content-length").and_then(|length| length.parse().ok()) {
        body.resize(length, 0);
        let _ = reader.read_exact(&mut body);
    } else if header("transfer-encoding").is_some() {
        loop {
            let mut size = String::new();
            let _ = reader.read_line(&mut size);
            let Ok(size @ 1..) = usize::from_str_radix(size.trim(), 16) else { break };
            let mut chunk = vec![0; size + 2];
            let _ = reader.read_exact(&mut chunk);
            body.extend_from_slice(&chunk[..size]);
        }
    }
    head + &String::from_utf8_lossy(&body)
}
