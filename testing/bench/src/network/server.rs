//! Servers under load, and the exits that they needed.

use anyhow::{Context, Result, ensure};
use bench::{World, occlum};
use std::collections::BTreeMap;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// A port of 127.0.0.1 that nobody listens on.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A server that runs.
pub(crate) struct Server {
    child: Child,
    world: World,
}

impl Server {
    /// Starts a server that listens on a port, and waits until it does. The folder is in its image.
    pub(crate) fn start(world: World, folder: &Path, port: u16, command: &[&str]) -> Result<Self> {
        let (program, arguments) = command.split_first().context("no program")?;
        let mut start = match world {
            World::Native => Command::new(program),
            World::Enclave => Command::new(occlum()?),
        };
        if world == World::Enclave {
            let more = std::env::var("OCCLUM_TRY_FLAGS").unwrap_or_default();
            start.args(["try", "--stats"]).args(more.split_whitespace());
            start.arg("--with").arg(folder).arg(program);
        }
        start
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut this = Self { child: start.spawn().with_context(|| format!("{start:?}"))?, world };
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let is_over = this.child.try_wait()?.is_some() || begin.elapsed() > PATIENCE;
            ensure!(!is_over, "{start:?} does not serve: {}", this.errors()?);
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(this)
    }

    /// Ends it and returns how often it left its enclave.
    pub(crate) fn end(mut self) -> Result<u64> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let errors = self.errors()?;
        self.child.wait()?;
        if self.world == World::Native {
            return Ok(0);
        }
        let exits = errors.lines().find_map(|line| line.strip_prefix("enclave exits by OCALL: "));
        exits.with_context(|| format!("no statistics: {errors}"))?.trim().parse().context("not a number")
    }

    /// What it says until it ends.
    fn errors(&mut self) -> Result<String> {
        let mut text = Vec::new();
        self.child.stderr.take().context("no stderr")?.read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already, unless something failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Exits of each server: of one that was not asked, and of those that were, with the number of requests.
#[derive(Default)]
pub(crate) struct Exits {
    order: Vec<String>,
    idle: BTreeMap<String, u64>,
    asked: BTreeMap<String, (u64, u64)>,
}

impl Exits {
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.idle.contains_key(name)
    }

    pub(crate) fn set_idle(&mut self, name: &str, exits: u64) {
        self.order.push(name.to_owned());
        self.idle.insert(name.to_owned(), exits);
    }

    pub(crate) fn add(&mut self, name: &str, exits: u64, requests: u64) {
        let own = exits.saturating_sub(self.idle.get(name).copied().unwrap_or(0));
        let sum = self.asked.entry(name.to_owned()).or_default();
        *sum = (sum.0 + own, sum.1 + requests);
    }

    /// Prints exits per request as Markdown.
    pub(crate) fn print(&self) {
        println!("\n| what | exits for one |\n|---|---|");
        for name in &self.order {
            if let Some(&(exits, requests)) = self.asked.get(name) {
                println!("| {name} | {:.2} |", exits as f64 / requests.max(1) as f64);
            }
        }
    }
}
