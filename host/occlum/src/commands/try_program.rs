//! `occlum try`.

use crate::cache::{Cache, Hash};
use crate::cli;
use crate::config::{Config, size};
use crate::deps::{self, Request};
use crate::enclave;
use crate::error::{Context, Error, Result};
use crate::inputs::Inputs;
use crate::key::KeyFile;
use crate::launch::{self, HostMount, Launch};
use crate::pack;
use crate::printer::{self, Progress};
use boot_config::network::{Network, Ports};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Component, Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

/// What is remembered of a request.
#[derive(Serialize, Deserialize)]
enum Remembered {
    /// The arguments decide too what goes into the image.
    AskWithArguments,
    /// The image it led to.
    Image(Packed),
}

/// An image that was packed, and the state of what went into it.
#[derive(Serialize, Deserialize)]
struct Packed {
    image: Hash,
    /// Bytes of memory that the program takes before it starts.
    memory: u64,
    notes: Vec<String>,
    inputs: Inputs,
}

/// Time stamps of files are no finer than this: a change right after packing might not show.
const TICK_NS: i128 = 50_000_000;

const MEMORY_HINT: &str = "give it more with `--memory SIZE` (in an instance: raise `resource_limits.user_space_max_size` in Occlum.json)";

/// Runs a program of this machine in an enclave; returns its exit status.
pub(crate) fn run(args: cli::Try) -> Result<u8> {
    let cwd = std::env::current_dir().user(|| "cannot tell the current folder")?;
    let mounts = mounts(&args.mount, &cwd)?;
    let mut config = config(args.memory.as_deref())?;
    config.io_uring = args.io_uring;
    let request = request(&args, &cwd)?;
    if is_kernels(&request.program) {
        return Err(Error::user(format!("cannot run `{}` in an enclave", request.program.display()))
            .hint("the enclave has its own /proc, /dev and /sys: copy the program to another folder"));
    }
    let cache = Cache::open()?;

    let (image, packed, check) = match recall(&cache, &request) {
        Some(recalled) => recalled,
        None => {
            let (image, packed) = pack(&cache, &request)?;
            (image, packed, Check::none())
        }
    };
    packed.notes.iter().for_each(printer::note);
    deps::check_memory(&request.program, packed.memory, config.limits.user_space, MEMORY_HINT)?;
    let enclave = signed(&cache, &config, packed.image, args.sign_key.as_deref())?;
    let mut arguments = args.program;
    if deps::is_shim_of(&arguments[0], &request.program) {
        arguments[0] = request.program.clone().into_os_string();
    }
    launch::run(Launch {
        enclave,
        image,
        mounts,
        program: request.program,
        arguments,
        cwd,
        show: args.show,
        memory_hint: MEMORY_HINT,
        image_folder: None,
        before_start: Box::new(move || check.finish(&cache)),
    })
}

/// The check of many files that goes on while the enclave is loaded.
struct Check(Option<(JoinHandle<bool>, Hash)>);

impl Check {
    fn none() -> Self {
        Self(None)
    }

    /// Waits for the check. If a file changed, starts this command anew without what it remembered.
    fn finish(self, cache: &Cache) -> Result<()> {
        let Some((thread, key)) = self.0 else { return Ok(()) };
        if thread.join().unwrap_or(false) {
            return Ok(());
        }
        cache.forget_index(&key);
        let mut arguments = std::env::args_os();
        let zeroth = arguments.next().unwrap_or_default();
        // The address space holds an enclave now, and threads: a new program image is the clean way back.
        let e = std::process::Command::new("/proc/self/exe").arg0(zeroth).args(arguments).exec();
        Err(Error::machine("cannot start anew after files have changed").because(&e))
    }
}

fn config(memory: Option<&str>) -> Result<Config> {
    let mut config = Config::default();
    config.env.default = vec!["PATH=/usr/local/bin:/usr/bin:/bin".into()];
    config.env.untrusted = vec!["*".into()];
    // The root takes all changes, and a file system on /tmp would hide programs that are there.
    config.mounts.retain(|mount| mount.target == "/");
    // Servers are tried with clients of the host, and clients with its servers.
    config.network = Network { publish: Ports::all(), host_loopback: Ports::all() };
    if let Some(text) = memory {
        let bytes =
            size::parse(text).map_err(|why| Error::user(format!("--memory: {why}")).hint(size::HINT))?;
        config.limits.user_space = bytes.clamp(1 << 20, config.limits.user_space.max(56 << 30) - (1 << 20));
        config.process.heap = config.limits.user_space;
    }
    Ok(config)
}

