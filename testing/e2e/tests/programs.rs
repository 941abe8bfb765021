//! The programs of `testing/programs`, compiled in many ways.
#![forbid(unsafe_code)]

use e2e::{Case, Linked, Run, Toolchain, folder, linux_version, tmpfs_has_attributes};
use std::path::PathBuf;

const EVERYTHING: [(Toolchain, Linked); 7] = [
    (Toolchain::Glibc, Linked::Dynamic),
    (Toolchain::Glibc, Linked::DynamicFixed),
    (Toolchain::Glibc, Linked::Static),
    (Toolchain::Glibc, Linked::StaticPie),
    (Toolchain::Musl, Linked::Dynamic),
    (Toolchain::Musl, Linked::DynamicFixed),
    (Toolchain::Musl, Linked::Static),
];

/// What differs most: how the C library makes its calls, and who loads it.
const BOTH: [(Toolchain, Linked); 2] =
    [(Toolchain::Glibc, Linked::Dynamic), (Toolchain::Musl, Linked::Static)];

/// Compiles `name` in the given ways; each must do the same natively and in an enclave.
fn same(name: &str, ways: &[(Toolchain, Linked)], arrange: impl Fn(Case) -> Case) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut failures = Vec::new();
    for &(toolchain, linked) in ways {
        let folder = folder();
        let Some(program) = toolchain.compile(name, linked, folder.path()) else { continue };
        let case = arrange(Case::new(program));
        match std::panic::catch_unwind(|| case.same()) {
            Ok(run) => runs.push(run),
            Err(_) => failures.push(format!("{toolchain:?} {linked:?}")),
        }
    }
    assert!(failures.is_empty(), "{name} fails when it is {}", failures.join(", "));
    runs
}

