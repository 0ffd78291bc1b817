//! Proxies that hold two entries for a connection.

use ctkeeper_flow::units::{count, counted, percent};
use ctkeeper_snapshot::{Namespace, Proxy, Sample};

use super::{Explanation, Rule};
use crate::context::Context;
use crate::{Finding, Severity};

pub(super) const TWO_ENTRIES: Rule = Rule {
    id: "two-entries",
    title: "a proxy takes two entries for each client connection",
    judge: two_entries,
    explanation: Explanation {
        why: "A proxy ends the client's connection and opens one of its own to a back end: two \
              connections, two entries. Where it opens a back-end connection for each client, the \
              table holds half as many clients as its limit says. Where it keeps a few back-end \
              connections open and sends every client's requests over them, a client costs about \
              one entry (measured with HAProxy: 4,000 clients, 8,001 entries in mode tcp, 4,059 \
              with reuse).",
        evidence: "Pairs of entries around one process: front entries lead to a socket that it \
                   listens at, back entries begin at a local address and lead to an end to which \
                   its own sockets are connected. A process is known by its open descriptors, \
                   not by its name; where no other process of the namespace has any socket, all \
                   that begins there is its own. TCP only. Speaks from 1.5 entries a client connection on, \
                   when reuse would free 2 % of the limit or 10,000 entries; a warning when the \
                   namespace is half full.",
        remedies: "HAProxy, in haproxy.cfg (then: haproxy -c -f haproxy.cfg, and reload):\
                   \n    defaults\
                   \n        mode http                   # in mode tcp nothing can be reused\
                   \n        option http-keep-alive      # not httpclose, not http-server-close\
                   \n    backend app\
                   \n        http-reuse always           # see the traps; the default is safe\
                   \n        default-server pool-max-conn -1 pool-purge-delay 5s\
                   \nnginx (then: nginx -t, and nginx -s reload):\
                   \n    upstream app {\
                   \n        server 10.0.0.5:8080;\
                   \n        keepalive 64;               # idle ones kept by each worker\
                   \n    }\
                   \n    location / {\
                   \n        proxy_pass http://app;      # the upstream's name, not an address\
                   \n        proxy_http_version 1.1;\
                   \n        proxy_set_header Connection \"\";\
                   \n    }\
                   \nEnvoy: in the listener's filter chain\
                   \n    name: envoy.filters.network.http_connection_manager\
                   \ninstead of envoy.filters.network.tcp_proxy. HTTP clusters pool their \
                   connections by themselves; remove max_requests_per_connection: 1 from the \
                   cluster's common_http_protocol_options, and where the back ends speak HTTP/2, \
                   one connection carries many requests:\
                   \n    typed_extension_protocol_options:\
                   \n      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\
                   \n        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\
                   \n        explicit_http_config: { http2_protocol_options: {} }\
                   \nAny other program: keep its connections to back ends in a pool and reuse them. \
                   Where that cannot be (mode tcp, TLS passed through, web sockets), raise the \
                   limit (ctkeeper fix), or leave the proxy's ports untracked: see the traps of \
                   why-tracked.",
        traps: "Only HTTP can be reused: a proxy of bytes (HAProxy mode tcp, nginx stream, Envoy \
                tcp_proxy) cannot tell where a request ends, and mode http breaks whatever is not \
                HTTP. HAProxy's http-reuse safe, the default, sends \
                the first request of each client over a new connection, so clients that send \
                one request each gain nothing; always reuses for the first as well, and when the \
                server closes at that very moment the client gets an error: let the servers keep \
                idle connections longer than the proxy does (pool-purge-delay, nginx' \
                keepalive_timeout), and let HAProxy retry (retry-on conn-failure \
                empty-response; http-request disable-l7-retry if METH_POST spares what must not \
                be sent twice). Back ends that tie a login to a connection (NTLM) must not be \
                reused. A pool's size is a number of idle connections, not a limit: nginx' \
                keepalive counts a worker. Entries of closed connections stay up to two minutes, \
                and a reloaded HAProxy keeps its old process until its clients have left: look \
                again then.",
    },
};

fn two_entries(context: &Context<'_>) -> Vec<Finding> {
    let sampled = context.snapshot.namespaces.iter().filter_map(|n| Some((n, n.sample.as_ref()?)));
    sampled
        .flat_map(|(namespace, sample)| {
            sample.proxies.iter().filter_map(|proxy| pairs(context, namespace, sample, proxy))
        })
        .collect()
}

/// A proxy's entries, extrapolated from the sample.
struct Pairs {
    front: u64,
    back: u64,
    /// What reuse would free at most: an end needs one connection still.
    saved: u64,
    ratio: f64,
}

