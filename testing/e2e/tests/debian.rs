//! Programs from Debian packages, unmodified.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "in a test, a surprise is a failure")]

use e2e::{Case, Run, folder, installed, tmpfs_has_attributes};
use std::fs;
use std::path::Path;

const BUSYBOX: &str = "/bin/busybox";

/// `length` bytes that are the same in every run and that neither repeat nor compress to nothing.
fn bytes(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut all = Vec::with_capacity(length + 8);
    while all.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Half of it is text-like, so that compression has work to do.
        let word =
            if state & 0x100 == 0 { state } else { state & 0x0707_0707_0707_0707 | 0x6060_6060_6060_6060 };
        all.extend_from_slice(&word.to_le_bytes());
    }
    all.truncate(length);
    all
}

/// `count` lines of numbers in no order.
fn lines(count: u64) -> String {
    (0..count)
        .map(|n| {
            format!(
                "{} line {}
",
                n.wrapping_mul(2_654_435_761) % 1_000_003,
                n % 1000
            )
        })
        .collect()
}

#[test]
fn busybox_echoes() {
    if installed(BUSYBOX, "busybox-static") {
        assert_eq!(Case::new(BUSYBOX).args(["echo", "hello", "enclave"]).text(), "hello enclave\n");
    }
}

#[test]
fn busybox_lists_the_tree_of_usr() {
    if installed(BUSYBOX, "busybox-static") {
        let run = Case::new(BUSYBOX).args(["ls", "-lR", "/usr"]).within(Path::new("/usr")).succeeds();
        assert!(run.stdout.len() > 1_000_000, "the folder has content");
    }
}

#[test]
fn busybox_hashes_a_hundred_megabytes() {
    if installed(BUSYBOX, "busybox-static") {
        let folder = folder();
        fs::write(folder.path().join("big"), bytes(100_000_000)).unwrap();
        Case::new(BUSYBOX).args(["sha256sum", "big"]).within(folder.path()).succeeds();
    }
}

#[test]
fn busybox_sorts_a_million_lines() {
    if installed(BUSYBOX, "busybox-static") {
        let folder = folder();
        fs::write(folder.path().join("lines"), lines(1_000_000)).unwrap();
        Case::new(BUSYBOX).args(["sort", "lines"]).within(folder.path()).succeeds();
    }
}

#[test]
fn busybox_awk_and_sed_transform_text() {
    if installed(BUSYBOX, "busybox-static") {
        let text = lines(50_000);
        let awk = "{ sum += $1; count[$3]++ } END { for (k in count) n++; print sum, n, NR }";
        Case::new(BUSYBOX).args(["awk", awk]).input(text.clone()).succeeds();
        Case::new(BUSYBOX)
            .args(["sed", "-n", "s/\\([0-9]*\\) line \\(.*7\\)$/\\2:\\1/p"])
            .input(text)
            .succeeds();
    }
}

#[test]
fn ls_cat_wc_and_sha256sum_read_the_current_folder() {
    let folder = folder();
    fs::write(folder.path().join("text"), lines(10_000)).unwrap();
    fs::create_dir(folder.path().join("sub")).unwrap();
    std::os::unix::fs::symlink("text", folder.path().join("link")).unwrap();
    for (program, arguments) in [
        ("/bin/ls", &["-lA", "--time-style=full-iso"][..]),
        ("/bin/cat", &["text", "link", "missing"]),
        ("/usr/bin/wc", &["text"]),
        ("/usr/bin/sha256sum", &["text"]),
        ("/usr/bin/head", &["-n", "3", "text"]),
        ("/usr/bin/stat", &["-c", "%n %s %f %U", "text", "sub", "link"]),
    ] {
        Case::new(program).args(arguments).within(folder.path()).same();
    }
}

#[test]
fn a_folder_of_the_host_with_many_entries_is_listed_whole() {
    let folder = folder();
    for number in 0..3000 {
        fs::write(folder.path().join(format!("file-number-{number}")), "").unwrap();
    }
    assert_eq!(Case::new("/bin/ls").within(folder.path()).text().lines().count(), 3000);
}

#[test]
fn seq_counts_to_a_million() {
    let run = Case::new("/usr/bin/seq").args(["1000000"]).succeeds();
    assert_eq!(run.stdout.len(), 6_888_896);
}