fn request(args: &cli::Try, cwd: &Path) -> Result<Request> {
    let path = std::env::var_os("PATH");
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    Ok(Request {
        program: deps::which(&args.program[0], path.as_deref(), cwd)?,
        arguments: args.program[1..].to_vec(),
        extra: args.with.iter().map(|name| extra(name, path.as_deref(), cwd)).collect(),
        path,
        cwd: cwd.to_owned(),
        locales: ["LC_ALL", "LC_CTYPE", "LANG"].iter().filter_map(|name| variable(name)).collect(),
        terminal: variable("TERM"),
        time_zone: variable("TZ"),
        folders: ["HOME", "TMPDIR"].iter().filter_map(|name| variable(name)).map(PathBuf::from).collect(),
    })
}

/// Whether `path` is in a file system that the kernel makes up: the enclave has its own.
fn is_kernels(path: &Path) -> bool {
    ["/proc", "/dev", "/sys"].iter().any(|folder| path.starts_with(folder))
}

/// What `--with` means: a path; or, if there is no such file and it has no slash, a program in PATH.
fn extra(name: &Path, path: Option<&OsStr>, cwd: &Path) -> PathBuf {
    let file: PathBuf = cwd.join(name).components().collect();
    if file.exists() || name.components().count() != 1 {
        return file;
    }
    deps::which(name.as_os_str(), path, cwd).unwrap_or(file)
}

/// The folders of the host that the program sees: the current one, and those of `--mount`.
fn mounts(flags: &[std::ffi::OsString], cwd: &Path) -> Result<Vec<HostMount>> {
    let mut mounts = Vec::new();
    // At `/` is the image.
    if !is_kernels(cwd) && cwd != Path::new("/") {
        mounts.push(HostMount { host: cwd.to_owned(), guest: cwd.to_owned(), is_writable: false });
    }
    for flag in flags {
        let mount = parse_mount(flag, cwd)?;
        mounts.retain(|other| other.guest != mount.guest);
        mounts.push(mount);
    }
    mounts.sort_by_key(|mount| mount.guest.components().count());
    Ok(mounts)
}

fn parse_mount(flag: &OsStr, cwd: &Path) -> Result<HostMount> {
    let shown = flag.to_string_lossy();
    let wrong = |why: &str| {
        Error::user(format!("--mount `{shown}`: {why}"))
            .hint("write HOST:GUEST or HOST:GUEST:rw, such as `.:/work:rw`")
    };
    let mut parts = flag.as_bytes().split(|b| *b == b':');
    let path = |bytes| Path::new(OsStr::from_bytes(bytes));
    let (Some(host), Some(guest)) = (parts.next().map(path), parts.next().map(path)) else {
        return Err(wrong("there is no `:GUEST`"));
    };
    let is_writable = match (parts.next(), parts.next()) {
        (None, _) | (Some(b"ro"), None) => false,
        (Some(b"rw"), None) => true,
        _ => return Err(wrong("only `:rw` or `:ro` may follow")),
    };
    if !guest.is_absolute() || guest.components().any(|c| c == Component::ParentDir) {
        return Err(wrong("GUEST is an absolute path without `..`"));
    }
    if guest == Path::new("/") {
        return Err(wrong("GUEST cannot be `/`, which is the image"));
    }
    let host = cwd.join(host).canonicalize().map_err(|e| wrong("HOST cannot be used").because(&e))?;
    if !host.is_dir() {
        return Err(wrong("HOST is not a folder"));
    }
    Ok(HostMount { host, guest: guest.components().collect(), is_writable })
}

/// The image of an equal request whose inputs are as they were; if they are many, the check still goes on.
fn recall(cache: &Cache, request: &Request) -> Option<(PathBuf, Packed, Check)> {
    for with_arguments in [false, true] {
        let key = key_of(request, with_arguments);
        let Remembered::Image(mut packed) = postcard::from_bytes(&cache.index(&key)?).ok()? else { continue };
        let image = cache.image(&packed.image)?;
        let inputs = std::mem::take(&mut packed.inputs);
        let check = if inputs.are_many() {
            Check(Some((std::thread::spawn(move || inputs.are_unchanged()), key)))
        } else {
            inputs.are_unchanged().then_some(Check::none())?
        };
        return Some((image, packed, check));
    }
    None
}

fn pack(cache: &Cache, request: &Request) -> Result<(PathBuf, Packed)> {
    let started_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i128);
    let found = deps::find(request, &mut Progress::start("searching"))?;
    let (path, image, ()) = cache.add_image(|file| {
        let info = pack::tree(&found.tree, file, Some(cache.clone()), &mut Progress::start("packing"))?;
        Ok((info.commitment, ()))
    })?;
    let inputs = Inputs::of(&found.tree);
    let is_settled = inputs.newest_ns() < started_ns - TICK_NS;
    let packed = Packed { image, memory: found.memory, notes: found.notes, inputs };
    let remembered = Remembered::Image(packed);
    if is_settled {
        if let Ok(bytes) = postcard::to_allocvec(&remembered) {
            cache.keep_index(&key_of(request, found.depends_on_arguments), &bytes);
        }
        if found.depends_on_arguments
            && let Ok(bytes) = postcard::to_allocvec(&Remembered::AskWithArguments)
        {
            cache.keep_index(&key_of(request, false), &bytes);
        }
    }
    cache.evict(&[&path]);
    match remembered {
        Remembered::Image(packed) => Ok((path, packed)),
        Remembered::AskWithArguments => Err(Error::machine("the cache forgot what it was told")),
    }
}

