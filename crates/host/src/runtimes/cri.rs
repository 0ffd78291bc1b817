//! Kubernetes' Container Runtime Interface: pods and containers that run.
//!
//! Field numbers are those of `k8s.io/cri-api/pkg/apis/runtime/v1/api.proto`; version `v1alpha2`,
//! which runtimes before 2022 speak only, has the same ones for what is read here.

use std::collections::HashMap;
use std::time::Instant;

use super::bounded::name;
use super::grpc::{Failure, call};
use super::protobuf::{Broken, all, last};
use super::{
    CONTAINERS, Obstacle, PodIdentity, Running, RunningContainer, RunningPod, Socket, Told,
};

const VERSIONS: [&str; 2] = ["v1", "v1alpha2"];

/// `VersionRequest`, empty.
const VERSION: &[u8] = &[];

/// `ListPodSandboxRequest { filter(1): { state(2): { state(1): SANDBOX_READY = 0 } } }`
const READY: &[u8] = &[0x0a, 2, 0x12, 0];

/// `ListContainersRequest { filter(1): { state(2): { state(1): CONTAINER_RUNNING = 1 } } }`
const RUNNING: &[u8] = &[0x0a, 4, 0x12, 2, 0x08, 1];

/// Labels that kubelet writes on containers.
const LABELS: [&[u8]; 3] =
    [b"io.kubernetes.pod.namespace", b"io.kubernetes.pod.name", b"io.kubernetes.pod.uid"];

impl From<Broken> for Obstacle {
    fn from(_: Broken) -> Self {
        Self::Answer("a list is broken".to_owned())
    }
}

/// Asks what runs. A containerd that has no such interface (Docker's own) has nothing to say: its
/// answer is empty.
pub(super) fn ask(socket: &Socket, deadline: Instant) -> Result<Told, Obstacle> {
    for version in VERSIONS {
        let method = |name: &str| format!("/runtime.{version}.RuntimeService/{name}");
        let calls = [
            (method("Version"), VERSION),
            (method("ListPodSandbox"), READY),
            (method("ListContainers"), RUNNING),
        ];
        let answers = call(socket, calls, deadline)?;
        if !answers.iter().any(|answer| matches!(answer, Err(Failure::Unimplemented))) {
            return read(answers);
        }
    }
    let running =
        Running { runtime: "containerd".to_owned(), complete: true, ..Running::default() };
    Ok(Told { running, obstacles: Vec::new() })
}

/// Each answer counts by itself: without the pods, containers still have their names.
fn read(answers: [Result<Vec<u8>, Failure>; 3]) -> Result<Told, Obstacle> {
    let mut told = Told::default();
    told.running.complete = true;
    let [about, pods, containers] = answers;
    let mut answered = 0;
    let (runtime, number) = told.keep(about, &mut answered, |_, answer| version(answer));
    (told.running.runtime, told.running.version) = (runtime, number);
    told.running.pods = told.keep(pods, &mut answered, Told::read_pods);
    told.running.containers = told.keep(containers, &mut answered, Told::read_containers);
    match told.obstacles.pop() {
        Some(obstacle) if answered == 0 => Err(obstacle),
        obstacle => {
            told.obstacles.extend(obstacle);
            told.running.complete &= told.obstacles.is_empty();
            Ok(told)
        }
    }
}

impl Told {
    fn keep<T: Default>(
        &mut self,
        answer: Result<Vec<u8>, Failure>,
        answered: &mut usize,
        read: impl Fn(&mut Self, &[u8]) -> Result<T, Broken>,
    ) -> T {
        let read = match answer {
            Ok(answer) => read(self, &answer).map_err(Obstacle::from),
            Err(Failure::Other(obstacle)) => Err(obstacle),
            Err(Failure::Unimplemented) => Err(Obstacle::Answer("no such method".to_owned())),
        };
        match read {
            Ok(read) => {
                *answered += 1;
                read
            }
            Err(obstacle) => {
                self.obstacles.push(obstacle);
                T::default()
            }
        }
    }

    /// `ListPodSandboxResponse`: its items are field 1.
    fn read_pods(&mut self, answer: &[u8]) -> Result<Vec<RunningPod>, Broken> {
        let mut items = all(answer, 1);
        let pods = items.by_ref().take(CONTAINERS).map(|item| pod(item?)).collect::<Result<_, _>>();
        self.running.complete &= items.next().is_none();
        pods
    }

    /// `ListContainersResponse`: its containers are field 1.
    fn read_containers(&mut self, answer: &[u8]) -> Result<Vec<RunningContainer>, Broken> {
        let pods = std::mem::take(&mut self.running.pods);
        let known: HashMap<_, _> =
            pods.iter().map(|pod| (pod.sandbox.as_bytes(), &pod.identity)).collect();
        let mut items = all(answer, 1);
        let containers = items.by_ref().take(CONTAINERS);
        let containers = containers.map(|item| container(item?, &known)).collect();
        self.running.complete &= items.next().is_none();
        self.running.pods = pods;
        containers
    }
}

/// `VersionResponse`: the runtime's name is field 2, its version 3.
fn version(answer: &[u8]) -> Result<(String, Option<String>), Broken> {
    let runtime = text(last(answer, 2)?).unwrap_or_else(|| "containerd".to_owned());
    Ok((runtime, text(last(answer, 3)?)))
}