#[test]
fn true_and_false_end_as_they_should() {
    assert_eq!(Case::new("/bin/true").same().status, 0);
    assert_eq!(Case::new("/bin/false").same().status, 1);
}

#[test]
fn cat_passes_its_input_on() {
    let input = bytes(5_000_000);
    assert!(Case::new("/bin/cat").input(input.clone()).succeeds().stdout == input);
}

const PYTHON: &str = "/usr/bin/python3";

fn python(script: &str) -> Option<String> {
    installed(PYTHON, "python3").then(|| Case::new(PYTHON).args(["-c", script]).text())
}

#[test]
fn python_prints() {
    if let Some(text) = python("print('hello from', 6 * 7)") {
        assert_eq!(text, "hello from 42\n");
    }
}

#[test]
fn python_json_hashlib_re_and_decimal_agree_with_native() {
    python(
        "
import json, hashlib, re, decimal
data = {'list': list(range(1000)), 'nested': {'text': 'äöü', 'float': 0.1}}
text = json.dumps(data, sort_keys=True)
assert json.loads(text) == data
print(text[:80], len(text))
for name in ('md5', 'sha1', 'sha256', 'sha512', 'sha3_256', 'blake2b'):
    print(name, hashlib.new(name, text.encode() * 1000).hexdigest())
print(re.sub(r'(\\d+)', lambda m: str(int(m[1]) ** 2), 'a1b22c333'))
decimal.getcontext().prec = 200
print(decimal.Decimal(2).sqrt(), decimal.Decimal(1) / 7)
",
    );
}

#[test]
fn copies_of_files_keep_their_extended_attributes() {
    if !tmpfs_has_attributes() {
        return;
    }
    python(
        "
import os, shutil, subprocess, tempfile
folder = tempfile.mkdtemp(dir='/dev/shm')
os.chdir(folder)
os.mkdir('d')
open('d/f', 'w').write('content')
for path in ('d', 'd/f'):
    for name in ('user.first', 'user.second'):
        os.setxattr(path, name, (path + name).encode())
shutil.copy2('d/f', 'copied')
shutil.copytree('d', 'tree')
subprocess.run(['cp', '-a', 'd', 'all'], check=True)
for path in ('d', 'd/f', 'copied', 'tree', 'tree/f', 'all', 'all/f'):
    print(path, [(name, os.getxattr(path, name)) for name in sorted(os.listxattr(path))])
shutil.rmtree(folder)
",
    );
}

#[test]
fn python_loops_a_million_times() {
    python("s = 0\nfor i in range(1000000):\n    s = (s * 31 + i) % 1000007\nprint(s)");
}

#[test]
fn python_serves_itself_over_sockets_of_the_unix_domain() {
    python(
        r#"
import asyncio, os, socket, socketserver, tempfile, threading
folder = tempfile.mkdtemp()
class Upper(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line.upper())
with socketserver.ThreadingUnixStreamServer(folder + "/upper", Upper) as server:
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for number in range(50):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(folder + "/upper")
            client.sendall(b"line %d\n" % number * 3)
            client.shutdown(socket.SHUT_WR)
            text = b"".join(iter(lambda: client.recv(100), b""))
            assert text == b"LINE %d\n" % number * 3, text
    server.shutdown()
print("socketserver is done")
async def echo(reader, writer):
    while data := await reader.read(10000):
        writer.write(data)
        await writer.drain()
    writer.close()
async def ask(path, size):
    reader, writer = await asyncio.open_unix_connection(path)
    data = os.urandom(size)
    writer.write(data)
    writer.write_eof()
    assert await reader.read() == data
    writer.close()
async def main():
    path = folder + "/echo"
    async with await asyncio.start_unix_server(echo, path):
        await asyncio.gather(*(ask(path, 1000 * size) for size in range(100)))
asyncio.run(main())
print("asyncio is done")
a, b = socket.socketpair()
if os.fork() == 0:
    b.close()
    socket.send_fds(a, [b"take"], [os.open("/etc/passwd", os.O_RDONLY)])
    os._exit(0)
a.close()
text, fds, flags, _ = socket.recv_fds(b, 10, 1)
os.wait()
print(text, os.read(fds[0], 4), flags)
"#,
    );
}

