use super::*;
use crate::{Family, Mark, Protocol, Status, text};

const WEB: &str = "tcp      6 431999 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=4000 dport=443 \
                   packets=10 bytes=2097152 src=10.9.9.9 dst=10.0.0.1 sport=8443 dport=4000 \
                   packets=1 bytes=100 [ASSURED] mark=18 zone=5 use=1";
const PING: &str = "icmpv6   58 29 src=fd77:1::2 dst=fd77:2::2 type=128 code=0 id=322 [UNREPLIED] \
                    src=fd77:2::2 dst=fd77:1::2 type=129 code=0 id=322 mark=0 use=1";
const DNS: &str = "udp      17 13 src=127.0.0.1 dst=127.0.0.53 sport=59443 dport=53 [UNREPLIED] \
                   src=127.0.0.53 dst=127.0.0.1 sport=53 dport=59443 mark=0 helper=dns use=1";

fn matching(expression: &str) -> Vec<&'static str> {
    let filter = Filter::parse(expression).unwrap_or_else(|error| panic!("{error}"));
    let canonical = filter.to_string();
    assert_eq!(Filter::parse(&canonical).unwrap(), filter, "{expression} → {canonical}");
    [("web", WEB), ("ping", PING), ("dns", DNS)]
        .into_iter()
        .filter(|(_, line)| filter.matches(&text::parse(line).unwrap(), 0))
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn every_kind_of_term() {
    for (expression, expected) in [
        ("", "web ping dns"),
        ("src 10.0.0.1", "web"),
        ("src=10.0.0.0/8", "web"),
        ("src != 10.0.0.0/8", "ping dns"),
        ("orig-dst {10.0.0.2, fd77:2::/64}", "web ping"),
        ("dst 10.0.0.2,127.0.0.53", "web dns"),
        ("reply-src 10.9.9.9", "web"),
        ("host 10.9.9.9", "web"),
        ("addr ::/0", "ping"),
        ("dport 53", "dns"),
        ("dport {53,443}", "web dns"),
        ("dport 400-500", "web"),
        ("dport 54-", "web"),
        ("dport >= 1024", ""),
        ("sport gt 1023", "web dns"),
        ("dport != 53", "web ping"),
        ("port 8443", "web"),
        ("reply-sport 8443", "web"),
        ("TCP", "web"),
        ("proto 17", "dns"),
        ("proto tcp,udp", "web dns"),
        ("proto {esp, 58}", "ping"),
        ("ipv6", "ping"),
        ("family ipv4", "web dns"),
        ("state established,TIME_WAIT", "web"),
        ("closing", ""),
        ("assured", "web"),
        ("unreplied", "ping dns"),
        ("not unreplied", "web"),
        ("seen-reply", "web"),
        ("nat", "web"),
        ("dnat", "web"),
        ("snat", ""),
        ("status assured,snat", "web"),
        ("offload", ""),
        ("mark 18", "web"),
        ("mark 0x10/0xf0", "web"),
        ("mark != 0", "web"),
        ("mark 0,1", "ping dns"),
        ("zone 5", "web"),
        ("zone 0", "ping dns"),
        ("timeout < 30", "ping dns"),
        ("timeout > 4d", "web"),
        ("timeout 1d-5d", "web"),
        ("timeout <= 29s", "ping dns"),
        ("bytes > 2MiB", "web"),
        ("orig-bytes > 2MiB", ""),
        ("orig-bytes 2MiB", "web"),
        ("packets 11", "web"),
        ("reply-packets >= 1", "web"),
        ("use 1", "web ping dns"),
        ("icmp-type 128", "ping"),
        ("icmp-id 322 icmp-code 0", "ping"),
        ("helper dns", "dns"),
        ("helper ftp,'d n s',\"dns\"", "dns"),
        ("label 1,127", ""),
    ] {
        assert_eq!(matching(expression).join(" "), expected, "{expression}");
    }
}

#[test]
fn connectives() {
    for (expression, expected) in [
        ("tcp dport 443", "web"),
        ("tcp and dport 53", ""),
        ("tcp dport 443 or udp dport 53", "web dns"),
        ("udp or tcp and mark 0", "dns"),
        ("(udp or tcp) and mark 0", "dns"),
        ("not (udp or tcp)", "ping"),
        ("!tcp && !udp || mark 18", "web ping"),
        ("not not tcp", "web"),
        ("! src 10.0.0.1", "ping dns"),
        ("(((tcp)))", "web"),
    ] {
        assert_eq!(matching(expression).join(" "), expected, "{expression}");
    }
}

#[test]
fn canonical_text() {
    for (written, canonical) in [
        ("TCP  dport {443,80,81}", "tcp and dport 80-81,443"),
        ("src 10.1.2.3/8 && unreplied", "src 10.0.0.0/8 and unreplied"),
        ("timeout<5m", "timeout <= 299"),
        ("(tcp or udp) not (assured nat)", "(tcp or udp) and not (assured and nat)"),
        ("dport > 1023", "dport >= 1024"),
        ("dport 0-65535", "dport >= 0"),
        ("mark 16/0xff", "mark 0x10/0xff"),
        ("proto {tcp,50}", "proto tcp,50"),
        ("state ESTABLISHED,HEARTBEAT_SENT,LISTEN", "state ESTABLISHED,SYN_SENT2,HEARTBEAT_SENT"),
    ] {
        let shown = Filter::parse(written).unwrap().to_string();
        assert_eq!(shown, canonical);
    }
}

