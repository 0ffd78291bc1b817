//! What two looks at one table may differ in, and nothing else:
//!
//! * the seconds left of an entry or an expectation, and its age: ±2 seconds ([`Kind::Left`]), after
//!   the time between the two looks ([`Moment::may_be_one`]);
//! * when an event came or was written down (`-o timestamp`): ±5 seconds ([`Kind::Now`]);
//! * where the table had to be made a second time because the reference had changed it: the
//!   kernel's ids, and when entries began and ended (±60 seconds, [`Kind::Clock`]);
//! * reference counts, where a case says so;
//! * where a protocol is named, which family comes first: one may ask the kernel for IPv4 and then
//!   for IPv6 (the order within a family counts);
//! * the path by which a program was called, where it names itself;
//! * death by SIGPIPE is exit code 141, as a shell tells it.
//!
//! The value is left out, never its place or its shape: what stands around it is compared to the
//! byte.

/// What is left out of two texts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Both saw the very same entries: ids and times of the kernel's are equal.
    pub same_table: bool,
    /// Reference counts vary.
    pub use_varies: bool,
}

/// Which clock a number is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Counted down or up by the second.
    Left,
    /// Read off the clock by the program.
    Now,
    /// Read off the clock by the kernel, for another table.
    Clock,
}

impl Kind {
    const fn tolerance(self) -> u64 {
        match self {
            Self::Left => 2,
            Self::Now => 5,
            Self::Clock => 60,
        }
    }
}

/// When something was seen, in seconds since the table began to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moment {
    /// Not before.
    pub from: f64,
    /// Not after.
    pub to: f64,
    /// How long the making took.
    pub making: f64,
}

impl Moment {
    /// Whether two numbers may be of one clock. Whatever runs on since the table was made differs by
    /// the time between the two moments, what was set just before does not; on a machine that is
    /// so busy that making or seeing takes seconds, by those too.
    pub fn may_be_one(self, other: Self, numbers: (i64, i64), tolerance: u64) -> bool {
        let whole = |seconds: f64| seconds as u64;
        let slack =
            [self, other].map(|m| whole(m.to - m.from) + whole(m.making)).iter().sum::<u64>();
        let apart = numbers.0 - numbers.1;
        let passed = (self.to - other.to).round() as i64;
        [0, passed, -passed].iter().any(|by| (apart + by).unsigned_abs() <= tolerance + slack)
    }
}

/// A text without what may differ, and that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masked {
    /// Each line, with signs in the places of the numbers.
    pub lines: Vec<String>,
    /// Those numbers, by line.
    pub numbers: Vec<Vec<(Kind, i64)>>,
}

/// Takes out of a text what may differ.
pub fn masked(text: &str, rules: Rules) -> Masked {
    let lines = text.split_inclusive('\n').map(|line| Line::default().read(line, rules));
    let (lines, numbers) = lines.map(|line| (line.text, line.numbers)).unzip();
    Masked { lines, numbers }
}

impl Masked {
    /// Puts lines into an order of their own.
    #[must_use]
    pub fn sorted(self) -> Self {
        let mut pairs: Vec<_> = self.lines.into_iter().zip(self.numbers).collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| values(&a.1).cmp(&values(&b.1))));
        let (lines, numbers) = pairs.into_iter().unzip();
        Self { lines, numbers }
    }

    /// Puts entries of IPv4 before those of IPv6, else in the order they have.
    #[must_use]
    pub fn by_family(self) -> Self {
        let mut pairs: Vec<_> = self.lines.into_iter().zip(self.numbers).collect();
        pairs.sort_by_key(|(line, _)| part(line));
        let (lines, numbers) = pairs.into_iter().unzip();
        Self { lines, numbers }
    }

    /// The first number that is too far from the other text's; the lines are equal.
    pub fn apart(&self, other: &Self, moments: (Moment, Moment)) -> Option<String> {
        let pairs = self.lines.iter().zip(self.numbers.iter().zip(&other.numbers));
        for (line, (ours, theirs)) in pairs {
            for (a, b) in ours.iter().zip(theirs) {
                if !moments.0.may_be_one(moments.1, (a.1, b.1), a.0.tolerance()) {
                    return Some(format!("{} and {} ({:?}) in: {line}", a.1, b.1, a.0));
                }
            }
        }
        None
    }
}

