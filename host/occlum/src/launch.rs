//! Runs a program in an enclave and ends as it does.

use crate::cli::Show;
use crate::config::diagnostic::did_you_mean;
use crate::deps;
use crate::error::{Context, Error, Result};
use crate::printer;
use edge_abi::ecall::LogLevel;
use linux_abi::Errno;
use pal::{Enclave, LoadOptions, PalError, ProcessOptions};
use sgx_device::{LinuxSgx, SgxDevice};
use sgx_machine::SoftwareSgx;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What to run and where.
pub(crate) struct Launch {
    /// The signed enclave file.
    pub(crate) enclave: Vec<u8>,
    /// The image file.
    pub(crate) image: PathBuf,
    /// Folders of the host to show.
    pub(crate) mounts: Vec<HostMount>,
    /// Absolute path of the program in the enclave.
    pub(crate) program: PathBuf,
    /// Its arguments, the zeroth included.
    pub(crate) arguments: Vec<OsString>,
    /// Its working directory.
    pub(crate) cwd: PathBuf,
    /// What to show besides.
    pub(crate) show: Show,
    /// What the user can raise if memory does not suffice.
    pub(crate) memory_hint: &'static str,
    /// The folder that the image was packed from, to say why a program does not start.
    pub(crate) image_folder: Option<PathBuf>,
    /// Called when the enclave is loaded and before the program starts.
    pub(crate) before_start: Box<dyn FnOnce() -> Result<()>>,
}

/// A folder of the host and where it is to be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostMount {
    /// Absolute path on the host.
    pub(crate) host: PathBuf,
    /// Absolute path in the enclave.
    pub(crate) guest: PathBuf,
    /// Whether programs may write to it.
    pub(crate) is_writable: bool,
}

/// Runs the program; returns its exit status as a shell would show it.
pub(crate) fn run(launch: Launch) -> Result<u8> {
    let log_level = log_level()?;
    let image = File::open(&launch.image).user(|| format!("cannot open `{}`", launch.image.display()))?;
    let machine = machine()?;
    let mounts = launch.mounts.iter().map(|m| (bytes(&m.host), bytes(&m.guest), m.is_writable)).collect();
    let options = LoadOptions {
        log: Box::new(log),
        log_level,
        strace: launch.show.strace,
        mounts,
        forward_signals: true,
    };
    let enclave = Enclave::load(&*machine, &launch.enclave, &image, options).map_err(explain_load)?;
    drop(launch.enclave);
    (launch.before_start)()?;
    let process = ProcessOptions {
        path: bytes(&launch.program),
        argv: launch.arguments.into_iter().map(OsString::into_vec).collect(),
        envp: environment(),
        cwd: bytes(&launch.cwd),
        stdio: [0, 1, 2],
    };
    let status = enclave.run(&process).map_err(|e| {
        let seen = launch.image_folder.as_deref().map(|folder| deps::image::check(folder, &launch.program));
        match (seen, &e) {
            (Some(Err(reason)), PalError::Ecall { .. }) => reason,
            _ => explain_run(&launch.program, launch.image_folder.is_some(), launch.memory_hint, &e),
        }
    });
    if launch.show.stats {
        match enclave.statistics() {
            Ok(report) if !report.is_empty() => printer::say(tidy_report(&report).trim_end()),
            _ => printer::note("a release enclave tells no counts"),
        }
    }
    Ok(status?.shell_code())
}

/// The machine to use: SGX_MODE says HW or SIM; by itself it is the processor's SGX where the kernel offers it.
fn machine() -> Result<Box<dyn SgxDevice>> {
    if is_hardware_wanted()? {
        let machine = LinuxSgx::new().machine(|| "cannot use the SGX of this machine")?;
        return Ok(Box::new(machine));
    }
    let machine = SoftwareSgx::new().machine(|| "cannot set up the software SGX machine")?;
    Ok(Box::new(machine))
}

