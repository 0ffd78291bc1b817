//! The scenarios that come with ctkeeper.

macro_rules! scenarios {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../scenarios/", $name, ".toml")))),*]
    };
}

/// Names and texts of the scenarios that come with ctkeeper.
pub const fn embedded() -> &'static [(&'static str, &'static str)] {
    scenarios![
        "nightmare",
        "full",
        "two-namespaces",
        "half-open-flood",
        "docker-nat",
        "container-twice",
        "snat-ports",
        "dns-clash",
        "invalid",
        "expectations",
        "chain-wall",
        "two-entries",
    ]
}
