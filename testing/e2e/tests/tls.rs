//! TLS and HTTP/2: servers and clients in an enclave, others outside.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "in a test, a surprise is a failure")]

use e2e::{Case, Server, checkout, client, folder, free_port, installed, noise};
use std::fs;
use std::path::Path;

const OPENSSL: &str = "/usr/bin/openssl";
const CURL: &str = "/usr/bin/curl";
const NGINX: &str = "/usr/sbin/nginx";

/// Whether OpenSSL and curl are there; makes a key and a certificate for localhost.
fn certify(folder: &Path) -> bool {
    let is_there = installed(OPENSSL, "openssl") && installed(CURL, "curl");
    if is_there {
        let name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
        let what = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let files = ["-keyout", "key.pem", "-out", "certificate.pem", "-days", "2"];
        client(&[&[OPENSSL], &what[..], &files, &name].concat(), folder);
    }
    is_there
}

/// Fetches a document, checks the certificate, and returns the body and the version of HTTP.
fn fetch(url: &str, folder: &Path) -> (Vec<u8>, String) {
    let command = [CURL, "-sS", "--cacert", "certificate.pem", "-o", "fetched", "-w", "%{http_version}", url];
    let version = client(&command, folder);
    (fs::read(folder.join("fetched")).unwrap(), version)
}

#[test]
fn openssl_and_curl_ask_a_server_of_tls_outside() {
    let (folder, port) = (folder(), free_port());
    if !certify(folder.path()) {
        return;
    }
    let content = noise(1_000_000);
    fs::write(folder.path().join("page"), &content).unwrap();
    let address = format!("127.0.0.1:{port}");
    let command =
        [OPENSSL, "s_server", "-accept", &address, "-cert", "certificate.pem", "-key", "key.pem", "-WWW"];
    let _server = Server::native(port, folder.path(), &command);
    let url = format!("https://localhost:{port}/page");
    let curl = Case::new(CURL).within(folder.path());
    assert!(curl.clone().args(["-sS", "--cacert", "certificate.pem", &url]).succeeds().stdout == content);
    // Nobody vouches for the certificate.
    assert_eq!(curl.args(["-sS", &url]).same().status, 60);
    let flags = ["s_client", "-connect", &address, "-CAfile", "certificate.pem", "-verify_return_error"];
    let run = Case::new(OPENSSL).args(flags).args(["-brief", "-quiet"]).within(folder.path());
    let run = run.input("GET /page HTTP/1.0\r\n\r\n").succeeds();
    assert!(run.stdout.ends_with(&content), "{}", run.errors());
}

#[test]
fn openssl_serves_tls_to_clients_outside_and_inside() {
    let (folder, port) = (folder(), free_port());
    if !certify(folder.path()) {
        return;
    }
    let content = noise(1_000_000);
    fs::write(folder.path().join("page"), &content).unwrap();
    let address = format!("127.0.0.1:{port}");
    let command =
        [OPENSSL, "s_server", "-accept", &address, "-cert", "certificate.pem", "-key", "key.pem", "-WWW"];
    let _server = Server::start(port, folder.path(), &command);
    let url = format!("https://localhost:{port}/page");
    for _ in 0..3 {
        assert!(fetch(&url, folder.path()).0 == content);
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let flags = ["s_client", "-connect", &address, "-CAfile", "certificate.pem", "-verify_return_error"];
        let case = Case::new(OPENSSL).args(flags).args(["-quiet", version]).within(folder.path());
        let run = case.input("GET /page HTTP/1.0\r\n\r\n").enclave();
        assert!(run.status == 0 && run.stdout.ends_with(&content), "{}", run.errors());
    }
}

#[test]
fn a_shell_in_an_enclave_fetches_from_a_server_of_tls_beside_it() {
    let (folder, port) = (folder(), free_port());
    if !certify(folder.path()) {
        return;
    }
    fs::write(folder.path().join("page"), noise(100_000)).unwrap();
    let script = format!(
        "openssl s_server -accept 127.0.0.1:{port} -cert certificate.pem -key key.pem -WWW >/dev/null 2>&1 &
         for try in 1 2 3; do
             curl -sS --retry 50 --retry-delay 0 --retry-connrefused --cacert certificate.pem https://localhost:{port}/page |
                 cksum
         done
         kill $!"
    );
    let flags = ["--with", OPENSSL, "--with", CURL, "--with", "/usr/bin/cksum"];
    let case = Case::new("/bin/dash").args(["-c", &script]).flags(flags).within(folder.path());
    let (native, enclave) = (case.native(), case.enclave());
    assert!(native.text().lines().count() == 3 && native.text() == enclave.text(), "{}", enclave.errors());
}

