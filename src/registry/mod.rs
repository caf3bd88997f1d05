//! Asks image registries whether an image exists: present (with its digest), absent, or an error that is neither.
//! Speaks the OCI distribution protocol itself, because an engine reports every failure of a registry as the same 500.

mod access;
mod challenge;
mod client;
mod credentials;
mod error;
mod find;
mod reference;

pub use client::{HostSettings, Presence, Registry, RegistrySettings};
pub use credentials::{CredentialError, Login};
pub use error::{Identity, RegistryError};
pub use find::{FindError, Finding};
pub use reference::{DOCKER_HUB, Digest, ImageReference, InvalidDigest, InvalidReference};
