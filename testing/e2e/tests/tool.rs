//! What the command does around a program: streams, signals, mounts, the cache, what it prints.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "in a test, a surprise is a failure")]

use e2e::{Case, Linked, PATIENCE, Toolchain, folder, installed, occlum_command, occlum_in, watch};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// `occlum try` of a shell script, with its streams piped.
fn start(script: &str) -> Child {
    let child = occlum_command()
        .args(["try", "/bin/dash", "-c", script])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    watch(&child);
    child
}

fn status_of(mut child: Child) -> i32 {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status
                .code()
                .unwrap_or_else(|| 128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap());
        }
        assert!(start.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn kill(child: &Child, signal: &str) {
    assert!(Command::new("/bin/kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line
}

#[test]
fn a_signal_reaches_the_program() {
    for (signal, status) in [("-INT", 130), ("-TERM", 143)] {
        let mut child = start("echo ready; read line");
        assert_eq!(first_line(&mut child), "ready\n");
        kill(&child, signal);
        assert_eq!(status_of(child), status, "{signal}");
    }
}

#[test]
fn a_program_that_handles_the_signal_ends_as_it_likes() {
    let mut child = start("trap 'echo caught; exit 5' INT; echo ready; while :; do :; done");
    assert_eq!(first_line(&mut child), "ready\n");
    kill(&child, "-INT");
    assert_eq!(status_of(child), 5);
}

#[test]
fn a_closed_pipe_ends_the_program() {
    let mut child = occlum_command()
        .args(["try", "/usr/bin/seq", "100000000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    watch(&child);
    let mut start = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut start).unwrap();
    assert_eq!(&start, b"1\n2\n3\n4\n5\n");
    assert_eq!(status_of(child), 141);
}

#[test]
fn output_comes_when_it_is_written_and_not_at_the_end() {
    let mut child = start("echo first; read line; echo \"got $line\"");
    assert_eq!(first_line(&mut child), "first\n");
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"words\n").unwrap();
    assert_eq!(first_line(&mut child), "got words\n");
    assert_eq!(status_of(child), 0);
}

#[test]
fn a_writable_mount_writes_to_the_host_and_the_current_folder_does_not() {
    let (here, there) = (folder(), folder());
    fs::write(here.path().join("seen"), "by the program\n").unwrap();
    let mount = format!("{}:/data:rw", there.path().display());
    let script = "read -r x < seen; echo $x; echo new > /data/file; echo no > here; echo $?";
    let run =
        Case::new("/bin/bash").args(["-c", script]).within(here.path()).flags(["--mount", &mount]).enclave();
    assert_eq!(run.text(), "by the program\n1\n", "{}", run.errors());
    assert!(run.errors().contains("Read-only file system"), "{}", run.errors());
    assert_eq!(fs::read_to_string(there.path().join("file")).unwrap(), "new\n");
    assert!(!here.path().join("here").exists());
}

#[test]
fn a_read_only_mount_refuses_writing() {
    let there = folder();
    let mount = format!("{}:/data", there.path().display());
    let run =
        Case::new("/bin/dash").args(["-c", "echo new > /data/file"]).flags(["--mount", &mount]).enclave();
    assert_eq!(run.status, 2, "{}", run.errors());
    assert!(run.errors().contains("Read-only file system"), "{}", run.errors());
    assert!(!there.path().join("file").exists());
}

#[test]
fn a_changed_program_is_packed_again() {
    let folder = folder();
    let script = folder.path().join("script.sh");
    let write = |text: &str| {
        fs::write(&script, format!("#!/bin/dash\necho {text}\n")).unwrap();
        fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    write("one");
    assert_eq!(Case::new(&script).enclave().text(), "one\n");
    assert_eq!(Case::new(&script).enclave().text(), "one\n");
    write("two");
    assert_eq!(Case::new(&script).enclave().text(), "two\n");
}

#[test]
fn strace_and_stats_go_to_standard_error() {
    let run = Case::new("/bin/cat").args(["/dev/null"]).flags(["--strace"]).enclave();
    assert_eq!((run.status, run.text().as_str()), (0, ""));
    for line in [
        "] openat(AT_FDCWD, \"/dev/null\", O_RDONLY, 0o0) = 3\n",
        "] mmap(NULL, 8192, READ | WRITE, PRIVATE | ANONYMOUS, -1, 0) = 0x",
        "] access(\"/etc/ld.so.preload\", 0o4) = -1 ENOENT",
        "] close(3) = 0\n",
        "] exit_group(0) = ",
    ] {
        assert!(run.errors().contains(line), "no `{line}` in {}", run.errors());
    }
    let run = Case::new("/bin/cat").args(["/dev/null"]).flags(["--stats"]).enclave();
    assert_eq!((run.status, run.text().as_str()), (0, ""));
    for word in ["system calls", "rewritten", "trapped", "exits", "page faults"] {
        assert!(run.errors().to_lowercase().contains(word), "no `{word}` in {}", run.errors());
    }
}

#[test]
fn an_instance_runs_what_is_in_its_image_and_nothing_else() {
    if !installed("/bin/busybox", "busybox-static") {
        return;
    }
    let folder = folder();
    assert_eq!(occlum_in(folder.path(), &["init"]).status, 0);
    fs::create_dir_all(folder.path().join("image/bin")).unwrap();
    fs::copy("/bin/busybox", folder.path().join("image/bin/busybox")).unwrap();
    let built = occlum_in(folder.path(), &["build"]);
    assert_eq!(built.status, 0, "{}", built.errors());
    let run = occlum_in(folder.path(), &["run", "/bin/busybox", "echo", "in the image"]);
    assert_eq!(run.text(), "in the image\n", "{}", run.errors());
    assert_ne!(occlum_in(folder.path(), &["run", "/bin/ls"]).status, 0);
    let measurement = occlum_in(folder.path(), &["print", "mrenclave"]).text();
    assert_eq!(measurement.trim().len(), 64, "{measurement}");
}

#[test]
fn the_log_is_silent_unless_asked_and_each_level_adds_its_own() {
    let folder = folder();
    let Some(program) = Toolchain::Glibc.compile("missing", Linked::Static, folder.path()) else { return };
    let case = Case::new("/bin/dash").args(["-c", &format!("{}; true", program.display())]);
    let case = case.flags(["--with".as_ref(), program.as_os_str()]);
    let levels = |level: &str| {
        let run = case.clone().env("OCCLUM_LOG_LEVEL", level).enclave();
        assert_eq!((run.status, run.text().as_str()), (0, "system call 9999: ENOSYS\n"), "{}", run.errors());
        let mut seen: Vec<String> =
            run.errors().lines().map(|line| line.split(']').next().unwrap().into()).collect();
        seen.sort();
        seen.dedup();
        (seen.join(" "), run.errors())
    };
    let silent = case.enclave();
    assert_eq!(silent.errors(), "");
    let [warn, info, debug, trace] = ["warn", "info", "debug", "trace"].map(|name| format!("[occlum {name}"));
    for (level, expected, says) in [
        ("off", String::new(), ""),
        ("error", String::new(), ""),
        ("warn", warn.clone(), "system call 9999"),
        ("info", format!("{info} {warn}"), "process 1 ends with 0"),
        ("debug", format!("{debug} {info} {warn}"), "executes"),
        ("trace", format!("{debug} {info} {trace} {warn}"), "exit_group(0)"),
    ] {
        let (seen, errors) = levels(level);
        assert_eq!(seen, expected, "{level}: {errors}");
        assert!(errors.contains(says), "{level}: {errors}");
    }
    let wrong = Case::new("/bin/true").env("OCCLUM_LOG_LEVEL", "lots").enclave();
    assert_eq!(wrong.status, 1);
    assert!(wrong.errors().contains("OCCLUM_LOG_LEVEL"), "{}", wrong.errors());
}

/// The host ignores SIGPIPE, so that it is the program's, which may ignore it too and go on.
#[test]
fn a_program_that_ignores_sigpipe_sees_epipe_and_goes_on() {
    let mut child = start("trap '' PIPE; echo first; read line; echo lost; echo \"status $?\" >&2");
    assert_eq!(first_line(&mut child), "first\n");
    drop(child.stdout.take());
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"go on\n").unwrap();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(status_of(child), 0, "{errors}");
    assert!(errors.ends_with("status 1\n"), "{errors}");
}

/// A command that runs as a user whom the user database does not know; `None` where that cannot be arranged.
fn as_a_stranger() -> Option<Command> {
    let ways: [&[&str]; 2] = [
        &["/usr/bin/setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"],
        &["/usr/bin/unshare", "--user", "--map-user=54321", "--map-group=54321"],
    ];
    ways.into_iter().find_map(|way| {
        let command = || {
            let mut command = Command::new(way[0]);
            command.args(&way[1..]).env_clear();
            command
        };
        let id = command().args(["/usr/bin/id", "-u"]).output().ok()?;
        (id.stdout == b"54321\n").then(command)
    })
}

#[test]
fn a_user_who_is_in_no_database_is_told_what_to_set_or_is_served() {
    let Some(mut command) = as_a_stranger() else {
        eprintln!("SKIPPED: no other user can be had here");
        return;
    };
    // The command may lie where only its owner looks.
    let tool = folder();
    let readable = |path: &std::path::Path, mode: u32| {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    let binary = tool.path().join("occlum");
    fs::copy(e2e::occlum(), &binary).unwrap();
    readable(tool.path(), 0o755);
    readable(&binary, 0o755);
    let output = command.arg(&binary).args(["try", "/bin/true"]).current_dir("/").output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.starts_with("error: ") && errors.contains("hint: ") && errors.contains("HOME"),
        "{errors}"
    );

    let home = folder();
    readable(home.path(), 0o777);
    let output = as_a_stranger()
        .unwrap()
        .arg(&binary)
        .args(["try", "/bin/echo", "served"])
        .env("HOME", home.path())
        .current_dir("/")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "served\n", "{errors}");
}

/// Bytes of all files below a folder.
fn size_of(folder: &std::path::Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let size = |entry: fs::DirEntry| match entry.metadata().unwrap() {
        metadata if metadata.is_dir() => size_of(&entry.path()),
        metadata => metadata.len(),
    };
    entries.map(size).sum()
}

#[test]
fn the_cache_of_try_keeps_to_its_limit_and_what_it_forgot_is_packed_again() {
    let cache = folder();
    let run = |program: &str| {
        let output = occlum_command()
            .args(["try", program])
            .env("XDG_CACHE_HOME", cache.path())
            .env("OCCLUM_CACHE_LIMIT", "12MB")
            .current_dir("/")
            .output()
            .unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    };
    // An image is some 5 MB, so that two find room; the first is needed again.
    let programs = ["/bin/true", "/bin/ls", "/usr/bin/id", "/bin/true", "/bin/pwd", "/bin/uname"];
    for program in programs {
        run(program);
        // The signed enclave of the last one comes after the counting.
        let size = size_of(cache.path());
        assert!(size < (12 + 4) << 20, "after {program}: {size} bytes");
    }
}

/// The files below a folder with their inode numbers and lengths.
fn files_of(folder: &std::path::Path) -> Vec<(std::path::PathBuf, u64, u64)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            files.extend(files_of(&entry.path()));
        } else {
            files.push((entry.path(), metadata.ino(), metadata.len()));
        }
    }
    files.sort();
    files
}

#[test]
fn a_second_try_packs_and_signs_nothing() {
    let cache = folder();
    let run = || {
        let mut command = occlum_command();
        command.args(["try", "/bin/true"]).env("XDG_CACHE_HOME", cache.path()).current_dir("/");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        files_of(cache.path())
    };
    let first = run();
    assert!(first.len() >= 2, "an image and a signed enclave: {first:?}");
    assert_eq!(run(), first, "no file is new or was written again");
}
