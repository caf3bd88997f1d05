//! The key of a sender: the same request sent again under it finds the run that it started.

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::model::RunId;
use crate::store::KeyedRequest;

/// The longest key of a sender, in bytes.
const MOST_BYTES: usize = 255;

/// A sender's key and a hash of what was asked under it.
pub(super) struct Key {
    pub text: String,
    pub fingerprint: String,
}

/// Why a text is no key.
#[derive(Debug, thiserror::Error)]
pub enum InvalidKey {
    /// Its form.
    #[error("must be 1 to {MOST_BYTES} visible ASCII characters")]
    Form,
    /// What was asked cannot be written down.
    #[error("failed to write down a request")]
    Request(#[from] serde_json::Error),
}

/// What is known under a key.
pub(super) enum Known {
    /// Nothing.
    Nothing,
    /// The same request started this run.
    Run(RunId),
    /// Another request did.
    Other(RunId),
}

impl Key {
    /// The key `text` for `request`.
    pub fn of(text: &str, request: &impl Serialize) -> Result<Self, InvalidKey> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || text.len() > MOST_BYTES || !visible {
            return Err(InvalidKey::Form);
        }
        let hash = Sha256::digest(serde_json::to_vec(request)?);
        let fingerprint = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { text: text.to_owned(), fingerprint })
    }

    /// What the row under this key says.
    pub fn known(&self, earlier: Option<KeyedRequest>) -> Known {
        match earlier {
            None => Known::Nothing,
            Some(KeyedRequest { fingerprint, run }) if fingerprint == self.fingerprint => Known::Run(run),
            Some(KeyedRequest { run, .. }) => Known::Other(run),
        }
    }
}
