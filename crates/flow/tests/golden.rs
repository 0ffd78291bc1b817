//! Entries in every form, against the bytes of conntrack 1.4.7 for the same entries.
//!
//! `golden/entries.txt` was captured on Linux 6.18 from one namespace within one second: first the
//! time of day, then five lines an entry: our JSON, which tells what the kernel sent, and what
//! conntrack printed with `TZ=Asia/Kolkata -o extended,id,ktimestamp,labels`, without options, with
//! `-o xml,ktimestamp,labels` and with `-o save`.

use ctkeeper_flow::xml::XmlOptions;
use ctkeeper_flow::{
    EventKind, Expectation, ExpectationFlags, Flow, LabelNames, LocalTime, Protocol, Tuple, Zone,
    json, save, text, xml,
};

const ENTRIES: &str = include_str!("golden/entries.txt");
/// India is five and a half hours ahead of UTC all year.
const KOLKATA: LocalTime<'_> = LocalTime(&|_| 19_800);

fn names() -> LabelNames {
    LabelNames::new([(1, "one"), (40, "forty"), (127, "last")])
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

/// Runs `check` with each entry, conntrack's four lines and the time of day.
fn entries(mut check: impl FnMut(&Flow, [&str; 4], u64)) {
    let mut lines = ENTRIES.lines();
    let now = lines.next().unwrap().parse().unwrap();
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines.len(), 100);
    for entry in lines.chunks_exact(5) {
        let flow = json::parse(entry[0]).unwrap();
        check(&flow, [entry[1], entry[2], entry[3], entry[4]], now);
    }
}

#[test]
fn text_is_conntracks() {
    let names = names();
    entries(|flow, [full, plain, ..], now| {
        let options = text::TextOptions { now, ..Default::default() };
        assert_eq!(written(|out| text::write(flow, &options, out)), plain);
        let options = text::TextOptions {
            extended: true,
            id: true,
            kernel_timestamps: Some(KOLKATA),
            labels: Some(&names),
            ..options
        };
        assert_eq!(written(|out| text::write(flow, &options, out)), full);
        let read = text::parse(full).unwrap();
        assert_eq!((read.id, read.mark, read.zone), (flow.id, flow.mark, flow.zone));
        assert_eq!(read.reply.source, flow.reply.source);
    });
}

#[test]
fn xml_is_conntracks() {
    let names = names();
    entries(|flow, [_, _, element, _], now| {
        let options =
            XmlOptions { kernel_timestamps: true, labels: Some(&names), now, ..Default::default() };
        // Theirs calls an SCTP state by the name of the TCP state with its number.
        let expected = match flow.protocol() {
            Protocol::SCTP => element.replace(">FIN_WAIT<", ">ESTABLISHED<"),
            _ => element.to_owned(),
        };
        assert_eq!(written(|out| xml::write(flow, &options, out)), expected);
    });
}

#[test]
fn commands_are_conntracks() {
    entries(|flow, [.., command], _| {
        let add = save::SaveCommand::default();
        assert_eq!(written(|out| save::write(flow, add, out)), command);
    });
}

/// `conntrack -L expect` and `-o xml,timestamp` of a data connection that FTP announced.
#[test]
fn expectations_are_conntracks() {
    let end = |port| ([127, 0, 0, 1].into(), port);
    let ones = |port| ([255, 255, 255, 255].into(), port);
    let expectation = Expectation {
        expected: Tuple::with_ports(Protocol::TCP, end(0), end(5125)),
        mask: Tuple::with_ports(Protocol::TCP, ones(0), ones(65_535)),
        master: Tuple::with_ports(Protocol::TCP, end(4021), end(21)),
        zone: Zone::DEFAULT,
        timeout: Some(299),
        id: Some(7),
        helper: Some("ftp".into()),
        flags: ExpectationFlags::default(),
        class: 0,
    };
    let line = "299 proto=6 src=127.0.0.1 dst=127.0.0.1 sport=0 dport=5125 \
        mask-src=255.255.255.255 mask-dst=255.255.255.255 sport=0 dport=65535 \
        master-src=127.0.0.1 master-dst=127.0.0.1 sport=4021 dport=21 class=0 helper=ftp";
    assert_eq!(written(|out| text::write_expectation(&expectation, None, out)), line);
    let event = Some(EventKind::New);
    let tagged = written(|out| text::write_expectation(&expectation, event, out));
    assert_eq!(tagged, format!("    [NEW] {line}"));

    let element = "<flow><layer3 protonum=\"2\" protoname=\"ipv4\"><expected><src>127.0.0.1</src>\
        <dst>127.0.0.1</dst></expected><mask><src>255.255.255.255</src><dst>255.255.255.255</dst>\
        </mask><master><src>127.0.0.1</src><dst>127.0.0.1</dst></master></layer3>\
        <layer4 protonum=\"6\" protoname=\"tcp\"><expected><sport>0</sport><dport>5125</dport>\
        </expected><mask><sport>0</sport><dport>65535</dport></mask><master><sport>4021</sport>\
        <dport>21</dport></master></layer4><meta><helper-name>ftp</helper-name>\
        <timeout>299</timeout><class>0</class><when><hour>3</hour><min>20</min><sec>36</sec>\
        <wday>2</wday><day>23</day><month>11</month><year>2026</year></when></meta></flow>";
    let moment = Some((1_795_404_036, LocalTime::UTC));
    let out = written(|out| xml::write_expectation(&expectation, None, moment, out));
    assert_eq!(out, element);

    let permanent = ExpectationFlags(ExpectationFlags::PERMANENT.0 | ExpectationFlags::USERSPACE.0);
    let odd = Expectation { flags: permanent, zone: Zone::both(7), helper: None, ..expectation };
    let odd = written(|out| text::write_expectation(&odd, None, out));
    assert!(odd.ends_with(" dport=21 zone=7 PERMANENT,USERSPACE class=0"), "{odd}");
}

#[test]
fn stamps_are_conntracks() {
    let stamp = |micros| written(|out| text::write_stamp(1_795_356_557, micros, out));
    assert_eq!(stamp(425_018), "[1795356557.425018]\t");
    assert_eq!(stamp(18), "[1795356557.000018]\t");
    let aligned = |micros| written(|out| text::write_expectation_stamp(1_795_356_557, micros, out));
    assert_eq!(aligned(425_018), "[1795356557.425018]\t");
    assert_eq!(aligned(18), "[1795356557.18    ]\t");
}

/// Labels of which none has a name, and tags that exclude each other.
#[test]
fn what_the_capture_lacks() {
    let none = LabelNames::default();
    entries(|flow, _, _| {
        let options = text::TextOptions { labels: Some(&none), ..Default::default() };
        let line = written(|out| text::write(flow, &options, out));
        assert_eq!(flow.labels.is_some(), line.ends_with(" labels"), "{line}");
    });
    let hostile = Flow { security_context: Some("a<b\n&\u{e9}".into()), ..Flow::default() };
    let element = written(|out| xml::write(&hostile, &XmlOptions::default(), out));
    assert!(element.contains("<secctx>a&lt;b\\x0a&amp;\\xc3\\xa9</secctx>"), "{element}");
}
