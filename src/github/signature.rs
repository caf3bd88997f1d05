//! The signature of a webhook delivery: HMAC-SHA256 over the raw body, compared in constant time
//! (<https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries>).

use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// Whether `header` (`X-Hub-Signature-256`) signs `body` with one of the secrets. All of them are tried, so that the
/// time tells nothing.
pub fn is_signed(secrets: &[SecretString], header: &str, body: &[u8]) -> bool {
    let Some(given) = header.strip_prefix("sha256=").and_then(from_hex) else { return false };
    secrets.iter().fold(false, |signed, secret| {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()) else { return signed };
        mac.update(body);
        mac.verify_slice(&given).is_ok() || signed
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..64).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn githubs_own_example_is_signed() {
        // The test value of GitHub's documentation.
        let secrets = ["another", "It's a Secret to Everybody"].map(SecretString::from);
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert!(is_signed(&secrets, signature, b"Hello, World!"));
        assert!(!is_signed(&secrets, signature, b"Hello, World?"));
        assert!(!is_signed(&secrets[..1], signature, b"Hello, World!"));
        assert!(!is_signed(&[], signature, b"Hello, World!"));
        for bad in [
            "",
            "sha256=",
            "sha1=757107",
            &signature[..70],
            &signature.replace('7', "g"),
            "sha256=\u{e9}",
            // A number may begin with a sign, a digest may not.
            &signature.replace("=75", "=+5"),
            &format!(" {signature}"),
        ] {
            assert!(!is_signed(&secrets, bad, b"Hello, World!"), "{bad}");
        }
    }
}