/// Names all that decides what goes into the image, but for the content of files.
fn key_of(request: &Request, with_arguments: bool) -> Hash {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(&enclave::tool_stamp());
    add(request.program.as_os_str().as_bytes());
    add(&[u8::from(with_arguments)]);
    if with_arguments {
        add(request.cwd.as_os_str().as_bytes());
        request.arguments.iter().for_each(|argument| add(argument.as_bytes()));
    }
    add(b"with");
    request.extra.iter().for_each(|path| add(path.as_os_str().as_bytes()));
    add(b"environment");
    add(request.path.as_deref().unwrap_or_default().as_bytes());
    request.locales.iter().for_each(|locale| add(locale.as_bytes()));
    add(request.terminal.as_deref().unwrap_or_default().as_bytes());
    request.folders.iter().for_each(|folder| add(folder.as_os_str().as_bytes()));
    add(request.time_zone.as_deref().unwrap_or_default().as_bytes());
    hash.finalize().into()
}

/// The signed enclave for `image`; made if it is not in the cache.
fn signed(cache: &Cache, config: &Config, image: Hash, key: Option<&Path>) -> Result<Vec<u8>> {
    let key = KeyFile::open(key)?;
    let mut boot = enclave::boot_config(config, image, "occlum");
    boot.allow_host_mounts = true;
    let boot = enclave::encode(&boot)?;
    let mut hash = Sha256::new();
    hash.update(enclave::tool_stamp());
    hash.update(key.fingerprint());
    hash.update(&boot);
    let hash: Hash = hash.finalize().into();
    if let Some(enclave) = cache.signed(&hash) {
        return Ok(enclave);
    }
    let signed = enclave::build(config, &boot)?.sign(&key.parse()?).machine(|| "cannot sign the enclave")?;
    let bytes = signed.to_bytes();
    cache.keep_signed(&hash, &bytes);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(flag: &str) -> Result<HostMount> {
        parse_mount(OsStr::new(flag), Path::new("/usr"))
    }

    #[test]
    fn mounts_are_read_only_unless_they_say_otherwise() {
        let bin = Path::new("/usr/bin").canonicalize().unwrap();
        assert_eq!(
            mount("bin:/x/").unwrap(),
            HostMount { host: bin.clone(), guest: "/x".into(), is_writable: false }
        );
        assert!(mount("/usr/bin:/x:rw").unwrap().is_writable);
        assert!(!mount("/usr/bin:/x:ro").unwrap().is_writable);
    }

    #[test]
    fn wrong_mounts_say_why() {
        let cases = [
            ("/usr", "there is no `:GUEST`"),
            ("/usr:x", "GUEST is an absolute path"),
            ("/usr:/x/../y", "GUEST is an absolute path"),
            ("/usr:/", "cannot be `/`"),
            ("/usr:/x:rx", "only `:rw` or `:ro`"),
            ("/usr:/x:rw:", "only `:rw` or `:ro`"),
            ("/none:/x", "HOST cannot be used"),
            ("/bin/true:/x", "HOST is not a folder"),
        ];
        for (flag, why) in cases {
            let e = mount(flag).unwrap_err().to_string();
            assert!(e.contains(why), "{flag}: {e}");
        }
    }

    #[test]
    fn the_current_folder_is_seen_unless_it_is_ours() {
        let guests = |cwd: &str| {
            let mounts = mounts(&[], Path::new(cwd)).unwrap();
            mounts.into_iter().map(|m| m.guest.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(guests("/usr/share"), ["/usr/share"]);
        assert_eq!(guests("/"), Vec::<String>::new());
        assert_eq!(guests("/proc/self"), Vec::<String>::new());
    }

    #[test]
    fn a_second_request_is_answered_without_reading_files() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::at(home.path(), 1 << 30).unwrap();
        let request = Request { program: "/bin/true".into(), cwd: "/".into(), ..Request::default() };
        assert!(recall(&cache, &request).is_none());
        let (path, packed) = pack(&cache, &request).unwrap();
        let (again, recalled, _) = recall(&cache, &request).unwrap();
        assert_eq!((again, recalled.image), (path, packed.image));
        let other = Request { terminal: Some("vt100".into()), ..request };
        assert!(recall(&cache, &other).is_none());
    }

    #[test]
    fn the_arguments_count_for_a_shell_only() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::at(home.path(), 1 << 30).unwrap();
        let shell = |text: &str| Request {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), text.into()],
            cwd: "/".into(),
            ..Request::default()
        };
        pack(&cache, &shell("echo 1")).unwrap();
        assert!(recall(&cache, &shell("echo 1")).is_some());
        assert!(recall(&cache, &shell("echo 2")).is_none());
    }
}
