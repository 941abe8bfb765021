//! Web servers and their clients.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "in a test, a surprise is a failure")]

use e2e::web::{ask_website, nginx_configuration, serve, wrk};
use e2e::{Case, Server, checkout, folder, free_port, installed, noise};
use std::fs;
use std::path::Path;
use std::process::Command;

const PYTHON: &str = "/usr/bin/python3";
const NGINX: &str = "/usr/sbin/nginx";
const WRK: &str = "/usr/bin/wrk";
const JAVA: &str = "/usr/lib/jvm/java-17-openjdk-amd64/bin/java";
const JAVAC: &str = "/usr/lib/jvm/java-17-openjdk-amd64/bin/javac";

/// Copies a program of `testing/programs`.
fn copy_program(name: &str, folder: &Path) {
    fs::copy(checkout().join("testing/programs").join(name), folder.join(name)).unwrap();
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

/// An application that says hello and sends back what it gets.
fn check_application(server: &Server, clients: u32) {
    let hello = |name: u32| format!("{{\"hello\":\"{name}\"}}\n").into_bytes();
    std::thread::scope(|scope| {
        for client in 0..clients {
            scope.spawn(move || {
                assert_eq!(server.get("/"), b"the root");
                assert!((0..10).all(|n| server.get(&format!("/hello/{n}")) == hello(n)), "client {client}");
                let content = noise(100_000 + client * 7919);
                assert!(server.post("/echo", &content) == content, "client {client}");
            });
        }
    });
}

#[test]
fn flask_serves_with_its_own_server_and_with_waitress() {
    let has_python = installed("/usr/lib/python3/dist-packages/flask/__init__.py", "python3-flask");
    if !has_python || !installed("/usr/bin/waitress-serve", "python3-waitress") {
        return;
    }
    for kind in ["own", "waitress"] {
        let (folder, port) = (folder(), free_port());
        copy_program("website.py", folder.path());
        let command = [PYTHON, "website.py", kind, &port.to_string()];
        check_application(&Server::start(port, folder.path(), &command), 6);
    }
}

#[test]
fn gunicorn_serves_with_two_processes_that_it_forked() {
    let is_there = installed("/usr/lib/python3/dist-packages/flask/__init__.py", "python3-flask");
    if !is_there || !installed("/usr/bin/gunicorn", "gunicorn") {
        return;
    }
    let (folder, port) = (folder(), free_port());
    copy_program("website.py", folder.path());
    let address = format!("127.0.0.1:{port}");
    let command =
        ["/usr/bin/gunicorn", "-w", "2", "-b", &address, "--worker-tmp-dir", "/dev/shm", "website:app"];
    let server = Server::start(port, folder.path(), &command);
    check_application(&server, 6);
    assert_eq!(server.output().matches("Booting worker").count(), 2, "{}", server.output());
}

#[test]
fn nginx_keeps_up_with_wrk() {
    if !installed(NGINX, "nginx-light") || !installed(WRK, "wrk") {
        return;
    }
    let folder = folder();
    let port = free_port();
    let content = noise(10 * 1024);
    fs::write(folder.path().join("nginx.conf"), nginx_configuration(port, folder.path(), "")).unwrap();
    fs::write(folder.path().join("page"), &content).unwrap();
    let prefix = folder.path().display().to_string();
    let command = [NGINX, "-p", &prefix, "-c", "nginx.conf", "-e", "stderr"];
    let server = Server::start(port, folder.path(), &command);
    let url = format!("http://127.0.0.1:{port}/page");
    assert!(wrk(1, &["-c", "16", &url], folder.path()) > 0);
    assert!(wrk(1, &["-c", "16", "-H", "Connection: close", &url], folder.path()) > 0);
    assert!(server.get("/page") == content);
}

#[test]
fn nginx_serves_many_connections() {
    if !installed(NGINX, "nginx-light") {
        return;
    }
    let folder = folder();
    let (port, big) = (free_port(), noise(2_000_000));
    let configuration = nginx_configuration(port, folder.path(), "");
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
fn java_serves_http() {
    if !installed(JAVAC, "openjdk-17-jdk-headless") {
        return;
    }
    let (folder, port, body) = (folder(), free_port(), noise(500_000));
    let source = checkout().join("testing/programs/Website.java");
    let compiled = Command::new(JAVAC).arg("-d").arg(folder.path()).arg(source).status().unwrap();
    assert!(compiled.success());
    let server = Server::start(port, folder.path(), &[JAVA, "Website", &port.to_string()]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                assert!((0..20).all(|_| server.get("/this") == b"you want /this"));
                assert!(server.post("/", &body) == body);
            });
        }
    });
}

#[test]
fn go_keeps_hundreds_of_connections_and_forgets_none() {
    let folder = folder();
    let Some(program) = e2e::go("website", false, folder.path()) else { return };
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let server = Server::start(port, folder.path(), &[program.to_str().unwrap(), &address]);
    for _ in 0..3 {
        ask_website(&server, 600);
    }
}

#[test]
fn go_asks_a_server_outside() {
    let folder = folder();
    let (server, client) = ("website", "webclient");
    let Some(server) = e2e::go(server, false, folder.path()) else { return };
    let Some(client) = e2e::go(client, true, folder.path()) else { return };
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let _server = Server::native(port, folder.path(), &[server.to_str().unwrap(), &address]);
    let text = Case::new(client).args([format!("http://{address}")]).text();
    assert_eq!(text.matches("HTTP/1.1 200 ").count(), 40, "{text}");
}

#[test]
fn curl_fetches_from_a_server_outside() {
    const CURL: &str = "/usr/bin/curl";
    if !installed(CURL, "curl") {
        return;
    }
    let port = serve(noise(1_000_000));
    let url = format!("http://localhost:{port}/");
    let run = Case::new(CURL).args(["-sS", "-i", &url]).succeeds();
    assert!(run.stdout.ends_with(&noise(1_000_000)));
    // Nobody listens on this one any more.
    let url = format!("http://127.0.0.1:{}/", free_port());
    assert_eq!(Case::new(CURL).args(["-s", &url]).same().status, 7);
}
