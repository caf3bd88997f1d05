//! The server: lists its model and answers completions, streamed token by token.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use serde_json::{Value, json};

use crate::Result;
use crate::args::Arguments;
use crate::generator::Generator;
use crate::http::{self, Request};

/// The most tokens one request may ask for.
const TOKEN_LIMIT: u64 = 4096;

/// Loads `model` and serves it until the process is ended.
pub fn run(model: &str, args: &Arguments) -> Result<()> {
    let generator = Generator::load(model, args)?;
    println!("Compilation took {:.6} s", generator.compilation.as_secs_f64());
    let port: u16 = args.number("port", 8000)?;
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(|e| format!("failed to listen on {port}: {e}"))?;
    info(format_args!("Started server process [\x1b[36m{}\x1b[0m]", std::process::id()));
    info(format_args!("Application startup complete."));
    let generator = Arc::new(generator);
    for stream in listener.incoming().flatten() {
        let generator = Arc::clone(&generator);
        thread::spawn(move || {
            // A client that went away is its own affair.
            let _ = answer(&generator, &stream);
        });
    }
    Ok(())
}

/// A log line coloured as vLLM's server colours it. Lost when nobody listens any more: the log must not end a server.
fn info(message: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "\x1b[32mINFO\x1b[0m:     {message}").and_then(|()| out.flush());
}

fn answer(generator: &Generator, stream: &TcpStream) -> Result<(), String> {
    let request = Request::read(stream)?;
    let failed = |error: std::io::Error| error.to_string();
    let peer = stream.peer_addr().map_err(failed)?;
    info(format_args!("{peer} - \"\x1b[1m{} {} HTTP/1.1\x1b[0m\"", request.method, request.path));
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/health") => http::answer(stream, "200 OK", "").map_err(failed),
        ("GET", "/v1/models") => {
            let models = json!({"object": "list", "data": [{"id": generator.model, "object": "model"}]});
            http::answer(stream, "200 OK", &models.to_string()).map_err(failed)
        }
        ("POST", "/v1/completions") => match Completion::read(&request.body, &generator.model) {
            Ok(completion) => completion.stream(generator, stream).map_err(failed),
            Err(message) => {
                let error = json!({"error": {"message": message, "code": 400}});
                http::answer(stream, "400 Bad Request", &error.to_string()).map_err(failed)
            }
        },
        _ => http::answer(stream, "404 Not Found", r#"{"detail":"Not Found"}"#).map_err(failed),
    }
}

/// What a client asks for: a prompt of so many tokens (a text counts by its words) and so many tokens in answer.
#[derive(Debug, PartialEq)]
struct Completion {
    prompt_tokens: usize,
    max_tokens: u64,
}

impl Completion {
    fn read(body: &[u8], model: &str) -> Result<Self> {
        let body: Value = serde_json::from_slice(body).map_err(|error| format!("not JSON: {error}"))?;
        if body.get("model").and_then(Value::as_str) != Some(model) {
            return Err(format!("this server has the model {model} only"));
        }
        let prompt_tokens = match body.get("prompt") {
            Some(Value::String(text)) => text.split_whitespace().count(),
            Some(Value::Array(ids)) => ids.len(),
            _ => return Err("prompt is missing".into()),
        };
        let max_tokens = body.get("max_tokens").and_then(Value::as_u64).unwrap_or(16);
        if !(1..=TOKEN_LIMIT).contains(&max_tokens) {
            return Err(format!("max_tokens is not within 1 and {TOKEN_LIMIT}"));
        }
        Ok(Self { prompt_tokens, max_tokens })
    }

    fn stream(&self, generator: &Generator, stream: &TcpStream) -> std::io::Result<()> {
        http::begin_events(stream)?;
        let mut state = generator.read_prompt(self.prompt_tokens);
        for _ in 0..self.max_tokens {
            state = generator.next_token(state);
            let text = format!(" {:04x}", state & 0xffff);
            http::send_event(stream, &json!({"choices": [{"index": 0, "text": text}]}).to_string())?;
            // Requests take turns token by token, as in an engine that batches them.
            thread::yield_now();
        }
        http::send_event(stream, "[DONE]")?;
        http::end_events(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_is_checked() {
        let read = |body: &str| Completion::read(body.as_bytes(), "sample/small");
        assert_eq!(
            read(r#"{"model":"sample/small","prompt":[1,2,3],"max_tokens":5}"#).unwrap(),
            Completion { prompt_tokens: 3, max_tokens: 5 }
        );
        assert_eq!(read(r#"{"model":"sample/small","prompt":"a b"}"#).unwrap().prompt_tokens, 2);
        for bad in [
            "",
            r#"{"prompt":"a"}"#,
            r#"{"model":"sample/large","prompt":"a"}"#,
            r#"{"model":"sample/small"}"#,
            r#"{"model":"sample/small","prompt":"a","max_tokens":0}"#,
            r#"{"model":"sample/small","prompt":"a","max_tokens":5000}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