impl Pairs {
    fn of(namespace: &Namespace, sample: &Sample, proxy: &Proxy) -> Self {
        let scale = namespace.count as f64 / sample.size.max(1) as f64;
        let entries = |sampled: u64| (sampled as f64 * scale).round() as u64;
        Self {
            front: entries(proxy.front),
            back: entries(proxy.back),
            saved: entries(proxy.back.saturating_sub(proxy.back_ends)),
            ratio: proxy.front.saturating_add(proxy.back) as f64 / proxy.front.max(1) as f64,
        }
    }
}

fn pairs(
    context: &Context<'_>,
    namespace: &Namespace,
    sample: &Sample,
    proxy: &Proxy,
) -> Option<Finding> {
    let thresholds = context.thresholds;
    let pairs = Pairs::of(namespace, sample, proxy);
    let of_limit = namespace.limit.share(pairs.saved);
    let matters = of_limit >= Some(thresholds.two_entries_share)
        || pairs.saved >= thresholds.two_entries_entries;
    if pairs.ratio < thresholds.two_entries_ratio || !matters {
        return None;
    }
    let crowded = namespace.share() >= Some(thresholds.room_share);
    let severity = if crowded { Severity::Warning } else { Severity::Note };
    let finding = Finding::new(TWO_ENTRIES.id, severity, namespace.into())
        .headline(format!("{} takes two entries for each client connection", proxy.command))
        .summary(summary(namespace, sample, proxy, &pairs))
        .meaning(
            "The table fills twice as fast as clients come, and nobody notices before it is full.",
        )
        .evidence("process", proxy.command.clone())
        .evidence("pid", u64::from(proxy.pid))
        .evidence("processes", proxy.processes)
        .evidence("front_entries", pairs.front)
        .evidence("back_entries", pairs.back)
        .evidence("back_ends", proxy.back_ends)
        .evidence("entries_per_connection", pairs.ratio)
        .evidence("entries_saved_by_reuse", pairs.saved);
    let finding = LINES
        .iter()
        .filter(|(program, ..)| *program == proxy.command)
        .fold(finding, |finding, (_, line, place)| finding.remedy(*line, *place));
    Some(finding.remedy("ctkeeper explain two-entries", "every line to change, and the traps"))
}

/// What makes a program reuse its back ends: program, line, where it goes.
const LINES: [(&str, &str, &str); 8] = [
    ("haproxy", "mode http", "haproxy.cfg, frontend and backend: mode tcp cannot reuse"),
    ("haproxy", "http-reuse always", "in the backend: every request may use an idle connection"),
    ("haproxy", "option http-keep-alive", "not httpclose nor http-server-close, which close each"),
    ("nginx", "keepalive 64;", "in the upstream that proxy_pass names: kept idle by each worker"),
    ("nginx", "proxy_http_version 1.1;", "in the location: 1.0 closes after each answer"),
    (
        "nginx",
        "proxy_set_header Connection \"\";",
        "beside it: else nginx asks the server to close",
    ),
    ("envoy", "http_connection_manager", "instead of tcp_proxy in the listener's filter chain"),
    ("envoy", "max_requests_per_connection", "remove it from the cluster, at 1 it ends all reuse"),
];

fn summary(namespace: &Namespace, sample: &Sample, proxy: &Proxy, pairs: &Pairs) -> String {
    let about = if sample.exact { "" } else { "about " };
    let share = namespace
        .limit
        .share(pairs.saved)
        .map_or_else(String::new, |share| format!(", {} of the limit", percent(share)));
    format!(
        "namespace {}: {} holds {:.1} entries for each client connection: {about}{} of its \
         clients{}, {about}{} of its own to {}. Reusing back-end connections would bring that to \
         about 1: up to {} entries fewer{share}.",
        namespace.label(),
        name(proxy),
        pairs.ratio,
        count(pairs.front),
        ports(&proxy.ports),
        count(pairs.back),
        counted(proxy.back_ends, "back end", "back ends"),
        count(pairs.saved),
    )
}

fn name(proxy: &Proxy) -> String {
    match proxy.processes {
        0 | 1 => format!("{} (pid {})", proxy.command, proxy.pid),
        several => format!("{} ({several} processes, first pid {})", proxy.command, proxy.pid),
    }
}

/// ` (ports 80, 443)`.
fn ports(ports: &[u16]) -> String {
    const SHOWN: usize = 4;
    let list: Vec<_> = ports.iter().take(SHOWN).map(u16::to_string).collect();
    let word = if ports.len() == 1 { "port" } else { "ports" };
    match ports.len() {
        0 => String::new(),
        more if more > SHOWN => format!(" ({word} {} and {} more)", list.join(", "), more - SHOWN),
        _ => format!(" ({word} {})", list.join(", ")),
    }
}
