//! The fleets that come with the simulator, as TOML: what `use = "smart-meters"` and `device-sim fleets` mean.

const FLEETS: [(&str, &str); 5] = [
    ("smart-meters", include_str!("../fleets/smart-meters.toml")),
    ("vehicles", include_str!("../fleets/vehicles.toml")),
    ("factory", include_str!("../fleets/factory.toml")),
    ("cold-chain", include_str!("../fleets/cold-chain.toml")),
    ("home", include_str!("../fleets/home.toml")),
];

/// Their names.
pub fn names() -> impl Iterator<Item = &'static str> {
    FLEETS.iter().map(|(name, _)| *name)
}

/// The TOML of one.
pub fn by_name(name: &str) -> Option<&'static str> {
    FLEETS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// What a fleet is, in one sentence of its own.
pub fn description(fleet: &str) -> Option<String> {
    fleet.parse::<toml::Table>().ok()?.get("description")?.as_str().map(str::to_owned)
}
