//! Programs that fork: shells, compilers, pools of workers.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "in a test, a surprise is a failure")]

use e2e::{Case, checkout, folder, installed};
use std::fs;
use std::path::Path;

const BASH: &str = "/bin/bash";

/// The programs that `testing/programs/script.sh` runs.
const OF_SCRIPT: &[&str] = &[
    "seq",
    "grep",
    "sort",
    "head",
    "tail",
    "tr",
    "yes",
    "wc",
    "tee",
    "xargs",
    "expr",
    "sleep",
    "sed",
    "mktemp",
    "cat",
    "ls",
    "mkfifo",
    "diff",
    "rm",
    "mkdir",
    "touch",
    "find",
    "ln",
    "readlink",
    "cp",
    "mv",
    "md5sum",
    "cksum",
    "cut",
    "paste",
    "chmod",
    "stat",
    "timeout",
    "/bin/true",
    "/bin/false",
    "sh",
    "bash",
];

fn with(programs: &[&str]) -> Vec<String> {
    programs.iter().flat_map(|&program| ["--with".to_owned(), program.to_owned()]).collect()
}

/// A folder with the files of a test.
fn files(of: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = folder();
    for (name, content) in of {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

#[test]
fn a_script_of_two_hundred_lines_prints_the_same_bytes() {
    let programs = checkout().join("testing/programs");
    let run = Case::new(BASH).args(["script.sh"]).flags(with(OF_SCRIPT)).within(&programs).succeeds();
    assert!(run.text().ends_with("== end\n"));
}

#[test]
fn dash_and_busybox_run_pipelines_subshells_and_jobs() {
    let script = "seq 50 | grep 3 | sort -r | head -4 | tr '\\n' ' '; echo \"$(echo a $(echo b))\"; \
                  (exit 4); echo $?; for i in 1 2; do (echo job $i) & wait; done; \
                  trap 'echo bye' EXIT; cat <<E\nhere $((1+1))\nE\n";
    let programs = with(&["seq", "grep", "sort", "head", "tr", "cat"]);
    Case::new("/bin/dash").args(["-c", script]).flags(&programs).succeeds();
    if installed("/bin/busybox", "busybox-static") {
        Case::new("/bin/busybox").args(["sh", "-c", script]).flags(&programs).succeeds();
    }
}

#[test]
fn python_forks_by_itself_and_by_pools() {
    let program = "
import multiprocessing, os, subprocess, sys

def square(n):
    return n * n

if __name__ == '__main__':
    for method in 'fork', 'spawn':
        with multiprocessing.get_context(method).Pool(4) as pool:
            print(method, sum(pool.map(square, range(300))))
    print(subprocess.run('echo $((6*7)) | cat', shell=True, capture_output=True, text=True).stdout.strip())
    reader, writer = os.pipe()
    if os.fork() == 0:
        for depth in range(3):
            if os.fork() > 0:
                sys.exit(os.waitstatus_to_exitcode(os.wait()[1]) + 1)
        os.write(writer, b'from deep below')
        os._exit(7)
    print(os.read(reader, 99), os.waitstatus_to_exitcode(os.wait()[1]))
";
    let folder = files(&[("pools.py", program)]);
    Case::new("/usr/bin/python3")
        .args(["pools.py"])
        .flags(with(&["sh", "cat"]))
        .within(folder.path())
        .succeeds();
}

#[test]
fn perl_forks_and_reads_from_its_child() {
    let program = r#"
        my $pid = open(my $from, "-|") // die;
        if (!$pid) { print "from the child $_\n" for 1..3; exit 4 }
        print while <$from>;
        close $from;
        print $? >> 8, "\n";
        for (1..5) { my $p = fork(); exit $_ unless $p; waitpid($p, 0); print $? >> 8, " " }
    "#;
    Case::new("/usr/bin/perl").args(["-e", program]).succeeds();
}

#[test]
fn git_makes_a_repository_and_commits() {
    if !Path::new("/usr/local/bin/git").exists() && !installed("/usr/bin/git", "git") {
        return;
    }
    let script = "
        export HOME=/tmp GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE='2024-01-01T00:00:00Z' GIT_COMMITTER_DATE='2024-01-01T00:00:00Z'
        d=$(mktemp -d) && cd $d && git init -q -b main --template= . && mkdir folder
        for i in 1 2 3 4 5; do echo line $i >> a; echo $i > folder/$i; done
        git add . && git -c user.email=a@b -c user.name=n commit -q -m one && echo more >> a && git diff --stat
        git -c user.email=a@b -c user.name=n commit -q -a -m two && git log --format='%h %s' && git status --short
        git show HEAD:a | tail -1; git fsck 2>&1 | grep -v ^Checking; cd / && rm -rf $d";
    let mut flags = with(&["git", "mktemp", "mkdir", "tail", "grep", "rm"]);
    let core = e2e_git_core();
    if let Some(core) = &core {
        flags.extend(["--with".into(), core.clone()]);
    }
    let run = Case::new(BASH).args(["-c", script]).flags(flags).succeeds();
    assert!(run.text().contains(" two\n"));
}

/// The folder of git's own programs.
fn e2e_git_core() -> Option<String> {
    let output = std::process::Command::new("git").arg("--exec-path").output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    Path::new(&folder).exists().then_some(folder)
}

#[test]
fn a_shell_on_a_terminal_controls_its_jobs() {
    let programs = checkout().join("testing/programs");
    let flags = with(&[BASH, "stty", "sleep", "cat"]);
    Case::new("/usr/bin/python3").args(["jobs.py"]).flags(flags).within(&programs).succeeds();
}

#[test]
fn make_drives_the_compiler_on_two_jobs() {
    let compiler = |what: &str| {
        let output = std::process::Command::new("gcc").arg(what).output().ok()?;
        Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
    };
    if !installed("/usr/bin/make", "make") || !installed("/usr/bin/gcc", "gcc") {
        return;
    }
    let folder = files(&[
        (
            "main.c",
            "#include <stdio.h>\nint twice(int), thrice(int);\nint main(void) { printf(\"%d %d\\n\", twice(4), thrice(5)); return 0; }\n",
        ),
        ("twice.c", "int twice(int x) { return 2 * x; }\n"),
        ("thrice.c", "int thrice(int x) { return 3 * x; }\n"),
        ("Makefile", "prog: main.o twice.o thrice.o\n\t$(CC) -o $@ $^\n"),
    ]);
    let library = "/usr/lib/x86_64-linux-gnu";
    let mut flags = with(&[
        "make",
        "gcc",
        "cc",
        "as",
        "ld",
        "sh",
        "mktemp",
        "cp",
        "rm",
        "/usr/lib/gcc",
        "/usr/include",
        "/lib/x86_64-linux-gnu/libc.so.6",
    ]);
    for what in ["cc1", "collect2"] {
        flags.extend(["--with".into(), compiler(&format!("-print-prog-name={what}")).unwrap()]);
    }
    for object in ["crt1.o", "Scrt1.o", "crti.o", "crtn.o", "libc.so", "libc_nonshared.a"] {
        flags.extend(["--with".into(), format!("{library}/{object}")]);
    }
    let script = "d=$(mktemp -d) && cp main.c twice.c thrice.c Makefile $d && cd $d && make -s -j2 && ./prog; \
                  status=$?; cd / && rm -r $d; exit $status";
    let case = Case::new(BASH).args(["-c", script]).flags(flags).within(folder.path());
    assert_eq!(case.text(), "8 15\n");
}

#[test]
fn postgres_is_made_started_asked_and_stopped() {
    const BIN: &str = "/usr/lib/postgresql/15/bin";
    if !installed(&format!("{BIN}/postgres"), "postgresql-15") {
        return;
    }
    let script = "
        set -e
        PATH=/usr/lib/postgresql/15/bin:$PATH
        d=$(mktemp -d /tmp/pg.XXXXXX)
        trap 'rm -rf $d' EXIT
        initdb -D $d/data -U pg --no-sync -A trust > $d/log 2>&1 || { cat $d/log; exit 1; }
        start() {
            pg_ctl -D $d/data -o \"-k $d -p 54991 -c listen_addresses=127.0.0.1\" -l $d/log -w start > $d/ctl ||
                { cat $d/ctl $d/log; exit 1; }
        }
        ask() { psql -h \"$1\" -p 54991 -U pg -d postgres -Atqc \"$2\"; }
        start
        ask $d 'select 6 * 7'
        ask $d 'create table t(a int, b text)'
        for i in 1 2 3 4; do ask $d \"insert into t select g, md5(g::text) from generate_series(1, 25) g\" & done; wait
        ask $d 'select count(*), sum(a) from t'
        ask 127.0.0.1 'select max(b) from t'
        pg_ctl -D $d/data -m fast -w stop > $d/ctl
        start
        ask $d 'select count(*) from t'
        pg_ctl -D $d/data -m fast -w stop > $d/ctl
    ";
    let programs: Vec<String> =
        ["initdb", "postgres", "pg_ctl", "psql"].iter().map(|program| format!("{BIN}/{program}")).collect();
    let mut flags = with(&programs.iter().map(String::as_str).collect::<Vec<_>>());
    flags.extend(with(&["setpriv", "bash", "sh", "mktemp", "cat", "rm", "/etc/passwd", "/etc/group"]));
    flags.extend(with(&["/usr/share/postgresql/15", "/usr/lib/postgresql/15/lib"]));
    flags.extend(["--memory".into(), "4GB".into()]);
    let case = Case::new("/usr/bin/setpriv")
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups", BASH, "-c", script])
        .flags(flags);
    assert_eq!(case.text().lines().next(), Some("42"));
}

#[test]
fn redis_forks_to_save_while_it_serves() {
    if !installed("/usr/bin/redis-server", "redis-server") {
        return;
    }
    let script = "
        d=$(mktemp -d)
        redis-server --port 54992 --bind 127.0.0.1 --dir $d --save '' --enable-debug-command yes > $d/log &
        ask() { redis-cli -p 54992 \"$@\"; }
        until ask ping > /dev/null 2>&1; do sleep 0.05; done
        ask debug populate 20000 key 100
        ask bgsave
        for i in $(seq 50); do ask set new$i value > /dev/null; done
        while ask info persistence | grep -q rdb_bgsave_in_progress:1; do sleep 0.05; done
        ask info persistence | grep -o 'rdb_last_bgsave_status:ok'
        ask dbsize
        ask shutdown nosave
        wait
        redis-server --port 54992 --bind 127.0.0.1 --dir $d --save '' > $d/log &
        until ask ping > /dev/null 2>&1; do sleep 0.05; done
        while ask ping | grep -q LOADING; do sleep 0.05; done
        # What was set before the fork is there; what came after it may or may not be.
        ask get key:19999 | wc -c
        ask shutdown nosave
        wait; rm -r $d
    ";
    let flags = with(&["redis-server", "redis-cli", "mktemp", "seq", "sleep", "grep", "wc", "rm"]);
    Case::new(BASH).args(["-c", script]).flags(flags).succeeds();
}

#[test]
fn nginx_serves_with_a_master_and_two_workers() {
    if !installed("/usr/sbin/nginx", "nginx-light") || !installed("/usr/bin/curl", "curl") {
        return;
    }
    let page = "a page of several kilobytes\n".repeat(400);
    let configuration = "
        daemon off; worker_processes 2; user root; pid /tmp/nginx.54993.pid; error_log stderr crit;
        events { worker_connections 64; }
        http {
            access_log off; client_body_temp_path /tmp/nginx.54993.a; proxy_temp_path /tmp/nginx.54993.b;
            fastcgi_temp_path /tmp/nginx.54993.c; uwsgi_temp_path /tmp/nginx.54993.d; scgi_temp_path /tmp/nginx.54993.e;
            server { listen 127.0.0.1:54993; root .; }
        }";
    let folder = files(&[("page", &page), ("nginx.conf", configuration)]);
    let script = "
        /usr/sbin/nginx -p $PWD -c $PWD/nginx.conf & nginx=$!
        until curl -sf http://127.0.0.1:54993/page > /dev/null; do sleep 0.05; done
        clients=; for i in 1 2 3 4 5 6 7 8; do curl -s http://127.0.0.1:54993/page | cksum & clients=\"$clients $!\"; done
        wait $clients
        curl -s -o /dev/null -w '%{http_code}\\n' http://127.0.0.1:54993/nothing
        kill -QUIT $nginx; wait $nginx; echo ended with $?";
    let flags = with(&["/usr/sbin/nginx", "curl", "sleep", "cksum"]);
    Case::new(BASH).args(["-c", script]).flags(flags).within(folder.path()).succeeds();
}
