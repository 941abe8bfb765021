//! Running a command both ways.

use crate::{cache, occlum};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing here takes longer, natively or not, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(300);

/// A command line with its surroundings.
#[derive(Clone, Debug)]
pub struct Case {
    program: PathBuf,
    arguments: Vec<OsString>,
    flags: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: PathBuf,
    input: Vec<u8>,
    runner: Option<PathBuf>,
}

/// What a run left.
#[derive(Clone, PartialEq, Eq)]
pub struct Run {
    /// As a shell shows it: the status, or 128 + the number of the signal.
    pub status: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Case {
    /// `program` without arguments, in the folder `/`, with an environment of little more than a PATH.
    pub fn new(program: impl AsRef<Path>) -> Self {
        let environment =
            [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/root"), ("LC_ALL", "C"), ("TZ", "UTC")];
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            flags: Vec::new(),
            environment: environment.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
            folder: "/".into(),
            input: Vec::new(),
            runner: None,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Adds flags of `occlum try`.
    #[must_use]
    pub fn flags<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, flags: I) -> Self {
        self.flags.extend(flags.into_iter().map(|flag| flag.as_ref().to_owned()));
        self
    }

    /// Adds a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Runs in `folder`, which the enclave shows read-only at the same path.
    #[must_use]
    pub fn within(mut self, folder: &Path) -> Self {
        self.folder = folder.to_owned();
        self
    }

    /// Gives it standard input.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Has `runner`, which takes a command line, run the `occlum` command.
    #[must_use]
    pub fn run_by(mut self, runner: &Path) -> Self {
        self.runner = Some(runner.to_owned());
        self
    }

    /// Runs it natively.
    pub fn native(&self) -> Run {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        self.finish(command)
    }

    /// Runs it in an enclave.
    pub fn enclave(&self) -> Run {
        let mut command = match &self.runner {
            Some(runner) => Command::new(runner),
            None => Command::new(occlum()),
        };
        command
            .args(self.runner.iter().map(|_| occlum()))
            .arg("try")
            .args(more_flags())
            .args(&self.flags)
            .arg(&self.program)
            .args(&self.arguments);
        self.finish(command)
    }

    /// Runs it both ways.
    ///
    /// # Panics
    ///
    /// When the two runs differ in what they print or how they end.
    pub fn same(&self) -> Run {
        let (native, enclave) = (self.native(), self.enclave());
        assert!(native.stdout == enclave.stdout, "{}", self.difference("stdout", &native, &enclave));
        assert!(native.status == enclave.status, "{}", self.difference("status", &native, &enclave));
        assert!(native.stderr == enclave.stderr, "{}", self.difference("stderr", &native, &enclave));
        enclave
    }

    /// The same, and the runs must succeed.
    ///
    /// # Panics
    ///
    /// When the two runs differ, or end with another status than 0.
    pub fn succeeds(&self) -> Run {
        let run = self.same();
        assert_eq!(run.status, 0, "{}: {}", self.line(), run.errors());
        run
    }

    /// Text on standard output, of a run that succeeds in both worlds.
    ///
    /// # Panics
    ///
    /// As [`Case::succeeds`].
    pub fn text(&self) -> String {
        self.succeeds().text()
    }

    fn finish(&self, mut command: Command) -> Run {
        command
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder);
        run(&mut command, &self.input)
    }

    fn line(&self) -> String {
        let arguments = self.arguments.iter().map(|argument| argument.to_string_lossy().into_owned());
        let words: Vec<String> =
            std::iter::once(self.program.display().to_string()).chain(arguments).collect();
        words.join(" ")
    }

    fn difference(&self, what: &str, native: &Run, enclave: &Run) -> String {
        let (a, b) = match what {
            "stdout" => (native.text(), enclave.text()),
            "stderr" => (native.errors(), enclave.errors()),
            _ => (native.status.to_string(), enclave.status.to_string()),
        };
        format!(
            "{what} of `{}` differs\n{}\nstatus: native {}, enclave {}\nstandard error of the enclave: {}",
            self.line(),
            first_difference(&a, &b),
            native.status,
            enclave.status,
            last(&enclave.errors(), 2000),
        )
    }
}

impl Run {
    /// What `--stats` says of exits: the name of a call of the host, and how often it was called.
    ///
    /// # Panics
    ///
    /// When it says nothing.
    pub fn exits(&self) -> Vec<(String, u64)> {
        let errors = self.errors();
        let (_, exits) = errors.split_once("enclave exits by OCALL").expect("the run has --stats");
        let row = |line: &str| {
            let mut words = line.split_whitespace();
            let count = words.next()?.parse().ok()?;
            Some((words.next()?.to_owned(), count))
        };
        exits.lines().skip(1).map_while(row).collect()
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// Kills a child that a test talks to when it has not ended after five minutes, so that a test never waits for ever, and says
/// what its threads did.
pub fn watch(child: &Child) {
    let pid = child.id();
    std::thread::spawn(move || {
        std::thread::sleep(PATIENCE);
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let status = read(&format!("/proc/{pid}/status"));
        // What has ended is a zombie of the test, or its number is that of a stranger by now.
        if !status.contains(&format!("\nPPid:\t{}\n", std::process::id())) || status.contains("\nState:\tZ") {
            return;
        }
        let mut threads = BTreeMap::<String, u32>::new();
        for thread in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let of = |file: &str| read(&thread.path().join(file).to_string_lossy());
            // The number of the system call, or that it runs, and where it waits in the kernel.
            let call = of("syscall").split(' ').next().unwrap_or_default().trim().to_owned();
            *threads.entry(format!("system call {call}, {}", of("wchan"))).or_default() += 1;
        }
        let times = read(&format!("/proc/{pid}/stat"));
        eprintln!("process {pid} does not end; threads: {threads:?}\n{times}{status}");
        drop(Command::new("/bin/kill").args(["-KILL", &pid.to_string()]).status());
    });
}

/// Runs the `occlum` command itself in `folder`.
pub fn occlum_in(folder: &Path, arguments: &[&str]) -> Run {
    run_to_end(occlum_command().args(arguments).current_dir(folder))
}

/// Flags of `occlum try` that all runs get: the words of `$OCCLUM_TRY_FLAGS`.
pub(crate) fn more_flags() -> Vec<String> {
    let words = std::env::var("OCCLUM_TRY_FLAGS").unwrap_or_default();
    words.split_whitespace().map(str::to_owned).collect()
}

/// The `occlum` command with the cache and the key of the tests.
pub fn occlum_command() -> Command {
    let mut command = Command::new(occlum());
    command.env("XDG_CACHE_HOME", cache()).env("XDG_CONFIG_HOME", cache());
    command
}

/// Runs a command to its end, without input, or kills it when patience is at its end.
pub fn run_to_end(command: &mut Command) -> Run {
    run(command, &[])
}

/// Runs `command` to its end, or kills it when patience is at its end.
fn run(command: &mut Command, input: &[u8]) -> Run {
    command
        .env("XDG_CACHE_HOME", cache())
        .env("XDG_CONFIG_HOME", cache())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let input = input.to_vec();
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    // A program may end without reading its input.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let stdout = drain(child.stdout.take().expect("standard output is a pipe"));
    let stderr = drain(child.stderr.take().expect("standard error is a pipe"));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child can be waited for") {
            break status;
        }
        if start.elapsed() > PATIENCE {
            child.kill().expect("the child can be killed");
            child.wait().expect("the child can be waited for");
            let printed = String::from_utf8_lossy(&stdout.join().unwrap()).into_owned();
            panic!("{command:?} does not end; so far it printed: {}", last(&printed, 2000));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    writer.join().unwrap();
    Run {
        status: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    }
}

fn drain(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        from.read_to_end(&mut all).expect("a pipe can be read");
        all
    })
}

/// All lines that differ, up to a few.
fn first_difference(native: &str, enclave: &str) -> String {
    let (mut a, mut b) = (native.lines(), enclave.lines());
    let mut differences = Vec::new();
    let mut number = 0;
    loop {
        number += 1;
        match (a.next(), b.next()) {
            (None, None) => break,
            (a, b) if a == b => {}
            (a, b) => {
                let show =
                    |line: Option<&str>| line.map_or("(ended)".into(), |line| last(line, 300).to_owned());
                differences.push(format!("  line {number}: native  {}\n       enclave {}", show(a), show(b)));
            }
        }
        if differences.len() == 12 {
            break;
        }
    }
    differences.join("\n")
}

fn last(text: &str, length: usize) -> &str {
    let mut from = text.len().saturating_sub(length);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}
