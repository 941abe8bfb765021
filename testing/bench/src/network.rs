//! Servers: what a client outside waits for, natively and in an enclave, and how often the enclave is left for a request.
//!
//! The worlds take turns. All values are times, so that a ratio above 1 says that the enclave is slower. Exits are those of a
//! server that was asked less those of one that was not, as `--stats` counts them.
#![forbid(unsafe_code)]

#[path = "network/load.rs"]
mod load;
#[path = "network/server.rs"]
mod server;

use anyhow::{Context, Result};
use bench::{Table, World, run};
use server::{Exits, Server};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// How often each server runs in each world.
const ROUNDS: usize = 2;
const CONNECTIONS_IDLE: usize = 10_000;

fn main() -> Result<()> {
    // Not under /tmp, where an enclave has a file system of its own.
    let folder = TempDir::with_prefix_in("occlum-bench-", "/var/tmp")?;
    load::raise_limit();
    let mut results = Results { folder, times: Table::default(), exits: Exits::default() };
    let only = std::env::args().nth(1);
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let parts: [(&str, Part); 4] =
        [("sockets", sockets), ("redis", redis), ("nginx", nginx), ("memcached", memcached)];
    for (name, part) in parts.into_iter().filter(|(name, _)| wanted(name)) {
        for _ in 0..ROUNDS {
            for world in World::BOTH {
                part(&mut results, world).with_context(|| format!("{name}, {world:?}"))?;
            }
        }
    }
    results.times.print("us");
    results.exits.print();
    Ok(())
}

/// Starts servers of a kind in a world and asks them.
type Part = fn(&mut Results, World) -> Result<()>;

/// What was found, and the folder that the servers serve.
struct Results {
    folder: TempDir,
    times: Table,
    exits: Exits,
}

impl Results {
    fn path(&self, name: &str) -> Result<String> {
        Ok(self.folder.path().join(name).to_str().context("a strange path")?.to_owned())
    }

    /// Starts a server, has it asked, and ends it. `load` returns the times in microseconds, and how many requests it made.
    fn measure(
        &mut self,
        (name, world): (&str, World),
        (port, command): (u16, &[&str]),
        load: impl FnOnce(u16) -> Result<(Vec<(String, f64)>, u64)>,
    ) -> Result<()> {
        if world == World::Enclave && !self.exits.knows(name) {
            self.exits.set_idle(name, Server::start(world, self.folder.path(), port, command)?.end()?);
        }
        let server = Server::start(world, self.folder.path(), port, command)?;
        let (times, requests) = load(port)?;
        for (what, time) in times {
            self.times.add(&what, world, time);
        }
        let exits = server.end()?;
        if world == World::Enclave {
            self.exits.add(name, exits, requests);
        }
        Ok(())
    }
}

/// Sockets themselves, with `testing/programs/peer.c`.
fn sockets(results: &mut Results, world: World) -> Result<()> {
    let program = results.path("peer")?;
    if !Path::new(&program).exists() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../programs/peer.c");
        run(Command::new("gcc").args(["-O2", "-w", "-o"]).arg(&program).arg(source))?;
    }
    let port = server::free_port()?;
    let number = port.to_string();
    let line = (port, &[program.as_str(), &number][..]);
    results.measure(("TCP, there and back", world), line, |port| {
        let count = 20_000;
        Ok((vec![("TCP, there and back".to_owned(), load::round_trips(port, count)?)], count))
    })?;
    results.measure(("TCP connection", world), line, |port| {
        let count = 3000;
        Ok((vec![("TCP, connect + close".to_owned(), load::connections(port, count)?)], count))
    })?;
    for size in [4096, 65536] {
        let name = format!("TCP, MiB in blocks of {} KiB", size / 1024);
        results.measure((&format!("{name}, sent"), world), line, |port| {
            Ok((vec![(format!("{name}, sent"), load::download(port, size)?)], load::MEBIBYTES))
        })?;
        results.measure((&format!("{name}, received"), world), line, |port| {
            Ok((vec![(format!("{name}, received"), load::upload(port, size)?)], load::MEBIBYTES))
        })?;
    }
    let name = format!("TCP, there and back beside {CONNECTIONS_IDLE} idle in one epoll");
    results.measure((&name, world), line, |port| {
        let count = 20_000;
        let _idle = load::idle(port, CONNECTIONS_IDLE)?;
        Ok((vec![(name.clone(), load::round_trips(port, count)?)], count + CONNECTIONS_IDLE as u64))
    })
}

/// Whether programs are there.
fn are_there(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| !Path::new(program).exists());
    missing.inspect(|program| eprintln!("SKIPPED: `{program}` is missing")).is_none()
}

