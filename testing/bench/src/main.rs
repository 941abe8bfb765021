//! Whole-process benchmarks: the same program natively and in an enclave, in turn, and the ratio.
//!
//! `testing/programs/bench.c` is compiled once. Each of its tests prints nanoseconds per operation; rounds alternate between
//! the two worlds, so that what else the machine does hits both, and medians are compared.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

const ROUNDS: usize = 5;
const STARTS: usize = 15;

fn main() -> Result<()> {
    let occlum = std::env::var_os("OCCLUM").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release/occlum"),
        PathBuf::from,
    );
    ensure!(
        occlum.exists(),
        "`{}` is missing: cargo build --release -p occlum, or set OCCLUM",
        occlum.display()
    );
    let folder = tempfile::TempDir::with_prefix_in("occlum-bench-", "/var/tmp")?;
    let program = compile(folder.path())?;

    println!("{:<34} {:>12} {:>12} {:>8}", "", "native", "enclave", "ratio");
    starts(&occlum, &program)?;
    let mut native = BTreeMap::new();
    let mut enclave = BTreeMap::new();
    for _ in 0..ROUNDS {
        collect(&mut native, run(Command::new(&program))?)?;
        collect(&mut enclave, run(in_enclave(&occlum, &program))?)?;
    }
    for (name, times) in &mut native {
        let there = enclave.get_mut(name).with_context(|| format!("no `{name}` in the enclave"))?;
        row(name, median(times), median(there), "ns");
    }
    Ok(())
}

fn compile(folder: &Path) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../programs/bench.c");
    let program = folder.join("bench");
    let status = Command::new("gcc").args(["-O2", "-o"]).arg(&program).arg(source).status().context("gcc")?;
    ensure!(status.success(), "bench.c does not compile");
    Ok(program)
}

fn in_enclave(occlum: &Path, program: &Path) -> Command {
    let mut command = Command::new(occlum);
    command.arg("try").arg(program);
    command
}

/// Time of whole processes that do nothing.
fn starts(occlum: &Path, program: &Path) -> Result<()> {
    let small = Path::new("/bin/true");
    run(in_enclave(occlum, small))?; // Packs and signs.
    run(in_enclave(occlum, program))?;
    let (mut native, mut enclave) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        native.push(time(|| run(Command::new(small)))?);
        enclave.push(time(|| run(in_enclave(occlum, small)))?);
    }
    row("/bin/true, whole process", median(&mut native), median(&mut enclave), "us");
    Ok(())
}

fn time(work: impl FnOnce() -> Result<Output>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64() * 1e6)
}

fn run(mut command: Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output)
}

/// Lines of a name, a tab and nanoseconds.
fn collect(into: &mut BTreeMap<String, Vec<f64>>, output: Output) -> Result<()> {
    for line in String::from_utf8(output.stdout)?.lines() {
        let (name, value) = line.split_once('\t').with_context(|| format!("not a result: `{line}`"))?;
        into.entry(name.to_owned()).or_default().push(value.parse()?);
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn row(name: &str, native: f64, enclave: f64, unit: &str) {
    println!("{name:<34} {native:>9.1} {unit} {enclave:>9.1} {unit} {:>7.2}x", enclave / native);
}
