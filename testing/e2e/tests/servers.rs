//! Servers in an enclave, clients outside, and the other way round.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "in a test, a surprise is a failure")]

use e2e::{Case, folder, installed, occlum_command};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PYTHON: &str = "/usr/bin/python3";
const PATIENCE: Duration = Duration::from_secs(60);

/// A server in an enclave, killed when dropped.
struct Server {
    child: Child,
    port: u16,
    output: std::path::PathBuf,
}

impl Server {
    /// Starts a program that listens on `port` of 127.0.0.1, and waits until it does.
    fn start(port: u16, folder: &Path, command: &[&str]) -> Self {
        let output = folder.join("server-output");
        let log = File::create(&output).unwrap();
        let mut try_it = occlum_command();
        try_it.arg("try").args(command).current_dir(folder).env("LC_ALL", "C");
        let child = try_it.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut server = Self { child, port, output };
        let start = Instant::now();
        while !is_up(port) {
            let has_ended = server.child.try_wait().unwrap().is_some();
            assert!(!has_ended && start.elapsed() < PATIENCE, "{command:?} serves: {}", server.output());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port));
        let stream = stream.unwrap_or_else(|error| panic!("{error}; the server said: {}", self.output()));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends all of `request`, says that no more comes if `ends`, and returns all of the answer.
    fn ask(&self, request: &[u8], ends: bool) -> Vec<u8> {
        let mut stream = self.connect();
        let mut writer = stream.try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                writer.write_all(request).unwrap();
                if ends {
                    writer.shutdown(Shutdown::Write).unwrap();
                }
            });
            let mut answer = Vec::new();
            let end = stream.read_to_end(&mut answer);
            end.unwrap_or_else(|error| panic!("{error}; the server said: {}", self.output()));
            answer
        })
    }

    /// The body of a document, by HTTP/1.0.
    fn get(&self, path: &str) -> Vec<u8> {
        let answer = self.ask(format!("GET {path} HTTP/1.0\r\nHost: here\r\n\r\n").as_bytes(), false);
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        assert!(head.lines().next().unwrap().contains(" 200 "), "{head}");
        answer[end + 4..].to_vec()
    }

    fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whether somebody listens on a port. A connection to oneself, which TCP makes when it happens to choose that port for the
/// client, does not count.
fn is_up(port: u16) -> bool {
    let connected = TcpStream::connect(("127.0.0.1", port));
    connected.is_ok_and(|stream| stream.local_addr().is_ok_and(|own| own.port() != port))
}

/// A port of 127.0.0.1 that nobody listens on.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Bytes that do not repeat.
fn noise(length: u32) -> Vec<u8> {
    (0..length).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn python_serves_files_by_http() {
    if !installed(PYTHON, "python3") {
        return;
    }
    let folder = folder();
    let (port, big) = (free_port(), noise(3_000_000));
    fs::write(folder.path().join("small"), "a few bytes").unwrap();
    fs::write(folder.path().join("big"), &big).unwrap();
    let command = [PYTHON, "-m", "http.server", &port.to_string(), "--bind", "127.0.0.1"];
    let server = Server::start(port, folder.path(), &command);
    assert_eq!(server.get("/small"), b"a few bytes");
    assert!(server.get("/big") == big);
    assert!(String::from_utf8_lossy(&server.get("/")).contains("big"));
}

#[test]
fn python_asyncio_echoes_to_many_clients_at_once() {
    if !installed(PYTHON, "python3") {
        return;
    }
    let folder = folder();
    let port = free_port();
    let program = "
import asyncio, sys
async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(echo, '127.0.0.1', int(sys.argv[1]))
    await server.serve_forever()
asyncio.run(main())
";
    let server = Server::start(port, folder.path(), &[PYTHON, "-c", program, &port.to_string()]);
    std::thread::scope(|scope| {
        for client in 0..16 {
            let server = &server;
            scope.spawn(move || {
                let sent = noise(100_000 + client * 7919);
                assert!(server.ask(&sent, true) == sent, "client {client}");
            });
        }
    });
}

#[test]
fn python_answers_datagrams() {
    if !installed(PYTHON, "python3") {
        return;
    }
    let folder = folder();
    let port = free_port();
    // The connection tells that it is up.
    let program = "
import socket, sys
port = int(sys.argv[1])
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(('127.0.0.1', port))
tcp = socket.create_server(('127.0.0.1', port))
while True:
    data, peer = udp.recvfrom(65536)
    udp.sendto(data[::-1], peer)
";
    let _server = Server::start(port, folder.path(), &[PYTHON, "-c", program, &port.to_string()]);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(("127.0.0.1", port)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    for length in [0, 1, 1000, 65_507] {
        let sent = noise(length);
        client.send(&sent).unwrap();
        let mut answer = vec![0; 70_000];
        let received = client.recv(&mut answer).unwrap();
        assert!(answer[..received].iter().rev().eq(&sent), "{length} bytes");
    }
}

#[test]
fn redis_answers_and_is_benchmarked() {
    const REDIS: &str = "/usr/bin/redis-server";
    if !installed(REDIS, "redis-server") {
        return;
    }
    let folder = folder();
    let port = free_port();
    let number = port.to_string();
    let command = [REDIS, "--port", &number, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
    let server = Server::start(port, folder.path(), &command);
    let mut stream = server.connect();
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let mut ask = |request: &str| {
        stream.write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    assert_eq!(ask("SET key value\r\n"), "+OK");
    assert_eq!(ask("STRLEN key\r\n"), ":5");
    // Many requests at once, whose answers are read one by one.
    assert_eq!(ask(&"INCR n\r\n".repeat(1000)), ":1");
    assert!((2..=1000).all(|n| ask("") == format!(":{n}")));
    if installed("/usr/bin/redis-benchmark", "redis-tools") {
        let arguments = ["-p", &number, "-n", "10000", "-c", "20", "-t", "set,get,lrange_100", "--csv"];
        let run = Command::new("/usr/bin/redis-benchmark").args(arguments).output().unwrap();
        let printed = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(run.status.success() && printed.contains("\"GET\","), "{printed}");
    }
    assert_eq!(ask("DBSIZE\r\n").chars().next(), Some(':'), "{}", server.output());
}

#[test]
fn nginx_serves_many_connections() {
    const NGINX: &str = "/usr/sbin/nginx";
    if !installed(NGINX, "nginx-light") {
        return;
    }
    let folder = folder();
    let (port, big) = (free_port(), noise(2_000_000));
    let configuration = format!(
        "daemon off; master_process off; pid /tmp/nginx.pid; error_log stderr;
         events {{ worker_connections 128; }}
         http {{ access_log off; sendfile on; server {{ listen 127.0.0.1:{port}; root {}; }}
                 client_body_temp_path /tmp/1; proxy_temp_path /tmp/2; fastcgi_temp_path /tmp/3;
                 uwsgi_temp_path /tmp/4; scgi_temp_path /tmp/5; }}",
        folder.path().display()
    );
    fs::write(folder.path().join("nginx.conf"), configuration).unwrap();
    fs::write(folder.path().join("small"), "a few bytes").unwrap();
    fs::write(folder.path().join("big"), &big).unwrap();
    let prefix = folder.path().display().to_string();
    let server =
        Server::start(port, folder.path(), &[NGINX, "-p", &prefix, "-c", "nginx.conf", "-e", "stderr"]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                assert!((0..50).all(|_| server.get("/small") == b"a few bytes"));
                assert!(server.get("/big") == big);
            });
        }
    });
}

