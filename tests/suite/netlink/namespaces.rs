//! Naming, holding, visiting and listing namespaces.

use std::process::{Child, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use ctkeeper_netlink::netns::{
    self, Namespace, NamespaceSelector, enumerate, enumerate_with_descriptors,
};
use ctkeeper_netlink::{Conntrack, Error};
use ctkeeper_tests::Namespace as Guard;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use crate::support::{held, tcp};

/// A process in a namespace, ended with its guard.
struct Sleeper(Child);

impl Sleeper {
    fn start(guard: &Guard) -> anyhow::Result<Self> {
        let child = guard.command("sleep").arg("600").stdout(Stdio::null()).spawn()?;
        let (pid, inode) = (child.id(), guard.inode()?);
        let sleeper = Self(child);
        // `ip netns exec` moves itself first and becomes the sleeper then.
        for _ in 0..500 {
            if Namespace::of_process(pid).is_ok_and(|namespace| namespace.inode() == inode) {
                return Ok(sleeper);
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        anyhow::bail!("the sleeper did not enter {}", guard.name())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // A guard must not panic.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn opens_by_every_name() -> anyhow::Result<()> {
    let guard = Guard::create()?;
    let sleeper = Sleeper::start(&guard)?;
    let (inode, pid) = (guard.inode()?, sleeper.0.id());
    let path = guard.path();
    let selectors = [
        guard.name().to_owned(),
        path.display().to_string(),
        pid.to_string(),
        format!("pid:{pid}"),
        format!("/proc/{pid}/ns/net"),
        inode.to_string(),
        format!("net:[{inode}]"),
        format!("inode:{inode}"),
    ];
    for text in selectors {
        let selector: NamespaceSelector = text.parse()?;
        let namespace = Namespace::open(&selector).with_context(|| text.clone())?;
        ensure!(namespace.inode() == inode, "{text} led to {namespace}");
        let mut table = Conntrack::open_in(&namespace)?;
        ensure!(table.count_and_limit()?.entries == 0);
        ensure!(table.namespace()?.inode() == inode);
    }
    Ok(())
}

pub(crate) fn the_callers_thread_is_not_moved() -> anyhow::Result<()> {
    let guard = Guard::create()?;
    let before = Namespace::current()?.inode();
    ensure!(before != guard.inode()?);
    let namespace = held(&guard)?;
    let mut table = Conntrack::open_in(&namespace)?;
    table.create(&tcp(1))?;
    // Stopping reopens the socket.
    table.sample(1, |_| ())?;
    ensure!(table.count_and_limit()?.entries == 1);
    let seen = netns::enter(&namespace, |_| Namespace::current().map(|here| here.inode()))??;
    ensure!(seen == guard.inode()?);
    ensure!(Namespace::current()?.inode() == before);
    // Without a message: who reads a failed run's output would take it for the reason.
    let unwind = || std::panic::resume_unwind(Box::new("inside"));
    let panicked = std::panic::catch_unwind(|| netns::enter(&namespace, |_| unwind()));
    ensure!(panicked.is_err());
    ensure!(Namespace::current()?.inode() == before);
    Ok(())
}

/// A container that may administer its own network, and no more.
pub(crate) fn its_own_needs_no_right_to_enter() -> anyhow::Result<()> {
    let guard = Guard::create()?;
    let namespace = held(&guard)?;
    netns::enter(&namespace, |namespace| -> anyhow::Result<()> {
        // Capabilities are a thread's own: this one ends with the visit.
        let mut sets = capabilities(None)?;
        sets.effective = CapabilitySet::NET_ADMIN;
        sets.permitted = CapabilitySet::NET_ADMIN;
        set_capabilities(None, sets)?;
        let elsewhere = Namespace::open(&NamespaceSelector::Pid(std::process::id()));
        if let Ok(elsewhere) = elsewhere {
            let error = Conntrack::open_in(&elsewhere).map(|_| ()).unwrap_err();
            ensure!(error.to_string().contains("CAP_SYS_ADMIN"), "{error}");
        }
        let mut table = Conntrack::open_in(namespace)?;
        table.create(&tcp(1))?;
        table.create(&tcp(2))?;
        ensure!(table.sample(1, |_| ())?.entries == 1);
        ensure!(table.count_and_limit()?.entries == 2);
        Ok(())
    })?
}

pub(crate) fn vanished_ones_are_said_to_be() -> anyhow::Result<()> {
    let guard = Guard::create()?;
    let (name, inode) = (guard.name().to_owned(), guard.inode()?);
    let sleeper = Sleeper::start(&guard)?;
    let pid = sleeper.0.id();
    let found = enumerate().find(inode).cloned().context("not found")?;
    drop(sleeper);
    drop(guard);
    for text in [name, format!("net:[{inode}]"), format!("pid:{pid}")] {
        let error = Namespace::open(&text.parse()?).map(|_| ()).unwrap_err();
        ensure!(matches!(error, Error::NamespaceNotFound { .. }), "{text}: {error}");
    }
    let error = found.open().map(|_| ()).unwrap_err();
    ensure!(matches!(error, Error::NamespaceNotFound { .. }), "{error}");
    Ok(())
}

pub(crate) fn every_one_is_enumerated() -> anyhow::Result<()> {
    let guards = Guard::create_many(3)?;
    let sleeper = Sleeper::start(&guards[0])?;
    let link = guards[1].path().with_file_name(format!("{}-link", guards[1].name()));
    std::os::unix::fs::symlink(format!("/proc/{}/ns/net", sleeper.0.id()), &link)?;
    let listing = enumerate();
    std::fs::remove_file(&link)?;
    let found = listing.find(guards[0].inode()?).context("not found")?;
    ensure!(found.processes == [sleeper.0.id()] && found.process_count == 1, "{found:?}");
    ensure!(found.paths.contains(&guards[0].path()) && found.paths.contains(&link), "{found:?}");
    for guard in &guards {
        let found = listing.find(guard.inode()?).context("not found")?;
        ensure!(found.paths.contains(&guard.path()), "{found:?}");
        ensure!(found.open()?.inode() == guard.inode()?);
    }
    Ok(())
}

/// Without its name a namespace that we hold is found among descriptors alone.
pub(crate) fn a_held_one_outlives_its_name() -> anyhow::Result<()> {
    let guard = Guard::create()?;
    let namespace = held(&guard)?;
    drop(guard);
    let inode = namespace.inode();
    ensure!(enumerate().find(inode).is_none());
    let listing = enumerate_with_descriptors();
    let found = listing.find(inode).context("not found among descriptors")?;
    ensure!(found.descriptors.iter().any(|(pid, _)| *pid == std::process::id()), "{found:?}");
    let again = Namespace::open(&NamespaceSelector::Inode(inode))?;
    ensure!(Conntrack::open_in(&again)?.count_and_limit()?.entries == 0);
    Ok(())
}

/// Times are printed, not asserted: `bench/` compares.
pub(crate) fn five_hundred() -> anyhow::Result<()> {
    const COUNT: usize = 500;
    let guards = Guard::create_many(COUNT as u32)?;
    let started = Instant::now();
    let listing = enumerate();
    let listed = started.elapsed();
    let ours: Vec<_> = guards.iter().map(Guard::inode).collect::<Result<_, _>>()?;
    let found: Vec<_> = ours.iter().filter_map(|inode| listing.find(*inode)).collect();
    ensure!(found.len() == COUNT, "{} of {COUNT} found", found.len());

    let started = Instant::now();
    let opened = found.iter().filter_map(|found| found.open().ok());
    let looks = netns::visit(opened, |namespace| -> Result<_, Error> {
        let mut table = Conntrack::open()?;
        let (global, cpus) = (table.count_and_limit()?, table.statistics()?);
        Ok((namespace.inode(), global.entries, cpus.len()))
    })?;
    let visited = started.elapsed();
    ensure!(looks.len() == COUNT);
    for (look, expected) in looks.into_iter().zip(&ours) {
        let (inode, entries, cpus) = look??;
        ensure!(inode == *expected && entries == 0 && cpus > 0);
    }
    println!("{COUNT} namespaces: listed in {listed:?}, visited with both queries in {visited:?}");
    Ok(())
}