/// A folder that exists in neither world, under /tmp, which is the enclave's own there.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self::below("/tmp", name)
    }

    fn below(folder: &str, name: &str) -> Self {
        Self(format!("{folder}/occlum-scratch-{}-{name}", std::process::id()).into())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[test]
fn hello_runs_however_it_is_linked() {
    for run in same("hello", &EVERYTHING, |case| {
        case.args(["one", "", "drei ä"]).env("GREETING", "hi").input("12345")
    }) {
        assert_eq!(run.status, 42);
    }
}

#[test]
fn a_program_under_tmp_runs() {
    let folder = tempfile::TempDir::with_prefix_in("occlum-e2e-", "/tmp").unwrap();
    let Some(program) = Toolchain::Glibc.compile("hello", Linked::Dynamic, folder.path()) else { return };
    assert_eq!(Case::new(&program).same().status, 42);
    assert_eq!(Case::new("./hello").within(folder.path()).enclave().status, 42);
}

#[test]
fn the_end_of_a_program_is_its_exit_status() {
    let ends = [
        ("abort", 134),
        ("null", 139),
        ("noncanonical", 139),
        ("jump", 139),
        ("divide", 136),
        ("illegal", 132),
        ("trap", 133),
        ("privileged", 139),
        ("overflow", 139),
        ("term", 143),
        ("kill", 137),
        ("pipe", 141),
        ("group", 255),
        ("seven", 7),
    ];
    let mut wrong = Vec::new();
    for (how, status) in ends {
        let result = std::panic::catch_unwind(|| same("death", &BOTH[..1], |case| case.args([how])));
        if !result.is_ok_and(|runs| runs.iter().all(|run| run.status == status)) {
            wrong.push(how);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn signals_are_delivered_as_by_linux() {
    same("signals", &BOTH, |case| case);
}

#[test]
fn event_counters_count_and_make_wait_as_by_linux() {
    same("counters", &BOTH, |case| case);
}

#[test]
fn edges_of_pipes_are_those_of_linux() {
    same("edges", &BOTH, |case| case);
}

#[test]
fn pending_signals_are_limited_and_awaited_as_by_linux() {
    same("pending", &BOTH, |case| case);
}

#[test]
fn exceptions_and_interrupts_do_not_hide_each_other() {
    same("storm", &BOTH, |case| case);
}

#[test]
fn a_thread_that_is_interrupted_twice_on_its_way_to_user_code_gets_there() {
    same("pairs", &BOTH, |case| case);
}

#[test]
fn memory_is_mapped_protected_and_freed_as_by_linux() {
    let folder = folder();
    same("memory", &BOTH, |case| case.args([folder.path()]).flags(["--mount".into(), rw(folder.path())]));
}

fn rw(folder: &std::path::Path) -> std::ffi::OsString {
    format!("{0}:{0}:rw", folder.display()).into()
}

#[test]
fn files_on_tmpfs_behave_as_on_linux() {
    for way in BOTH {
        let scratch = Scratch::new("tmpfs");
        same("files", &[way], |case| case.args([&scratch.0]));
    }
}

/// Where a folder of the host is not as a file system of Linux, and why.
const HOST_DIFFERENCES: [(&str, &str); 1] = [(
    "readdir of a folder that is gone: 48",
    "the host may have taken the folder away, so it is not remembered",
)];

#[test]
fn files_of_the_host_behave_as_on_linux() {
    let (native, enclave, here) = (folder(), folder(), folder());
    let Some(program) = Toolchain::Glibc.compile("files", Linked::Dynamic, here.path()) else { return };
    let mount = format!("{}:/mnt/work:rw", enclave.path().display());
    let expected = Case::new(&program).args([native.path()]).native().text();
    let got = Case::new(&program).args(["/mnt/work"]).flags(["--mount", &mount]).enclave();
    let text = got.text();
    let differences: Vec<&str> =
        expected.lines().zip(text.lines()).filter(|(a, b)| a != b).map(|(_, b)| b).collect();
    assert_eq!(differences, HOST_DIFFERENCES.map(|(line, _)| line), "{}", got.errors());
    assert_eq!(text.lines().count(), expected.lines().count(), "{}", got.errors());
}

#[test]
fn a_file_gets_no_longer_than_its_program_may_make_one() {
    let scratch = Scratch::new("fsize");
    same("fsize", &BOTH, |case| case.args([&scratch.0]));
    let host = folder();
    same("fsize", &BOTH[..1], |case| case.args([host.path()]).flags(["--mount".into(), rw(host.path())]));
}

#[test]
fn bad_arguments_are_an_errno_and_never_a_fault() {
    same("errors", &BOTH, |case| case);
}

#[test]
fn internet_sockets_behave_as_on_linux() {
    same("inet", &BOTH, |case| case);
}

#[test]
fn the_loopback_interface_behaves_as_on_linux() {
    same("loopback", &BOTH, |case| case);
}

#[test]
fn connections_are_dissolved_and_leave_their_ports_as_on_linux() {
    same("tcpstates", &BOTH[..1], |case| case);
}

#[test]
fn what_went_wrong_is_told_once_as_on_linux() {
    same("aftermath", &BOTH[..1], |case| case);
}

#[test]
fn urgent_data_is_signalled_and_marked_as_on_linux() {
    same("urgent", &BOTH[..1], |case| case);
}

#[test]
fn urgent_data_of_the_unix_domain_is_that_of_linux() {
    same("unixurgent", &BOTH[..1], |case| case);
}

#[test]
fn datagrams_are_put_together_and_lost_ones_counted_as_on_linux() {
    same("corked", &BOTH[..1], |case| case);
}

#[test]
fn the_sockets_of_a_program_are_listed_as_on_linux() {
    same("procnet", &BOTH[..1], |case| case);
}

#[test]
fn sockets_of_the_unix_domain_behave_as_on_linux() {
    same("sockets", &BOTH, |case| case);
}

#[test]
fn pipes_and_poll_behave_as_on_linux() {
    same("pipes", &BOTH, |case| case);
}

#[test]
fn pipes_count_pages_as_on_linux() {
    same("slots", &BOTH, |case| case);
}

#[test]
fn calls_that_few_make_do_as_on_linux() {
    // cachestat is of Linux 6.5.
    let cached = if linux_version() >= (6, 5) { &["cached"][..] } else { &[] };
    same("seldom", &BOTH, |case| case.args(cached));
}

#[test]
fn children_are_made_run_and_waited_for_as_on_linux() {
    same("processes", &BOTH, |case| case.flags(["--with", "/bin/sh"]));
}

#[test]
fn what_a_process_leaves_comes_to_others_as_on_linux() {
    same("orphans", &BOTH, |case| case.flags(["--with", "/bin/true"]));
}

#[test]
fn threads_share_memory_and_wait_for_each_other() {
    same("threads", &BOTH, |case| case);
}

#[test]
fn the_auxiliary_vector_is_as_on_linux() {
    same("auxv", &EVERYTHING, |case| case);
}

/// What the dynamic linker says of it, line by line. What is an address has no value to compare, and restartable sequences
/// (AT_RSEQ_*, 27 and 28) are not there.
#[test]
fn the_auxiliary_vector_has_the_entries_of_linux() {
    let lines = |run: Run| {
        let mut lines: Vec<String> = run
            .text()
            .lines()
            .filter(|line| {
                line.starts_with("AT_") && !line.contains("AT_??? (0x1b)") && !line.contains("AT_??? (0x1c)")
            })
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                let differs = ["SYSINFO_EHDR", "PHDR", "BASE", "ENTRY", "RANDOM", "MINSIGSTKSZ"];
                let is_address = differs.iter().any(|other| name == format!("AT_{other}"));
                if is_address { name.to_owned() } else { format!("{name}:{}", value.trim()) }
            })
            .collect();
        lines.sort();
        lines
    };
    let case = Case::new("/usr/bin/env").args(["LD_SHOW_AUXV=1", "/bin/true"]).flags(["--with", "/bin/true"]);
    let (native, enclave) = (lines(case.native()), lines(case.enclave()));
    assert!(native.len() > 18, "{native:?}");
    // Programs in an enclave are root's, whoever runs it.
    let is_id =
        |line: &&String| ["AT_UID", "AT_EUID", "AT_GID", "AT_EGID"].iter().any(|id| line.starts_with(id));
    let without_ids =
        |lines: &[String]| lines.iter().filter(|line| !is_id(line)).cloned().collect::<Vec<_>>();
    assert_eq!(without_ids(&enclave), without_ids(&native));
    assert_eq!(enclave.iter().filter(is_id).count(), 4);
}

#[test]
fn clocks_go_forwards_at_the_right_speed() {
    same("clocks", &BOTH, |case| case);
}

#[test]
fn programs_that_are_no_relatives_share_memory_by_name_key_and_file() {
    same("shared", &BOTH, |case| case);
}

#[test]
fn files_that_become_ready_raise_signals() {
    same("sigio", &BOTH, |case| case);
}

#[test]
fn pseudo_terminals_have_lines_sessions_and_job_control() {
    same("pty", &BOTH, |case| case);
}

#[test]
fn system_v_ipc_behaves_as_on_linux() {
    same("sysv", &BOTH, |case| case);
}

#[test]
fn message_queues_behave_as_on_linux() {
    same("mqueues", &BOTH, |case| case);
}

#[test]
fn seals_bind_as_on_linux() {
    same("seals", &BOTH, |case| case);
}

#[test]
fn bytes_move_between_descriptors_and_pipes_have_packets() {
    for way in BOTH {
        let scratch = Scratch::new("splice");
        same("splice", &[way], |case| case.args([&scratch.0]));
    }
}

#[test]
fn inotify_tells_what_linux_tells() {
    for way in BOTH {
        let scratch = Scratch::new("inotify");
        same("inotify", &[way], |case| case.args([&scratch.0]));
    }
}

#[test]
fn what_is_shared_can_be_unshared() {
    for way in BOTH {
        let scratch = Scratch::new("unshare");
        same("unshare", &[way], |case| case.args([&scratch.0]));
    }
}

#[test]
fn extended_attributes_are_those_of_tmpfs() {
    if !tmpfs_has_attributes() {
        return;
    }
    for way in BOTH {
        let scratch = Scratch::below("/dev/shm", "xattrs");
        // Those relative to a folder are of Linux 6.13.
        let relative = if linux_version() >= (6, 13) { &["relative"][..] } else { &[] };
        same("xattrs", &[way], |case| case.args([&scratch.0]).args(relative));
    }
}

#[test]
fn registers_survive_calls_faults_and_signals() {
    same("registers", &BOTH, |case| case);
}

#[test]
fn cplusplus_exceptions_streams_and_heap_work() {
    let folder = folder();
    if let Some(program) = e2e::cplusplus("cplusplus", folder.path()) {
        assert_eq!(Case::new(program).input("one\ntwo\n").same().status, 3);
    }
}

#[test]
fn a_static_pie_rust_program_runs() {
    let folder = folder();
    let scratch = Scratch::new("rust");
    let program = e2e::rust("rust", folder.path());
    assert_eq!(Case::new(program).args([&scratch.0]).env("GREETING", "hi").input("abc").same().status, 9);
}

#[test]
fn go_programs_run() {
    for is_pie in [false, true] {
        let folder = folder();
        if let Some(program) = e2e::go("gopher", is_pie, folder.path()) {
            assert_eq!(Case::new(program).same().status, 5);
        }
    }
}