fn is_hardware_wanted() -> Result<bool> {
    match std::env::var("SGX_MODE").unwrap_or_default().to_ascii_uppercase().as_str() {
        "" => Ok(Path::new("/dev/sgx_enclave").exists()),
        "HW" => Ok(true),
        "SIM" | "SW" => Ok(false),
        other => Err(Error::user(format!("SGX_MODE: unknown machine `{other}`")).hint("it is HW or SIM")),
    }
}

/// A release enclave on the software machine looks safe and is not.
pub(crate) fn warn_if_unprotected(is_debuggable: bool) {
    if !is_debuggable && is_hardware_wanted().is_ok_and(|wanted| !wanted) {
        printer::warning("this is the software SGX machine: it protects nothing, whatever the enclave is");
    }
}

/// The counters of the LibOS and of the border as a table: what happened most stands first in each part.
fn tidy_report(report: &str) -> String {
    // Zero is an answer too, where people ask for the number.
    const ASKED_FOR: [&str; 5] =
        ["page faults", "rewritten sites", "trapped syscalls", "rewritten cpuids", "trapped cpuids"];
    let (mut general, mut calls, mut exits): (Vec<String>, _, _) = (Vec::new(), Vec::new(), Vec::new());
    for line in report.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [name, count] if name.starts_with("syscall.") => {
                calls.push((count.parse().unwrap_or(0), &name[8..]))
            }
            [count, name] if count.parse::<u64>().is_ok() => exits.push((count.parse().unwrap_or(0), *name)),
            // The heading of the exits.
            _ if line.ends_with(':') => {}
            _ => general.push(line.replace('_', " ")),
        }
    }
    for name in ASKED_FOR {
        if !general.iter().any(|line| line.starts_with(name)) {
            general.push(format!("{name} 0"));
        }
    }
    let mut out = String::new();
    for line in general {
        out.push_str(&line);
        out.push('\n');
    }
    for (title, mut rows) in [("system calls", calls), ("enclave exits by OCALL", exits)] {
        rows.sort_by(|a: &(u64, &str), b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        let total: u64 = rows.iter().map(|(count, _)| count).sum();
        out.push_str(&format!("{title}: {total}\n"));
        for (count, name) in rows {
            out.push_str(&format!("{count:>12}  {name}\n"));
        }
    }
    out
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

/// The host's environment as far as it is meant for programs in general and not for this machine's loader.
fn environment() -> Vec<Vec<u8>> {
    std::env::vars_os()
        .filter(|(name, _)| !name.as_bytes().starts_with(b"LD_"))
        .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
        .collect()
}

/// OCCLUM_LOG_LEVEL.
fn log_level() -> Result<LogLevel> {
    match std::env::var("OCCLUM_LOG_LEVEL") {
        Ok(text) => parse_level(&text),
        Err(_) => Ok(LogLevel::Off),
    }
}

fn parse_level(text: &str) -> Result<LogLevel> {
    const NAMES: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    Ok(match text.to_ascii_lowercase().as_str() {
        "" | "off" => LogLevel::Off,
        "error" | "panic" | "fatal" => LogLevel::Error,
        "warn" | "warning" => LogLevel::Warn,
        "info" => LogLevel::Info,
        "debug" => LogLevel::Debug,
        "trace" => LogLevel::Trace,
        other => {
            let hint = match did_you_mean(other, NAMES) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the levels are {}", NAMES.join(", ")),
            };
            return Err(Error::user(format!("OCCLUM_LOG_LEVEL: unknown level `{text}`")).hint(hint));
        }
    })
}

fn log(level: u64, text: &str) {
    let text = text.trim_end_matches('\n');
    let name = match level {
        0 => return printer::say(text),
        1 => "error",
        2 => "warn",
        3 => "info",
        4 => "debug",
        _ => "trace",
    };
    printer::say(&format!("[occlum {name}] {text}"));
}

