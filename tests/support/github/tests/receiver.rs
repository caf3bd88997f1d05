//! A receiver of webhooks that keeps what it got and answers what it is told to.

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use octocrab::models::webhook_events::verification::verify_signature;

#[derive(Clone, Debug)]
pub struct Got {
    pub event: String,
    pub guid: String,
    pub signature: String,
    pub body: Vec<u8>,
}

impl Got {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn is_signed_with(&self, secret: &str) -> bool {
        verify_signature(&self.signature, secret, &self.body).is_ok()
    }

    /// `event` or `event.action`.
    pub fn name(&self) -> String {
        let json = self.json();
        json["action"].as_str().map_or_else(|| self.event.clone(), |action| format!("{}.{action}", self.event))
    }
}

pub struct Receiver {
    pub url: String,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Receiver {
    pub async fn start(answer: StatusCode) -> Self {
        let got = Arc::new(Mutex::new(Vec::new()));
        let seen = got.clone();
        let take = move |headers: HeaderMap, body: Bytes| {
            let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
            assert!(text("user-agent").starts_with("GitHub-Hookshot/"));
            seen.lock().unwrap().push(Got {
                event: text("x-github-event"),
                guid: text("x-github-delivery"),
                signature: text("x-hub-signature-256"),
                body: body.to_vec(),
            });
            async move { answer }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhook/github", listener.local_addr().unwrap());
        let app = axum::Router::new().route("/webhook/github", axum::routing::post(take));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, got }
    }

    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    pub fn names(&self) -> Vec<String> {
        self.got().iter().map(Got::name).collect()
    }
}