fn error(expression: &str) -> (usize, usize, Option<String>) {
    let error = Filter::parse(expression).unwrap_err();
    (error.column, error.length, error.hint)
}

#[test]
fn errors_point_and_suggest() {
    for (expression, column, length, hint) in [
        ("tcp dprot 80", 5, 5, "did you mean `dport`?"),
        ("asured", 1, 6, "did you mean `assured`?"),
        ("ESTABLISHED", 1, 11, "did you mean `state ESTABLISHED`?"),
        ("state ESTABLISED", 7, 10, "did you mean `ESTABLISHED`?"),
        ("vrrp", 1, 4, "did you mean `proto vrrp`?"),
        ("10.0.0.1", 1, 8, "did you mean `host 10.0.0.1`?"),
        (
            "dport 80 443",
            10,
            3,
            "lists take commas, `dport 80,443`; shells expand {80,443}, so quote it",
        ),
        ("dport http", 7, 4, "whole numbers, `80`, ranges, `8000-8100`"),
        ("dport 65536", 7, 5, "the highest is 65535"),
        ("dport", 6, 1, "such as `dport 443`"),
        ("timeout < 5x", 11, 2, "whole numbers with s, m, h or d: `5m`"),
        ("src 10.0.0.1:80", 5, 11, "an address and a port are two terms: `host 10.0.0.1 port 80`"),
        ("status asured", 8, 6, "did you mean `ASSURED`?"),
        ("tcp and", 8, 1, "such as `dport 443`"),
    ] {
        assert_eq!(error(expression), (column, length, Some(hint.to_owned())), "{expression}");
    }
    for (expression, column) in [
        ("(tcp", 1),
        ("tcp)", 4),
        ("tcp or or udp", 8),
        ("()", 2),
        ("tcp & udp", 5),
        ("tcp | udp", 5),
        ("src 10.0.0.0/33", 5),
        ("dport 90-80", 7),
        ("timeout < 0", 11),
        ("mark 0x17/0xf", 6),
        ("src > 10.0.0.1", 5),
        ("dport > 80,90", 7),
        ("dport {80", 7),
        ("helper 'x", 8),
        ("label 128", 7),
        ("dport > 65535", 9),
        ("family ipv5", 8),
        ("proto 256", 7),
        ("tcp } udp", 5),
        ("größe 1", 1),
    ] {
        assert_eq!(error(expression).0, column, "{expression}");
    }
}

#[test]
fn states_are_listed() {
    let (_, _, hint) = error("state FOO");
    let hint = hint.unwrap();
    for state in ["SYN_SENT", "TIME_WAIT", "COOKIE_WAIT"] {
        assert!(hint.contains(state), "{hint}");
    }
}

#[test]
fn the_error_shows_the_place() {
    let error = Filter::parse("tcp dprot 80").unwrap_err().to_string();
    assert_eq!(
        error,
        "filter, column 5: unknown term `dprot`\n  tcp dprot 80\n      ^^^^^ did you mean `dport`?"
    );
}

#[test]
fn nesting_has_a_bottom() {
    let deep = "(".repeat(100_000);
    assert!(Filter::parse(&deep).unwrap_err().message.contains("deeper"));
    assert!(Filter::parse(&"not ".repeat(100_000)).is_err());
}

#[test]
fn age_needs_a_clock() {
    let filter = Filter::parse("age > 1h").unwrap();
    assert!(filter.needs_clock());
    let stamps = crate::Timestamps { start: 1_000_000_000, stop: 0 };
    let mut flow = Flow { timestamps: Some(stamps), ..Flow::default() };
    assert!(!filter.matches(&flow, 3_601_000_000_000));
    assert!(filter.matches(&flow, 3_602_000_000_000));
    flow.timestamps = None;
    assert!(!filter.matches(&flow, u64::MAX));
}

#[test]
fn what_is_necessary() {
    let of = |expression| Filter::parse(expression).unwrap().necessary();
    let web = of("tcp src 10.0.0.1 dport 443 assured not nat mark 0x10/0xf0 zone 5");
    assert_eq!(web.family, Some(Family::Ipv4));
    assert_eq!(web.protocol, Some(Protocol::TCP));
    assert_eq!(web.original.source, Some("10.0.0.1".parse().unwrap()));
    assert_eq!(web.original.destination_port, Some(443));
    assert_eq!(web.status_set, Status::ASSURED);
    assert_eq!(web.status_clear, Status::SRC_NAT | Status::DST_NAT);
    assert_eq!(web.mark, Some((0x10, 0xf0)));
    assert_eq!(web.zone, Some(5));
    assert!(of("tcp or udp").is_nothing());
    assert_eq!(of("tcp dport 80 or tcp dport 443").protocol, Some(Protocol::TCP));
    assert_eq!(of("src 10.0.0.1,10.0.0.2").family, Some(Family::Ipv4));
    assert_eq!(of("src 10.0.0.1,10.0.0.2").original.source, None);
    assert_eq!(of("mark 0x11,0x12").mark, Some((0x10, 0xffff_fffc)));
    assert_eq!(of("not (tcp or ipv6)").family, Some(Family::Ipv4));
    assert!(of("not (tcp and assured)").is_nothing());
    assert!(of("host 10.0.0.1").original.source.is_none());
    let flow = Flow { mark: Some(Mark(0x12)), ..Flow::default() };
    assert!(of("mark 0x11,0x12").allows(&flow));
}