#[test]
fn python_sqlite_works_in_memory_and_on_a_file() {
    python(
        "
import sqlite3, os
for where in (':memory:', '/tmp/occlum-e2e-python.db'):
    if os.path.exists(where): os.unlink(where)
    db = sqlite3.connect(where)
    db.execute('create table t (a integer primary key, b text)')
    db.executemany('insert into t values (?, ?)', ((i, str(i * i)) for i in range(20000)))
    db.commit()
    print(db.execute('select count(*), sum(a), max(b) from t where b like \"%7%\"').fetchone())
    db.close()
os.unlink('/tmp/occlum-e2e-python.db')
",
    );
}

#[test]
fn python_finds_the_devices_and_the_files_of_proc_as_on_linux() {
    python(
        r#"
import os, stat
for name in ("null", "zero", "full", "random", "urandom", "tty"):
    st = os.lstat("/dev/" + name)
    print(name, stat.filemode(st.st_mode), os.major(st.st_rdev), os.minor(st.st_rdev))
for name in ("fd", "stdin", "stdout", "stderr"):
    print(name, os.readlink("/dev/" + name))
def use(name):
    fd = os.open("/dev/" + name, os.O_RDWR)
    try:
        written = os.write(fd, b"ten bytes.")
    except OSError as error:
        written = error
    return written, os.read(fd, 4)
print(use("null"), use("zero"), use("full"))
for name in ("random", "urandom"):
    fd = os.open("/dev/" + name, os.O_RDONLY)
    print(name, len(os.read(fd, 64)), os.read(fd, 64) != os.read(fd, 64))
def lines(path):
    with open("/proc/" + path, errors="replace") as file:
        return file.read().splitlines()
def keys(path, *wanted):
    found = {line.split(":")[0].strip() for line in lines(path)}
    print(path, [key for key in wanted if key not in found])
keys("self/status", "Name", "State", "Tgid", "Pid", "PPid", "Uid", "Gid", "VmPeak", "VmSize", "VmRSS", "VmData", "Threads",
     "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "CapEff", "Seccomp", "Cpus_allowed_list")
keys("meminfo", "MemTotal", "MemFree", "MemAvailable", "Buffers", "Cached", "SwapTotal", "SwapFree", "Shmem", "Slab")
keys("cpuinfo", "processor", "vendor_id", "cpu family", "model", "model name", "stepping", "cpu MHz", "flags", "cpu cores")
print(os.readlink("/proc/self/exe"), os.readlink("/proc/self/cwd"), os.readlink("/proc/self/root"))
print(lines("self/cmdline")[0].split("\0")[:2], "LC_ALL=C" in lines("self/environ")[0].split("\0"))
print(len(lines("self/stat")[0].split()), len(lines("self/statm")[0].split()), os.path.getsize("/proc/self/stat"))
print(sorted({line.split()[-1] for line in lines("self/maps") if line[-1] == "]"} & {"[heap]", "[stack]", "[vdso]"}))
print(any(line.endswith("/libc.so.6") and " r-xp " in line for line in lines("self/maps")))
print({"0", "1", "2"} - set(os.listdir("/proc/self/fd")), len(open("/proc/self/auxv", "rb").read()) % 16)
with open("/proc/self/status") as file:
    # Those below the real-time ones: what starts the tests may ignore others, and a shell what a terminal sends.
    print([int(line.split()[1], 16) & 0x7ffffff8 for line in file if line.startswith(("SigBlk", "SigIgn", "SigCgt"))])
print([line.split()[0] for line in lines("stat") if line.split()[0] in ("cpu", "cpu0", "btime", "processes")])
print(len(lines("uptime")[0].split()), len(lines("loadavg")[0].split()), lines("version")[0].split()[:2])
print([name for name in ("proc", "tmpfs") if "nodev\t" + name in lines("filesystems")])
print(sorted({line.split()[1] for line in lines("mounts")} & {"/", "/proc", "/dev"}))
"#,
    );
}

#[test]
fn python_exceptions_and_exit_status_reach_the_caller() {
    if installed(PYTHON, "python3") {
        let run = Case::new(PYTHON)
            .args(["-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(17)"])
            .same();
        assert_eq!(run.status, 17);
        let run = Case::new(PYTHON).args(["-c", "{}['missing']"]).same();
        assert!(run.errors().contains("KeyError"), "{}", run.errors());
    }
}

#[test]
fn python_sees_the_environment_and_its_files() {
    python(
        "
import os, sys, stat, time, tempfile, pathlib
print(sys.argv, os.getcwd(), os.environ.get('LC_ALL'), sys.flags)
with tempfile.TemporaryDirectory() as d:
    p = pathlib.Path(d) / 'x' / 'y'
    p.mkdir(parents=True)
    (p / 'f').write_text('text\\n' * 1000)
    os.rename(p / 'f', p / 'g')
    print(sorted(str(q.relative_to(d)) for q in pathlib.Path(d).rglob('*')), (p / 'g').stat().st_size)
print(os.cpu_count() > 0, time.time() > 1.6e9, len(os.urandom(8)))
",
    );
}

#[test]
fn a_python_script_of_the_current_folder_runs() {
    if installed(PYTHON, "python3") {
        let folder = folder();
        fs::write(folder.path().join("helper.py"), "def answer():\n    return 6 * 7\n").unwrap();
        fs::write(
            folder.path().join("main.py"),
            "import helper, sys\nprint(helper.answer(), sys.argv[1:])\n",
        )
        .unwrap();
        let text = Case::new(PYTHON).args(["-B", "main.py", "a", "b"]).within(folder.path()).text();
        assert_eq!(text, "42 ['a', 'b']\n");
    }
}

#[test]
fn perl_runs() {
    let script = "my %h; $h{$_ % 7} .= $_ for 1..2000; print join(',', map { length $h{$_} } sort keys %h), \"\\n\"; \
                  my $t = 'x' x 10000; $t =~ s/x(x)/$1y/g; print length($t), sprintf(' %.5f', atan2(1, 1) * 4), \"\\n\"; exit 3";
    if installed("/usr/bin/perl", "perl") {
        assert_eq!(Case::new("/usr/bin/perl").args(["-e", script]).same().status, 3);
        Case::new("/usr/bin/perl")
            .args(["-MList::Util=sum", "-MPOSIX=floor", "-e", "print sum(1..100), floor(2.7)"])
            .succeeds();
    }
}

#[test]
fn lua_runs() {
    if installed("/usr/bin/lua5.4", "lua5.4") {
        let script = "local t = {} for i = 1, 100000 do t[i] = (i * 7919) % 100003 end table.sort(t) \
                      print(t[1], t[50000], #t, string.format('%.3f', math.pi), ('abc'):rep(3, '-'))";
        Case::new("/usr/bin/lua5.4").args(["-e", script]).succeeds();
    }
}

#[test]
fn sqlite_fills_a_database_on_tmpfs() {
    if installed("/usr/bin/sqlite3", "sqlite3") {
        let database = format!("/tmp/occlum-e2e-{}.db", std::process::id());
        let script = "create table t (a integer primary key, b text, c real);
            with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000)
                insert into t select i, 'row ' || (i * 7919 % 100003), i / 7.0 from n;
            create index byb on t (b);
            select count(*), sum(a), min(b), max(b), round(sum(c), 3) from t;
            select * from t where b = 'row 12345';
            delete from t where a % 3 = 0; vacuum; pragma integrity_check; select count(*) from t;";
        let case = Case::new("/usr/bin/sqlite3").args([&database]).input(script);
        let native = case.native();
        fs::remove_file(&database).unwrap();
        let enclave = case.enclave();
        assert_eq!(enclave.text(), native.text(), "{}", enclave.errors());
        assert_eq!((enclave.status, native.status), (0, 0));
        assert!(!Path::new(&database).exists(), "/tmp of the enclave is not that of the host");
    }
}

