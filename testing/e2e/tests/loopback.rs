//! 127.0.0.1 and ::1 are the enclave's own, but for the ports that the configuration shares with the host.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "in a test, a surprise is a failure")]

use e2e::{Case, Linked, Run, Toolchain, folder, occlum_command, occlum_in, watch};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// A built instance with one program, and with this `network` in its configuration; `None`: no compiler is here.
fn instance(folder: &Path, program: &str, network: &str) -> Option<PathBuf> {
    let program_file = Toolchain::Glibc.compile(program, Linked::Static, folder)?;
    let path = folder.join("instance");
    assert_eq!(occlum_in(folder, &["new", "instance"]).status, 0);
    fs::create_dir_all(path.join("image/bin")).unwrap();
    fs::copy(program_file, path.join("image/bin").join(program)).unwrap();
    let config = fs::read_to_string(path.join("Occlum.json")).unwrap();
    let config = config.replacen('{', &format!("{{\n    \"network\": {network},"), 1);
    fs::write(path.join("Occlum.json"), config).unwrap();
    let built = occlum_in(&path, &["build"]);
    assert_eq!(built.status, 0, "{}", built.errors());
    Some(path)
}

fn run(instance: &Path, arguments: &[&str]) -> Run {
    occlum_in(instance, &[&["run"], arguments].concat())
}

/// Ports that nobody has now.
fn free_ports<const N: usize>() -> [u16; N] {
    let all = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    all.map(|listener| listener.local_addr().unwrap().port())
}

/// Whether a server of the host's loopback sends a byte back.
fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut byte = [0];
    stream.write_all(b".").is_ok() && stream.read_exact(&mut byte).is_ok()
}

/// A program that serves until its standard input ends.
struct Server(Child);

impl Server {
    fn start(instance: &Path, addresses: &[String]) -> Self {
        let mut command = occlum_command();
        command.args(["run", "/bin/reach", "serve"]).args(addresses).current_dir(instance);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        watch(&child);
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "serving\n");
        Self(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

#[test]
fn a_loopback_that_is_the_enclaves_own_behaves_as_on_linux() {
    let folder = folder();
    let Some(instance) = instance(folder.path(), "loopback", "{}") else { return };
    let native = Case::new(folder.path().join("loopback")).native();
    let inside = run(&instance, &["/bin/loopback"]);
    assert_eq!(inside.text(), native.text(), "{}", inside.errors());
    assert_eq!(inside.status, 0);
}

/// Sequences of fixed seeds: what a socket does that is new, connected, shut down or left, and what it is ready for.
#[test]
fn random_calls_about_sockets_do_as_on_linux() {
    let folder = folder();
    let Some(instance) = instance(folder.path(), "random_sockets", "{}") else { return };
    let arguments = |seeds: std::ops::Range<u32>| {
        let seeds = seeds.map(|seed| seed.to_string());
        std::iter::once("100".to_owned()).chain(seeds).collect::<Vec<_>>()
    };
    for first in (61..=124).step_by(16) {
        let arguments = arguments(first..first + 16);
        let native = Case::new(folder.path().join("random_sockets")).args(&arguments).native();
        let program = std::iter::once("/bin/random_sockets").chain(arguments.iter().map(String::as_str));
        let inside = run(&instance, &program.collect::<Vec<_>>());
        assert_eq!(inside.text(), native.text(), "{}", inside.errors());
    }
}

#[test]
fn the_host_reaches_what_is_published_or_bound_to_all_addresses_and_nothing_else() {
    let [published, hidden, all] = free_ports();
    let folder = folder();
    let network = format!("{{\"publish\": [\"tcp/{published}\"]}}");
    let Some(instance) = instance(folder.path(), "reach", &network) else { return };
    let addresses =
        [format!("127.0.0.1:{published}"), format!("127.0.0.1:{hidden}"), format!("0.0.0.0:{all}")];
    let server = Server::start(&instance, &addresses);
    assert!(answers(published), "the port is published");
    assert!(!answers(hidden), "the port is not published");
    assert!(answers(all), "all addresses are also the host's");
    drop(server);
    assert!(!answers(published) && !answers(all), "the server has ended");
}

#[test]
fn programs_reach_the_hosts_loopback_only_where_the_configuration_says_so() {
    let [shared, other] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [shared_port, other_port] = [&shared, &other].map(|one| one.local_addr().unwrap().port());
    for listener in [shared, other] {
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                stream.write_all(&byte).unwrap();
            }
        });
    }
    let folder = folder();
    let network = format!("{{\"host_loopback\": [\"tcp/{shared_port}\"]}}");
    let Some(instance) = instance(folder.path(), "reach", &network) else { return };
    let ports = [shared_port.to_string(), other_port.to_string()];
    let reached = run(&instance, &["/bin/reach", "connect", &ports[0], &ports[1]]);
    assert_eq!(reached.text(), "connect: ok\nconnect: ECONNREFUSED\n", "{}", reached.errors());
    // A program that is tried reaches all of them.
    let tried = Case::new(folder.path().join("reach")).args(["connect", &ports[0], &ports[1]]).enclave();
    assert_eq!(tried.text(), "connect: ok\nconnect: ok\n", "{}", tried.errors());
}

#[test]
fn what_goes_back_and_forth_between_two_threads_is_no_call_of_the_hosts_sockets() {
    let folder = folder();
    let Some(program) = Toolchain::Glibc.compile("bench", Linked::Dynamic, folder.path()) else { return };
    let run = Case::new(program)
        .flags(["--stats"])
        .input("TCP to itself: there and back, 2 threads\t20000\nTCP to itself: write + read 64 KiB\t1000\n")
        .enclave();
    let errors = run.errors();
    assert_eq!(run.status, 0, "{errors}");
    for (name, count) in run.exits() {
        // To make the listener that is published and to close it, and to read standard input.
        let of_sockets = [
            "Socket",
            "Bind",
            "Listen",
            "Accept",
            "Connect",
            "SocketName",
            "Send",
            "Receive",
            "SendMessage",
            "ReceiveMessage",
            "SetOption",
            "GetOption",
            "Poll",
        ];
        assert!(!of_sockets.contains(&name.as_str()) || count < 10, "{name}: {count}");
    }
}
