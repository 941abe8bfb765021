//! Finds what a program of this machine needs to run somewhere else.
//!
//! The loader's rules are followed for libraries (DT_NEEDED, RPATH, RUNPATH, the loader's cache, its folders;
//! LD_LIBRARY_PATH is not asked), execve(2)'s for scripts. What programs open by name at run time cannot be
//! known, so it is guessed from what they are: an interpreter brings its library folders, a library its data
//! files ([`system`]).

mod elf;
pub(crate) mod image;
mod interpreters;
mod ldcache;
mod libraries;
mod packages;
mod system;
mod tree;
mod which;

pub(crate) use tree::{Item, Kind, Stamp, Tree};
pub(crate) use which::{is_shim_of, which};

use crate::config::size;
use crate::error::{Error, Result};
use crate::printer::Progress;
use elf::{Elf, Trouble};
use ldcache::LdCache;
use libraries::Loader;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What to look for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// Absolute path of the program, as [`which`] finds it.
    pub(crate) program: PathBuf,
    /// What follows it on the command line.
    pub(crate) arguments: Vec<OsString>,
    /// More programs, files and folders.
    pub(crate) extra: Vec<PathBuf>,
    /// Where scripts look for programs.
    pub(crate) path: Option<OsString>,
    /// Where relative names start.
    pub(crate) cwd: PathBuf,
    /// Values of LANG and the like, TERM and TZ: each brings data files.
    pub(crate) locales: Vec<String>,
    /// TERM.
    pub(crate) terminal: Option<String>,
    /// TZ.
    pub(crate) time_zone: Option<String>,
    /// HOME and TMPDIR: programs expect the folders to be there.
    pub(crate) folders: Vec<PathBuf>,
}

/// What was found.
pub(crate) struct Found {
    /// All that goes into the image.
    pub(crate) tree: Tree,
    /// Bytes that the largest of the programs takes in memory before it starts.
    pub(crate) memory: u64,
    /// Things to tell the user.
    pub(crate) notes: Vec<String>,
    /// Whether other arguments would have led to other files.
    pub(crate) depends_on_arguments: bool,
}

/// Most scripts that interpret each other, as Linux has it.
const MAX_SCRIPTS: usize = 5;

/// Finds all that `request` needs.
pub(crate) fn find(request: &Request, progress: &mut Progress) -> Result<Found> {
    let cache = match std::fs::read("/etc/ld.so.cache") {
        Ok(bytes) => LdCache::parse(&bytes),
        Err(_) => LdCache::default(),
    };
    let mut finder = Finder {
        request,
        progress,
        cache,
        tree: Tree::default(),
        seen: HashSet::new(),
        memory: 0,
        notes: Vec::new(),
        depends_on_arguments: false,
    };
    finder.add_program(&request.program, true)?;
    for path in &request.extra {
        finder.add_extra(path)?;
    }
    finder.add_guesses();
    let Finder { tree, memory, notes, depends_on_arguments, .. } = finder;
    Ok(Found { tree, memory, notes, depends_on_arguments })
}

struct Finder<'a> {
    request: &'a Request,
    progress: &'a mut Progress,
    cache: LdCache,
    tree: Tree,
    /// ELF files whose needs were followed.
    seen: HashSet<PathBuf>,
    memory: u64,
    notes: Vec<String>,
    depends_on_arguments: bool,
}

/// What the first bytes of a program ask for.
enum Start {
    Elf(Vec<u8>),
    /// The interpreter and its one argument.
    Script(PathBuf, Option<String>),
}