fn explain_load(error: PalError) -> Error {
    match &error {
        PalError::EnclaveFile(source) => Error::user("the enclave file is damaged")
            .because(source)
            .hint("build it again with `occlum build --force`"),
        PalError::Machine { step: "add pages", .. } => Error::user("the enclave file is damaged")
            .because(&error)
            .hint("build it again with `occlum build --force`"),
        PalError::Machine { step: "initialize the enclave", source, .. } => {
            let error = Error::user("the machine refuses the enclave").because(source);
            match source.kind() {
                std::io::ErrorKind::PermissionDenied => error.hint(
                    "its file was changed after it was signed: build it again with `occlum build --force`",
                ),
                _ => error,
            }
        }
        PalError::Ecall { call: "Init", errno } if *errno == Errno::EIO => {
            Error::user("the image is not the one that the enclave was built with, or it is damaged")
                .because(&error)
                .hint("build it again with `occlum build --force`")
        }
        PalError::Ecall { call: "Init", errno } if *errno == Errno::ENOMEM => {
            Error::user("the heap of the LibOS does not suffice to start")
                .because(&error)
                .hint("raise `resource_limits.kernel_space_heap_max_size` in Occlum.json")
        }
        PalError::Host { .. } | PalError::Machine { .. } | PalError::Ecall { .. } | PalError::Lost(_) => {
            Error::machine("cannot start the enclave").because(&error)
        }
    }
}

fn explain_run(program: &Path, is_instance: bool, memory_hint: &str, error: &PalError) -> Error {
    let shown = program.display();
    let PalError::Ecall { call: "NewProcess", errno } = error else {
        return Error::machine(format!("`{shown}` cannot go on")).because(error);
    };
    let cannot = |reason: &str| Error::user(format!("cannot run `{shown}`: {reason}"));
    match *errno {
        Errno::ENOENT => {
            let hint = match is_instance {
                true => {
                    "copy it and its interpreter into image/ and build again; paths are those in the enclave"
                }
                false => "something that is mounted in the enclave covers it: try it from another folder",
            };
            cannot("no such program in the enclave, or its interpreter is missing").hint(hint)
        }
        Errno::EACCES => cannot("it is not executable, or not below an entry point")
            .hint("make it executable, and list its folder under `entry_points` in Occlum.json"),
        Errno::ENOEXEC => cannot("it is not an x86-64 ELF file or a script"),
        Errno::ENOMEM => cannot("it does not fit into the enclave's memory").hint(memory_hint),
        Errno::E2BIG => cannot("its arguments and environment are too large"),
        Errno::EINVAL => cannot("its path is not absolute").hint("paths are those in the enclave, from `/`"),
        _ => Error::machine(format!("cannot run `{shown}`")).because(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_the_names_of_older_versions_too() {
        assert_eq!(parse_level("").unwrap(), LogLevel::Off);
        assert_eq!(parse_level("WARNING").unwrap(), LogLevel::Warn);
        assert_eq!(
            parse_level("inof").unwrap_err().to_string(),
            "OCCLUM_LOG_LEVEL: unknown level `inof`\n\nhint: did you mean `info`?"
        );
    }

    #[test]
    fn a_report_is_sorted_by_what_happened_most() {
        let report = "page_faults 3\nsyscall.read 2\nsyscall.write 5\nuser memory committed: 0 KiB\n\
                      enclave exits by OCALL:\n           7  Write\n           9  Poll\n";
        assert_eq!(
            tidy_report(report),
            "page faults 3\nuser memory committed: 0 KiB\nrewritten sites 0\ntrapped syscalls 0\n\
             rewritten cpuids 0\ntrapped cpuids 0\nsystem calls: 7\n           5  write\n           2  read\n\
             enclave exits by OCALL: 16\n           9  Poll\n           7  Write\n"
        );
    }

    #[test]
    fn a_program_that_does_not_fit_names_the_field_to_raise() {
        let error = PalError::Ecall { call: "NewProcess", errno: Errno::ENOMEM };
        let e = explain_run(Path::new("/bin/x"), true, "raise `resource_limits.user_space_max_size`", &error);
        assert!(e.to_string().ends_with("hint: raise `resource_limits.user_space_max_size`"), "{e}");
        assert_eq!(e.exit_status(), 1);
    }
}
