//! Many processes in one enclave leave nothing behind: no memory, no descriptors, no threads of the host.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "in a test, a surprise is a failure")]

use e2e::{Case, Linked, Toolchain, folder, occlum_command, watch};
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

/// Programs that run at once.
const ALIVE: usize = 1000;

/// What the host sees of the process that holds the enclave.
#[derive(Clone, Copy, Debug)]
struct Held {
    resident_kib: u64,
    threads: u64,
    descriptors: usize,
}

struct Many {
    child: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
    said: Vec<String>,
}

impl Many {
    /// Lets it go on to its next step.
    fn next(&mut self, step: &str) -> Held {
        for line in self.from.by_ref() {
            let line = line.unwrap();
            if line == step {
                break;
            }
            self.said.push(line);
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let field = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches("kB").trim().parse().unwrap()
        };
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count();
        let held = Held { resident_kib: field("VmRSS:"), threads: field("Threads:"), descriptors };
        self.to.write_all(b"\n").unwrap();
        held
    }
}

#[test]
fn a_thousand_processes_at_once_and_ten_thousand_in_a_row_leave_nothing_behind() {
    leave_nothing_behind(Linked::StaticPie, 10_000);
}

#[test]
fn a_thousand_processes_that_must_be_at_one_address_take_turns_and_leave_nothing_behind() {
    leave_nothing_behind(Linked::Static, 1000);
}

/// What the last program left of its libraries is taken as it is: the host hears of little.
#[test]
fn a_program_that_is_started_again_changes_few_pages() {
    const OF_PAGES: [&str; 4] = ["MapPermissions", "RestrictPermissions", "ModifyTypes", "RemovePages"];
    const MORE: u64 = 200;
    let folder = folder();
    for (linked, most) in [(Linked::Dynamic, 14), (Linked::StaticPie, 10)] {
        let Some(program) = Toolchain::Glibc.compile("starts", linked, folder.path()) else { return };
        let calls = |rounds: u64| {
            let case = Case::new(&program).args([rounds.to_string().as_ref(), program.as_os_str()]);
            let run = case.flags(["--stats"]).enclave();
            assert_eq!(run.text(), format!("ended well: {rounds}\n"), "{}", run.errors());
            let of_pages = run.exits().into_iter().filter(|(name, _)| OF_PAGES.contains(&name.as_str()));
            of_pages.map(|(_, count)| count).sum::<u64>()
        };
        let (few, many) = (calls(100), calls(100 + MORE));
        assert!(many - few < MORE * most, "{linked:?}: {few}, {many}");
    }
}

#[test]
fn processes_that_hold_descriptors_of_themselves_are_forgotten() {
    let folder = folder();
    let Some(program) = Toolchain::Glibc.compile("cycles", Linked::Static, folder.path()) else { return };
    let heap = |rounds: u32| {
        let run = Case::new(&program).args([rounds.to_string()]).flags(["--stats"]).enclave();
        assert_eq!(run.text(), format!("{rounds} of {rounds}\n"), "{}", run.errors());
        let errors = run.errors();
        let (_, heap) = errors.split_once("kernel heap committed: ").unwrap();
        heap.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let (few, many) = (heap(10), heap(3000));
    assert!(many < few + 4096, "KiB after 10 rounds: {few}, after 3000: {many}");
}

/// Many at once, then so many in a row.
fn leave_nothing_behind(linked: Linked, in_a_row: usize) {
    let folder = folder();
    let Some(program) = Toolchain::Glibc.compile("many", linked, folder.path()) else { return };
    let mut child = occlum_command()
        .arg("try")
        .args([&program, &program])
        .args([ALIVE.to_string(), in_a_row.to_string()])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    watch(&child);
    let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
    let mut many = Many { child, to, from, said: Vec::new() };
    let warm = many.next("warm");
    let alive = many.next("alive");
    let gone = many.next("gone");
    let done = many.next("done");
    let status = many.child.wait().unwrap();
    assert!(status.success(), "{status}: {:?}", many.said);
    let said = [
        format!("started: {ALIVE}"),
        "all are there: yes".to_owned(),
        format!("ended well: {ALIVE}"),
        "processes left: 0".to_owned(),
        "descriptors left: 0".to_owned(),
        format!("in a row: {in_a_row}"),
        "processes left: 0".to_owned(),
        "descriptors left: 0".to_owned(),
    ];
    assert_eq!(many.said, said);
    let all = format!("warm {warm:?}\nalive {alive:?}\ngone {gone:?}\ndone {done:?}");
    assert!(alive.threads >= ALIVE as u64, "each has a thread\n{all}");
    // Host threads are kept for the next programs: as many as were needed at once, and none more for those in a row.
    assert!(done.threads <= gone.threads + 2 && gone.threads <= alive.threads + 2, "{all}");
    assert!(gone.descriptors <= warm.descriptors + 2 && done.descriptors <= gone.descriptors + 2, "{all}");
    // What a thousand needed at once may stay in pools; those in a row need nothing more.
    let slack = 16 << 10;
    assert!(done.resident_kib <= gone.resident_kib + slack, "{all}");
    eprintln!("{all}");
}