#[test]
fn gzip_and_xz_make_the_round_trip() {
    let folder = folder();
    let plain = bytes(50_000_000);
    fs::write(folder.path().join("gz"), &plain).unwrap();
    let packed = Case::new("/bin/gzip").args(["-1", "-n", "-c", "gz"]).within(folder.path()).succeeds();
    assert!(packed.stdout.len() < plain.len());
    let unpacked = Case::new("/bin/gzip").args(["-d", "-c"]).input(packed.stdout).enclave();
    assert!(unpacked.stdout == plain, "{}", unpacked.errors());
    if installed("/usr/bin/xz", "xz-utils") {
        let packed =
            Case::new("/usr/bin/xz").args(["-0", "-T1", "-c", "gz"]).within(folder.path()).succeeds();
        let unpacked = Case::new("/usr/bin/xz").args(["-d", "-T1", "-c"]).input(packed.stdout).enclave();
        assert!(unpacked.stdout == plain, "{}", unpacked.errors());
    }
}

#[test]
fn openssl_encrypts_and_measures() {
    const OPENSSL: &str = "/usr/bin/openssl";
    if installed(OPENSSL, "openssl") {
        Case::new(OPENSSL).args(["dgst", "-sha256"]).input(bytes(1_000_000)).succeeds();
        let key = ["enc", "-aes-256-ctr", "-K", &"0123456789abcdef".repeat(4), "-iv", &"00".repeat(16)];
        Case::new(OPENSSL).args(key).input(bytes(1_000_000)).succeeds();
        // Its numbers are never the same: what is around them is.
        let speed = Case::new(OPENSSL).args(["speed", "-seconds", "1", "-evp", "aes-256-gcm"]);
        let plain = |run: &Run| {
            assert_eq!(run.status, 0, "{}", run.errors());
            let is_number = |c: char| c.is_ascii_digit() || c == '.';
            let words = run.text() + &run.errors();
            let words: Vec<String> = words
                .split_whitespace()
                .filter(|word| !word.starts_with("OPENSSL_ia32cap"))
                .map(|word| word.replace(is_number, ""))
                .collect();
            words.join(" ")
        };
        let (native, enclave) = (speed.native(), speed.enclave());
        assert_eq!(plain(&enclave), plain(&native));
        assert!(enclave.text().contains("AES-256-GCM"), "{}", enclave.text());
    }
}

