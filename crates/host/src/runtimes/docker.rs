//! Docker's API, which Podman speaks too: `GET /containers/json`, the containers that run.

use std::time::Instant;

use ctkeeper_flow::Protocol;
use serde::Deserialize;

use super::bounded::{Bounded, name};
use super::{CONTAINERS, Obstacle, Published, Running, RunningContainer, Socket, Told, http};

/// Names, networks and ports of one container that are kept, at most.
const EACH: usize = 256;

/// A container, as far as it is read (Docker Engine API, `ContainerSummary`).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Summary {
    id: String,
    names: Bounded<String, EACH>,
    image: Option<String>,
    ports: Bounded<Port, EACH>,
    network_settings: Option<NetworkSettings>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Port {
    #[serde(rename = "IP")]
    address: Option<String>,
    #[serde(rename = "PrivatePort")]
    inside: u16,
    #[serde(rename = "PublicPort")]
    outside: Option<u16>,
    #[serde(rename = "Type")]
    protocol: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSettings {
    networks: Bounded<Option<Endpoint>, EACH>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Endpoint {
    #[serde(rename = "IPAddress")]
    ipv4: Option<String>,
    #[serde(rename = "GlobalIPv6Address")]
    ipv6: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Refusal {
    message: Option<String>,
}

/// Asks what runs.
pub(super) fn ask(socket: &Socket, deadline: Instant) -> Result<Told, Obstacle> {
    let answer = http::get(socket, "/containers/json", deadline)?;
    if answer.status != 200 {
        let refusal: Refusal = serde_json::from_slice(&answer.body).unwrap_or_default();
        let message = refusal.message.and_then(name).unwrap_or_default();
        return Err(Obstacle::Answer(format!("HTTP status {} {message}", answer.status)));
    }
    let (runtime, version) = server(answer.server.as_deref());
    let running = Running { runtime, version, ..read(&answer.body)? };
    Ok(Told { running, obstacles: Vec::new() })
}

/// Name and version by the field `Server`: `Docker/20.10.24 (linux)`, `Libpod/4.3.1 (linux)`.
fn server(field: Option<&str>) -> (String, Option<String>) {
    let product = field.and_then(|field| field.split(' ').next()).unwrap_or_default();
    let (product, version) = product.split_once('/').unwrap_or((product, ""));
    let runtime = if product == "Libpod" { "podman" } else { "docker" };
    (runtime.to_owned(), name(version))
}

fn read(body: &[u8]) -> Result<Running, Obstacle> {
    let listed: Bounded<Summary, CONTAINERS> = serde_json::from_slice(body)
        .map_err(|error| Obstacle::Answer(format!("the list is broken: {error}")))?;
    let mut running = Running { complete: listed.complete, ..Running::default() };
    let listed = listed.first.into_iter().filter(|summary| !summary.id.is_empty());
    running.containers = listed.map(container).collect();
    Ok(running)
}

/// Labels are left alone: a container inherits those of its image, so that they say nothing of the
/// pod it is in.
fn container(summary: Summary) -> RunningContainer {
    let endpoints = summary.network_settings.unwrap_or_default().networks.first;
    let addresses = endpoints.into_iter().flatten().flat_map(|end| [end.ipv4, end.ipv6]);
    RunningContainer {
        id: name(summary.id).unwrap_or_default(),
        name: own_name(&summary.names.first),
        image: summary.image.and_then(name),
        addresses: addresses.flatten().filter_map(|address| address.parse().ok()).collect(),
        published: summary.ports.first.iter().filter_map(published).collect(),
        pod: None,
    }
}

/// Among a container's names are those by which others know it: `/other/alias`.
fn own_name(names: &[String]) -> Option<String> {
    let bare = |name: &String| name.strip_prefix('/').unwrap_or(name).to_owned();
    let own = names.iter().map(bare).find(|name| !name.contains('/'));
    own.or_else(|| names.first().map(bare)).and_then(name)
}

fn published(port: &Port) -> Option<Published> {
    let protocol = match port.protocol.as_deref()? {
        "tcp" => Protocol::TCP,
        "udp" => Protocol::UDP,
        "sctp" => Protocol::SCTP,
        _ => return None,
    };
    let address = port.address.as_deref().and_then(|address| address.parse().ok());
    Some(Published {
        protocol,
        address: address.filter(|address: &std::net::IpAddr| !address.is_unspecified()),
        port: port.outside?,
        inside: port.inside,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_are_read_with_what_they_lack() {
        let json = r#"[{"Id":"b2","Names":["/front/db","/db"],"Image":"web:1","Labels":
            {"io.kubernetes.pod.uid":"0f3c"},"Ports":[{"IP":"::","PrivatePort":80,"PublicPort":8080,
            "Type":"tcp"},{"PrivatePort":81,"Type":"tcp"},{"PublicPort":1,"Type":"x"}]},
            {"Id":"c3","Names":null,"Ports":null,"NetworkSettings":{"Networks":{"x":null,
            "y":{"IPAddress":"","GlobalIPv6Address":"fd00::2"}}}},{"Id":""}]"#;
        let running = read(json.as_bytes()).unwrap();
        let [db, other] = running.containers.as_slice() else { panic!("{running:?}") };
        assert_eq!((db.name.as_deref(), db.image.as_deref()), (Some("db"), Some("web:1")));
        assert_eq!((db.pod.as_ref(), &running.pods), (None, &Vec::new()));
        let port = Published { protocol: Protocol::TCP, address: None, port: 8080, inside: 80 };
        assert_eq!(db.published, [port]);
        assert_eq!(other.addresses, ["fd00::2".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!(other.name, None);
    }

    #[test]
    fn endless_lists_are_cut() {
        let json = format!("[{}{{}}]", "{\"Id\":\"x\"},".repeat(CONTAINERS + 5));
        let running = read(json.as_bytes()).unwrap();
        assert_eq!((running.containers.len(), running.complete), (CONTAINERS, false));
    }

    #[test]
    fn servers_tell_who_they_are() {
        let told = |field| server(field);
        let named = |name: &str, version: &str| (name.to_owned(), Some(version.to_owned()));
        assert_eq!(told(Some("Docker/20.10.24 (linux)")), named("docker", "20.10.24"));
        assert_eq!(told(Some("Libpod/4.3.1 (linux)")), named("podman", "4.3.1"));
        assert_eq!(told(None), ("docker".to_owned(), None));
    }

    proptest! {
        #[test]
        fn junk_does_no_harm(junk in "[\\[\\]{}:,\"a-zIdNamesPorts0-9]{0,200}") {
            let _ = read(junk.as_bytes());
        }
    }
}
