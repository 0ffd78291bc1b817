//! Which sequences are played together, on which settings.

use ctkeeper_engine::{Settings, Timeouts};

use crate::dice::Dice;
use crate::generate::{Kind, PROBES, Wish, sequence};
use crate::ground::Ground;
use crate::sequence::{Sequence, Treatment};

/// Sequences that share settings and rules.
#[derive(Clone, Debug)]
pub struct Theme {
    /// Its name.
    pub name: &'static str,
    /// Where it is played; each sequence gets one of its treatments.
    pub ground: Ground,
    /// What sequences are about; each gets one of these.
    pub kinds: Vec<Kind>,
    /// Whether time passes.
    pub timed: bool,
    /// Share of all sequences, in parts of a hundred.
    pub share: u32,
}

/// All themes.
pub fn themes() -> Vec<Theme> {
    let tcp = [Kind::TcpProbe, Kind::TcpSession, Kind::TcpWalk];
    let sctp = [Kind::SctpProbe, Kind::SctpProbe, Kind::SctpWalk];
    let every = [Kind::ALL.as_slice(), &[Kind::TcpWalk, Kind::TcpSession, Kind::Udp]].concat();
    let theme = |name, settings, kinds: &[Kind], share| Theme {
        name,
        ground: Ground { settings, treatments: vec![Treatment::Plain], ..Ground::default() },
        kinds: kinds.to_vec(),
        timed: false,
        share,
    };
    let treated = |theme: Theme, treatments: &[Treatment]| Theme {
        ground: Ground { treatments: treatments.to_vec(), ..theme.ground },
        ..theme
    };
    let told_apart = Settings { timeouts: told_apart(), ..Settings::default() };
    let quick = Settings { timeouts: quick(), ..Settings::default() };
    let set = |change: &dyn Fn(&mut Settings)| {
        let mut settings = told_apart.clone();
        change(&mut settings);
        settings
    };
    let kept_apart = [
        Treatment::Untracked,
        Treatment::Zone,
        Treatment::OriginalZone,
        Treatment::ReplyZone,
        Treatment::DropNew,
        Treatment::DropInvalid,
        Treatment::Mark,
    ];
    let translated: Vec<_> =
        Treatment::ALL.into_iter().filter(|t| t.translates() && !t.is_local()).collect();
    let translated = [translated, vec![Treatment::Plain, Treatment::Zone]].concat();
    vec![
        theme("tcp", told_apart.clone(), &tcp, 20),
        theme("tcp not loose", set(&|s| s.tcp_loose = false), &tcp, 5),
        theme("tcp liberal", set(&|s| s.tcp_be_liberal = true), &tcp, 5),
        theme("tcp resets believed", set(&|s| s.tcp_ignore_invalid_rst = true), &tcp, 4),
        theme("tcp caps", set(&|s| s.tcp_max_retrans = 1), &tcp, 4),
        theme("sctp", told_apart.clone(), &sctp, 17),
        theme("the rest", told_apart.clone(), &Kind::ALL[5..], 9),
        theme("checksums unverified", set(&|s| s.checksum = false), &every, 4),
        theme("accounting", set(&|s| s.accounting = true), &every, 4),
        treated(theme("zones and rules", told_apart.clone(), &every, 8), &kept_apart),
        treated(theme("translated", told_apart.clone(), &every, 8), &translated),
        treated(theme("the router itself", told_apart.clone(), &every, 4), &[Treatment::Local]),
        treated(theme("redirected", told_apart.clone(), &every, 3), &[Treatment::Redirect]),
        treated(theme("helped", told_apart.clone(), &[Kind::Ftp], 3), &[Treatment::Helped]),
        listening(treated(
            theme("events", told_apart.clone(), &every, 4),
            &[Treatment::Plain, Treatment::Mark, Treatment::DropInvalid],
        )),
        changing(theme("sysctls change", told_apart, &every, 4)),
        Theme { timed: true, ..theme("time passes", quick.clone(), &every, 3) },
        Theme {
            timed: true,
            ..treated(
                theme("time passes elsewhere", quick, &every, 2),
                &[kept_apart.as_slice(), &translated].concat(),
            )
        },
        Theme {
            timed: true,
            ..theme("streams", Settings::default(), &[Kind::Udp, Kind::Udplite, Kind::Gre], 2)
        },
    ]
}

