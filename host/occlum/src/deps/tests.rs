use super::*;
use std::os::unix::fs::PermissionsExt;

fn request(program: &str) -> Request {
    Request { program: program.into(), cwd: "/".into(), ..Request::default() }
}

fn find_all(request: &Request) -> Result<Vec<String>> {
    let found = find(request, &mut Progress::start("testing"))?;
    Ok(found.tree.items().map(|(path, _)| path.display().to_string()).collect())
}

fn fails(path: &Path) -> String {
    find_all(&request(path.to_str().unwrap())).unwrap_err().to_string()
}

fn script(folder: &Path, name: &str, text: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_small_program_brings_its_loader_its_library_and_the_links_between() {
    let found = find_all(&request("/bin/true")).unwrap();
    let real = |path: &str| Path::new(path).canonicalize().unwrap().display().to_string();
    for path in ["/bin/true", "/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6"] {
        assert!(found.contains(&real(path)), "{path}");
    }
    for path in ["/bin", "/lib64", "/etc/passwd", "/etc/ld.so.cache"] {
        assert!(found.contains(&path.to_owned()), "{path}");
    }
    assert!(found.len() < 100, "{found:?}");
}

#[test]
fn python_brings_its_library_and_what_its_modules_need() {
    if !Path::new("/usr/bin/python3").exists() {
        return;
    }
    let found = find_all(&request("/usr/bin/python3")).unwrap();
    let has = |part: &str| assert!(found.iter().any(|path| path.contains(part)), "{part}");
    has("/os.py");
    has("/lib-dynload/_ssl.cpython");
    has("/libcrypto.so");
    has("/libsqlite3.so");
    has("/__pycache__/");
}

#[test]
fn a_shell_brings_everyday_programs_and_those_that_its_text_names() {
    let mut request = request("/bin/sh");
    request.arguments = vec!["-c".into(), "openssl version|/usr/bin/perl -e 1".into()];
    request.path = Some("/usr/bin:/bin".into());
    let found = find_all(&request).unwrap();
    for path in ["/usr/bin/ls", "/usr/bin/sed"].iter().chain(&["/usr/bin/openssl", "/usr/bin/perl"]) {
        assert!(!Path::new(path).exists() || found.iter().any(|f| f == path), "{path}");
    }
}

#[test]
fn a_script_brings_its_interpreter_also_through_env() {
    let home = tempfile::tempdir().unwrap();
    let path = script(home.path(), "x", b"#!/usr/bin/env -S awk -f\nBEGIN { print 1 }\n");
    let found = find_all(&request(path.to_str().unwrap())).unwrap();
    assert!(found.contains(&"/usr/bin/env".to_owned()));
    assert!(found.iter().any(|f| f.ends_with("awk")));
}

#[test]
fn a_missing_interpreter_is_named() {
    let home = tempfile::tempdir().unwrap();
    let path = script(home.path(), "x", b"#!/opt/none/interp\n");
    let shown = path.display();
    assert_eq!(
        fails(&path),
        format!(
            "cannot run `{shown}`: its interpreter `/opt/none/interp` does not exist\n\n\
             hint: install it, or mend the first line of the script"
        )
    );
    let mut program = std::fs::read("/bin/true").unwrap();
    let at = program.windows(27).position(|w| w == b"/lib64/ld-linux-x86-64.so.2").unwrap();
    program[at..at + 27].copy_from_slice(b"/lib64/ld-muslxx-x86-64.so2");
    let path = script(home.path(), "y", &program);
    let e = fails(&path);
    assert!(e.contains("its interpreter `/lib64/ld-muslxx-x86-64.so2` does not exist"), "{e}");
}

#[test]
fn bad_programs_are_refused_with_the_reason() {
    let home = tempfile::tempdir().unwrap();
    let whole = std::fs::read("/bin/true").unwrap();
    let cases: [(&str, &[u8], &str); 5] = [
        ("empty", b"", "the file is empty"),
        ("text", b"hello\n", "neither an ELF file nor a script"),
        ("cut", &whole[..5000], "the ELF file is truncated"),
        ("loop", b"#!./loop\n", "it is its own interpreter"),
        ("object", b"\x7fELF", "the ELF file is truncated"),
    ];
    for (name, bytes, reason) in cases {
        let path = script(home.path(), name, bytes);
        let mut request = request(path.to_str().unwrap());
        request.cwd = home.path().to_owned();
        let e = find_all(&request).unwrap_err().to_string();
        assert!(e.contains(reason), "{name}: {e}");
    }
}

#[test]
fn a_missing_library_is_named_with_what_needs_it() {
    let home = tempfile::tempdir().unwrap();
    let mut program = std::fs::read("/bin/true").unwrap();
    while let Some(at) = program.windows(9).position(|w| w == b"libc.so.6") {
        program[at..at + 9].copy_from_slice(b"libq.so.9");
    }
    let path = script(home.path(), "x", &program);
    let e = fails(&path);
    assert!(e.starts_with("cannot find the library `libq.so.9`\n  caused by: `"), "{e}");
}

#[test]
fn extra_folders_come_whole() {
    let home = tempfile::tempdir().unwrap();
    script(home.path(), "data", b"1");
    let mut request = request("/bin/true");
    request.extra = vec![home.path().to_owned()];
    let found = find_all(&request).unwrap();
    assert!(found.contains(&home.path().join("data").display().to_string()));
    request.extra = vec!["/none".into()];
    assert!(find_all(&request).unwrap_err().to_string().starts_with("cannot add `/none`"));
}
