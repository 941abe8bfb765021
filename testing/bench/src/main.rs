//! Whole processes: how long they and scripts take, and what memory they hold while they do nothing.
//!
//! The worlds take turns, so that what else the machine does hits both, and medians are compared.
#![forbid(unsafe_code)]

mod scripts;

use anyhow::{Context, Result};
use bench::{Table, World, occlum, run};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const STARTS: usize = 21;

fn main() -> Result<()> {
    let mut starts = Table::default();
    measure_run(&mut starts)?;
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
                starts.add(
                    &format!("occlum try {}", line.join(" ")),
                    world,
                    start.elapsed().as_secs_f64() * 1e3,
                );
            }
        }
    }
    starts.print("ms");
    scripts::measure()?.print("ms");

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

/// `occlum run /bin/true`, of an instance that is built.
fn measure_run(starts: &mut Table) -> Result<()> {
    let folder = tempfile::TempDir::with_prefix_in("occlum-bench-", "/var/tmp")?;
    let tool = |arguments: &[&str]| -> Result<Command> {
        let mut command = Command::new(occlum()?);
        command.args(arguments).current_dir(folder.path());
        Ok(command)
    };
    run(&mut tool(&["init"])?)?;
    for file in ["/bin/true", "/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6"] {
        let there = folder.path().join("image").join(file.trim_start_matches('/'));
        fs::create_dir_all(there.parent().context("a file in a folder")?)?;
        fs::copy(file, there).with_context(|| file.to_owned())?;
    }
    run(&mut tool(&["build"])?)?;
    for _ in 0..STARTS {
        for world in World::BOTH {
            let mut command = match world {
                World::Native => Command::new("/bin/true"),
                World::Enclave => tool(&["run", "/bin/true"])?,
            };
            let start = Instant::now();
            run(&mut command)?;
            starts.add("occlum run /bin/true", world, start.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(())
}

/// A field of `/proc/PID/smaps_rollup` in MiB.
fn held(pid: u32, field: &str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}
