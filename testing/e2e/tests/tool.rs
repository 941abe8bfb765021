//! What the command does around a program: streams, signals, mounts, the cache, what it prints.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "in a test, a surprise is a failure")]

use e2e::{Case, folder, installed, occlum_command, occlum_in};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// `occlum try` of a shell script, with its streams piped.
fn start(script: &str) -> Child {
    occlum_command()
        .args(["try", "/bin/dash", "-c", script])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn status_of(mut child: Child) -> i32 {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status
                .code()
                .unwrap_or_else(|| 128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap());
        }
        assert!(start.elapsed() < Duration::from_secs(20), "it does not end");
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
    for call in ["openat", "mmap", "close", "exit_group"] {
        assert!(run.errors().contains(call), "no {call} in {}", run.errors());
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
fn the_log_is_silent_unless_asked() {
    let quiet = Case::new("/bin/true").enclave();
    assert_eq!(quiet.errors(), "");
    let loud = Case::new("/bin/true").env("OCCLUM_LOG_LEVEL", "trace").enclave();
    assert_eq!(loud.status, 0, "{}", loud.errors());
    let wrong = Case::new("/bin/true").env("OCCLUM_LOG_LEVEL", "lots").enclave();
    assert_eq!(wrong.status, 1);
    assert!(wrong.errors().contains("OCCLUM_LOG_LEVEL"), "{}", wrong.errors());
}
