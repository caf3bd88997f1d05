//! The network of untrusted containers: they see themselves, and nobody else.

use std::collections::HashMap;

use bollard::models::{Network, NetworkCreateRequest};
use bollard::query_parameters::ListNetworksOptions;

use super::docker::{Engine, EngineError};

/// The bridge gets no address of the host, by which a service that listens everywhere could be reached, and containers
/// on it are apart from each other.
pub const OPTIONS: [(&str, &str); 2] =
    [("com.docker.network.bridge.inhibit_ipv4", "true"), ("com.docker.network.bridge.enable_icc", "false")];

fn request(name: &str) -> NetworkCreateRequest {
    NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".to_owned()),
        internal: Some(true),
        options: Some(OPTIONS.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()),
        ..Default::default()
    }
}

/// What would let something out of a network that is there.
fn fault(network: &Network) -> Option<String> {
    if network.internal != Some(true) {
        return Some("is not internal".to_owned());
    }
    let is_set =
        |key: &str, value: &str| network.options.as_ref().is_some_and(|o| o.get(key).is_some_and(|v| v == value));
    let missing = OPTIONS.iter().find(|(key, value)| !is_set(key, value));
    missing.map(|(key, value)| format!("lacks the option {key}={value}"))
}

/// Makes the network `name` unless it is there.
///
/// # Errors
/// When the engine refuses, or a network of that name would let something out.
pub async fn ensure_untrusted(engine: &Engine, name: &str) -> Result<(), EngineError> {
    let filters = HashMap::from([("name".to_owned(), vec![name.to_owned()])]);
    let options = ListNetworksOptions { filters: Some(filters) };
    let action = format!("look for the network {name}");
    let found = engine.docker().list_networks(Some(options)).await.map_err(engine.failed_to(&action))?;
    // The filter also finds longer names.
    match found.iter().find(|network| network.name.as_deref() == Some(name)) {
        Some(network) => match fault(network) {
            None => Ok(()),
            Some(fault) => Err(EngineError::Answer {
                action: "use the network of untrusted containers".to_owned(),
                status: 409,
                message: format!(
                    "{name} exists and {fault}: remove it (`docker network rm {name}`), and benchd makes it anew"
                ),
            }),
        },
        None => match engine.docker().create_network(request(name)).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let error = engine.failed_to(format!("create the network {name}"))(error);
                let somebody_was_faster = matches!(error, EngineError::Answer { status: 409, .. });
                if somebody_was_faster { Ok(()) } else { Err(error) }
            }
        },
    }
}
