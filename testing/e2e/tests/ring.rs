//! Streams whose data go through a ring that is shared with the host's Linux (`--io-uring`).
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "in a test, a surprise is a failure")]

use e2e::web::{ask_website, nginx_configuration, serve, wrk};
use e2e::{Case, Run, Server, checkout, client, folder, free_port, installed, noise, source};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::thread;

const PYTHON: &str = "/usr/bin/python3";
const CURL: &str = "/usr/bin/curl";
const NGINX: &str = "/usr/sbin/nginx";
const WRK: &str = "/usr/bin/wrk";
const REDIS: &str = "/usr/bin/redis-server";
const BENCHMARK: &str = "/usr/bin/redis-benchmark";
const RING: &[&str] = &["--io-uring"];

/// A process of the test, ended when dropped.
struct Helper(Child);

impl Drop for Helper {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A server as the program `streams.py` wants it, and its port.
fn server_that_obeys() -> (Helper, String) {
    let program = "
import queue, socket, struct, threading
seen = queue.Queue()
def serve(peer):
    order = peer.recv(1)
    if order == b'e':
        while data := peer.recv(65536):
            peer.sendall(data)
    if order == b'r':
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    if order == b'?':
        peer.sendall(seen.get(timeout=20))
    if order in b'c!':
        if order == b'!':
            peer.sendall(b'you have not read this')
        total = 0
        try:
            while data := peer.recv(65536):
                total += len(data)
            seen.put(b'%d' % total)
        except OSError as error:
            seen.put(b'errno %d' % error.errno)
        print(total, flush=True)
    peer.close()
listener = socket.create_server(('127.0.0.1', 0), backlog=64)
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
";
    let mut child = Command::new(PYTHON).args(["-c", program]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    // What it prints besides is the last thing of a program that has ended.
    let port = line.trim().to_owned();
    thread::spawn(move || lines.lines().for_each(drop));
    (Helper(child), port)
}

/// Exits of a run that were made for data.
fn exits_for_data(run: &Run) -> u64 {
    let of_data = ["Receive", "Send", "ReceiveMessage", "SendMessage"];
    run.exits().iter().filter(|(name, _)| of_data.contains(&name.as_str())).map(|(_, count)| count).sum()
}

#[test]
fn a_stream_of_the_ring_is_as_one_on_linux() {
    if !installed(PYTHON, "python3") {
        return;
    }
    let (_server, port) = server_that_obeys();
    let programs = checkout().join("testing/programs");
    let case = Case::new(PYTHON).args(["streams.py", &port]).within(&programs);
    let plain = case.clone().succeeds();
    let ringed = case.clone().flags(RING).enclave();
    assert_eq!(plain.text(), ringed.text(), "{}", ringed.errors());
    let counted = case.flags(RING).flags(["--stats"]).enclave();
    assert!(exits_for_data(&counted) < 20, "{}", counted.errors());
}

#[test]
fn many_clients_are_echoed_at_once() {
    if !installed(PYTHON, "python3") {
        return;
    }
    let folder = folder();
    let port = free_port();
    let program = source("echo.py");
    let server = Server::with_flags(port, folder.path(), RING, &[PYTHON, "-c", &program, &port.to_string()]);
    thread::scope(|scope| {
        for client in 0..16 {
            let server = &server;
            scope.spawn(move || {
                let sent = noise(300_000 + client * 7919);
                assert!(server.ask(&sent, true) == sent, "client {client}");
            });
        }
    });
}

#[test]
fn redis_answers_without_exits() {
    if !installed(REDIS, "redis-server") || !installed(BENCHMARK, "redis-tools") {
        return;
    }
    let folder = folder();
    let port = free_port();
    let name = port.to_string();
    let flags = ["--io-uring", "--stats"];
    let command = [REDIS, "--port", &name, "--save", "", "--appendonly", "no"];
    let mut server = Server::with_flags(port, folder.path(), &flags, &command);
    for pipelined in ["1", "16"] {
        let arguments =
            ["-p", &name, "-n", "20000", "-c", "50", "-q", "-t", "set,get,lrange_100", "-P", pipelined];
        let printed = client(&[&[BENCHMARK], &arguments[..]].concat(), folder.path());
        assert!(printed.contains("SET: ") && printed.contains("GET: "), "{printed}");
    }
    let big = noise(700_000);
    let set =
        [format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${}\r\n", big.len()).as_bytes(), &big, b"\r\n"].concat();
    let answer =
        server.ask(&[&set[..], b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n*1\r\n$4\r\nQUIT\r\n"].concat(), false);
    assert!(answer.ends_with(&[&big[..], b"\r\n+OK\r\n"].concat()), "{} bytes", answer.len());
    let _ = server.ask(b"*2\r\n$8\r\nSHUTDOWN\r\n$6\r\nNOSAVE\r\n", false);
    assert!(server.ends(), "{}", server.output());
    let output = server.output();
    let count = |name: &str| {
        let line = output.lines().find(|line| line.trim().ends_with(&format!(" {name}")));
        line.map_or(0, |line| line.trim().split(' ').next().unwrap().parse::<u64>().unwrap())
    };
    assert!(count("Receive") + count("Send") < 100, "{output}");
}

#[test]
fn nginx_keeps_up_and_thousands_of_connections_come_and_go() {
    if !installed(NGINX, "nginx-light") || !installed(WRK, "wrk") {
        return;
    }
    let folder = folder();
    let port = free_port();
    let (page, big) = (noise(10 * 1024), noise(20_000_000));
    fs::write(folder.path().join("page"), &page).unwrap();
    fs::write(folder.path().join("big"), &big).unwrap();
    let configuration = nginx_configuration(port, folder.path(), "tcp_nopush on;");
    fs::write(folder.path().join("nginx.conf"), configuration).unwrap();
    let prefix = folder.path().display().to_string();
    let command = [NGINX, "-p", &prefix, "-c", "nginx.conf", "-e", "stderr"];
    let server = Server::with_flags(port, folder.path(), RING, &command);
    let url = format!("http://127.0.0.1:{port}/page");
    assert!(wrk(2, &["-c", "16", &url], folder.path()) > 0);
    assert!(wrk(2, &["-c", "16", "-H", "Connection: close", &url], folder.path()) > 0);
    assert!(server.get("/page") == page);
    assert!(server.get("/big") == big);
    let mut idle: Vec<TcpStream> = (0..1000).map(|_| server.connect()).collect();
    for stream in &mut idle {
        stream.write_all(b"GET /page HTTP/1.0\r\n\r\n").unwrap();
    }
    for (number, mut stream) in idle.into_iter().enumerate() {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.ends_with(&page), "connection {number}");
    }
}

#[test]
fn go_serves_and_asks() {
    let folder = folder();
    let Some(website) = e2e::go("website", false, folder.path()) else { return };
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let server = Server::with_flags(port, folder.path(), RING, &[website.to_str().unwrap(), &address]);
    ask_website(&server, 1000);
    let Some(asking) = e2e::go("webclient", true, folder.path()) else { return };
    let run = Case::new(asking).args([format!("http://{address}")]).flags(RING).enclave();
    assert_eq!(run.text().matches("HTTP/1.1 200 ").count(), 40, "{}", run.text());
}

#[test]
fn curl_fetches_twenty_megabytes() {
    if !installed(CURL, "curl") {
        return;
    }
    let body = noise(20 << 20);
    let port = serve(body.clone());
    let url = format!("http://127.0.0.1:{port}/");
    let run = Case::new(CURL).args(["-sS", &url]).flags(RING).enclave();
    assert!(run.status == 0 && run.stdout == body, "{}", run.errors());
}

#[test]
fn a_host_without_a_ring_says_so_once_and_all_works() {
    if !installed(PYTHON, "python3") {
        return;
    }
    let folder = folder();
    // A filter of system calls: io_uring_setup is EPERM.
    let runner = "#!/usr/bin/python3
import ctypes, os, struct, sys
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *line) for line in code))
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)
libc.prctl(22, 2, struct.pack('HxxxxxxQ', 4, ctypes.addressof(code)))
os.execv(sys.argv[1], sys.argv[1:])
";
    let path = folder.path().join("runner");
    fs::write(&path, runner).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let (_server, port) = server_that_obeys();
    // It sends an order to echo, and has that much of it echoed.
    let program = "
import socket, sys
for _ in range(3):
    with socket.create_connection(('127.0.0.1', int(sys.argv[1]))) as stream:
        stream.sendall(b'ehello')
        print(stream.recv(5, socket.MSG_WAITALL))
";
    let run = Case::new(PYTHON).args(["-c", program, &port]).flags(RING).run_by(&path).enclave();
    assert_eq!(run.text(), "b'hello'\n".repeat(3), "{}", run.errors());
    assert_eq!(run.errors().matches("no ring of operations").count(), 1, "{}", run.errors());
}
