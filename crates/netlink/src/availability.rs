//! Whether connection tracking can be asked without changing the host.
//!
//! A netlink request can make the kernel load modules: opening the socket loads `nfnetlink`, a
//! request to a subsystem loads `nf_conntrack_netlink` or `nf_tables`, and those load
//! `nf_conntrack` (`net/netlink/af_netlink.c` `netlink_create`, `net/netfilter/nfnetlink.c`
//! `nfnetlink_rcv_msg`, Linux 6.12). So the answer is looked up in `/sys` and `/proc` first.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::error::{Error, Operation};
use crate::sys;

/// How a part of the kernel that may be a module is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModulePresence {
    /// Part of the kernel image: it cannot go away, and nothing can be loaded by asking for it.
    BuiltIn,
    /// A module, loaded.
    Loaded,
    /// Not loaded; asking for it may load it.
    Absent,
    /// The kernel has no modules at all, and this part leaves no trace outside: asking for it loads
    /// nothing.
    NoModules,
    /// `/proc` is not mounted or shows too little.
    Unknown,
}

impl ModulePresence {
    /// Whether a request cannot make the kernel load it.
    pub const fn is_safe_to_ask(self) -> bool {
        matches!(self, Self::BuiltIn | Self::Loaded | Self::NoModules)
    }
}

/// A part of the kernel that may be a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module {
    /// `nf_conntrack`: connection tracking itself.
    Conntrack,
    /// `nf_conntrack_netlink`: its netlink interface.
    ConntrackNetlink,
    /// `nf_tables`.
    Tables,
    /// `tcp_diag`: the netlink interface to TCP sockets.
    TcpDiagnostics,
    /// `udp_diag`: the netlink interface to UDP sockets.
    UdpDiagnostics,
    /// `nfnetlink_cttimeout`: the netlink interface to timeouts.
    Timeouts,
    /// `nfnetlink_cthelper`: the netlink interface to helpers in user space.
    Helpers,
}

impl Module {
    /// The module's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Conntrack => "nf_conntrack",
            Self::ConntrackNetlink => "nf_conntrack_netlink",
            Self::Tables => "nf_tables",
            Self::TcpDiagnostics => "tcp_diag",
            Self::UdpDiagnostics => "udp_diag",
            Self::Timeouts => "nfnetlink_cttimeout",
            Self::Helpers => "nfnetlink_cthelper",
        }
    }

    /// How it is there. Cheap: a built-in part is looked up once in the life of the process.
    pub fn presence(self) -> ModulePresence {
        if let Some(settled) = self.settled() {
            return settled;
        }
        if self.is_loaded() {
            return ModulePresence::Loaded;
        }
        match IMAGE[self as usize].get_or_init(|| self.look_into_image()) {
            Image::Contains => ModulePresence::BuiltIn,
            Image::HasNoModules => ModulePresence::NoModules,
            Image::Lacks => ModulePresence::Absent,
            Image::Unknown => ModulePresence::Unknown,
        }
    }

    /// Refuses an operation for which the kernel might load it.
    pub(crate) fn ensure_safe_to_ask(self, operation: Operation) -> Result<(), Error> {
        if self.presence().is_safe_to_ask() {
            return Ok(());
        }
        Err(Error::WouldLoadModule { operation, module: self.name() })
    }

    /// What is known for the life of the process: a kernel image does not change.
    fn settled(self) -> Option<ModulePresence> {
        match IMAGE[self as usize].get()? {
            Image::Contains => Some(ModulePresence::BuiltIn),
            Image::HasNoModules => Some(ModulePresence::NoModules),
            Image::Lacks | Image::Unknown => None,
        }
    }

    fn folder(self) -> PathBuf {
        Path::new("/sys/module").join(self.name())
    }

    fn is_loaded(self) -> bool {
        self.folder().join("initstate").exists() || self.is_listed()
    }

    /// Whether `/proc/modules` lists it, for where `/sys` is not mounted.
    fn is_listed(self) -> bool {
        let modules = fs::read_to_string("/proc/modules").unwrap_or_default();
        modules.lines().any(|line| line.split(' ').next() == Some(self.name()))
    }

    fn look_into_image(self) -> Image {
        // A part of the image shows there only if it has parameters.
        if self.folder().exists() || self.leaves_a_trace() {
            return Image::Contains;
        }
        // A masked /proc has no /proc/modules either, but then no /proc/version.
        if !Path::new("/proc/version").exists() {
            return Image::Unknown;
        }
        if !Path::new("/proc/modules").exists() {
            return Image::HasNoModules;
        }
        if self.is_listed_as_built_in() || self.is_in_symbols() {
            return Image::Contains;
        }
        Image::Lacks
    }

    /// A kernel without modules that tracks has conntrack in its image.
    fn leaves_a_trace(self) -> bool {
        self == Self::Conntrack
            && !Path::new("/proc/modules").exists()
            && Path::new("/proc/sys/net/netfilter/nf_conntrack_max").exists()
    }

    fn is_listed_as_built_in(self) -> bool {
        let Some(release) = sys::kernel_release() else { return false };
        let file = format!("{}.ko", self.name());
        ["/lib/modules", "/usr/lib/modules"].iter().any(|root| {
            let list = Path::new(root).join(&release).join("modules.builtin");
            let list = fs::read_to_string(list).unwrap_or_default();
            list.lines().any(|line| line.rsplit('/').next() == Some(&file))
        })
    }

    /// The last resort, about 20 ms: a function of it that no module's name follows.
    fn is_in_symbols(self) -> bool {
        let symbol = match self {
            Self::Conntrack => " nf_conntrack_in",
            Self::ConntrackNetlink => " ctnetlink_dump_table",
            Self::Tables => " nf_tables_gettable",
            Self::Timeouts => " cttimeout_get_timeout",
            Self::Helpers => " nfnl_cthelper_get",
            // `/proc` tells about sockets too: not worth so long a look.
            Self::TcpDiagnostics | Self::UdpDiagnostics => return false,
        };
        let Ok(file) = fs::File::open("/proc/kallsyms") else { return false };
        BufReader::new(file).lines().map_while(Result::ok).any(|line| line.ends_with(symbol))
    }
}