#[test]
fn nginx_serves_tls_and_http_2() {
    const WRK: &str = "/usr/bin/wrk";
    let (folder, port) = (folder(), free_port());
    let is_there = installed(NGINX, "nginx-light") && installed(WRK, "wrk");
    if !is_there || !installed("/usr/bin/h2load", "nghttp2-client") || !certify(folder.path()) {
        return;
    }
    let content = noise(10 * 1024);
    fs::write(folder.path().join("page"), &content).unwrap();
    let configuration = format!(
        "daemon off; master_process off; pid /tmp/nginx.pid; error_log stderr;
         events {{ worker_connections 128; }}
         http {{ access_log off; client_body_temp_path /tmp/1; proxy_temp_path /tmp/2; fastcgi_temp_path /tmp/3;
                 uwsgi_temp_path /tmp/4; scgi_temp_path /tmp/5;
                 server {{ listen 127.0.0.1:{port} ssl http2; root {};
                           ssl_certificate certificate.pem; ssl_certificate_key key.pem; }} }}",
        folder.path().display()
    );
    fs::write(folder.path().join("nginx.conf"), configuration).unwrap();
    let prefix = folder.path().display().to_string();
    let _server =
        Server::start(port, folder.path(), &[NGINX, "-p", &prefix, "-c", "nginx.conf", "-e", "stderr"]);
    let url = format!("https://localhost:{port}/page");
    assert!(fetch(&url, folder.path()) == (content, "2".to_owned()));
    let printed = client(&[WRK, "-d", "1", "-t", "1", "-c", "8", &url], folder.path());
    assert!(printed.contains(" requests in ") && !printed.contains("Socket errors"), "{printed}");
    many_streams(&url, folder.path());
}

/// Asks for a document 400 times, ten times at once over each of four connections.
fn many_streams(url: &str, folder: &Path) {
    let printed = client(&["/usr/bin/h2load", "-n", "400", "-c", "4", "-m", "10", url], folder);
    assert!(printed.contains("400 succeeded, 0 failed"), "{printed}");
}

#[test]
fn nghttpd_serves_http_2_with_two_threads() {
    const NGHTTPD: &str = "/usr/sbin/nghttpd";
    let (folder, port) = (folder(), free_port());
    let is_there = installed(NGHTTPD, "nghttp2-server") && installed("/usr/bin/h2load", "nghttp2-client");
    if !is_there || !certify(folder.path()) {
        return;
    }
    let content = noise(300_000);
    fs::write(folder.path().join("page"), &content).unwrap();
    let prefix = folder.path().display().to_string();
    let number = port.to_string();
    let command = [NGHTTPD, "-n", "2", "-d", &prefix, &number, "key.pem", "certificate.pem"];
    let _server = Server::start(port, folder.path(), &command);
    let url = format!("https://localhost:{port}/page");
    assert!(fetch(&url, folder.path()) == (content, "2".to_owned()));
    many_streams(&url, folder.path());
}

#[test]
fn go_serves_and_asks_by_http_2() {
    let (folder, port) = (folder(), free_port());
    let Some(server) = e2e::go("website", true, folder.path()) else { return };
    let Some(asks) = e2e::go("webclient", false, folder.path()) else { return };
    if !certify(folder.path()) {
        return;
    }
    let address = format!("127.0.0.1:{port}");
    let command = [server.to_str().unwrap(), &address, "certificate.pem", "key.pem"];
    let _server = Server::start(port, folder.path(), &command);
    let url = format!("https://localhost:{port}");
    let text = Case::new(asks).args([&url, "certificate.pem"]).within(folder.path()).text();
    assert_eq!(text.matches("HTTP/2.0 200 ").count(), 40, "{text}");
}

#[test]
fn grpc_serves_and_calls() {
    const PYTHON: &str = "/usr/bin/python3";
    if !installed("/usr/lib/python3/dist-packages/grpc/__init__.py", "python3-grpcio") {
        return;
    }
    let (folder, port) = (folder(), free_port());
    let program = "calls.py";
    fs::copy(checkout().join("testing/programs").join(program), folder.path().join(program)).unwrap();
    let number = port.to_string();
    let _server = Server::start(port, folder.path(), &[PYTHON, program, "serve", &number]);
    let text = Case::new(PYTHON).args([program, "call", &number]).within(folder.path()).text();
    assert!(text.ends_with("['0', '1', '2', '3', '4']\nStatusCode.UNIMPLEMENTED\n"), "{text}");
}
