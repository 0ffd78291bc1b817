//! Docker's API, which Podman speaks too: `GET /containers/json`, the containers that run.

use std::time::Instant;

use ctkeeper_flow::Protocol;
use serde::Deserialize;

use super::bounded::{Bounded, name};
use super::{
    CONTAINERS, Obstacle, PodIdentity, Published, Running, RunningContainer, RunningPod, Socket,
    Told, http,
};

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
    labels: Option<Labels>,
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

/// What kubelet writes on its containers where Docker runs them (cri-dockerd).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Labels {
    #[serde(rename = "io.kubernetes.pod.namespace")]
    namespace: Option<String>,
    #[serde(rename = "io.kubernetes.pod.name")]
    pod: Option<String>,
    #[serde(rename = "io.kubernetes.pod.uid")]
    uid: Option<String>,
    #[serde(rename = "io.kubernetes.container.name")]
    container: Option<String>,
    #[serde(rename = "io.kubernetes.docker.type")]
    role: Option<String>,
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
    for summary in listed.first {
        if summary.labels.as_ref().is_some_and(Labels::is_sandbox) {
            running.pods.extend(sandbox(summary));
        } else if !summary.id.is_empty() {
            running.containers.push(container(summary));
        }
    }
    Ok(running)
}

fn sandbox(summary: Summary) -> Option<RunningPod> {
    Some(RunningPod { sandbox: name(summary.id)?, identity: summary.labels?.pod()? })
}

fn container(summary: Summary) -> RunningContainer {
    let labels = summary.labels.unwrap_or_default();
    let endpoints = summary.network_settings.unwrap_or_default().networks.first;
    let addresses = endpoints.into_iter().flatten().flat_map(|end| [end.ipv4, end.ipv6]);
    RunningContainer {
        id: name(summary.id).unwrap_or_default(),
        name: labels.container.clone().and_then(name).or_else(|| own_name(&summary.names.first)),
        image: summary.image.and_then(name),
        addresses: addresses.flatten().filter_map(|address| address.parse().ok()).collect(),
        published: summary.ports.first.iter().filter_map(published).collect(),
        pod: labels.pod(),
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

impl Labels {
    fn is_sandbox(&self) -> bool {
        self.role.as_deref() == Some("podsandbox")
    }

    fn pod(self) -> Option<PodIdentity> {
        let text = |text: Option<String>| text.and_then(name).unwrap_or_default();
        let uid = name(self.uid?)?;
        Some(PodIdentity { namespace: text(self.namespace), name: text(self.pod), uid })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pods_containers_and_sandboxes_are_told_apart() {
        let labels = |role: &str, container: &str| {
            format!(
                r#"{{"io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.name":"cart",
                "io.kubernetes.pod.uid":"0f3c","io.kubernetes.docker.type":"{role}"{container}}}"#
            )
        };
        let json = format!(
            r#"[{{"Id":"a1","Names":["/k8s_POD_cart"],"Labels":{}}},
            {{"Id":"b2","Names":["/k8s_web_cart"],"Image":"web:1","Labels":{}}},
            {{"Id":"c3","Names":["/front/db","/db"],"Labels":null,"Ports":null,
              "NetworkSettings":{{"Networks":{{"x":null,"y":{{"IPAddress":"","GlobalIPv6Address":"fd00::2"}}}}}}}}]"#,
            labels("podsandbox", ""),
            labels("container", r#","io.kubernetes.container.name":"web""#)
        );
        let running = read(json.as_bytes()).unwrap();
        let pod = PodIdentity {
            namespace: "shop".to_owned(),
            name: "cart".to_owned(),
            uid: "0f3c".to_owned(),
        };
        assert_eq!(running.pods, [RunningPod { sandbox: "a1".to_owned(), identity: pod.clone() }]);
        let [web, db] = running.containers.as_slice() else { panic!("{running:?}") };
        assert_eq!((web.name.as_deref(), web.pod.as_ref()), (Some("web"), Some(&pod)));
        assert_eq!((db.name.as_deref(), db.pod.as_ref()), (Some("db"), None));
        assert_eq!(db.addresses, ["fd00::2".parse::<std::net::IpAddr>().unwrap()]);
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
