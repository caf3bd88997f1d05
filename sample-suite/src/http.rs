//! As much of HTTP/1.1 as the sample server and its client speak: one request a connection, answers either whole or
//! streamed in chunks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::Result;

/// The longest body or line that is read.
const BODY_LIMIT_BYTES: usize = 1 << 20;
/// How long a peer may say nothing.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// A request that was read.
pub struct Request {
    /// `GET` or `POST`.
    pub method: String,
    /// The path asked for.
    pub path: String,
    /// The body; empty if there is none.
    pub body: Vec<u8>,
}

impl Request {
    /// Reads one request.
    pub fn read(stream: &TcpStream) -> Result<Self> {
        set_limits(stream)?;
        let mut reader = BufReader::new(stream.take(2 * BODY_LIMIT_BYTES as u64));
        let line = line(&mut reader)?;
        let mut words = line.split_whitespace();
        let (Some(method), Some(path)) = (words.next(), words.next()) else {
            return Err(format!("not a request line: {line}"));
        };
        let (method, path) = (method.to_owned(), path.to_owned());
        let length = headers(&mut reader)?.content_length;
        if length > BODY_LIMIT_BYTES {
            return Err(format!("the body is over {BODY_LIMIT_BYTES} bytes"));
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).map_err(|error| error.to_string())?;
        Ok(Self { method, path, body })
    }
}

/// Sends a whole answer.
pub fn answer(mut stream: &TcpStream, status: &str, body: &str) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Begins an answer that is sent event by event.
pub fn begin_events(mut stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
    )
}

/// Sends one event as one chunk.
pub fn send_event(mut stream: &TcpStream, event: &str) -> std::io::Result<()> {
    let text = format!("data: {event}\n\n");
    stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
}

/// Ends the answer.
pub fn end_events(mut stream: &TcpStream) -> std::io::Result<()> {
    stream.write_all(b"0\r\n\r\n")
}

/// Asks `host` (`name:port`) and hands every line of a good answer's body to `each` as it arrives.
pub fn ask(host: &str, method: &str, path: &str, body: &str, mut each: impl FnMut(&str)) -> Result<()> {
    let mut stream = TcpStream::connect(host).map_err(|error| format!("failed to connect to {host}: {error}"))?;
    set_limits(&stream)?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .map_err(|error| error.to_string())?;
    let mut reader = BufReader::new(stream);
    let status = line(&mut reader)?;
    let chunked = headers(&mut reader)?.chunked;
    if !status.contains(" 200 ") {
        let mut text = String::new();
        let _ = reader.take(BODY_LIMIT_BYTES as u64).read_to_string(&mut text);
        return Err(format!("{path}: {status} {text}"));
    }
    if !chunked {
        return reader.lines().try_for_each(|line| line.map(|line| each(&line)).map_err(|error| error.to_string()));
    }
    loop {
        let size = line(&mut reader)?;
        let size = usize::from_str_radix(&size, 16).map_err(|_| format!("not the size of a chunk: {size}"))?;
        if size > BODY_LIMIT_BYTES {
            return Err(format!("a chunk is over {BODY_LIMIT_BYTES} bytes"));
        }
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).map_err(|error| format!("the answer broke off: {error}"))?;
        if size == 0 {
            return Ok(());
        }
        String::from_utf8_lossy(&chunk).lines().filter(|line| !line.is_empty()).for_each(&mut each);
    }
}

#[derive(Default)]
struct Headers {
    content_length: usize,
    chunked: bool,
}

fn headers(reader: &mut impl BufRead) -> Result<Headers> {
    let mut headers = Headers::default();
    loop {
        let line = line(reader)?.to_ascii_lowercase();
        match line.split_once(':') {
            Some(("content-length", value)) => {
                headers.content_length = value.trim().parse().map_err(|_| format!("not a length:{value}"))?;
            }
            Some(("transfer-encoding", value)) => headers.chunked = value.trim() == "chunked",
            Some(_) => {}
            None => return Ok(headers),
        }
    }
}

fn line(reader: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    match reader.read_line(&mut line) {
        Ok(0) => Err("the peer closed the connection".into()),
        Ok(_) => Ok(line.trim_end().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn set_limits(stream: &TcpStream) -> Result<()> {
    stream
        .set_read_timeout(Some(SILENCE_LIMIT))
        .and_then(|()| stream.set_write_timeout(Some(SILENCE_LIMIT)))
        .map_err(|error| error.to_string())
}
