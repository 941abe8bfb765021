//! Servers that keep things: Redis, memcached.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "in a test, a surprise is a failure")]

use e2e::{Server, client, folder, free_port, installed};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;

const REDIS: &str = "/usr/bin/redis-server";
const BENCHMARK: &str = "/usr/bin/redis-benchmark";

/// Whether Redis is there with its benchmark.
fn has_redis() -> bool {
    installed(REDIS, "redis-server") && installed(BENCHMARK, "redis-tools")
}

/// A connection to Redis.
struct Client {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
}

impl Client {
    fn new(server: &Server) -> Self {
        let stream = server.connect();
        let lines = BufReader::new(stream.try_clone().unwrap());
        Self { stream, lines }
    }

    /// A line of an answer.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Sends requests and returns the first line of the first answer.
    fn ask(&mut self, request: &str) -> String {
        self.stream.write_all(request.as_bytes()).unwrap();
        self.stream.write_all(b"\r\n").unwrap();
        self.line()
    }

    /// A number in the text that INFO gives.
    fn info(&mut self, section: &str, name: &str) -> String {
        let head = self.ask(&format!("INFO {section}"));
        let length: usize = head.trim_start_matches('$').parse().unwrap();
        let (mut seen, mut found) = (0, None);
        while seen < length {
            let line = self.line();
            seen += line.len() + 2;
            if let Some(value) = line.strip_prefix(&format!("{name}:")) {
                found = Some(value.to_owned());
            }
        }
        self.line();
        found.unwrap()
    }
}

/// Runs the benchmark with some tests, a number of requests in a pipeline, and twenty clients.
fn benchmark(port: &str, tests: &str, pipeline: &str, folder: &Path) {
    let command =
        [BENCHMARK, "-p", port, "-n", "10000", "-c", "20", "-P", pipeline, "-r", "1000", "-t", tests];
    let printed = client(&[&command[..], &["--csv"]].concat(), folder);
    for test in tests.split(',') {
        assert!(printed.contains(&format!("\"{}", test.to_uppercase())), "{printed}");
    }
}

#[test]
fn redis_answers_and_is_benchmarked() {
    if !has_redis() {
        return;
    }
    let (folder, port) = (folder(), free_port());
    let number = port.to_string();
    let command = [REDIS, "--port", &number, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
    let server = Server::start(port, folder.path(), &command);
    let mut client = Client::new(&server);
    assert_eq!(client.ask("SET key value"), "+OK");
    assert_eq!(client.ask("STRLEN key"), ":5");
    // Many requests at once, whose answers are read one by one.
    assert_eq!(client.ask(["INCR n"; 1000].join("\r\n").as_str()), ":1");
    assert!((2..=1000).all(|n| client.line() == format!(":{n}")));
    benchmark(&number, "set,get,lpush,lrange_100", "1", folder.path());
    benchmark(&number, "set,get,lpush", "16", folder.path());
    // Twice from lpush, once from what lrange has made.
    assert_eq!(client.ask("LLEN mylist"), ":30000", "{}", server.output());
}

#[test]
fn redis_writes_a_log_to_a_folder_of_the_host_that_a_native_one_reads() {
    if !has_redis() {
        return;
    }
    let (folder, port) = (folder(), free_port());
    let number = port.to_string();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let settings = ["--port", &number, "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--dir"];
    let settings = [&settings[..], &["./data", "--enable-debug-command", "yes"]].concat();
    let mount = format!("{0}:{0}:rw", data.display());
    let command = [&[REDIS], &settings[..]].concat();
    let mut server = Server::with_flags(port, folder.path(), &["--mount", &mount], &command);
    let mut client = Client::new(&server);
    benchmark(&number, "set,lpush", "16", folder.path());
    // A child writes the log anew.
    assert!(client.ask("BGREWRITEAOF").starts_with("+Background"));
    benchmark(&number, "set,lpush", "1", folder.path());
    while client.info("persistence", "aof_rewrite_in_progress") == "1" {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(client.info("persistence", "aof_last_bgrewrite_status"), "ok");
    assert_eq!(client.info("persistence", "aof_last_write_status"), "ok");
    let digest = client.ask("DEBUG DIGEST");
    client.ask("SHUTDOWN");
    assert!(server.ends(), "{}", server.output());
    let native = Server::native(port, folder.path(), &command);
    let mut client = Client::new(&native);
    while client.info("persistence", "loading") == "1" {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(client.ask("DEBUG DIGEST"), digest, "{}", native.output());
    assert_eq!(client.ask("LLEN mylist"), ":20000");
}

#[test]
fn redis_reads_the_log_that_it_wrote_to_memory() {
    if !has_redis() {
        return;
    }
    let (folder, port) = (folder(), free_port());
    let number = port.to_string();
    let settings = ["--port", &number, "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--dir"];
    let settings = [&settings[..], &["/tmp", "--appendfsync", "always"]].concat();
    let command = [&[REDIS], &settings[..], &["--enable-debug-command", "yes"]].concat();
    let server = Server::start(port, folder.path(), &command);
    let mut client = Client::new(&server);
    benchmark(&number, "set,lpush", "8", folder.path());
    let digest = client.ask("DEBUG DIGEST");
    assert_eq!(client.ask("DEBUG LOADAOF"), "+OK", "{}", server.output());
    assert_eq!(client.ask("DEBUG DIGEST"), digest, "{}", server.output());
    assert_eq!(client.ask("LLEN mylist"), ":10000");
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