/// Header, IPv4, IPv6, footer.
fn part(line: &str) -> u8 {
    if line.contains("<?xml") || line.contains("<conntrack>") {
        return 0;
    }
    if line.contains("</conntrack>") {
        return 3;
    }
    let of_v6 = |word: &str| {
        word.strip_prefix("src=").is_some_and(|address| address.contains(':'))
            || word.starts_with("protonum=\"10\"")
    };
    let follows_source = line.split(" -s ").nth(1).or_else(|| line.split(" -r ").nth(1));
    let saved = follows_source.and_then(|rest| rest.split(' ').next());
    1 + u8::from(line.split(' ').any(of_v6) || saved.is_some_and(|address| address.contains(':')))
}

fn values(numbers: &[(Kind, i64)]) -> Vec<i64> {
    numbers.iter().map(|(_, value)| *value).collect()
}

#[derive(Default)]
struct Line {
    text: String,
    numbers: Vec<(Kind, i64)>,
}

/// Elements of XML with a number of some clock.
const ELEMENTS: [(&str, Kind, i64); 7] = [
    ("timeout", Kind::Left, 1),
    ("deltatime", Kind::Left, 1),
    ("start", Kind::Clock, 1_000_000_000),
    ("stop", Kind::Clock, 1_000_000_000),
    ("hour", Kind::Now, 1),
    ("min", Kind::Now, 1),
    ("sec", Kind::Now, 1),
];

impl Line {
    fn read(mut self, line: &str, rules: Rules) -> Self {
        if line.contains("<flow") {
            self.xml(line, rules);
        } else {
            let rest = self.stamp(line);
            self.words(rest, rules);
        }
        self
    }

    fn xml(&mut self, line: &str, rules: Rules) {
        let mut line = line.to_owned();
        let mut seconds = 0;
        for (element, kind, unit) in ELEMENTS {
            if kind == Kind::Clock && rules.same_table {
                continue;
            }
            line = replaced(&line, element, |value| match kind {
                // One time of three parts.
                Kind::Now => seconds = seconds * 60 + value,
                _ => self.numbers.push((kind, value / unit)),
            });
        }
        if line.contains("<when>") {
            self.numbers.push((Kind::Now, seconds));
        }
        if !rules.same_table {
            line = replaced(&line, "id", |_| ());
        }
        if rules.use_varies {
            line = replaced(&line, "use", |_| ());
        }
        self.text += &line;
    }

    /// `[1795356557.425018]\t`, by `-o timestamp`.
    fn stamp<'a>(&mut self, line: &'a str) -> &'a str {
        let Some((stamp, rest)) = line.strip_prefix('[').and_then(|rest| rest.split_once("]\t"))
        else {
            return line;
        };
        let Some((seconds, parts)) = stamp.split_once('.') else { return line };
        let Ok(value) = seconds.parse() else { return line };
        self.numbers.push((Kind::Now, value));
        self.text += &format!("[{}.{}]\t", "#".repeat(seconds.len()), "#".repeat(parts.len()));
        rest
    }

    fn words(&mut self, line: &str, rules: Rules) {
        let words: Vec<_> = line.split(' ').collect();
        let timeout = place_of_timeout(&words);
        for (place, word) in words.iter().enumerate() {
            if place > 0 {
                self.text.push(' ');
            }
            let before = place.checked_sub(1).map_or("", |before| words[before]);
            if timeout == Some(place) {
                self.number(Kind::Left, "", word);
            } else {
                self.word(word, before, rules);
            }
        }
    }

    fn word(&mut self, word: &str, before: &str, rules: Rules) {
        // An ICMP id is part of the tuple, and stands behind the code.
        let is_id = word.starts_with("id=") && !before.starts_with("code=");
        if word.starts_with("delta-time=") {
            self.number(Kind::Left, "delta-time=", word);
        } else if is_id && !rules.same_table {
            self.number_left_out("id=", word);
        } else if word.starts_with("use=") && rules.use_varies {
            self.number_left_out("use=", word);
        } else if let Some(seconds) = time_of_day(word).filter(|_| !rules.same_table) {
            self.numbers.push((Kind::Clock, seconds));
            self.text += "##:##:##";
        } else {
            self.text += word;
        }
    }

    fn number(&mut self, kind: Kind, name: &str, word: &str) {
        let digits = word[name.len()..].trim_end();
        match digits.parse() {
            Ok(value) => {
                self.numbers.push((kind, value));
                self.number_left_out(name, word);
            }
            Err(_) => self.text += word,
        }
    }

    fn number_left_out(&mut self, name: &str, word: &str) {
        let end = &word[word.trim_end().len()..];
        self.text += &format!("{name}#{end}");
    }
}

