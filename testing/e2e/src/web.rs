//! The web in tests: a configuration of nginx, clients that hurry, a server outside of the enclave.

use crate::server::{Server, client};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;

/// The configuration of one process that serves the folder, with `more` of it for HTTP.
pub fn nginx_configuration(port: u16, folder: &Path, more: &str) -> String {
    format!(
        "daemon off; master_process off; pid /tmp/nginx.pid; error_log stderr;
         events {{ worker_connections 1200; }}
         http {{ access_log off; sendfile on; {more} server {{ listen 127.0.0.1:{port} backlog=1024; root {}; }}
                 client_body_temp_path /tmp/1; proxy_temp_path /tmp/2; fastcgi_temp_path /tmp/3;
                 uwsgi_temp_path /tmp/4; scgi_temp_path /tmp/5; }}",
        folder.display()
    )
}

/// Runs wrk for some seconds, and returns how many requests it made, all of which were answered well.
pub fn wrk(seconds: u32, arguments: &[&str], folder: &Path) -> u64 {
    let seconds = seconds.to_string();
    let command = [&["/usr/bin/wrk", "-t", "1", "-d", &seconds], arguments].concat();
    let printed = client(&command, folder);
    let is_clean = !printed.contains("Socket errors") && !printed.contains("Non-2xx");
    let count = printed.lines().find_map(|line| line.trim().split_once(" requests in "));
    assert!(is_clean && count.is_some(), "{printed}");
    count.unwrap().0.parse().unwrap()
}

/// Asks the program `website` while many connections say nothing, and then these.
pub fn ask_website(server: &Server, idle: usize) {
    let mut idle: Vec<TcpStream> = (0..idle).map(|_| server.connect()).collect();
    thread::scope(|scope| {
        for client in 0..4 {
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

/// Serves a body to whoever asks, from a thread of the test. Returns the port.
pub fn serve(body: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while request.read_line(&mut line).unwrap() > 2 {
                line.clear();
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Who: outside\r\n\r\n", body.len());
            // The client may have seen enough.
            drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)));
        }
    });
    port
}