/// `PodSandbox`: id 1, metadata 2 with name 1, uid 2, namespace 3.
fn pod(item: &[u8]) -> Result<RunningPod, Broken> {
    let metadata = last(item, 2)?;
    let field = |number| Ok(text(last(metadata, number)?).unwrap_or_default());
    let identity = PodIdentity { namespace: field(3)?, name: field(1)?, uid: field(2)? };
    Ok(RunningPod { sandbox: text(last(item, 1)?).unwrap_or_default(), identity })
}

/// `Container`: id 1, pod_sandbox_id 2, metadata 3 with name 1, image 4 with image 1 and
/// user_specified_image 18, labels 8.
fn container(item: &[u8], pods: &HashMap<&[u8], &PodIdentity>) -> Result<RunningContainer, Broken> {
    let image = last(item, 4)?;
    let asked_for = last(image, 18)?;
    let image = if asked_for.is_empty() { last(image, 1)? } else { asked_for };
    let pod = match pods.get(last(item, 2)?) {
        Some(pod) => Some((*pod).clone()),
        None => labelled(item)?,
    };
    Ok(RunningContainer {
        id: text(last(item, 1)?).unwrap_or_default(),
        name: text(last(last(item, 3)?, 1)?),
        image: text(image),
        pod,
        ..RunningContainer::default()
    })
}

/// The pod by a container's labels (field 8, entries of key 1 and value 2).
fn labelled(item: &[u8]) -> Result<Option<PodIdentity>, Broken> {
    let mut found: [Option<String>; 3] = Default::default();
    for entry in all(item, 8) {
        let entry = entry?;
        let key = last(entry, 1)?;
        for (label, value) in LABELS.iter().zip(&mut found) {
            if *label == key {
                *value = text(last(entry, 2)?);
            }
        }
    }
    let [namespace, pod, uid] = found;
    let [namespace, pod] = [namespace, pod].map(Option::unwrap_or_default);
    Ok(uid.map(|uid| PodIdentity { namespace, name: pod, uid }))
}

fn text(bytes: &[u8]) -> Option<String> {
    name(String::from_utf8_lossy(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn varint(mut number: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number > 0x7f {
            bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    }

    fn field(number: usize, content: &[u8]) -> Vec<u8> {
        [&varint(number << 3 | 2), &varint(content.len()), content].concat()
    }

    fn pods() -> Vec<u8> {
        let metadata = [field(1, b"cart"), field(2, b"0f3c"), field(3, b"shop")].concat();
        field(1, &[field(1, b"s1"), field(2, &metadata)].concat())
    }

    fn web(sandbox: &[u8], labels: &[u8]) -> Vec<u8> {
        let image = [field(1, b"sha256:77"), field(18, b"web:1")].concat();
        let parts = [
            field(1, b"c1"),
            field(2, sandbox),
            field(3, &field(1, b"web")),
            field(4, &image),
            labels.to_vec(),
        ];
        field(1, &parts.concat())
    }

    fn cart() -> PodIdentity {
        PodIdentity { namespace: "shop".into(), name: "cart".into(), uid: "0f3c".into() }
    }

    #[test]
    fn lists_are_read_and_joined() {
        let version = [field(2, b"cri-o"), field(3, b"1.30")].concat();
        let told = read([Ok(version), Ok(pods()), Ok(web(b"s1", &[]))]).unwrap();
        let running = told.running;
        assert_eq!((running.runtime.as_str(), running.version.as_deref()), ("cri-o", Some("1.30")));
        assert_eq!(running.pods, [RunningPod { sandbox: "s1".into(), identity: cart() }]);
        let expected = RunningContainer {
            id: "c1".into(),
            name: Some("web".into()),
            image: Some("web:1".into()),
            pod: Some(cart()),
            ..RunningContainer::default()
        };
        assert_eq!(running.containers, [expected]);
        assert!(running.complete && told.obstacles.is_empty());
    }

    #[test]
    fn a_missing_list_leaves_the_rest() {
        let labels: Vec<_> = LABELS
            .iter()
            .zip([b"shop", b"cart", b"0f3c"])
            .flat_map(|(key, value)| field(8, &[field(1, key), field(2, value)].concat()))
            .collect();
        let silent = || Err(Failure::Other(Obstacle::Silence));
        let told = read([silent(), silent(), Ok(web(b"s1", &labels))]).unwrap();
        assert_eq!(told.running.containers[0].pod, Some(cart()));
        assert!(!told.running.complete && told.obstacles.len() == 2);
        assert!(matches!(read([silent(), silent(), silent()]), Err(Obstacle::Silence)));
    }

    #[test]
    fn endless_lists_are_cut() {
        let told = read([Ok(vec![]), Ok(vec![]), Ok([0x0a, 0].repeat(CONTAINERS + 1))]).unwrap();
        assert_eq!((told.running.containers.len(), told.running.complete), (CONTAINERS, false));
    }

    proptest! {
        #[test]
        fn junk_does_no_harm(junk in prop::collection::vec(any::<u8>(), 0..300)) {
            let wrapped = || Ok(field(1, junk.get(..100).unwrap_or(&junk)));
            let _ = read([Ok(junk.clone()), Ok(junk.clone()), Ok(junk.clone())]);
            let _ = read([wrapped(), wrapped(), wrapped()]);
        }
    }
}