impl Finder<'_> {
    /// Adds a program with all it takes to start it. `is_main` says that it is the one to run, with the
    /// arguments of the request.
    fn add_program(&mut self, path: &Path, is_main: bool) -> Result<()> {
        self.add_chain(path, is_main, MAX_SCRIPTS)
    }

    fn add_chain(&mut self, path: &Path, is_main: bool, depth: usize) -> Result<()> {
        let shown = path.display();
        let cannot = |e: &dyn std::error::Error| Error::user(format!("cannot run `{shown}`")).because(e);
        self.progress.step(&shown);
        let real = self.tree.add(path).map_err(|e| cannot(&e))?;
        if !self.seen.insert(real.clone()) {
            return Ok(());
        }
        match read_start(&real).map_err(|e| cannot(&e))? {
            Start::Elf(bytes) => {
                let elf = elf::read(&bytes).map_err(|e| explain(path, &e))?;
                self.check(path, &elf)?;
                self.add_libraries(path, &real, &elf, true)?;
                self.add_interpreter_folders(path, &real, is_main);
                if is_main {
                    self.add_package_data(&real);
                    self.add_prefix_data(&real);
                }
                Ok(())
            }
            Start::Script(interpreter, argument) => {
                if depth == 0 {
                    return Err(Error::user(format!(
                        "cannot run `{shown}`: too many scripts interpret each other"
                    )));
                }
                self.add_script(path, &interpreter, argument.as_deref(), depth)
            }
        }
    }

    fn add_script(
        &mut self,
        path: &Path,
        interpreter: &Path,
        argument: Option<&str>,
        depth: usize,
    ) -> Result<()> {
        let missing = |what: &str| {
            Error::user(format!("cannot run `{}`: its interpreter `{what}` does not exist", path.display()))
                .hint("install it, or mend the first line of the script")
        };
        let full = self.request.cwd.join(interpreter);
        let Ok(real) = full.canonicalize() else {
            return Err(missing(&interpreter.display().to_string()));
        };
        if path.canonicalize().is_ok_and(|path| path == real) {
            return Err(Error::user(format!("cannot run `{}`: it is its own interpreter", path.display())));
        }
        self.add_chain(&full, false, depth - 1)?;
        if interpreter.file_name() == Some(OsStr::new("env"))
            && let Some(name) = argument.and_then(env_program)
        {
            let program = which(OsStr::new(name), self.request.path.as_deref(), &self.request.cwd)
                .map_err(|e| e.wrap(format!("cannot run `{}`", path.display())))?;
            self.add_chain(&program, false, depth - 1)?;
        }
        self.add_programs_named_in(path);
        Ok(())
    }

    fn check(&mut self, path: &Path, elf: &Elf) -> Result<()> {
        let shown = path.display();
        if let Some(address) = elf.writable_code {
            return Err(writable_code(path, address));
        }
        if !elf.is_program {
            return Err(Error::user(format!("cannot run `{shown}`: it is a library, it has no entry point")));
        }
        if let Some(interpreter) = &elf.interpreter
            && !Path::new(interpreter).exists()
        {
            let message = format!("cannot run `{shown}`: its interpreter `{interpreter}` does not exist");
            return Err(Error::user(message).hint(package_of(interpreter)));
        }
        self.memory = self.memory.max(elf.memory);
        Ok(())
    }

    /// Adds what the ELF file at `real`, called `path`, needs. `is_strict` says that a missing library is an
    /// error, and not just one that will be missed when it is asked for.
    fn add_libraries(&mut self, path: &Path, real: &Path, elf: &Elf, is_strict: bool) -> Result<()> {
        let Some(loader) = Loader::of(elf.interpreter.as_deref()) else { return Ok(()) };
        if let Some(interpreter) = &elf.interpreter {
            let real = self
                .tree
                .add(Path::new(interpreter))
                .map_err(|e| Error::user(format!("cannot read `{interpreter}`")).because(&e))?;
            self.seen.insert(real);
        }
        self.follow(path, real, elf, &loader, is_strict)
    }

    /// Breadth first, as the loader does it.
    fn follow(
        &mut self,
        path: &Path,
        real: &Path,
        elf: &Elf,
        loader: &Loader,
        is_strict: bool,
    ) -> Result<()> {
        let mut queue = vec![libraries::Needy::new(path, real, elf, &[])];
        while let Some(needy) = queue.pop() {
            for name in &needy.needed {
                let mut found = loader.search(name, &needy, &self.cache).into_iter().peekable();
                if found.peek().is_none() && is_strict && !loader.is_itself(name) {
                    let message = format!("cannot find the library `{name}`");
                    let cause = format!("`{}` needs it", needy.path.display());
                    return Err(Error::user(message)
                        .because(&io::Error::other(cause))
                        .hint("install the package that has it, or add its folder to /etc/ld.so.conf"));
                }
                for library in found {
                    let Ok(real) = self.tree.add(&library.path) else { continue };
                    if self.seen.insert(real.clone()) {
                        self.progress.step(library.path.display());
                        queue.push(libraries::Needy::new(&library.path, &real, &library.elf, &needy.rpath));
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds the libraries of a plugin: a shared object that is loaded at run time.
    fn add_plugin(&mut self, path: &Path) {
        let Ok(real) = self.tree.add(path) else { return };
        if !self.seen.insert(real.clone()) {
            return;
        }
        let Ok(elf) = std::fs::read(&real).map_err(|_| ()).and_then(|b| elf::read(&b).map_err(|_| ())) else {
            return;
        };
        let _ = self.follow(path, &real, &elf, &Loader::glibc(), false);
    }

    /// Adds what `--with` names.
    fn add_extra(&mut self, path: &Path) -> Result<()> {
        let shown = path.display();
        let metadata =
            path.metadata().map_err(|e| Error::user(format!("cannot add `{shown}`")).because(&e))?;
        if metadata.is_dir() {
            self.add_whole(path);
            return Ok(());
        }
        let is_no_program = |bytes: &[u8]| match elf::read(bytes) {
            Ok(elf) => !elf.is_program || elf.interpreter.is_none(),
            Err(trouble) => matches!(trouble, Trouble::Kind(_)),
        };
        match read_start(path) {
            Ok(Start::Elf(bytes)) if is_no_program(&bytes) => {
                self.add_plugin(path);
                Ok(())
            }
            Ok(_) => self.add_program(path, false),
            Err(_) => {
                let added = self.tree.add(path);
                added.map(drop).map_err(|e| Error::user(format!("cannot add `{shown}`")).because(&e))
            }
        }
    }

    /// Adds a folder, its content, and what the shared objects in it need.
    fn add_whole(&mut self, path: &Path) {
        self.add_folder(path, &|_| false);
    }

    fn add_folder(&mut self, path: &Path, skip: &dyn Fn(&Path) -> bool) {
        self.progress.step(path.display());
        let Ok(real) = self.tree.add_folder(path, skip) else { return };
        let objects: Vec<PathBuf> = self
            .tree
            .items_below(&real)
            .filter(|(path, item)| matches!(item.kind, Kind::File(_)) && is_object_name(path))
            .map(|(path, _)| path.to_owned())
            .collect();
        for object in objects {
            self.add_plugin(&object);
        }
    }
}

fn is_object_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".so") || name.contains(".so.")
}

/// Reads the start of a program; all of it, if it is an ELF file.
fn read_start(path: &Path) -> io::Result<Start> {
    let mut file = File::open(path)?;
    let mut head = Vec::new();
    (&mut file).take(4096).read_to_end(&mut head)?;
    if let Some(line) = head.strip_prefix(b"#!") {
        // execve(2) looks at 255 bytes.
        let line = line.split(|b| *b == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(&line[..line.len().min(253)]).trim().to_owned();
        let (interpreter, argument) = match line.split_once([' ', '\t']) {
            Some((interpreter, argument)) => (interpreter, Some(argument.trim().to_owned())),
            None => (line.as_str(), None),
        };
        if !interpreter.is_empty() {
            return Ok(Start::Script(interpreter.into(), argument));
        }
    }
    if !head.starts_with(b"\x7fELF") {
        return Err(io::Error::other(match head.is_empty() {
            true => "the file is empty".to_owned(),
            false => Trouble::NotElf.to_string(),
        }));
    }
    file.read_to_end(&mut head)?;
    Ok(Start::Elf(head))
}

/// The program in the argument of `env`: the first word that is neither a flag nor an assignment.
fn env_program(argument: &str) -> Option<&str> {
    argument.split_whitespace().find(|word| !word.starts_with('-') && !word.contains('='))
}

fn explain(path: &Path, trouble: &Trouble) -> Error {
    let error = Error::user(format!("cannot run `{}`", path.display())).because(trouble);
    match trouble {
        Trouble::Truncated { .. } => error.hint("copy or download it again"),
        Trouble::Foreign(_) => error.hint("get the x86-64 build of it"),
        _ => error,
    }
}

fn writable_code(program: &Path, address: u64) -> Error {
    let shown = program.display();
    Error::user(format!("cannot run `{shown}`: its segment at {address:#x} is writable and executable"))
        .hint("link it without `-N` or `--omagic`: code that can be changed cannot be trusted")
}

/// Fails if a program that takes `needs` bytes before it starts cannot have them.
pub(crate) fn check_memory(program: &Path, needs: u64, limit: u64, hint: &str) -> Result<()> {
    if needs <= limit {
        return Ok(());
    }
    let why =
        format!("it takes {} before it starts, and there are {}", size::about(needs), size::about(limit));
    Err(Error::user(format!("`{}` does not fit into the enclave's memory", program.display()))
        .because(&io::Error::other(why))
        .hint(hint))
}

/// What to do about a missing loader.
fn package_of(interpreter: &str) -> &'static str {
    if interpreter.contains("musl") {
        "install musl (on Debian: `apt install musl`), or link the program statically"
    } else if interpreter.contains("ld-linux-x86-64") {
        "install glibc (on Debian: `apt install libc6`), or link the program statically"
    } else {
        "install the C library that the program was built for"
    }
}

#[cfg(test)]
mod tests;
