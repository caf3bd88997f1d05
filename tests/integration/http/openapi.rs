//! The description of the API is whole and sound.

use serde_json::Value;

use super::Site;

/// Every `$ref` in a value.
fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get("$ref").and_then(Value::as_str));
            object.values().for_each(|value| references(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_is_described_is_there_and_complete() {
    let site = Site::open().await;
    let described = site.json("/openapi.json").await;
    assert!(described["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(described["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(described["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    let mut found = Vec::new();
    references(&described, &mut found);
    assert!(found.len() > 50);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(described.pointer(pointer).is_some(), "{reference} points nowhere");
    }
    let mut ids = std::collections::BTreeSet::new();
    for (path, item) in described["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let at = format!("{method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{at}: no summary");
            assert!(operation["security"].is_array(), "{at}: says nothing of tokens");
            assert!(operation["tags"].as_array().is_some_and(|tags| tags.len() == 1), "{at}: no tag");
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{at}: its id stands twice");
            let described: Vec<_> = operation["parameters"].as_array().into_iter().flatten().collect();
            for name in path.split(['{', '}']).skip(1).step_by(2) {
                let name = name.trim_start_matches('*');
                assert!(described.iter().any(|p| p["name"] == name && p["in"] == "path"), "{at}: {name}");
            }
            for (status, response) in operation["responses"].as_object().unwrap() {
                if status.as_str() >= "400" && !path.ends_with('z') {
                    let problem = "application/problem+json";
                    assert!(response["content"][problem].is_object(), "{at} {status} is no problem");
                }
            }
        }
    }
    site.stop().await;
}

/// Every route stands in `src/http/` as a described one: a plain `.route(` would be left out of the description.
#[test]
fn no_route_is_added_beside_the_description() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let plain = text.matches(".route(").count();
            // The description itself, and GitHub's door, which is no part of the API.
            let allowed = usize::from(path.ends_with("openapi.rs") || path.ends_with("webhook.rs"));
            assert_eq!(plain, allowed, "{}", path.display());
        }
    }
}