#[test]
fn a_script_with_an_interpreter_line_runs() {
    let folder = folder();
    let script = folder.path().join("script");
    fs::write(&script, "#!/bin/sh\necho \"$0 has $# arguments: $@\"\ni=0\nwhile [ $i -lt 1000 ]; do i=$((i + 1)); done\necho $i\nexit 4\n").unwrap();
    let mut permissions = fs::metadata(&script).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    fs::set_permissions(&script, permissions).unwrap();
    let run = Case::new(&script).args(["one", "two words"]).within(folder.path()).same();
    assert_eq!(run.status, 4, "{}", run.errors());
}

#[test]
fn bash_and_dash_run_their_builtins() {
    let script = "set -- a b c; for x; do printf '%s-' \"$x\"; done; echo; case $PATH in */bin*) echo found;; esac; \
                  f() { return 5; }; f; echo $?; x=5; echo $((x * x)) ${x:+set} ${HOME#/}; trap 'echo bye' EXIT; exit 6";
    for shell in ["/bin/dash", "/bin/bash"] {
        assert_eq!(Case::new(shell).args(["-c", script]).same().status, 6);
    }
}

#[test]
fn a_shell_runs_a_pipeline_of_programs() {
    let tools = ["/usr/bin/seq", "/usr/bin/sort", "/usr/bin/head", "/usr/bin/tr", "/usr/bin/wc"];
    let flags = tools.iter().flat_map(|tool| ["--with", tool]);
    let script = "seq 20000 | sort -r | head -n 3 | tr '\\n' ' '; echo $(seq 5 | wc -l); seq 3 > /tmp/f; wc -l < /tmp/f; false || exit 9";
    let run = Case::new("/bin/bash").args(["-c", script]).flags(flags).enclave();
    assert_eq!((run.text().as_str(), run.status), ("9999 9998 9997 5\n3\n", 9), "{}", run.errors());
}

#[test]
fn python_starts_threads_and_processes() {
    let script = "
import subprocess, threading, concurrent.futures, sys
results = []
threads = [threading.Thread(target=lambda n=n: results.append(n * n)) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(sorted(results))
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    print(sum(pool.map(lambda n: n * 2, range(1000))))
print(subprocess.run([sys.executable, '-c', 'print(input()[::-1])'], input='abc\\n', text=True, capture_output=True))
";
    if installed(PYTHON, "python3") {
        let run = Case::new(PYTHON).args(["-c", script]).succeeds();
        assert!(run.text().contains("cba"), "{}", run.text());
    }
}