fn redis(results: &mut Results, world: World) -> Result<()> {
    const REDIS: &str = "/usr/bin/redis-server";
    const BENCHMARK: &str = "/usr/bin/redis-benchmark";
    if !are_there(&[REDIS, BENCHMARK]) {
        return Ok(());
    }
    let port = server::free_port()?;
    let address = port.to_string();
    let command = [REDIS, "--port", &address, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
    for (pipeline, count) in [("1", 40_000u64), ("16", 200_000)] {
        let name = format!("redis, {pipeline} at once");
        results.measure((&name, world), (port, &command), |_| {
            let number = count.to_string();
            let arguments =
                ["-p", &address, "-c", "20", "-n", &number, "-P", pipeline, "-t", "get,set,lpush", "--csv"];
            let output = run(Command::new(BENCHMARK).args(arguments))?;
            let text = String::from_utf8(output.stdout)?;
            let mut times = Vec::new();
            for line in text.lines().skip(1) {
                let mut columns = line.split(',').map(|column| column.trim_matches('"'));
                let test = columns.next().context("no name")?;
                let rate: f64 = columns.next().context("no rate")?.parse()?;
                times.push((format!("redis {test}, {pipeline} at once"), 1e6 / rate));
            }
            Ok((times, 3 * count))
        })?;
    }
    Ok(())
}

fn nginx(results: &mut Results, world: World) -> Result<()> {
    const NGINX: &str = "/usr/sbin/nginx";
    const WRK: &str = "/usr/bin/wrk";
    if !are_there(&[NGINX, WRK, "/usr/bin/openssl"]) {
        return Ok(());
    }
    let (plain, secret) = (server::free_port()?, server::free_port()?);
    std::fs::write(results.path("page")?, vec![b'x'; 10 * 1024])?;
    let key =
        ["-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "certificate.pem", "-subj", "/CN=it"];
    run(Command::new("/usr/bin/openssl")
        .args(["req", "-x509"])
        .args(key)
        .current_dir(results.folder.path()))?;
    let configuration = format!(
        "daemon off; master_process off; pid /tmp/nginx.pid; error_log stderr; events {{ worker_connections 512; }}
         http {{ access_log off; sendfile on; keepalive_requests 10000000; root {};
                 server {{ listen 127.0.0.1:{plain}; }}
                 server {{ listen 127.0.0.1:{secret} ssl; ssl_certificate certificate.pem; ssl_certificate_key key.pem; }}
                 client_body_temp_path /tmp/1; proxy_temp_path /tmp/2; fastcgi_temp_path /tmp/3;
                 uwsgi_temp_path /tmp/4; scgi_temp_path /tmp/5; }}",
        results.folder.path().display()
    );
    std::fs::write(results.path("nginx.conf")?, configuration)?;
    let prefix = results.path("")?;
    let command = [NGINX, "-p", &prefix, "-c", "nginx.conf", "-e", "stderr"];
    let ways: [(&str, &[&str]); 3] = [
        ("nginx, 10 KiB, kept alive", &[&format!("http://127.0.0.1:{plain}/page")]),
        (
            "nginx, 10 KiB, a connection each",
            &["-H", "Connection: close", &format!("http://127.0.0.1:{plain}/page")],
        ),
        ("nginx, 10 KiB, TLS, kept alive", &[&format!("https://127.0.0.1:{secret}/page")]),
    ];
    for (name, arguments) in ways {
        results.measure((name, world), (plain, &command), |_| {
            let output = run(Command::new(WRK).args(["-c", "16", "-t", "1", "-d", "2"]).args(arguments))?;
            let text = String::from_utf8(output.stdout)?;
            let of =
                |what: &str| text.lines().find_map(|line| line.trim().strip_prefix(what)).context("no rate");
            let rate: f64 = of("Requests/sec:")?.trim().parse()?;
            let count = text.lines().find_map(|line| line.split_once(" requests in ")).context("no count")?;
            Ok((vec![(name.to_owned(), 1e6 / rate)], count.0.trim().parse()?))
        })?;
    }
    Ok(())
}

fn memcached(results: &mut Results, world: World) -> Result<()> {
    const MEMCACHED: &str = "/usr/bin/memcached";
    if !are_there(&[MEMCACHED]) {
        return Ok(());
    }
    let port = server::free_port()?;
    let number = port.to_string();
    let command = [MEMCACHED, "-u", "root", "-U", "0", "-l", "127.0.0.1", "-p", &number, "-t", "4"];
    results.measure(("memcached", world), (port, &command), |port| {
        let count = 60_000;
        Ok((vec![("memcached, set and get, 16 clients".to_owned(), load::memcached(port, count)?)], count))
    })
}
