//! The network of untrusted containers: they see themselves, and nobody else.

use std::collections::HashMap;

use bollard::models::NetworkCreateRequest;
use bollard::query_parameters::ListNetworksOptions;

use super::docker::{Engine, EngineError};

/// Without a way out (`internal`), without an address of the host on it, and its containers apart from each other.
fn request(name: &str) -> NetworkCreateRequest {
    let option = |key: &str, value: &str| (format!("com.docker.network.bridge.{key}"), value.to_owned());
    NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".to_owned()),
        internal: Some(true),
        options: Some(HashMap::from([option("inhibit_ipv4", "true"), option("enable_icc", "false")])),
        ..Default::default()
    }
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
        Some(network) if network.internal == Some(true) => Ok(()),
        Some(_) => Err(EngineError::Answer {
            action: "use the network of untrusted containers".to_owned(),
            status: 409,
            message: format!("{name} exists and is not internal: remove it (`docker network rm {name}`)"),
        }),
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
