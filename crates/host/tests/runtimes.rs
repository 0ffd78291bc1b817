//! Runtimes that do not behave: listeners of the test's own that are silent, slow, endless or talk
//! junk. (Real runtimes are asked in the end-to-end tests.)

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use ctkeeper_host::runtimes::{Answers, Interface, Socket, ask};
use tempfile::TempDir;

const BUDGET: Duration = Duration::from_millis(250);

/// What a test waits beyond the budget at most: the machine may be busy.
const PATIENCE: Duration = Duration::from_millis(1750);

struct Server {
    path: PathBuf,
    _folder: TempDir,
}

/// Answers each connection by `answer`, on a thread that ends with the test's process.
fn serve(answer: impl Fn(&mut UnixStream) + Send + 'static) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runtime.sock");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            answer(&mut stream.unwrap());
        }
    });
    Server { path, _folder: folder }
}

fn says(text: &'static [u8]) -> impl Fn(&mut UnixStream) + Send + 'static {
    move |stream| {
        let _ = stream.read(&mut [0; 256]);
        let _ = stream.write_all(text);
    }
}

/// The same, and stays.
fn goes_on_after(text: &'static [u8]) -> impl Fn(&mut UnixStream) + Send + 'static {
    move |stream| {
        says(text)(stream);
        std::mem::forget(stream.try_clone());
    }
}

/// Asks in one interface, and fails if that takes longer than it may.
fn asked(server: &Server, interface: Interface) -> Answers {
    let socket = Socket { path: server.path.clone(), interface, user: None };
    let begun = Instant::now();
    let answers = ask(&[socket], BUDGET);
    assert!(begun.elapsed() < BUDGET + PATIENCE, "{:?}", begun.elapsed());
    answers
}

/// Why nothing was told.
fn refused(server: &Server, interface: Interface) -> String {
    let answers = asked(server, interface);
    assert_eq!(answers.running, []);
    let [gap] = answers.gaps.as_slice() else { panic!("{:?}", answers.gaps) };
    assert!(gap.what.contains("runtime.sock") && !gap.remedy.is_empty(), "{gap:?}");
    gap.cause.clone()
}

const ALL: [Interface; 3] = [Interface::Docker, Interface::Cri, Interface::Unknown];

#[test]
fn silence_ends_with_the_budget() {
    let server = serve(|_| thread::sleep(Duration::from_secs(60)));
    for interface in ALL {
        assert!(refused(&server, interface).contains("no answer in time"));
    }
}

#[test]
fn a_full_queue_is_silence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runtime.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let waiting: Vec<_> = (0..)
        .map_while(|_| {
            // Each on a thread of its own: the one that finds no place waits.
            let (path, (sender, receiver)) = (path.clone(), std::sync::mpsc::channel());
            thread::spawn(move || sender.send(UnixStream::connect(path)));
            receiver.recv_timeout(Duration::from_millis(200)).ok()
        })
        .collect();
    assert!(waiting.len() > 1);
    let server = Server { path, _folder: folder };
    for interface in ALL {
        assert!(refused(&server, interface).contains("no answer in time"));
    }
    drop(listener);
}

#[test]
fn a_slow_answer_ends_with_the_budget() {
    let server = serve(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n[");
        while stream.write_all(b" ").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    assert!(refused(&server, Interface::Docker).contains("no answer in time"));
    let server = serve(|stream| {
        // Settings, and pings without end.
        let _ = stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
        while stream.write_all(&[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]).is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    assert!(refused(&server, Interface::Cri).contains("no answer in time"));
}

#[test]
fn an_endless_answer_is_left() {
    let server = serve(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n[");
        let piece = vec![b' '; 1 << 16];
        while stream.write_all(&piece).is_ok() {}
    });
    let cause = refused(&server, Interface::Docker);
    assert!(cause.contains("more than 64 MiB") || cause.contains("in time"), "{cause}");
}

#[test]
fn junk_is_told_as_such() {
    let junk = serve(goes_on_after(b"\xff\xfe\0\0junk junk junk junk junk junk junk"));
    assert!(refused(&junk, Interface::Docker).contains("no HTTP"));
    assert!(refused(&junk, Interface::Cri).contains("no gRPC"));
    assert!(refused(&junk, Interface::Unknown).contains("no gRPC"));
    let closed = serve(|_| ());
    for interface in ALL {
        let cause = refused(&closed, interface);
        assert!(cause.contains("runtime.sock"), "{cause}");
    }
    let broken = serve(says(b"HTTP/1.1 200 OK\r\n\r\n[{\"Id\":"));
    assert!(refused(&broken, Interface::Docker).contains("the list is broken"));
    let other = serve(says(b"HTTP/1.1 200 OK\r\n\r\n<html>"));
    assert!(refused(&other, Interface::Unknown).contains("the list is broken"));
}

#[test]
fn an_error_is_passed_on() {
    let text = b"HTTP/1.1 500 Internal Server Error\r\n\r\n{\"message\":\"out of \x1b[31mluck\"}";
    let cause = refused(&serve(says(text)), Interface::Docker);
    assert!(cause.contains("500") && !cause.contains("luck"), "{cause}");
    let text = b"HTTP/1.1 503 Service Unavailable\r\n\r\n{\"message\":\"out of luck\"}";
    let cause = refused(&serve(says(text)), Interface::Docker);
    assert!(cause.contains("503 out of luck"), "{cause}");
}

#[test]
fn whoever_is_gone_is_a_gap() {
    let server = serve(|_| ());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runtime.sock");
    drop(UnixListener::bind(&path).unwrap());
    let stale = Server { path: path.clone(), _folder: folder };
    for interface in ALL {
        assert!(refused(&stale, interface).contains("refused"));
    }
    std::fs::remove_file(&path).unwrap();
    assert!(refused(&stale, Interface::Docker).contains("No such file"));
    let socket =
        Socket { path: server.path, interface: Interface::Docker, user: Some(u32::MAX - 7) };
    assert!(ask(&[socket], BUDGET).gaps[0].cause.contains("no longer the user's own"));
}

#[test]
fn silent_ones_keep_nobody_waiting() {
    let silent: Vec<_> =
        (0..8).map(|_| serve(|_| thread::sleep(Duration::from_secs(60)))).collect();
    let good = serve(says(
        b"HTTP/1.1 200 OK\r\nServer: Docker/1 (linux)\r\n\r\n[{\"Id\":\"a1\",\"Names\":[\"/web\"]}]",
    ));
    let sockets: Vec<_> = silent
        .iter()
        .chain([&good])
        .map(|server| Socket {
            path: server.path.clone(),
            interface: Interface::Unknown,
            user: None,
        })
        .collect();
    let begun = Instant::now();
    let answers = ask(&sockets, 4 * BUDGET);
    assert!(begun.elapsed() < 4 * BUDGET + PATIENCE, "{:?}", begun.elapsed());
    assert_eq!(answers.gaps.len(), 8);
    let [running] = answers.running.as_slice() else { panic!("{answers:?}") };
    assert_eq!(running.containers[0].name.as_deref(), Some("web"));
    assert!(running.complete && running.took < 4 * BUDGET);
}

#[test]
fn too_many_are_cut_and_told() {
    let server = serve(|stream| {
        let _ = stream.read(&mut [0; 256]);
        let list = format!("[{}{{}}]", "{\"Id\":\"x\"},".repeat(10_001));
        let _ = write!(stream, "HTTP/1.1 200 OK\r\n\r\n{list}");
    });
    let socket = Socket { path: server.path, interface: Interface::Docker, user: None };
    let answers = ask(&[socket], 20 * BUDGET);
    assert!(answers.running[0].containers.len() == 10_000 && !answers.running[0].complete);
    assert!(answers.gaps[0].cause.contains("more than 10000"), "{:?}", answers.gaps);
}
