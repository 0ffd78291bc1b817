//! Podman's containers by the file in which its storage library keeps them. Podman has no daemon:
//! most hosts that run it have no socket to ask at, or one that would start something first.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use rustix::fs::{Mode, OFlags};
use serde::Deserialize;

use super::bounded::{Bounded, name};
use super::{ANSWER, CONTAINERS, Obstacle, Running, RunningContainer, Socket, Told, connection};

/// Where the file is, below the root, for each kind of storage in use.
pub(super) const USUAL: [&str; 4] = [
    "var/lib/containers/storage/overlay-containers/containers.json",
    "var/lib/containers/storage/vfs-containers/containers.json",
    "var/lib/containers/storage/btrfs-containers/containers.json",
    "var/lib/containers/storage/zfs-containers/containers.json",
];

/// A container, as far as it is read (`Container` in `github.com/containers/storage`).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Stored {
    id: String,
    names: Bounded<String, 16>,
    metadata: Option<String>,
}

/// What Podman and CRI-O keep with it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Metadata {
    image_name: Option<String>,
    name: Option<String>,
    pod_id: Option<String>,
}

/// Reads the containers that are there, whether they run or not.
pub(super) fn read(store: &Socket, deadline: Instant) -> Result<Told, Obstacle> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file = rustix::fs::open(&store.path, flags, Mode::empty()).map_err(std::io::Error::from)?;
    let file = File::from(file);
    let found = file.metadata()?;
    if !found.is_file() || store.user.is_some_and(|user| user != found.uid()) {
        return Err(Obstacle::Answer("it is no file of its owner's".to_owned()));
    }
    let mut text = Vec::new();
    file.take(ANSWER as u64).read_to_end(&mut text)?;
    connection::left(deadline)?;
    Ok(Told { running: parse(&text)?, obstacles: Vec::new() })
}

fn parse(text: &[u8]) -> Result<Running, Obstacle> {
    let stored: Bounded<Stored, CONTAINERS> = serde_json::from_slice(text)
        .map_err(|error| Obstacle::Answer(format!("the list is broken: {error}")))?;
    Ok(Running {
        runtime: "podman".to_owned(),
        containers: stored.first.into_iter().filter_map(container).collect(),
        complete: stored.complete,
        ..Running::default()
    })
}

/// Those of CRI-O, which uses the same library, are CRI-O's to name.
fn container(stored: Stored) -> Option<RunningContainer> {
    let metadata = stored.metadata.unwrap_or_default();
    let metadata: Metadata = serde_json::from_str(&metadata).unwrap_or_default();
    if metadata.pod_id.is_some_and(|pod| !pod.is_empty()) {
        return None;
    }
    let own_name = metadata.name.or_else(|| stored.names.first.into_iter().next());
    Some(RunningContainer {
        id: name(stored.id)?,
        name: own_name.and_then(name),
        image: metadata.image_name.and_then(name),
        ..RunningContainer::default()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn podmans_containers_are_named_and_cri_os_are_not() {
        let json = r#"[{"id":"9f46","names":["web"],"image":"11df","layer":"cef1",
            "metadata":"{\"image-name\":\"localhost/lab:1\",\"name\":\"web\"}","flags":{}},
            {"id":"aa11","names":["other"],"metadata":"junk"},
            {"id":"bb22","names":["k8s_web_cart"],"metadata":"{\"pod-id\":\"77\"}"},{"id":""}]"#;
        let running = parse(json.as_bytes()).unwrap();
        let told: Vec<_> = running
            .containers
            .iter()
            .map(|it| (it.id.as_str(), it.name.as_deref(), it.image.as_deref()))
            .collect();
        let expected =
            [("9f46", Some("web"), Some("localhost/lab:1")), ("aa11", Some("other"), None)];
        assert_eq!(told, expected);
        assert!(parse(b"[{").is_err());
    }

    proptest! {
        #[test]
        fn junk_does_no_harm(junk in "[\\[\\]{}:,\"a-z0-9]{0,200}") {
            let _ = parse(junk.as_bytes());
        }
    }
}
