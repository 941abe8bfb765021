//! Servers in an enclave, clients outside, and the other way round: what is neither the web (`web.rs`, `tls.rs`) nor a store
//! (`stores.rs`).
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "in a test, a surprise is a failure")]

use e2e::{Case, Linked, PATIENCE, Run, Server, Toolchain, folder, free_port, installed, noise, source};
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::thread;

const PYTHON: &str = "/usr/bin/python3";

#[test]
fn python_asyncio_echoes_to_many_clients_at_once() {
    if !installed(PYTHON, "python3") {
        return;
    }
    let folder = folder();
    let port = free_port();
    let program = source("echo.py");
    let server = Server::start(port, folder.path(), &[PYTHON, "-c", &program, &port.to_string()]);
    thread::scope(|scope| {
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

/// A server that sends back each datagram.
fn echo() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut data = vec![0; 70_000];
        while let Ok((length, peer)) = socket.recv_from(&mut data) {
            let _ = socket.send_to(&data[..length], peer);
        }
    });
    port
}

#[test]
fn several_datagrams_in_one_call_are_one_call_of_the_host() {
    let folder = folder();
    let Some(program) = Toolchain::Glibc.compile("datagrams", Linked::Dynamic, folder.path()) else { return };
    let ports = [echo().to_string(), free_port().to_string()];
    Case::new(&program).args(&ports).succeeds();
    let run = Case::new(&program).args(&ports).flags(["--stats"]).enclave();
    let errors = run.errors();
    let count = |name: &str| -> u32 {
        let line = errors.lines().find(|line| line.split_whitespace().nth(1) == Some(name));
        line.map_or(0, |line| line.split_whitespace().next().unwrap().parse().unwrap())
    };
    // The program sends more than 70 datagrams with 20 calls and receives as many.
    let (alone, together) = (count("Send") + count("SendMessage"), count("SendMessages"));
    assert!((1..25).contains(&together) && alone < 10, "{errors}");
    let (alone, together) = (count("Receive") + count("ReceiveMessage"), count("ReceiveMessages"));
    assert!((1..40).contains(&together) && alone < 12, "{errors}");
}

const IPERF: &str = "/usr/bin/iperf3";

#[test]
fn iperf_measures_in_both_directions_over_tcp_and_udp() {
    if !installed(IPERF, "iperf3") {
        return;
    }
    let (folder, port) = (folder(), free_port());
    let number = port.to_string();
    let ways: [&[&str]; 4] = [
        &["-n", "20M"],
        &["-n", "20M", "-R", "-P", "3"],
        &["-u", "-b", "0", "-n", "2M"],
        &["-n", "20M", "--bidir"],
    ];
    let listen = [IPERF, "-s", "--bind", "127.0.0.1", "--port", &number];
    let client = |way: &[&str]| Case::new(IPERF).args(["--client", "127.0.0.1", "--port", &number]).args(way);
    let inside = Server::start(port, folder.path(), &listen);
    for way in ways {
        measure(|| client(way).native(), &inside);
    }
    drop(inside);
    let outside = Server::native(port, folder.path(), &listen);
    for way in ways {
        measure(|| client(way).enclave(), &outside);
    }
}

/// Runs a client of iperf3, until the server has noticed that the one before has ended.
fn measure(client: impl Fn() -> Run, server: &Server) {
    for _ in 0..100 {
        let run = client();
        if run.text().ends_with("iperf Done.\n") {
            return;
        }
        let printed = run.text() + &run.errors();
        assert!(printed.contains("the server is busy"), "{printed}{}", server.output());
        thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("the server stays busy: {}", server.output());
}

const SOCAT: &str = "/usr/bin/socat";

#[test]
fn socat_bridges_connections_datagrams_and_programs() {
    if !installed(SOCAT, "socat") {
        return;
    }
    let folder = folder();
    // From here to an echo outside, by a process for each connection.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("TCP:127.0.0.1:{}", listener.local_addr().unwrap().port());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut content = Vec::new();
            stream.read_to_end(&mut content).unwrap();
            content.reverse();
            stream.write_all(&content).unwrap();
        }
    });
    let port = free_port();
    let listen = format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr");
    let bridge = Server::start(port, folder.path(), &[SOCAT, &listen, &target]);
    for length in [1, 1000, 200_000] {
        let sent = noise(length);
        let answer = bridge.ask(&sent, true);
        assert!(answer.iter().rev().eq(&sent), "{length} bytes: {}", bridge.output());
    }
    // To a program, through a socket of the Unix domain.
    let port = free_port();
    let script = format!(
        "socat UNIX-LISTEN:/tmp/middle,fork EXEC:'sort -r' & while ! [ -S /tmp/middle ]; do :; done;
         exec socat TCP-LISTEN:{port},bind=127.0.0.1,fork UNIX-CONNECT:/tmp/middle"
    );
    let flags = ["--with", SOCAT, "--with", "/usr/bin/sort"];
    let sorted = Server::with_flags(port, folder.path(), &flags, &["/bin/dash", "-c", &script]);
    for _ in 0..3 {
        assert_eq!(sorted.ask(b"1\n3\n2\n", true), b"3\n2\n1\n", "{}", sorted.output());
    }
}
