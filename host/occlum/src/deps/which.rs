//! Finds a program by its name, as a shell does.

use crate::config::diagnostic::did_you_mean;
use crate::error::{Error, Result};
use rustix::fs::Access;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Where execvp(3) looks when PATH is not set.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The absolute path of `program`: as it is if it contains a slash, else the first in `path` that may be
/// executed.
pub(crate) fn which(program: &OsStr, path: Option<&OsStr>, cwd: &Path) -> Result<PathBuf> {
    let shown = Path::new(program).display();
    if program.is_empty() {
        return Err(Error::user("the name of the program is empty"));
    }
    if program.as_encoded_bytes().contains(&b'/') {
        let path = tidy(&cwd.join(program));
        return check(&path).map(|()| path);
    }
    let mut refused = None;
    for folder in std::env::split_paths(path.unwrap_or(OsStr::new(DEFAULT_PATH))) {
        let candidate = tidy(&cwd.join(folder).join(program));
        match check(&candidate) {
            Ok(()) => return Ok(real_program(&candidate, cwd).unwrap_or(candidate)),
            Err(e) if candidate.is_file() => refused = refused.or(Some(e)),
            Err(_) => {}
        }
    }
    let missing = || {
        let hint = match cwd.join(program).is_file() {
            true => format!("to run the file in this folder, write `./{shown}`"),
            false => match spelt_like(program, path, cwd) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "check the spelling, or give its path".to_owned(),
            },
        };
        Error::user(format!("no program `{shown}` in PATH")).hint(hint)
    };
    Err(refused.unwrap_or_else(missing))
}

/// A program in `path` whose name is nearly `program`.
fn spelt_like(program: &OsStr, path: Option<&OsStr>, cwd: &Path) -> Option<String> {
    let mut names = Vec::new();
    for folder in std::env::split_paths(path.unwrap_or(OsStr::new(DEFAULT_PATH))) {
        for entry in std::fs::read_dir(cwd.join(folder)).into_iter().flatten().flatten() {
            names.extend(entry.file_name().into_string());
        }
    }
    did_you_mean(program.to_str()?, names.iter().map(String::as_str)).map(str::to_owned)
}

/// Whether execve(2) would let this user start `path`.
fn check(path: &Path) -> Result<()> {
    let shown = path.display();
    let metadata = path.metadata().map_err(|e| Error::user(format!("cannot run `{shown}`")).because(&e))?;
    if metadata.is_dir() {
        return Err(Error::user(format!("cannot run `{shown}`: it is a folder")));
    }
    if !metadata.is_file() {
        return Err(Error::user(format!("cannot run `{shown}`: it is not a regular file")));
    }
    if rustix::fs::access(path, Access::EXEC_OK).is_err() {
        return Err(Error::user(format!("cannot run `{shown}`: it is not executable"))
            .hint(format!("run `chmod +x {shown}` if it is a program")));
    }
    if rustix::fs::access(path, Access::READ_OK).is_err() {
        return Err(Error::user(format!("cannot read `{shown}`"))
            .hint("a program is copied into the enclave's image, so it must be readable"));
    }
    Ok(())
}

/// `path` without `.` components and doubled slashes. `..` stays: it may follow a link.
fn tidy(path: &Path) -> PathBuf {
    path.components().collect()
}

/// The program that a pyenv shim stands for. A shim is a shell script that asks pyenv, with the help of a dozen
/// other programs, which file to run; the answer lies in three places.
fn real_program(shim: &Path, cwd: &Path) -> Option<PathBuf> {
    let folder = shim.parent()?;
    let root = folder.parent()?;
    if folder.file_name()? != "shims" || !root.join("versions").is_dir() {
        return None;
    }
    let chosen = std::env::var("PYENV_VERSION").ok();
    let local = || cwd.ancestors().find_map(|dir| std::fs::read_to_string(dir.join(".python-version")).ok());
    let global = || std::fs::read_to_string(root.join("version")).ok();
    let versions = chosen.or_else(local).or_else(global)?;
    let name: OsString = shim.file_name()?.to_owned();
    versions.split([':', '\n', ' ']).filter(|v| !v.is_empty()).find_map(|version| {
        let program = root.join("versions").join(version).join("bin").join(&name);
        check(&program).is_ok().then_some(program)
    })
}

/// Whether `program` was found in the place of the shim that a shell would have started as `name`.
pub(crate) fn is_shim_of(name: &OsStr, program: &Path) -> bool {
    let folder = program.parent().and_then(Path::parent).and_then(Path::parent);
    !name.as_encoded_bytes().contains(&b'/')
        && folder.is_some_and(|folder| folder.file_name() == Some(OsStr::new("versions")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn find(program: &str, path: &str, cwd: &Path) -> Result<PathBuf> {
        which(OsStr::new(program), Some(OsStr::new(path)), cwd)
    }

    fn program(path: &Path, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_first_executable_in_path_wins() {
        let home = tempfile::tempdir().unwrap();
        program(&home.path().join("a/x"), 0o644);
        program(&home.path().join("b/x"), 0o755);
        assert_eq!(find("x", "a:b", home.path()).unwrap(), home.path().join("b/x"));
        assert_eq!(find("./b/x", "", home.path()).unwrap(), home.path().join("b/x"));
    }

    #[test]
    fn what_cannot_run_is_told_apart_from_what_is_missing() {
        let home = tempfile::tempdir().unwrap();
        program(&home.path().join("a/x"), 0o644);
        let shown = home.path().display();
        let e = find("x", "a", home.path()).unwrap_err().to_string();
        assert!(e.starts_with(&format!("cannot run `{shown}/a/x`: it is not executable")), "{e}");
        let e = find("y", "a", home.path()).unwrap_err().to_string();
        assert_eq!(e, "no program `y` in PATH\n\nhint: did you mean `x`?");
        let e = find("strange", "a", home.path()).unwrap_err().to_string();
        assert_eq!(e, "no program `strange` in PATH\n\nhint: check the spelling, or give its path");
        program(&home.path().join("y"), 0o755);
        let e = find("y", "a", home.path()).unwrap_err().to_string();
        assert!(e.ends_with("write `./y`"), "{e}");
        let e = find("./none", "", home.path()).unwrap_err().to_string();
        assert!(e.contains("caused by: No such file or directory"), "{e}");
        let e = find("./a", "", home.path()).unwrap_err().to_string();
        assert!(e.ends_with("it is a folder"), "{e}");
    }

    #[test]
    fn a_pyenv_shim_stands_for_the_program_of_the_chosen_version() {
        let home = tempfile::tempdir().unwrap();
        program(&home.path().join("shims/python3"), 0o755);
        program(&home.path().join("versions/3.11.7/bin/python3"), 0o755);
        fs::write(home.path().join("version"), "3.11.7\n").unwrap();
        let path = home.path().join("shims");
        let found = find("python3", path.to_str().unwrap(), Path::new("/")).unwrap();
        assert_eq!(found, home.path().join("versions/3.11.7/bin/python3"));
    }
}
