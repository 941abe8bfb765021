//! What is outside and does not stay as it is: files that somebody replaces; sockets of the host that say more than that data is there,
//! or to whom: those of the Unix domain, who waits, and who is signalled.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "in a test, a surprise is a failure")]

use e2e::{Case, Linked, Toolchain, folder, installed, occlum_in};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

const PYTHON: &str = "/usr/bin/python3";

/// Servers at `stream`, `packets` and `datagrams` in a folder, as the program `outside` wants them. Ended when dropped.
struct Servers(Child);

impl Servers {
    fn start(folder: &Path) -> Self {
        let program = "
import socket, sys, threading
def echo(peer):
    while data := peer.recv(65536):
        peer.sendall(data)
    peer.close()
def serve(listener):
    while True:
        threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()
folder = sys.argv[1]
for kind, name in ((socket.SOCK_STREAM, '/stream'), (socket.SOCK_SEQPACKET, '/packets')):
    listener = socket.socket(socket.AF_UNIX, kind)
    listener.bind(folder + name)
    listener.listen()
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
drop = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
drop.bind(folder + '/datagrams')
print('ready', flush=True)
while True:
    drop.recv(65536)
";
        let mut command = Command::new(PYTHON);
        command.args(["-c", program]).arg(folder).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }
}

/// A server by TCP and UDP, as the program `signalled` wants it, and its port. Ended when dropped.
fn server_that_obeys() -> (Servers, String) {
    let program = "
import socket, threading
def serve(peer):
    while order := peer.recv(1):
        if order == b'c':
            break
        peer.send(b'!' if order == b'u' else b'd', socket.MSG_OOB if order == b'u' else 0)
    peer.close()
def echo():
    while True:
        data, sender = datagrams.recvfrom(100)
        datagrams.sendto(data, sender)
listener = socket.create_server(('127.0.0.1', 0))
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind(listener.getsockname())
threading.Thread(target=echo, daemon=True).start()
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
";
    let mut child = Command::new(PYTHON).args(["-c", program]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Servers(child), line.trim().to_owned())
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_program_that_is_tried_reaches_the_hosts_socket_files_as_on_linux() {
    let folder = folder();
    let Some(program) = Toolchain::Glibc.compile("outside", Linked::Dynamic, folder.path()) else { return };
    if !installed(PYTHON, "python3") {
        return;
    }
    let _servers = Servers::start(folder.path());
    let paths = ["stream", "packets", "datagrams"].map(|name| folder.path().join(name));
    let case = Case::new(&program).args(&paths).within(folder.path());
    case.succeeds();
    let refused = case.env("DESCRIPTORS", "1").enclave();
    assert!(refused.text().contains("a descriptor: EOPNOTSUPP\n"), "{}", refused.text());
}

#[test]
fn whichever_thread_waits_for_a_socket_of_the_host_hears_of_it() {
    let folder = folder();
    let Some(program) = Toolchain::Glibc.compile("waiters", Linked::Dynamic, folder.path()) else { return };
    if !installed(PYTHON, "python3") {
        return;
    }
    let _servers = Servers::start(folder.path());
    Case::new(&program).args([folder.path().join("stream")]).within(folder.path()).succeeds();
}

#[test]
fn who_owns_a_socket_of_the_host_is_signalled_while_it_computes() {
    let folder = folder();
    let Some(program) = Toolchain::Glibc.compile("signalled", Linked::Dynamic, folder.path()) else { return };
    if !installed(PYTHON, "python3") {
        return;
    }
    let (_server, port) = server_that_obeys();
    Case::new(&program).args([port]).succeeds();
}

#[test]
fn a_mount_says_whether_programs_connect_to_the_sockets_in_it() {
    let folder = folder();
    let Some(program) = Toolchain::Glibc.compile("client", Linked::Static, folder.path()) else { return };
    let shared = folder.path().join("shared");
    fs::create_dir(&shared).unwrap();
    let listener = UnixListener::bind(shared.join("socket")).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut question = [0; 8];
            stream.read_exact(&mut question).unwrap();
            stream.write_all(b"answer").unwrap();
        }
    });
    for (option, expected) in
        [("true", "connect: ok\nwrite: 8\nread: 6\n"), ("false", "connect: ECONNREFUSED\n")]
    {
        let path = folder.path().join(option);
        assert_eq!(occlum_in(folder.path(), &["new", option]).status, 0);
        fs::create_dir_all(path.join("image/bin")).unwrap();
        fs::copy(&program, path.join("image/bin/client")).unwrap();
        let config = fs::read_to_string(path.join("Occlum.json")).unwrap();
        let mount = format!(
            "\"mount\": [\n{{\"target\": \"/shared\", \"type\": \"hostfs\", \"source\": {shared:?}, \"options\": {{\"sockets\": {option}}}}},"
        );
        fs::write(path.join("Occlum.json"), config.replace("\"mount\": [", &mount)).unwrap();
        let built = occlum_in(&path, &["build"]);
        assert_eq!(built.status, 0, "{}", built.errors());
        let run = occlum_in(&path, &["run", "/bin/client", "/shared/socket"]);
        assert_eq!(run.text(), expected, "{option}: {}", run.errors());
    }
}

/// Does to a folder what the program `replaced` asks for, until it ends.
fn obey(mut peer: TcpStream, folder: &Path) {
    let at = |name: &str| folder.join(name);
    let many = || (0..300_u32).map(|number| (number, at(&format!("many-{number}"))));
    let mut order = [0];
    while peer.read(&mut order).unwrap() == 1 {
        match order[0] {
            b's' => fs::write(at("log"), "first\n").unwrap(),
            b'r' => {
                fs::rename(at("log"), at("log.1")).unwrap();
                fs::write(at("log"), "new\n").unwrap();
            }
            b'd' => fs::remove_file(at("log")).unwrap(),
            b'm' => many().for_each(|(number, path)| fs::write(path, number.to_le_bytes()).unwrap()),
            b'u' => many().for_each(|(_, path)| fs::remove_file(path).unwrap()),
            b'f' => {
                let mut content = vec![0; 1_050_000];
                peer.read_exact(&mut content).unwrap();
                let sum =
                    content.iter().fold(0_u32, |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
                peer.write_all(&sum.to_le_bytes()).unwrap();
                continue;
            }
            other => panic!("{other} is no order"),
        }
        peer.write_all(b".").unwrap();
    }
}

#[test]
fn open_files_stay_what_they_are_when_somebody_outside_replaces_them() {
    let folder = folder();
    let Some(program) = Toolchain::Glibc.compile("replaced", Linked::Dynamic, folder.path()) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let place = folder.path().join("shared");
    fs::create_dir(&place).unwrap();
    let his = place.clone();
    // Nobody waits for it: it may be left alone by a program that fails.
    thread::spawn(move || listener.incoming().for_each(|peer| obey(peer.unwrap(), &his)));
    let mount = format!("{0}:{0}:rw", place.display());
    let case = Case::new(&program).args([place.as_os_str(), port.as_ref()]).within(folder.path());
    let case = case.flags(["--mount", &mount]);
    case.succeeds();
    // Neither what is sent to a socket of the host nor what is opened costs more than a call.
    let exits = case.flags(["--stats"]).enclave().exits();
    let count = |name: &str| exits.iter().find(|(other, _)| other == name).map_or(0, |&(_, count)| count);
    assert!(count("SendFile") >= 3 && count("Send") < 20, "{exits:?}");
    assert!((300..570).contains(&count("LookUp")) && count("OpenAt") < 100, "{exits:?}");
}