/// All themes, with somebody who listens to the events of each.
pub fn themes_with_listeners() -> Vec<Theme> {
    themes().into_iter().map(listening).collect()
}

fn listening(mut theme: Theme) -> Theme {
    theme.ground.listens = true;
    theme
}

/// Every sysctl of a namespace is another after a few packets.
fn changing(mut theme: Theme) -> Theme {
    let changed = Settings {
        timeouts: shifted(&theme.ground.settings.timeouts),
        tcp_loose: false,
        tcp_be_liberal: true,
        tcp_ignore_invalid_rst: true,
        tcp_max_retrans: 1,
        checksum: false,
        accounting: true,
        timestamps: false,
    };
    let half = Settings { tcp_loose: true, checksum: true, ..changed.clone() };
    theme.ground.changes = vec![changed, half, theme.ground.settings.clone()];
    theme
}

fn shifted(timeouts: &Timeouts) -> Timeouts {
    const BY: u32 = 50;
    let mut shifted = timeouts.clone();
    for (place, timeout) in shifted.tcp.iter_mut().enumerate() {
        // Place 0 is no state's, and SYN_SENT2 has no sysctl.
        *timeout += if matches!(place, 0 | 9) { 0 } else { BY };
    }
    for timeout in shifted.sctp.iter_mut().skip(1) {
        *timeout += BY;
    }
    shifted.udp += BY;
    shifted.udp_stream += BY;
    shifted.icmp += BY;
    shifted.icmpv6 += BY;
    shifted.generic += BY;
    shifted.gre += BY;
    shifted.gre_stream += BY;
    shifted
}

impl Theme {
    /// Makes so many sequences; probes of each table are numbered from `first` on.
    pub fn sequences(&self, count: u32, first: u64, dice: &mut Dice) -> Vec<Sequence> {
        let strides = PROBES.map(stride);
        let mut next = [first; 2];
        let kinds = self.kinds.iter().cycle().take(count as usize);
        kinds
            .map(|&kind| {
                let table = usize::from(kind == Kind::SctpProbe);
                // Neighbours differ in everything.
                let number = next[table].wrapping_mul(strides[table]);
                if matches!(kind, Kind::TcpProbe | Kind::SctpProbe) {
                    next[table] += 1;
                }
                let treatment = dice.choose(&self.ground.treatments);
                sequence(Wish { kind, timed: self.timed, treatment, number }, dice)
            })
            .collect()
    }
}

/// Goes through all of so many numbers with large steps: a number without common divisor, somewhere
/// below two thirds.
fn stride(count: u64) -> u64 {
    let common = |a: u64, b: u64| {
        let (mut a, mut b) = (a, b);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    (1..count).map(|back| count * 5 / 8 - back).find(|&s| common(s, count) == 1).unwrap_or(1)
}

/// Timeouts of which no two are alike, so that the one that was taken shows.
fn told_apart() -> Timeouts {
    Timeouts {
        tcp: [0, 1100, 1200, 400_000, 1400, 1500, 1600, 1700, 1800, 120, 2000, 2100],
        udp: 3100,
        udp_stream: 3200,
        icmp: 3300,
        icmpv6: 3400,
        generic: 3500,
        gre: 3600,
        gre_stream: 3700,
        sctp: [0, 4100, 4200, 4300, 4400, 4500, 4600, 4700, 4800],
    }
}

/// Timeouts that pass while one waits, none a multiple of three seconds ([`crate::SLOT`]).
fn quick() -> Timeouts {
    Timeouts {
        tcp: [0, 1, 2, 7, 2, 4, 1, 2, 1, 120, 2, 4],
        udp: 1,
        udp_stream: 4,
        icmp: 1,
        icmpv6: 2,
        generic: 1,
        gre: 1,
        gre_stream: 4,
        sctp: [0, 1, 2, 1, 4, 1, 2, 1, 2],
    }
}
