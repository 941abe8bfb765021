//! Says why a program of an image folder does not start.

use super::elf::{self, Trouble};
use super::{Start, check_memory, package_of, read_start, writable_code};
use crate::error::{Error, Result};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

/// Fails with the first reason why `program`, a path in the image that `folder` was packed into, cannot be
/// started; succeeds if there is none that can be seen from here.
pub(crate) fn check(folder: &Path, program: &Path) -> Result<()> {
    let folder = folder.strip_prefix("./").unwrap_or(folder);
    let shown = program.display();
    let cannot = |reason: String| Error::user(format!("cannot run `{shown}`: {reason}"));
    let host = match resolve(folder, program) {
        Ok(host) => host,
        Err(Missing::At(path)) => {
            return Err(cannot(format!("there is no `{}` in the image", path.display())).hint(format!(
                "copy it to `{}{}` and build again",
                folder.display(),
                path.display()
            )));
        }
        Err(Missing::Loop) => return Err(cannot("its links go in a circle".into())),
    };
    let metadata = host.metadata().map_err(|e| cannot("it cannot be read".into()).because(&e))?;
    if metadata.is_dir() {
        return Err(cannot("it is a folder".into()));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(cannot("it is not executable".into())
            .hint(format!("run `chmod +x {}` and build again", host.display())));
    }
    let missing = |interpreter: &Path, hint: String| {
        let reason = format!("its interpreter `{}` is not in the image", interpreter.display());
        Err(cannot(reason).hint(hint))
    };
    match read_start(&host).map_err(|e| cannot(e.to_string()))? {
        Start::Script(interpreter, _) => {
            if resolve(folder, &interpreter).is_err() {
                let hint =
                    format!("copy it to `{}{}` and build again", folder.display(), interpreter.display());
                return missing(&interpreter, hint);
            }
        }
        Start::Elf(bytes) => {
            let elf = elf::read(&bytes).map_err(|e: Trouble| cannot(e.to_string()))?;
            if let Some(address) = elf.writable_code {
                return Err(writable_code(program, address));
            }
            if let Some(interpreter) = elf.interpreter.as_deref().map(Path::new)
                && resolve(folder, interpreter).is_err()
            {
                let name = interpreter.display();
                let hint = match interpreter.exists() {
                    true => format!(
                        "copy `{name}` and the libraries that `ldd` shows into `{}` and build again",
                        folder.display()
                    ),
                    false => package_of(&name.to_string()).to_owned(),
                };
                return missing(interpreter, hint);
            }
        }
    }
    Ok(())
}

/// Fails if the first page of `program`, a path in the image of `folder`, shows that it cannot be started with
/// `limit` bytes of memory. A program that cannot be seen is left to the enclave.
pub(crate) fn check_outline(folder: &Path, program: &Path, limit: u64, hint: &str) -> Result<()> {
    let mut head = Vec::new();
    let host = resolve(folder, program).ok();
    let read = host.and_then(|path| File::open(path).ok()?.take(4096).read_to_end(&mut head).ok());
    let Some(outline) = read.and_then(|_| elf::outline(&head)) else { return Ok(()) };
    match outline.writable_code {
        Some(address) => Err(writable_code(program, address)),
        None => check_memory(program, outline.memory, limit, hint),
    }
}

enum Missing {
    At(PathBuf),
    Loop,
}

/// The host's path of `path` in the image: links are followed as they would be with `folder` for a root.
fn resolve(folder: &Path, path: &Path) -> Result<PathBuf, Missing> {
    let mut ahead: Vec<OsString> = names(path);
    let mut inside = PathBuf::from("/");
    for _ in 0..512 {
        let Some(name) = ahead.pop() else {
            return Ok(on_host(folder, &inside));
        };
        if name == ".." {
            inside.pop();
            continue;
        }
        inside.push(&name);
        let host = on_host(folder, &inside);
        match host.read_link() {
            Ok(target) => {
                if target.is_absolute() {
                    inside = PathBuf::from("/");
                } else {
                    inside.pop();
                }
                ahead.extend(names(&target));
            }
            // Not a link.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {}
            Err(_) => return Err(Missing::At(inside)),
        }
    }
    Err(Missing::Loop)
}

fn on_host(folder: &Path, inside: &Path) -> PathBuf {
    folder.join(inside.strip_prefix("/").unwrap_or(inside))
}

fn names(path: &Path) -> Vec<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(OsString::from(name)),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().rev().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn image() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join("usr/bin")).unwrap();
        fs::copy("/bin/true", home.path().join("usr/bin/true")).unwrap();
        symlink("usr/bin", home.path().join("bin")).unwrap();
        symlink("/usr/bin/true", home.path().join("usr/bin/link")).unwrap();
        symlink("loop", home.path().join("usr/bin/loop")).unwrap();
        fs::write(home.path().join("usr/bin/text"), "x").unwrap();
        home
    }

    fn why(image: &Path, program: &str) -> String {
        check(image, Path::new(program)).unwrap_err().to_string()
    }

    #[test]
    fn what_is_missing_is_named_by_its_path_in_the_image() {
        let home = image();
        assert!(
            why(home.path(), "/bin/none")
                .starts_with("cannot run `/bin/none`: there is no `/usr/bin/none` in")
        );
        let e = why(home.path(), "/bin/link");
        assert!(
            e.starts_with("cannot run `/bin/link`: its interpreter `/lib64/ld-linux-x86-64.so.2` is not in")
        );
        assert!(why(home.path(), "/bin/loop").contains("in a circle"));
        assert!(why(home.path(), "/bin/text").contains("it is not executable"));
        assert!(why(home.path(), "/bin").contains("it is a folder"));
    }

    #[test]
    fn a_program_with_its_interpreter_is_fine() {
        let home = image();
        fs::create_dir(home.path().join("lib64")).unwrap();
        fs::write(home.path().join("lib64/ld-linux-x86-64.so.2"), "").unwrap();
        check(home.path(), Path::new("/bin/true")).unwrap();
    }
}
