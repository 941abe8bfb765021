//! Whole processes: how long they take to start, and what memory they hold while they do nothing.
//!
//! The worlds take turns, so that what else the machine does hits both, and medians are compared.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use bench::{Table, World, run};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const STARTS: usize = 21;

fn main() -> Result<()> {
    let mut starts = Table::default();
    let python: &[&str] = &["/usr/bin/python3", "-c", "1"];
    for line in [&["/bin/true"], python] {
        let (program, arguments) = line.split_first().context("no program")?;
        if !Path::new(program).exists() {
            eprintln!("SKIPPED: `{program}` is missing");
            continue;
        }
        let command = |world: World| -> Result<Command> {
            let mut command = world.command(Path::new(program))?;
            command.args(arguments);
            Ok(command)
        };
        // The first time packs and signs.
        run(&mut command(World::Enclave)?)?;
        for _ in 0..STARTS {
            for world in World::BOTH {
                let start = Instant::now();
                run(&mut command(world)?)?;
                starts.add(&line.join(" "), world, start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    starts.print("ms");

    let mut memory = Table::default();
    for world in World::BOTH {
        let mut child = world.command(Path::new("/bin/sleep"))?.arg("100").stdin(Stdio::null()).spawn()?;
        std::thread::sleep(Duration::from_secs(2));
        for (field, name) in [("Rss:", "idle `sleep`, resident"), ("Pss:", "idle `sleep`, its share of it")] {
            memory.add(name, world, held(child.id(), field)?);
        }
        child.kill()?;
        child.wait()?;
    }
    memory.print("MiB");
    Ok(())
}

/// A field of `/proc/PID/smaps_rollup` in MiB.
fn held(pid: u32, field: &str) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}
