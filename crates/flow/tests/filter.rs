//! Properties of the filter language over generated expressions and entries.

mod strategy;

use ctkeeper_flow::Filter;
use proptest::prelude::*;
use proptest::sample::select;

/// Some values with commas, or in braces.
fn list(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (prop::collection::vec(value, 1..4), any::<bool>()).prop_map(|(values, braces)| {
        let list = values.join(",");
        if braces { format!("{{{list}}}") } else { list }
    })
}

fn address_term() -> impl Strategy<Value = String> {
    const FIELDS: &[&str] =
        &["src", "dst", "orig-src", "ORIG_DST", "reply-src", "reply-dst", "host", "addr"];
    let network = any::<bool>().prop_flat_map(|ipv6| {
        let longest = if ipv6 { 128 } else { 32 };
        (strategy::address(ipv6), prop::option::of(0..=longest as u8)).prop_map(
            |(address, prefix)| match prefix {
                Some(prefix) => format!("{address}/{prefix}"),
                None => address.to_string(),
            },
        )
    });
    (select(FIELDS), select(&[" ", " = ", " != ", "="][..]), list(network))
        .prop_map(|(field, sign, networks)| format!("{field}{sign}{networks}"))
}

fn number_term() -> impl Strategy<Value = String> {
    const FIELDS: &[(&str, u64)] = &[
        ("sport", 65535),
        ("dport", 65535),
        ("reply-sport", 65535),
        ("reply-dport", 65535),
        ("port", 65535),
        ("zone", 65535),
        ("orig-zone", 3),
        ("reply-zone", 3),
        ("timeout", u32::MAX as u64),
        ("age", u64::MAX),
        ("bytes", u64::MAX),
        ("orig-bytes", u64::MAX),
        ("packets", u64::MAX),
        ("reply-packets", u64::MAX),
        ("use", 9),
        ("id", u32::MAX as u64),
        ("icmp-type", 255),
        ("icmp-code", 255),
        ("icmp-id", 65535),
    ];
    select(FIELDS).prop_flat_map(|(field, maximum)| {
        let number = move || prop_oneof![0..=maximum, 0..=maximum.min(9000)];
        let range = (number(), number()).prop_map(|(a, b)| match a.cmp(&b) {
            std::cmp::Ordering::Equal => a.to_string(),
            std::cmp::Ordering::Less => format!("{a}-{b}"),
            std::cmp::Ordering::Greater => format!("{b}-{a}"),
        });
        let ordered = (select(&["<=", ">=", "le", "ge"][..]), number());
        prop_oneof![
            list(range).prop_map(move |ranges| format!("{field} {ranges}")),
            number().prop_map(move |number| format!("{field} {number}-")),
            ordered.prop_map(move |(sign, number)| format!("{field} {sign} {number}")),
        ]
    })
}

fn term() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "tcp",
        "udp",
        "icmp",
        "icmpv6",
        "sctp",
        "dccp",
        "gre",
        "udplite",
        "ipv4",
        "ipv6",
        "closing",
        "assured",
        "unreplied",
        "seen_reply",
        "replied",
        "confirmed",
        "expected",
        "dying",
        "fixed_timeout",
        "offload",
        "nat",
        "snat",
        "dnat",
        "status hw_offload",
        "family ipv6",
        "status {helper,template}",
        "helper ftp,\"a b\"",
        "label 0,127",
        "label 33",
        "state ESTABLISHED,time_wait",
        "state != close",
        "state {OPEN,LISTEN,SHUTDOWN_SENT}",
    ];
    let mark = (any::<u32>(), any::<u32>(), any::<bool>()).prop_map(|(value, mask, small)| {
        let mask = if small { 15 } else { mask };
        format!("{:#x}/{mask}", value & mask)
    });
    let small_mark = (0..20u32).prop_map(|value| value.to_string());
    prop_oneof![
        3 => select(WORDS).prop_map(str::to_owned),
        2 => address_term(),
        3 => number_term(),
        1 => list(prop_oneof![mark, small_mark]).prop_map(|marks| format!("mark {marks}")),
        1 => list(any::<u8>().prop_map(|p| p.to_string())).prop_map(|set| format!("proto {set}")),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    term().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            (inner.clone(), select(&[" ", " and ", " && "][..]), inner.clone())
                .prop_map(|(a, sign, b)| format!("{a}{sign}{b}")),
            (inner.clone(), select(&[" or ", " || "][..]), inner.clone())
                .prop_map(|(a, sign, b)| format!("{a}{sign}{b}")),
            (select(&["not ", "!", "NOT "][..]), inner.clone())
                .prop_map(|(sign, a)| format!("{sign}({a})")),
            (select(&["not ", "! "][..]), inner.clone()).prop_map(|(sign, a)| format!("{sign}{a}")),
            inner.prop_map(|a| format!("( {a})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn canonical_text_means_the_same(expression in expression(), flow in strategy::flow()) {
        let filter = Filter::parse(&expression).unwrap();
        let again = Filter::parse(&filter.to_string()).unwrap();
        prop_assert_eq!(&again, &filter);
        prop_assert_eq!(again.to_string(), filter.to_string());
        prop_assert_eq!(again.matches(&flow, 0), filter.matches(&flow, 0));
    }

    #[test]
    fn what_matches_has_what_is_necessary(
        expression in expression(), flows in prop::collection::vec(strategy::flow(), 16),
    ) {
        let filter = Filter::parse(&expression).unwrap();
        let necessary = filter.necessary();
        for flow in flows.iter().filter(|flow| filter.matches(flow, 0)) {
            prop_assert!(necessary.allows(flow), "{} {:?}", filter, necessary);
        }
    }

    #[test]
    fn connectives_are_logic(a in term(), b in term(), flow in strategy::flow()) {
        let matches = |text: &str| Filter::parse(text).unwrap().matches(&flow, 5);
        let (left, right) = (matches(&a), matches(&b));
        prop_assert_eq!(matches(&format!("{a} {b}")), left && right);
        prop_assert_eq!(matches(&format!("{a} or {b}")), left || right);
        prop_assert_eq!(matches(&format!("not ({a} or {b})")), !(left || right));
        prop_assert_eq!(matches(&format!("! {a} and {b}")), !left && right);
    }

    #[test]
    fn any_text_is_a_filter_or_an_error_that_points_into_it(text in "\\PC{0,60}|[ -~\\x1b\\x00\\n\u{202e}]{0,20}") {
        if let Err(error) = Filter::parse(&text) {
            prop_assert!((1..=text.chars().count() + 1).contains(&error.column));
            let harmless = |c: char| c == '\n' || !c.is_control();
            let shown = error.to_string();
            prop_assert!(shown.chars().all(harmless), "hostile: {:?}", shown);
            prop_assert_eq!(shown.lines().count(), 3);
        }
    }

    /// An expression with a character replaced, removed or doubled.
    #[test]
    fn a_typo_is_a_filter_or_an_error(
        expression in expression(), at: prop::sample::Index, with in "[ -~]{0,2}",
    ) {
        let mut damaged: Vec<char> = expression.chars().collect();
        let at = at.index(damaged.len());
        damaged.splice(at..=at, with.chars());
        let damaged: String = damaged.into_iter().collect();
        match Filter::parse(&damaged) {
            Ok(filter) => prop_assert_eq!(Filter::parse(&filter.to_string()).unwrap(), filter),
            Err(error) => prop_assert!((1..=damaged.len() + 1).contains(&error.column)),
        }
    }
}
