//! Servers of tests: in an enclave or native, and clients outside of both.

use crate::occlum_command;
use crate::run::more_flags;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing that a server does takes longer.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A server, killed when dropped.
pub struct Server {
    child: Child,
    port: u16,
    output: PathBuf,
}

impl Server {
    /// Starts a program in an enclave that listens on `port` of 127.0.0.1, and waits until it does.
    ///
    /// # Panics
    ///
    /// When it ends first, or does not listen.
    pub fn start(port: u16, folder: &Path, command: &[&str]) -> Self {
        Self::with_flags(port, folder, &[], command)
    }

    /// The same, with flags of `occlum try`.
    ///
    /// # Panics
    ///
    /// As [`Server::start`].
    pub fn with_flags(port: u16, folder: &Path, flags: &[&str], command: &[&str]) -> Self {
        let mut try_it = occlum_command();
        try_it.arg("try").args(more_flags()).args(flags).args(command);
        Self::spawn(port, folder, try_it)
    }

    /// Starts a program natively.
    ///
    /// # Panics
    ///
    /// As [`Server::start`].
    pub fn native(port: u16, folder: &Path, command: &[&str]) -> Self {
        let mut native = Command::new(command[0]);
        native.args(&command[1..]);
        Self::spawn(port, folder, native)
    }

    fn spawn(port: u16, folder: &Path, mut command: Command) -> Self {
        let output = folder.join(format!("output-of-{port}"));
        let log = File::create(&output).unwrap();
        command.current_dir(folder).env("LC_ALL", "C").stdin(Stdio::null());
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let mut server = Self { child, port, output };
        let start = Instant::now();
        while !is_up(port) {
            let has_ended = server.child.try_wait().unwrap().is_some();
            assert!(!has_ended && start.elapsed() < PATIENCE, "{command:?} serves: {}", server.output());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// A connection to it.
    ///
    /// # Panics
    ///
    /// When there is none to be had.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port));
        let stream = stream.unwrap_or_else(|error| panic!("{error}; the server said: {}", self.output()));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends all of `request`, says that no more comes if `ends`, and returns all of the answer.
    ///
    /// # Panics
    ///
    /// When the connection breaks.
    pub fn ask(&self, request: &[u8], ends: bool) -> Vec<u8> {
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
    ///
    /// # Panics
    ///
    /// When the status is not 200.
    pub fn get(&self, path: &str) -> Vec<u8> {
        self.body(format!("GET {path} HTTP/1.0\r\nHost: here\r\n\r\n").as_bytes())
    }

    /// What comes back when `content` is sent to a document, by HTTP/1.0.
    ///
    /// # Panics
    ///
    /// When the status is not 200.
    pub fn post(&self, path: &str, content: &[u8]) -> Vec<u8> {
        let kind = "Content-Type: application/octet-stream";
        let head = format!("POST {path} HTTP/1.0\r\n{kind}\r\nContent-Length: {}\r\n\r\n", content.len());
        self.body(&[head.as_bytes(), content].concat())
    }

    fn body(&self, request: &[u8]) -> Vec<u8> {
        let answer = self.ask(request, false);
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        assert!(head.lines().next().unwrap().contains(" 200 "), "{head}; the server said: {}", self.output());
        answer[end + 4..].to_vec()
    }

    /// What it printed so far.
    ///
    /// # Panics
    ///
    /// When that cannot be read.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap()).into_owned()
    }

    /// Waits until it ends by itself, and returns whether it succeeded.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub fn ends(&mut self) -> bool {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            assert!(start.elapsed() < PATIENCE, "the server ends: {}", self.output());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whether somebody listens on a port. The kernel tells, so that a server that serves one connection is not disturbed.
fn is_up(port: u16) -> bool {
    let wanted = format!(":{port:04X}");
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
        fs::read_to_string(table).unwrap_or_default().lines().any(|line| {
            // Number, local address, remote address, state: 0A is LISTEN.
            let mut columns = line.split_whitespace().skip(1);
            let is_local = columns.next().is_some_and(|local| local.ends_with(&wanted));
            is_local && columns.nth(1) == Some("0A")
        })
    })
}

/// A port of 127.0.0.1 that nobody listens on.
///
/// # Panics
///
/// When there is none.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Bytes that do not repeat.
pub fn noise(length: u32) -> Vec<u8> {
    (0..length).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Standard output of a client outside, which succeeds.
///
/// # Panics
///
/// When it does not start, or fails.
pub fn client(command: &[&str], folder: &Path) -> String {
    let run = Command::new(command[0]).args(&command[1..]).current_dir(folder).env("LC_ALL", "C").output();
    let run = run.unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let (printed, errors) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{command:?}: {printed}{errors}");
    printed.into_owned()
}
