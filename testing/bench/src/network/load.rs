//! What clients outside do.

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

/// MiB that are moved to measure how long one takes.
pub(crate) const MEBIBYTES: u64 = 400;
const CLIENTS: u64 = 16;

/// Lets this process have as many connections as it may.
pub(crate) fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // With fewer, a connection fails and says so.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// A connection to `testing/programs/peer.c` with an order.
fn order(port: u16, what: u8, size: u32) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let mut order = [what, 0, 0, 0, 0, 0, 0, 0];
    order[4..].copy_from_slice(&size.to_le_bytes());
    stream.write_all(&order)?;
    Ok(stream)
}

/// Microseconds of one of `count` things that began at `start`.
fn each(start: Instant, count: u64) -> f64 {
    start.elapsed().as_secs_f64() * 1e6 / count as f64
}

/// A byte goes there and comes back.
pub(crate) fn round_trips(port: u16, count: u64) -> Result<f64> {
    let mut stream = order(port, b'e', 0)?;
    let start = Instant::now();
    for _ in 0..count {
        let mut byte = [1];
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
    }
    Ok(each(start, count))
}

/// A connection is made, and closed by the other side.
pub(crate) fn connections(port: u16, count: u64) -> Result<f64> {
    let start = Instant::now();
    for _ in 0..count {
        ensure!(order(port, b'c', 0)?.read(&mut [0])? == 0, "something came");
    }
    Ok(each(start, count))
}

/// Connections that say nothing after one byte came back.
pub(crate) fn idle(port: u16, count: usize) -> Result<Vec<TcpStream>> {
    let one = || -> Result<TcpStream> {
        let mut stream = order(port, b'e', 0)?;
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])?;
        Ok(stream)
    };
    (0..count).map(|_| one()).collect()
}

/// A MiB comes, which the other side writes in blocks.
pub(crate) fn download(port: u16, size: u32) -> Result<f64> {
    let mut stream = order(port, b's', size)?;
    let mut buffer = vec![0; 1 << 18];
    let start = Instant::now();
    let mut left = MEBIBYTES << 20;
    while left > 0 {
        let got = stream.read(&mut buffer)?;
        ensure!(got > 0, "the other side ended");
        left = left.saturating_sub(got as u64);
    }
    Ok(each(start, MEBIBYTES))
}

/// A MiB goes, which the other side reads in blocks.
pub(crate) fn upload(port: u16, size: u32) -> Result<f64> {
    let mut stream = order(port, b'r', size)?;
    let block = vec![0; size as usize];
    let start = Instant::now();
    for _ in 0..(MEBIBYTES << 20) / u64::from(size) {
        stream.write_all(&block)?;
    }
    stream.shutdown(Shutdown::Write)?;
    stream.read_exact(&mut [0])?;
    Ok(each(start, MEBIBYTES))
}

/// Sets and gets of a hundred bytes by clients that each wait for their answer.
pub(crate) fn memcached(port: u16, count: u64) -> Result<f64> {
    let start = Instant::now();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || sets_and_gets(port, client, count / CLIENTS / 2)))
            .collect();
        clients.into_iter().try_for_each(|client| client.join().ok().context("a client failed")?)
    })?;
    Ok(each(start, count))
}

fn sets_and_gets(port: u16, client: u64, count: u64) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let mut answers = BufReader::new(stream.try_clone()?);
    let value = "x".repeat(100);
    let mut line = String::new();
    for n in 0..count {
        let key = format!("{client}-{}", n % 100);
        write!(stream, "set {key} 0 0 100\r\n{value}\r\n")?;
        line.clear();
        answers.read_line(&mut line)?;
        ensure!(line == "STORED\r\n", "{line}");
        write!(stream, "get {key}\r\n")?;
        for _ in 0..3 {
            line.clear();
            answers.read_line(&mut line)?;
        }
        ensure!(line == "END\r\n", "{line}");
    }
    Ok(())
}