/// Every `<element>NUMBER</element>` with the number handed to `take`.
fn replaced(line: &str, element: &str, mut take: impl FnMut(i64)) -> String {
    let open = format!("<{element}>");
    let mut parts = line.split(&open);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text += &open;
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        if let Ok(value) = part[..digits].parse() {
            take(value);
            text.push('#');
        }
        text += &part[digits..];
    }
    text
}

/// `tcp      6 TIMEOUT` behind tags, `TIMEOUT proto=6` of an expectation, `-A -t TIMEOUT`.
fn place_of_timeout(words: &[&str]) -> Option<usize> {
    let filled: Vec<usize> = (0..words.len()).filter(|place| !words[*place].is_empty()).collect();
    let word = |index: usize| filled.get(index).map_or("", |place| words[*place]);
    let is_number = |index| word(index).parse::<i64>().is_ok();
    if let Some(place) = words.iter().position(|word| *word == "-t") {
        return Some(place + 1);
    }
    let mut first = 0;
    first += usize::from(matches!(word(first), "[NEW]" | "[UPDATE]" | "[DESTROY]"));
    first += 2 * usize::from(matches!(word(first), "ipv4" | "ipv6"));
    if is_number(first) && word(first + 1).starts_with("proto=") {
        return filled.get(first).copied();
    }
    let is_entry = is_number(first + 1) && is_number(first + 2);
    filled.get(first + 2).copied().filter(|_| is_entry)
}

/// `14:10:02`.
fn time_of_day(word: &str) -> Option<i64> {
    let parts: Vec<i64> = word.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
    match parts[..] {
        [hours, minutes, seconds] if word.len() == 8 => Some((hours * 60 + minutes) * 60 + seconds),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, same_table: bool) -> (String, Vec<i64>) {
        let masked = masked(text, Rules { same_table, use_varies: false });
        (masked.lines.concat(), masked.numbers.iter().flat_map(|numbers| values(numbers)).collect())
    }

    #[test]
    fn only_what_counts_time_is_left_out() {
        let entry = "tcp      6 431999 ESTABLISHED src=1.1.1.1 dst=2.2.2.2 sport=1 dport=2 mark=0 delta-time=7 use=1 id=9\n";
        assert_eq!(
            lines(entry, false).0,
            "tcp      6 # ESTABLISHED src=1.1.1.1 dst=2.2.2.2 sport=1 dport=2 mark=0 delta-time=# use=1 id=#\n"
        );
        assert_eq!(lines(entry, true).1, [431_999, 7]);
        assert!(lines(entry, true).0.ends_with("id=9\n"));
    }

    #[test]
    fn tuples_stay() {
        let icmp = "icmp     1 29 src=1.1.1.1 dst=2.2.2.2 type=8 code=0 id=77 mark=0 use=1 id=4\n";
        assert!(lines(icmp, false).0.contains("code=0 id=77 mark=0 use=1 id=#"));
    }

    #[test]
    fn every_form_has_its_timeout_found() {
        for (text, expected) in [
            ("    [NEW] udp      17 30 src=", "    [NEW] udp      17 # src="),
            ("[DESTROY] ipv4     2 udp      17 src=", "[DESTROY] ipv4     2 udp      17 src="),
            ("ipv6     10 unknown  200 5 src=", "ipv6     10 unknown  200 # src="),
            ("299 proto=6 src=1.1.1.1", "# proto=6 src=1.1.1.1"),
            ("[179.4     ]\t299 proto=6", "[###.######]\t# proto=6"),
            ("-A -t 319 -u UNSET", "-A -t # -u UNSET"),
            ("<flow><timeout>5</timeout><id>3</id>", "<flow><timeout>#</timeout><id>#</id>"),
        ] {
            assert_eq!(lines(text, false).0, expected);
        }
    }

    #[test]
    fn numbers_may_not_be_far_apart() {
        let at = |left: u32| masked(&format!("udp      17 {left} src=\n"), Rules::default());
        let moment = Moment { from: 1.0, to: 1.1, making: 0.2 };
        assert!(at(10).apart(&at(12), (moment, moment)).is_none());
        assert!(at(10).apart(&at(13), (moment, moment)).is_some());
        let later = Moment { from: 5.0, to: 5.1, ..moment };
        assert!(at(10).apart(&at(6), (moment, later)).is_none());
        assert!(at(10).apart(&at(3), (moment, later)).is_some());
    }
}
