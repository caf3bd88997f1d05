//! The server: lists its model and answers completions, streamed token by token.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
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
    let port = listener.local_addr().map_or(port, |address| address.port());
    println!("Listening on port {port}");
    info(format_args!("Started server process [\x1b[36m{}\x1b[0m]", std::process::id()));
    info(format_args!("Application startup complete."));
    let (requests, incoming) = mpsc::channel();
    let model = generator.model.clone();
    thread::spawn(move || generate(&generator, &incoming));
    for stream in listener.incoming().flatten() {
        let (model, requests) = (model.clone(), requests.clone());
        thread::spawn(move || {
            // A client that went away is its own affair.
            let _ = answer(&model, &requests, &stream);
        });
    }
    Ok(())
}

/// A request that waits for tokens, and where they go.
struct Waiting {
    completion: Completion,
    tokens: Sender<u64>,
}

/// Generates for all requests at once, one token for each in turn, as an engine does that batches them. Ends when
/// nobody can ask any more.
fn generate(generator: &Generator, incoming: &Receiver<Waiting>) {
    struct Active {
        state: u64,
        left: u64,
        tokens: Sender<u64>,
    }
    let mut active = Vec::new();
    loop {
        let waited = if active.is_empty() { incoming.recv().ok() } else { None };
        if waited.is_none() && active.is_empty() {
            return;
        }
        active.extend(waited.into_iter().chain(incoming.try_iter()).map(|Waiting { completion, tokens }| Active {
            state: generator.read_prompt(completion.prompt_tokens),
            left: completion.max_tokens,
            tokens,
        }));
        active.retain_mut(|request| {
            request.state = generator.next_token(request.state);
            request.left -= 1;
            request.tokens.send(request.state).is_ok() && request.left > 0
        });
    }
}

/// A log line coloured as vLLM's server colours it. Lost when nobody listens any more: the log must not end a server.
fn info(message: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "\x1b[32mINFO\x1b[0m:     {message}").and_then(|()| out.flush());
}

fn answer(model: &str, requests: &Sender<Waiting>, stream: &TcpStream) -> Result<(), String> {
    let request = Request::read(stream)?;
    let failed = |error: std::io::Error| error.to_string();
    let peer = stream.peer_addr().map_err(failed)?;
    info(format_args!("{peer} - \"\x1b[1m{} {} HTTP/1.1\x1b[0m\"", request.method, request.path));
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/health") => http::answer(stream, "200 OK", "").map_err(failed),
        ("GET", "/v1/models") => {
            let models = json!({"object": "list", "data": [{"id": model, "object": "model"}]});
            http::answer(stream, "200 OK", &models.to_string()).map_err(failed)
        }
        ("POST", "/v1/completions") => match Completion::read(&request.body, model) {
            Ok(completion) => {
                let (tokens, generated) = mpsc::channel();
                requests.send(Waiting { completion, tokens }).map_err(|_| "the generator has ended")?;
                stream_tokens(&generated, stream).map_err(failed)
            }
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
}

fn stream_tokens(generated: &Receiver<u64>, stream: &TcpStream) -> std::io::Result<()> {
    http::begin_events(stream)?;
    for token in generated {
        let text = format!(" {:04x}", token & 0xffff);
        http::send_event(stream, &json!({"choices": [{"index": 0, "text": text}]}).to_string())?;
    }
    http::send_event(stream, "[DONE]")?;
    http::end_events(stream)
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
