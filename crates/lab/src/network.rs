//! Links, bridges, addresses and routes between namespaces.

use std::process::Command;
use std::time::Duration;

use crate::program::{called, ip_batch, run};
use crate::{LabError, Namespace};

/// `IFNAMSIZ` less the zero at the end (`include/uapi/linux/if.h`, Linux 6.12).
const LONGEST_INTERFACE: usize = 15;

/// One end of a link: a namespace, the interface's name there, its addresses (`10.77.1.1/24`,
/// `fd77::1/64`).
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Where it stands.
    pub namespace: &'a Namespace,
    /// Its name, at most 15 bytes.
    pub interface: &'a str,
    /// Its addresses with their prefix lengths.
    pub addresses: &'a [&'a str],
}

/// A cable between two namespaces (a veth pair), both ends up; taken out when it goes.
#[derive(Debug)]
pub struct Link {
    namespace: String,
    interface: String,
}

impl Link {
    /// Lays it.
    pub fn create(one: End<'_>, other: End<'_>) -> Result<Self, LabError> {
        [one, other].iter().try_for_each(|end| ensure_interface(end.interface))?;
        let (here, there) = (one.namespace.name(), other.namespace.name());
        let pair = format!(
            "link add {} netns {here} type veth peer name {} netns {there}",
            one.interface, other.interface
        );
        for end in [one, other] {
            if end.addresses.iter().any(|address| address.contains(':')) {
                // The link-local address too must be ready at once: neighbours are asked from it.
                end.namespace.sysctl("ipv6/conf/default/accept_dad", "0")?;
            }
        }
        ip_batch(None, &[pair])?;
        let link = Self { namespace: here.to_owned(), interface: one.interface.to_owned() };
        for end in [one, other] {
            end.namespace.bring_up(end.interface, end.addresses)?;
        }
        for end in [one, other] {
            end.namespace.wait_for_carrier(end.interface)?;
        }
        Ok(link)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        delete_link(&self.namespace, &self.interface);
    }
}

/// A switch inside a namespace; taken out when it goes.
#[derive(Debug)]
pub struct Bridge {
    namespace: String,
    interface: String,
}

impl Bridge {
    /// Makes one, up, with these addresses.
    pub fn create(
        namespace: &Namespace,
        interface: &str,
        addresses: &[&str],
    ) -> Result<Self, LabError> {
        ensure_interface(interface)?;
        namespace.ip(&[format!("link add {interface} type bridge")])?;
        let (name, interface) = (namespace.name().to_owned(), interface.to_owned());
        let bridge = Self { namespace: name, interface };
        namespace.bring_up(&bridge.interface, addresses)?;
        Ok(bridge)
    }

    /// Plugs an interface of the same namespace in.
    pub fn attach(&self, interface: &str) -> Result<(), LabError> {
        let line = format!("link set {interface} master {}", self.interface);
        ip_batch(Some(&self.namespace), &[line])
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        delete_link(&self.namespace, &self.interface);
    }
}

impl Namespace {
    /// Adds a route: `default via 10.77.1.1`, `10.78.0.0/16 via 10.77.1.2`.
    pub fn route(&self, route: &str) -> Result<(), LabError> {
        self.ip(&[format!("route add {route}")])
    }

    /// Makes every address of a network this namespace's own (`10.77.16.0/22`), so that load comes
    /// from many clients; the other side needs a route to it.
    pub fn own_addresses(&self, network: &str) -> Result<(), LabError> {
        self.ip(&[format!("route add local {network} dev lo")])
    }

    /// Passes packets on between its interfaces.
    pub fn forward(&self) -> Result<(), LabError> {
        self.sysctl("ipv4/ip_forward", "1")?;
        self.sysctl("ipv6/conf/all/forwarding", "1")
    }

    /// The kernel looks at carriers once a second where many change, and a link passes nothing
    /// before (`net/core/link_watch.c`, Linux 6.12).
    fn wait_for_carrier(&self, interface: &str) -> Result<(), LabError> {
        let state = |said: String| said.split_whitespace().nth(1).map(str::to_owned);
        crate::wait_for("a link", Duration::from_secs(5), || {
            let said = self.run("ip", &["-br", "link", "show", interface])?;
            Ok(state(said).as_deref() == Some("UP"))
        })
    }

    fn bring_up(&self, interface: &str, addresses: &[&str]) -> Result<(), LabError> {
        // Without nodad an IPv6 address cannot be used for a second or two.
        let nodad = |address: &str| if address.contains(':') { " nodad" } else { "" };
        let add =
            |address: &&str| format!("address add {address} dev {interface}{}", nodad(address));
        let mut lines: Vec<_> = addresses.iter().map(add).collect();
        lines.push(format!("link set {interface} up"));
        self.ip(&lines)
    }
}

/// A name of several words would tell `ip` more than a name, outside the lab's namespaces too:
/// links are made from the host's.
fn ensure_interface(name: &str) -> Result<(), LabError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let first = |c: char| c.is_ascii_alphanumeric();
    if name.len() <= LONGEST_INTERFACE && name.starts_with(first) && name.chars().all(allowed) {
        return Ok(());
    }
    let text =
        "names are 1 to 15 letters, digits, dashes, underscores and dots, a letter or digit first";
    let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, text);
    Err(LabError::system("name an interface", name.escape_debug().to_string())(source))
}

fn delete_link(namespace: &str, interface: &str) {
    // Gone with its namespace, or with the one at its other end, more often than not.
    if std::path::Path::new(crate::namespace::FOLDER).join(namespace).exists() {
        let _ =
            run(Command::new(called("ip")).args(["-n", namespace, "link", "del", interface]), "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_interfaces_are_one_plain_word() {
        assert!(["eth0", "br-1", "eth0.5"].into_iter().all(|name| ensure_interface(name).is_ok()));
        for bad in ["", "a b", "x\nlink del eth0", "-x", "..", "a/b", "sixteen-letters-"] {
            assert!(ensure_interface(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_line_for_ip_is_one_line() {
        let line = "route add 10.77.0.0/16\nlink del eth0".to_owned();
        let error = ip_batch(Some("ctk-none"), &[line]).unwrap_err().to_string();
        assert!(error.contains("more than one line"), "{error}");
    }
}
