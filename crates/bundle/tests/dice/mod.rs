//! Values by chance, with secrets in them that are remembered.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Numbers by chance, always the same ones from one seed.
pub(crate) struct Dice {
    state: u64,
    /// What must not be seen again.
    pub(crate) secrets: Vec<String>,
}

/// What may stand around a secret: whatever takes texts apart, and what looks like something else.
const AROUND: [&str; 18] = [
    "",
    "",
    "",
    " ",
    "/",
    "-",
    ".",
    "_",
    ":",
    "é",
    "\"",
    "\u{1b}[2J",
    "4711",
    "=",
    "the ",
    "nf_",
    ".conf",
    "\n",
];

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed, secrets: Vec::new() }
    }

    /// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
    pub(crate) fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        // JSON readers may hold numbers as doubles.
        (mixed ^ mixed >> 31) >> 12
    }

    pub(crate) fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.number() as usize % values.len()]
    }

    pub(crate) fn flip(&mut self) -> bool {
        self.number() % 2 == 1
    }

    /// A word that nobody else uses, with something around it.
    pub(crate) fn secret(&mut self) -> String {
        let letters = (0..8).map(|_| char::from(b'a' + (self.number() % 26) as u8));
        let secret = format!("zq{}", letters.collect::<String>());
        self.secrets.push(secret.clone());
        format!("{}{secret}{}", self.one_of(&AROUND), self.one_of(&AROUND))
    }

    /// A path with a secret in its middle and at its end.
    pub(crate) fn path(&mut self) -> String {
        let (folder, file) = (self.secret(), self.secret());
        match self.number() % 4 {
            0 => format!("/etc/sysctl.d/{folder}/99-{file}.conf"),
            1 => format!("/system.slice/docker-{folder}.scope/{file}"),
            2 => format!("/srv/{folder}/the system/{file}"),
            _ => format!("/proc/12/{folder}/{file}"),
        }
    }

    /// An address, global or private.
    pub(crate) fn address(&mut self) -> IpAddr {
        let address = self.some_address();
        self.secrets.push(address.to_string());
        address
    }

    /// An address of which only the block is told.
    pub(crate) fn address_of_a_network(&mut self) -> IpAddr {
        let address = self.some_address();
        let block = ctkeeper_snapshot::Network::around(address);
        self.secrets.push(block.address.to_string());
        address
    }

    fn some_address(&mut self) -> IpAddr {
        let bits = self.number();
        match bits % 4 {
            0 => Ipv4Addr::from_bits(0x0a00_0000 | bits as u32 >> 8).into(),
            1 => Ipv4Addr::from_bits(0x2000_0000 | bits as u32 >> 4).into(),
            2 => Ipv6Addr::from_bits(0x2a00_u128 << 112 | u128::from(bits) << 40 | 7).into(),
            _ => Ipv6Addr::from_bits(0xfd00_u128 << 112 | u128::from(bits) << 56 | 7).into(),
        }
    }

    /// A sentence with a name, an address and a path in it.
    pub(crate) fn text(&mut self) -> String {
        let (name, path) = (self.secret(), self.path());
        let address = self.address();
        let address = match address {
            IpAddr::V4(address) => format!("{address}:443"),
            IpAddr::V6(address) => format!("[{address}]:443"),
        };
        match self.number() % 3 {
            0 => format!("reading {path}:7: {name} from {address}, denied"),
            1 => format!("IN={name} SRC={address} in {path}"),
            _ => format!("net.{name}.max = {address} ({path})"),
        }
    }
}
