//! A load is a guard, and keeps the lab's law.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ctkeeper_lab::load::{Closing, Held, Load, LoadError, Profile, Service, Sources, Traffic};
use ctkeeper_netlink::netns::{Namespace, NamespaceSelector};

use crate::ground::{Ground, profile, served_open, settle};

fn held() -> Traffic {
    Traffic::TcpHeld(Held::default())
}

/// Clients that lost power: their server and the table still believe in them. Those that close or
/// reset leave nothing that is established.
pub(crate) fn vanish() -> anyhow::Result<()> {
    let ground = Ground::make()?;
    ground.servers.track()?;
    let server = ground.serve(Service::TcpHold {}, "0.0.0.0:7")?;
    for (closing, left) in [(Closing::Close, 0), (Closing::Reset, 0), (Closing::Vanish, 60)] {
        let load = ground.start(&profile(held(), "10.99.0.2:7", 60)?)?;
        settle(&load)?;
        served_open(&server, 60)?;
        ensure!(established(&ground)? == 60);
        let report = load.stop(closing);
        ensure!(report.open == 0 && report.succeeded == 60, "{report:?}");
        std::thread::sleep(Duration::from_millis(100));
        let entries = established(&ground)?;
        ensure!(entries == left, "{closing:?} leaves {entries} established");
        served_open(&server, left as u64).with_context(|| format!("{closing:?}"))?;
    }
    Ok(())
}

fn established(ground: &Ground) -> anyhow::Result<usize> {
    let table = ground.servers.run("conntrack", &["-L", "-p", "tcp"])?;
    Ok(table.lines().filter(|line| line.contains("ESTABLISHED")).count())
}

pub(crate) fn dropping_closes() -> anyhow::Result<()> {
    let ground = Ground::make()?;
    let server = ground.serve(Service::TcpHold {}, "0.0.0.0:7")?;
    let load = ground.start(&profile(held(), "10.99.0.2:7", 100)?)?;
    settle(&load)?;
    served_open(&server, 100)?;
    let start = Instant::now();
    drop(load);
    ensure!(start.elapsed() < Duration::from_millis(500));
    served_open(&server, 0)?;
    let address = server.addresses()[0];
    drop(server);
    // The address is free again.
    ground.serve(Service::TcpHold {}, &address.to_string())?;
    Ok(())
}

pub(crate) fn the_host_is_refused() -> anyhow::Result<()> {
    let host = Namespace::open(&NamespaceSelector::Host)?;
    let target = |text: &str| text.parse().map_err(anyhow::Error::msg);
    let error = Load::start(&host, &Profile::new(held(), target("192.0.2.1:7")?, 1.0));
    ensure!(matches!(error, Err(LoadError::NotInLab { .. })), "{error:?}");
    let mut mixed = Profile::new(held(), target("127.0.0.1:7")?, 1.0);
    mixed.targets.push(target("10.99.0.2:7")?);
    ensure!(matches!(Load::start(&host, &mixed), Err(LoadError::NotInLab { .. })));
    Load::start(&host, &Profile::new(held(), target("127.0.0.1:7")?, 1.0))?;
    Ok(())
}

pub(crate) fn foreign_source() -> anyhow::Result<()> {
    let ground = Ground::make()?;
    let mut profile = profile(held(), "10.99.0.2:7", 10)?;
    profile.sources = Some(Sources::range("10.99.19.0".parse()?, 300));
    let error = ground.start(&profile).err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(error.contains("10.99.20.43") && error.contains("ip route add local"), "{error}");
    Ok(())
}
