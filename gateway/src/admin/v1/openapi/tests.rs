use super::*;
use std::collections::BTreeSet;

const SOURCES: [&str; 2] = [include_str!("../mod.rs"), include_str!("../operations/mod.rs")];
const METHODS: [&str; 5] = ["get", "put", "post", "patch", "delete"];

/// Every path and method that is routed, read from the source: `.route("PATH", get(..).put(..))`.
fn routed() -> BTreeSet<(String, String)> {
    let mut routed = BTreeSet::new();
    for source in SOURCES {
        for route in source.split(".route(").skip(1) {
            let path = route.split('"').nth(1).unwrap();
            // As far as the parenthesis of `.route(` is open.
            let mut depth = 1;
            let end = route.find(|c| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                depth == 0
            });
            let handlers = &route[..end.unwrap()];
            for method in METHODS {
                let begins = |at: usize| {
                    !handlers[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
                };
                if handlers.match_indices(&format!("{method}(")).any(|(at, _)| begins(at)) {
                    routed.insert((path.to_owned(), method.to_owned()));
                }
            }
        }
    }
    routed
}

#[test]
fn every_route_is_described_and_everything_described_is_routed() {
    let described: BTreeSet<_> =
        paths::all().map(|operation| (operation.path.to_owned(), operation.method.to_owned())).collect();
    assert_eq!(routed(), described);
    assert_eq!(described.len(), paths::all().count(), "nothing is described twice");
    assert!(described.len() > 25);
}

#[test]
fn every_reference_leads_somewhere_and_operations_have_names_of_their_own() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let text = document.to_string();
    let references: BTreeSet<&str> =
        text.split("#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    for name in &references {
        assert!(schemas.contains_key(*name), "{name} is nowhere");
    }
    assert!(references.len() > 12, "{references:?}");
    let ids: BTreeSet<_> = paths::all().map(|operation| operation.id).collect();
    assert_eq!(ids.len(), paths::all().count());
}

#[test]
fn types_are_described_with_what_their_fields_mean() {
    let document = document();
    let end = &document["components"]["schemas"]["EndView"]["properties"];
    assert_eq!(end["by"]["description"], "Who ended it: `client`, `network` or `gateway`.");
    let put = &document["paths"]["/v1/streams/{name}"]["put"]["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(put["required"], json!(["topics", "max_age", "max_bytes"]));
}
