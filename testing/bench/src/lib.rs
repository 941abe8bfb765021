//! What the benchmarks share: the two worlds, the program that runs in both, and the table.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum World {
    /// On the host.
    Native,
    /// In an enclave, by `occlum try`.
    Enclave,
}

impl World {
    /// Both, in the order in which they take turns.
    pub const BOTH: [Self; 2] = [Self::Native, Self::Enclave];

    /// The command that runs a program here.
    ///
    /// # Errors
    ///
    /// There is no `occlum` to be measured.
    pub fn command(self, program: &Path) -> Result<Command> {
        self.command_with(program, &[], &[])
    }

    /// The command that runs a program here which starts `others`, and to which these folders of the host are shown.
    ///
    /// # Errors
    ///
    /// There is no `occlum` to be measured.
    pub fn command_with(self, program: &Path, others: &[&Path], folders: &[&Path]) -> Result<Command> {
        let mut command = match self {
            Self::Native => Command::new(program),
            Self::Enclave => Command::new(occlum()?),
        };
        if self == Self::Enclave {
            command.arg("try");
            for other in others {
                command.arg("--with").arg(other);
            }
            for folder in folders {
                command.arg("--mount").arg(format!("{0}:{0}:rw", folder.display()));
            }
            command.arg(program);
        }
        // What lies in the current folder would be shown to the program as a folder of the host.
        command.current_dir("/");
        Ok(command)
    }
}

/// The command that is measured: `$OCCLUM`, or a release build of this checkout.
///
/// # Errors
///
/// There is none.
pub fn occlum() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    let occlum = std::env::var_os("OCCLUM").map_or_else(|| target.join("release/occlum"), PathBuf::from);
    ensure!(
        occlum.exists(),
        "`{}` is missing: cargo build --release -p occlum, or set OCCLUM",
        occlum.display()
    );
    Ok(occlum)
}

/// `testing/programs/bench.c`, compiled.
pub struct Program {
    folder: tempfile::TempDir,
}

impl Program {
    /// Compiles it.
    ///
    /// # Errors
    ///
    /// The compiler does not like it.
    pub fn compile() -> Result<Self> {
        // Not under /tmp, where an enclave has a file system of its own.
        let this = Self { folder: tempfile::TempDir::with_prefix_in("occlum-bench-", "/var/tmp")? };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../programs/bench.c");
        run(Command::new("gcc").args(["-O2", "-o"]).arg(this.path()).arg(source))?;
        let source = this.folder.path().join("nothing.c");
        std::fs::write(&source, "int main(void) { return 0; }\n")?;
        run(Command::new("gcc").args(["-static", "-o"]).arg(this.nothing()).arg(source))?;
        std::fs::create_dir_all(this.shared().join("a/b/c"))?;
        std::fs::write(this.shared().join("a/b/c/page"), [1; 4096])?;
        Ok(this)
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("bench")
    }

    /// A static program that ends at once, which one of the operations starts.
    fn nothing(&self) -> PathBuf {
        self.folder.path().join("bench-nothing")
    }

    /// A folder of the host with a file three folders deep, which is shown to it.
    fn shared(&self) -> PathBuf {
        self.folder.path().join("bench-shared")
    }

    /// The names of the operations.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub fn operations(&self) -> Result<Vec<String>> {
        let output = run(Command::new(self.path()).arg("list"))?;
        Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
    }

    /// Starts it in a world.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn start(&self, world: World) -> Result<Session> {
        let mut child = world
            .command_with(&self.path(), &[Path::new("/bin/true"), &self.nothing()], &[&self.shared()])?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let to = child.stdin.take().context("no stdin")?;
        let from = BufReader::new(child.stdout.take().context("no stdout")?);
        Ok(Session { child, to: Some(to), from })
    }
}

/// The program, running and waiting for orders.
pub struct Session {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Session {
    /// How long `count` operations take in its world. The clock is that of the program.
    ///
    /// # Errors
    ///
    /// It died, or knows no such operation.
    pub fn measure(&mut self, operation: &str, count: u64) -> Result<Duration> {
        let to = self.to.as_mut().context("the program has ended")?;
        writeln!(to, "{operation}\t{count}")?;
        to.flush()?;
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        let ns: i64 = line.trim().parse().with_context(|| format!("not a time: `{line}`"))?;
        Ok(Duration::from_nanos(u64::try_from(ns).with_context(|| format!("no operation `{operation}`"))?))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The end of its input is the end of the program.
        self.to = None;
        let _ = self.child.wait();
    }
}

/// Runs a command to its end.
///
/// # Errors
///
/// It fails.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output)
}

/// Samples of things that were measured in both worlds.
#[derive(Default)]
pub struct Table {
    order: Vec<String>,
    samples: BTreeMap<(String, World), Vec<f64>>,
}

impl Table {
    /// Adds a sample.
    pub fn add(&mut self, name: &str, world: World, value: f64) {
        if !self.order.iter().any(|known| known == name) {
            self.order.push(name.to_owned());
        }
        self.samples.entry((name.to_owned(), world)).or_default().push(value);
    }

    /// The median of the samples.
    pub fn median(&self, name: &str, world: World) -> Option<f64> {
        let mut values = self.samples.get(&(name.to_owned(), world))?.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    /// Prints medians and ratios as Markdown.
    pub fn print(&self, unit: &str) {
        println!("\n| what | native, {unit} | enclave, {unit} | ratio |\n|---|---|---|---|");
        for name in &self.order {
            let at = |world| self.median(name, world).unwrap_or(f64::NAN);
            let (native, enclave) = (at(World::Native), at(World::Enclave));
            println!("| {name} | {native:.1} | {enclave:.1} | {:.2} |", enclave / native);
        }
    }
}
