//! Names that are kept between looks, so that runtimes are not asked each time.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use ctkeeper_snapshot::{Container, Gap, Holder};

use super::{Names, ask, find};

/// How long names are taken to be true: a container can be renamed.
const TRUE_FOR: Duration = Duration::from_secs(30);

/// How long after an answer nobody is asked again, whatever is new: a runtime that is silent would
/// keep every look waiting.
const REST: Duration = Duration::from_secs(2);

/// Containers without a name that are kept in mind, at most.
const UNNAMED: usize = 100_000;

/// Names for one look after the other.
#[derive(Debug)]
pub struct Directory {
    named: Vec<String>,
    budget: Duration,
    names: Names,
    gaps: Vec<Gap>,
    asked: Option<Instant>,
    /// Ids that nobody had a name for when they were asked last.
    unnamed: HashSet<String>,
}

impl Directory {
    /// One that has asked nobody yet; `named` is for [`find`], `budget` for [`ask`].
    pub fn new(named: Vec<String>, budget: Duration) -> Self {
        let (names, gaps, unnamed) = Default::default();
        Self { named, budget, names, gaps, asked: None, unnamed }
    }

    /// The names, asked for anew when they are old.
    pub fn names(&mut self) -> &Names {
        if self.asked.is_none_or(|asked| asked.elapsed() > TRUE_FOR) {
            self.ask();
        }
        &self.names
    }

    /// What the last answers lack.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Whether a container or pod is among these holders that has come since the names were asked
    /// for; then they have been asked for again. One that nobody names is asked after once.
    pub fn has_learnt(&mut self, holders: &[Holder]) -> bool {
        let unnamed: Vec<_> = holders.iter().filter_map(unnamed).collect();
        let is_rested = self.asked.is_none_or(|asked| asked.elapsed() > REST);
        let is_new = unnamed.iter().any(|id| !self.unnamed.contains(*id));
        if !is_new || !is_rested {
            return false;
        }
        self.unnamed = unnamed.into_iter().take(UNNAMED).map(str::to_owned).collect();
        self.ask();
        true
    }

    fn ask(&mut self) {
        let found = find(&self.named);
        let answers = ask(&found.sockets, self.budget);
        self.names = Names::new(&answers);
        self.gaps = found.gaps.into_iter().chain(answers.gaps).collect();
        self.asked = Some(Instant::now());
    }
}

/// What identifies a holder that a runtime could name and has not.
fn unnamed(holder: &Holder) -> Option<&str> {
    let of = |container: &Container| container.name.is_none();
    match holder {
        Holder::Container(container) if of(container) => Some(&container.id),
        Holder::Pod(pod) => match &pod.container {
            Some(container) if of(container) => Some(&container.id),
            _ => pod.name.is_none().then_some(&pod.uid),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;
    use crate::cgroup::Membership;

    const ID: &str = "3f2a9c1b7d04e5a69788b0c1d2e3f4053f2a9c1b7d04e5a69788b0c1d2e3f405";

    fn long_ago() -> Option<Instant> {
        Instant::now().checked_sub(REST * 2)
    }

    #[test]
    fn runtimes_are_asked_again_for_what_is_new() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let number = counted.fetch_add(1, Ordering::SeqCst);
                let _ = stream.read(&mut [0; 256]);
                let list = if number == 0 { "[]".to_owned() } else { list() };
                let _ = write!(stream, "HTTP/1.1 200 OK\r\n\r\n{list}");
            }
        });
        let mut directory =
            Directory::new(vec![path.display().to_string()], Duration::from_secs(5));
        let group = Membership::from_path(&format!("/docker/{ID}"));
        let before = directory.names().holder(&group).unwrap();
        let _ = directory.names();
        assert_eq!(asked.load(Ordering::SeqCst), 1, "kept");
        assert!(!directory.has_learnt(std::slice::from_ref(&before)), "too early");
        directory.asked = long_ago();
        assert!(directory.has_learnt(std::slice::from_ref(&before)));
        let after = directory.names().holder(&group).unwrap();
        assert_ne!(before, after);
        directory.asked = long_ago();
        assert!(!directory.has_learnt(std::slice::from_ref(&after)), "it has a name");
        assert!(!directory.has_learnt(&[before]), "it was asked after");
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    fn list() -> String {
        format!(r#"[{{"Id":"{ID}","Names":["/web"]}}]"#)
    }

    #[test]
    fn only_runtimes_names_are_missed() {
        let group = |path: &str| Names::default().holder(&Membership::from_path(path)).unwrap();
        assert_eq!(unnamed(&group("/system.slice/a.service")), None);
        let uid = "0f3c2a1b-1111-2222-3333-444455556666";
        assert_eq!(unnamed(&group(&format!("/kubepods/pod{uid}"))), Some(uid));
        assert_eq!(unnamed(&group(&format!("/kubepods/pod{uid}/{ID}"))), Some(ID));
        assert_eq!(unnamed(&group(&format!("/docker/{ID}"))), Some(ID));
    }
}