#[test]
fn node_serves_http() {
    const NODE: &str = "/usr/bin/node";
    if !installed(NODE, "nodejs") {
        return;
    }
    let folder = folder();
    let (port, body) = (free_port(), noise(500_000));
    let program = "
require('http').createServer((request, response) => {
    if (request.method === 'POST') request.pipe(response);
    else response.end('you want ' + request.url);
}).listen(Number(process.argv[1]), '127.0.0.1');
";
    let server = Server::start(port, folder.path(), &[NODE, "-e", program, &port.to_string()]);
    assert_eq!(server.get("/this"), b"you want /this");
    let mut request = format!("POST / HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    request.extend_from_slice(&body);
    assert!(server.ask(&request, false).ends_with(&body));
}

#[test]
fn go_keeps_hundreds_of_connections_and_forgets_none() {
    let folder = folder();
    let Some(program) = e2e::go("website", false, folder.path()) else { return };
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let server = Server::start(port, folder.path(), &[program.to_str().unwrap(), &address]);
    for _ in 0..3 {
        let mut idle: Vec<TcpStream> = (0..600).map(|_| server.connect()).collect();
        // Others are busy meanwhile.
        std::thread::scope(|scope| {
            for client in 0..4 {
                let server = &server;
                scope.spawn(move || {
                    assert!((0..50).all(|_| server.get("/this") == b"you want /this"), "client {client}");
                });
            }
        });
        for stream in &mut idle {
            stream.write_all(b"POST /count HTTP/1.0\r\nContent-Length: 10\r\n\r\n0123456789").unwrap();
        }
        for (number, mut stream) in idle.into_iter().enumerate() {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.ends_with("10 <nil>"), "connection {number}: {answer:?}");
        }
    }
}

#[test]
fn memcached_answers_with_several_threads() {
    const MEMCACHED: &str = "/usr/bin/memcached";
    if !installed(MEMCACHED, "memcached") {
        return;
    }
    let folder = folder();
    let port = free_port();
    let number = port.to_string();
    let command = [MEMCACHED, "-u", "root", "-U", "0", "-l", "127.0.0.1", "-p", &number, "-t", "4"];
    let server = Server::start(port, folder.path(), &command);
    std::thread::scope(|scope| {
        for client in 0..12 {
            let server = &server;
            scope.spawn(move || {
                let request = format!("set k{client} 0 0 5\r\nvalue\r\nget k{client}\r\nquit\r\n");
                let answer = String::from_utf8(server.ask(request.as_bytes(), false)).unwrap();
                assert_eq!(answer, format!("STORED\r\nVALUE k{client} 0 5\r\nvalue\r\nEND\r\n"));
            });
        }
    });
}

#[test]
fn curl_fetches_from_a_server_outside() {
    const CURL: &str = "/usr/bin/curl";
    if !installed(CURL, "curl") {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while request.read_line(&mut line).unwrap() > 2 {
                line.clear();
            }
            let body = noise(1_000_000);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Who: outside\r\n\r\n", body.len());
            // The client may have seen enough.
            drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)));
        }
    });
    let url = format!("http://localhost:{port}/");
    let run = Case::new(CURL).args(["-sS", "-i", &url]).succeeds();
    assert!(run.stdout.ends_with(&noise(1_000_000)));
    // Nobody listens on this one any more.
    let url = format!("http://127.0.0.1:{}/", free_port());
    assert_eq!(Case::new(CURL).args(["-s", &url]).same().status, 7);
}
