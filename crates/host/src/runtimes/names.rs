//! From a control group to a holder, by what runtimes told.

use std::collections::HashMap;

use ctkeeper_snapshot::{Container, Holder, Pod};

use super::{Answers, PodIdentity, Running, RunningContainer};
use crate::cgroup::{Member, Membership};

/// Who is behind the ids in control groups.
///
/// Whatever a user's own runtime says counts for that user's containers only.
#[derive(Clone, Debug, Default)]
pub struct Names {
    runtimes: Vec<(String, Option<u32>)>,
    containers: HashMap<String, Vec<Known>>,
    pods: HashMap<String, Vec<(usize, PodIdentity)>>,
}

#[derive(Clone, Debug)]
struct Known {
    runtime: usize,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Container(RunningContainer),
    /// It holds a pod's namespaces.
    Sandbox(PodIdentity),
}

impl What {
    fn is_of_pod(&self) -> bool {
        match self {
            Self::Container(container) => container.pod.is_some(),
            Self::Sandbox(_) => true,
        }
    }
}

impl Names {
    /// Of all answers; where several speak of one container, the first counts that knows its pod, or
    /// else the first.
    pub fn new(answers: &Answers) -> Self {
        let mut names = Self::default();
        for running in &answers.running {
            names.add(running);
        }
        names
    }

    /// The holder that a control group leads to: the container or pod, with its names where a runtime
    /// told them, or the unit. `None` of a process that is in neither, and of virtual machines, which
    /// [`Membership::machine`] names.
    pub fn holder(&self, group: &Membership) -> Option<Holder> {
        if let Some(member) = &group.container {
            return Some(self.of_container(member, group));
        }
        if let Some(uid) = &group.pod {
            return Some(Holder::Pod(self.pod(uid, group.user)));
        }
        let name = group.unit.as_ref()?;
        Some(Holder::Unit {
            name: match group.user {
                Some(user) => format!("{name} of user {user}"),
                None => name.clone(),
            },
        })
    }

    /// What was told of the container with this id, for a group below the service manager of `user`.
    pub fn container(&self, id: &str, user: Option<u32>) -> Option<&RunningContainer> {
        match &self.known(id, user)?.what {
            What::Container(container) => Some(container),
            What::Sandbox(_) => None,
        }
    }

    fn add(&mut self, running: &Running) {
        let runtime = self.runtimes.len();
        self.runtimes.push((running.runtime.clone(), running.user));
        for pod in &running.pods {
            self.add_pod(runtime, &pod.identity);
            let what = What::Sandbox(pod.identity.clone());
            self.containers.entry(pod.sandbox.clone()).or_default().push(Known { runtime, what });
        }
        for container in &running.containers {
            if let Some(pod) = &container.pod {
                self.add_pod(runtime, pod);
            }
            let what = What::Container(container.clone());
            self.containers.entry(container.id.clone()).or_default().push(Known { runtime, what });
        }
    }

    fn add_pod(&mut self, runtime: usize, pod: &PodIdentity) {
        let told = self.pods.entry(pod.uid.clone()).or_default();
        if told.iter().all(|(other, _)| *other != runtime) {
            told.push((runtime, pod.clone()));
        }
    }

    fn of_container(&self, member: &Member, group: &Membership) -> Holder {
        let known = self.known(&member.id, group.user);
        let runtime = known.and_then(|known| self.runtimes.get(known.runtime));
        let runtime = runtime.map(|(runtime, _)| runtime.as_str()).or(member.runtime);
        let told = match known.map(|known| &known.what) {
            Some(What::Sandbox(pod)) => return Holder::Pod(pod_of(pod, None)),
            Some(What::Container(told)) => Some(told),
            None => None,
        };
        let container = Container {
            id: member.id.clone(),
            name: told.and_then(|told| told.name.clone()),
            image: told.and_then(|told| told.image.clone()),
            runtime: runtime.map(str::to_owned),
        };
        match (told.and_then(|told| told.pod.as_ref()), &group.pod) {
            (Some(pod), _) => Holder::Pod(pod_of(pod, Some(container))),
            (None, Some(uid)) => {
                Holder::Pod(Pod { container: Some(container), ..self.pod(uid, group.user) })
            }
            (None, None) => Holder::Container(container),
        }
    }

    fn pod(&self, uid: &str, user: Option<u32>) -> Pod {
        let told = self.pods.get(uid).into_iter().flatten();
        let told = told.filter(|(runtime, _)| self.may_speak(*runtime, user));
        let known = told.map(|(_, pod)| pod_of(pod, None)).next();
        known.unwrap_or_else(|| Pod { uid: uid.to_owned(), ..Pod::default() })
    }

    fn known(&self, id: &str, user: Option<u32>) -> Option<&Known> {
        let told = self.containers.get(id)?.iter();
        let mut told = told.filter(|known| self.may_speak(known.runtime, user));
        let first = told.next()?;
        // Docker knows the containers of pods that it runs (cri-dockerd), but not that they are.
        [first].into_iter().chain(told).find(|known| known.what.is_of_pod()).or(Some(first))
    }