static IMAGE: [OnceLock<Image>; 7] = [const { OnceLock::new() }; 7];

/// What the kernel image says of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Image {
    Contains,
    Lacks,
    HasNoModules,
    Unknown,
}

/// Whether the table can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Availability {
    /// It can.
    Ready,
    /// Asking would load a module, which looking must not do.
    WouldLoadModule {
        /// Its name.
        module: &'static str,
    },
    /// The kernel tracks nothing: `nf_conntrack` is neither loaded nor built in.
    NoConntrack,
    /// `/proc` is not mounted or shows too little to tell.
    Unknown,
}

impl Availability {
    /// Looks, loading nothing. A few system calls at most, none where everything is built in.
    pub fn look() -> Self {
        match Module::ConntrackNetlink.presence() {
            ModulePresence::BuiltIn | ModulePresence::Loaded => Self::Ready,
            ModulePresence::Unknown => Self::Unknown,
            missing => Self::without_netlink(missing, Module::Conntrack.presence()),
        }
    }

    /// A kernel without modules does not show whether it has the interface; asking tells, and
    /// harms nothing.
    const fn without_netlink(netlink: ModulePresence, conntrack: ModulePresence) -> Self {
        match (netlink, conntrack) {
            (ModulePresence::NoModules, ModulePresence::BuiltIn) => Self::Ready,
            (ModulePresence::NoModules, _) | (_, ModulePresence::Absent) => Self::NoConntrack,
            _ => Self::WouldLoadModule { module: Module::ConntrackNetlink.name() },
        }
    }
}

/// A sentence, with what to do.
impl fmt::Display for Availability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("connection tracking can be asked"),
            Self::WouldLoadModule { module } => write!(
                f,
                "connection tracking is there, but not its netlink interface: asking would load \
                 the module {module}, and looking changes nothing; load it with `modprobe \
                 {module}`"
            ),
            Self::NoConntrack => f.write_str(
                "this kernel does not track connections now: nf_conntrack is neither loaded nor \
                 built in",
            ),
            Self::Unknown => f.write_str(
                "cannot tell whether the kernel tracks connections: /proc is not mounted or \
                 masked; mount it",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_of_the_image_is_found_and_another_is_not() {
        // Every kernel that runs these tests with symbols readable has the first.
        let Ok(symbols) = fs::read_to_string("/proc/kallsyms") else { return };
        if symbols.lines().any(|line| line.ends_with(" ctnetlink_dump_table")) {
            assert!(Module::ConntrackNetlink.is_in_symbols());
        }
    }

    #[test]
    fn tracking_without_its_netlink_interface_is_left_alone() {
        use ModulePresence::{Absent, BuiltIn, Loaded, NoModules};
        let would_load = Availability::WouldLoadModule { module: "nf_conntrack_netlink" };
        let cases = [
            (Absent, Loaded, would_load),
            (Absent, BuiltIn, would_load),
            (Absent, Absent, Availability::NoConntrack),
            (NoModules, BuiltIn, Availability::Ready),
            (NoModules, NoModules, Availability::NoConntrack),
        ];
        for (netlink, conntrack, expected) in cases {
            assert_eq!(Availability::without_netlink(netlink, conntrack), expected);
        }
        assert!(would_load.to_string().contains("modprobe nf_conntrack_netlink"));
    }

    #[test]
    fn asking_is_safe_only_when_nothing_can_be_loaded() {
        assert!(ModulePresence::Loaded.is_safe_to_ask());
        assert!(ModulePresence::NoModules.is_safe_to_ask());
        assert!(!ModulePresence::Absent.is_safe_to_ask());
        assert!(!ModulePresence::Unknown.is_safe_to_ask());
    }
}
