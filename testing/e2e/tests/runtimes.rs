//! Runtimes that ask the most of a kernel: their own compilers, collectors, thread pools and signal handlers.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "in a test, a surprise is a failure")]

use e2e::{Case, checkout, folder, installed};
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

const JAVA: &str = "/usr/lib/jvm/java-17-openjdk-amd64/bin/java";
const JAVAC: &str = "/usr/lib/jvm/java-17-openjdk-amd64/bin/javac";
const NODE: &str = "/usr/bin/node";
const STRESS: &str = "/usr/bin/stress-ng";

#[test]
fn java_says_its_version() {
    if installed(JAVA, "openjdk-17-jdk-headless") {
        let run = Case::new(JAVA).args(["-version"]).succeeds();
        assert!(run.errors().contains("OpenJDK 64-Bit Server VM"), "{}", run.errors());
    }
}

#[test]
fn a_java_program_with_threads_and_garbage_runs() {
    if installed(JAVAC, "openjdk-17-jdk-headless") {
        let folder = folder();
        let source = checkout().join("testing/programs/Threads.java");
        let compiled = Command::new(JAVAC).arg("-d").arg(folder.path()).arg(source).status().unwrap();
        assert!(compiled.success());
        let text = Case::new(JAVA).args(["Threads"]).within(folder.path()).text();
        assert!(text.ends_with("null\ntoo deep\n"), "{text}");
    }
}

#[test]
fn node_evaluates_a_line() {
    if installed(NODE, "nodejs") {
        let line = "console.log([3, 1, 2].sort().join(), `${2n ** 100n}`, /(\\d+)/u.exec('a42')[1])";
        let text = Case::new(NODE).args(["-e", line]).text();
        assert_eq!(text, "1,2,3 1267650600228229401496703205376 42\n");
    }
}

#[test]
fn a_node_program_with_workers_and_a_child_runs() {
    if installed(NODE, "nodejs") {
        let folder = folder();
        fs::copy(checkout().join("testing/programs/threads.js"), folder.path().join("threads.js")).unwrap();
        let case = Case::new(NODE).flags(["--with", "/bin/echo"]).args(["threads.js"]).within(folder.path());
        assert!(case.text().contains("from a child\n"));
    }
}

/// A stressor and how many of its operations.
const STRESSORS: [&str; 24] = [
    "cpu 20",
    "matrix 20",
    "crypt 20",
    "malloc 200",
    "brk 1000",
    "bigheap 50",
    "mprotect 500",
    "mremap 1",
    "sigfpe 500",
    "sigsegv 500",
    "sigq 500",
    "kill 200",
    "timer 500",
    "timerfd 200",
    "eventfd 50",
    "pipe 200",
    "poll 200",
    "splice 200",
    "fork 10",
    "vfork 20",
    "dup 500",
    "rename 200",
    "hdd 100",
    "fcntl 500",
];

/// What it prints has times in it, so only its verdict is compared: each stressor checks what it did.
#[test]
fn stressors_find_nothing_wrong() {
    if !installed(STRESS, "stress-ng") {
        return;
    }
    for stressor in STRESSORS {
        let (name, operations) = stressor.split_once(' ').unwrap();
        let start = Instant::now();
        let run = Case::new(STRESS)
            .args(["--temp-path", "/tmp", "--verify", "--timeout", "120"])
            .args([format!("--{name}"), "1".into(), format!("--{name}-ops"), operations.into()])
            .enclave();
        let said = run.text() + &run.errors();
        assert_eq!(run.status, 0, "{stressor}: {said}");
        assert!(said.contains("successful run completed"), "{stressor}: {said}");
        assert!(
            start.elapsed() < Duration::from_secs(120),
            "{stressor}: it got stuck and went on when its time was over"
        );
    }
}