    fn may_speak(&self, runtime: usize, user: Option<u32>) -> bool {
        let whose = self.runtimes.get(runtime).and_then(|(_, whose)| *whose);
        whose.is_none() || whose == user
    }
}

fn pod_of(pod: &PodIdentity, container: Option<Container>) -> Pod {
    let told = |text: &String| (!text.is_empty()).then(|| text.clone());
    Pod { namespace: told(&pod.namespace), name: told(&pod.name), uid: pod.uid.clone(), container }
}

#[cfg(test)]
mod tests {
    use super::super::RunningPod;
    use super::*;

    const WEB: &str = "3f2a9c1b7d04e5a69788b0c1d2e3f4053f2a9c1b7d04e5a69788b0c1d2e3f405";
    const CART: &str = "aaaa9c1b7d04e5a69788b0c1d2e3f4053f2a9c1b7d04e5a69788b0c1d2e3f405";
    const PAUSE: &str = "bbbb9c1b7d04e5a69788b0c1d2e3f4053f2a9c1b7d04e5a69788b0c1d2e3f405";
    const UID: &str = "0f3c2a1b-1111-2222-3333-444455556666";

    fn named(id: &str, name: &str, pod: Option<PodIdentity>) -> RunningContainer {
        let (id, name) = (id.to_owned(), Some(name.to_owned()));
        RunningContainer { id, name, pod, ..RunningContainer::default() }
    }

    fn cart() -> PodIdentity {
        PodIdentity { namespace: "shop".into(), name: "cart".into(), uid: UID.into() }
    }

    fn answers() -> Answers {
        let user = Running {
            runtime: "podman".to_owned(),
            user: Some(1000),
            containers: vec![named(WEB, "innocent", None)],
            ..Running::default()
        };
        let docker = Running {
            runtime: "docker".to_owned(),
            containers: vec![named(WEB, "web", None), named(CART, "k8s_server_cart", None)],
            ..Running::default()
        };
        let containerd = Running {
            runtime: "containerd".to_owned(),
            containers: vec![named(CART, "server", Some(cart()))],
            pods: vec![RunningPod { sandbox: PAUSE.to_owned(), identity: cart() }],
            ..Running::default()
        };
        Answers { running: vec![user, docker, containerd], gaps: Vec::new() }
    }

    fn holder(names: &Names, path: &str) -> Option<Holder> {
        names.holder(&Membership::from_path(path))
    }

    fn container(id: &str, name: Option<&str>, runtime: Option<&str>) -> Container {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Container { id: id.to_owned(), name: owned(name), image: None, runtime: owned(runtime) }
    }

    fn pod(container: Option<Container>) -> Holder {
        Holder::Pod(pod_of(&cart(), container))
    }

    #[test]
    fn groups_lead_to_names() {
        let names = Names::new(&answers());
        let docker = container(WEB, Some("web"), Some("docker"));
        assert_eq!(holder(&names, &format!("/docker/{WEB}")), Some(Holder::Container(docker)));
        let server = container(CART, Some("server"), Some("containerd"));
        assert_eq!(holder(&names, &format!("/lab/{CART}")), Some(pod(Some(server))));
        assert_eq!(holder(&names, &format!("/lab/{PAUSE}")), Some(pod(None)));
        assert_eq!(holder(&names, &format!("/kubepods/pod{UID}")), Some(pod(None)));
        let unit = Holder::Unit { name: "a.service".to_owned() };
        assert_eq!(holder(&names, "/system.slice/a.service"), Some(unit));
        assert_eq!(holder(&names, "/user.slice/user-1000.slice/session-1.scope"), None);
    }

    #[test]
    fn without_a_runtime_ids_are_left() {
        let names = Names::default();
        let docker = container(WEB, None, Some("docker"));
        assert_eq!(holder(&names, &format!("/docker/{WEB}")), Some(Holder::Container(docker)));
        let server = Pod {
            uid: UID.to_owned(),
            container: Some(container(CART, None, None)),
            ..Pod::default()
        };
        let path = format!("/kubepods/burstable/pod{UID}/{CART}");
        assert_eq!(holder(&names, &path), Some(Holder::Pod(server)));
    }

    #[test]
    fn a_user_names_his_own_containers_only() {
        let names = Names::new(&answers());
        let below = |user: u32| {
            let path = format!("/user.slice/user-{user}.slice/user@{user}.service/libpod-{WEB}");
            holder(&names, &path)
        };
        let named = |name, runtime| Some(Holder::Container(container(WEB, name, runtime)));
        assert_eq!(below(1000), named(Some("innocent"), Some("podman")));
        assert_eq!(below(1001), named(Some("web"), Some("docker")));
    }
}
