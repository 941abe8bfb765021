//! `/proc`.
//!
//! Nothing is stored: a directory looks at the kernel when it is asked, a file makes its text when it is read from the
//! start. Tables say what there is: [`system::FILES`] for all, [`process::FILES`] for a process,
//! [`system::SETTINGS`] for `/proc/sys`, [`net::FILES`] for `/proc/net`.
//!
//! Lock order: none are held while text is made.

mod cpu;
mod net;
mod node;
mod process;
mod system;
mod sysvipc;

use crate::process::Tables;
use crate::{Kernel, Process, Thread};
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use kbase::sync::Once;
use kbase::{Errno, Error, Result};
use node::{Link, LinkKind, TextFile};
use platform::Platform;
use vfs::{Directory, DirectoryEntry, FileSystem, FileType, Inode, Metadata, Name, Node, StatFs};

/// PROC_SUPER_MAGIC of `statfs(2)`.
const MAGIC: u64 = 0x9fa0;

/// The file system.
pub(crate) struct ProcFs {
    shared: Arc<Shared>,
}

/// What all nodes need.
pub(super) struct Shared {
    dev: u64,
    /// Set once the kernel is there; before, `/proc` is empty.
    kernel: Once<Weak<Kernel>>,
    /// `/proc/sys/kernel/random/boot_id`.
    boot_id: [u8; 16],
}

impl ProcFs {
    pub(crate) fn new(platform: &Arc<dyn Platform>, dev: u64) -> Arc<Self> {
        let mut boot_id = [0; 16];
        platform.fill_random(&mut boot_id);
        Arc::new(Self { shared: Arc::new(Shared { dev, kernel: Once::new(), boot_id }) })
    }

    /// Tells it what to show.
    pub(crate) fn bind(&self, kernel: &Arc<Kernel>) {
        self.shared.kernel.call_once(|| Arc::downgrade(kernel));
    }
}

impl FileSystem for ProcFs {
    fn type_name(&self) -> &'static str {
        "proc"
    }

    fn is_cached(&self) -> bool {
        false
    }

    fn root(&self) -> Arc<dyn Directory> {
        Arc::new(ProcDirectory { shared: Arc::clone(&self.shared), place: Place::Root })
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs { magic: MAGIC, block_size: 4096, ..StatFs::default() })
    }
}

impl Shared {
    fn kernel(&self) -> Result<Arc<Kernel>> {
        let kernel = self.kernel.get().and_then(Weak::upgrade);
        kernel.ok_or(Error::new(Errno::ENOENT, "the kernel is not there"))
    }

    fn process(&self, pid: u32) -> Result<Arc<Process>> {
        let process = self.kernel()?.processes.process(pid);
        process.ok_or(Error::new(Errno::ENOENT, "no such process"))
    }

    /// The thread that looks.
    fn current(&self) -> Result<Arc<Thread>> {
        let kernel = self.kernel()?;
        let me = kernel.platform().current();
        let mut threads = kernel.processes.all().into_iter().flat_map(|process| process.threads());
        let current = threads.find(|thread| thread.handle() == Some(me));
        current.ok_or(Error::new(Errno::ENOENT, "no thread looks"))
    }

    /// Descriptors and places of a thread of a process.
    fn tables(&self, of: Whose) -> Result<Tables> {
        let process = self.process(of.pid)?;
        let thread = process.threads().into_iter().find(|thread| thread.tid() == of.tid);
        match thread {
            Some(thread) => Ok(process.tables(&thread)),
            // The first may have ended before others.
            None if of.tid == of.pid => {
                let (_, files, fs) = process.world();
                Ok((files, fs))
            }
            None => Err(Error::new(Errno::ENOENT, "no such thread")),
        }
    }

    /// A thread of a process.
    fn thread(&self, pid: u32, tid: u32) -> Result<Arc<Thread>> {
        let threads = self.process(pid)?.threads();
        let thread = threads.into_iter().find(|thread| thread.tid() == tid);
        thread.ok_or(Error::new(Errno::ENOENT, "no such thread"))
    }
}

/// Text in the making. Paths and names are bytes, the rest is formatted.
#[derive(Default)]
pub(super) struct Text(Vec<u8>);

impl Text {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Formats into a text; that cannot fail.
macro_rules! put {
    ($text:expr, $($arguments:tt)*) => {{
        use core::fmt::Write;
        let _ = write!($text, $($arguments)*);
    }};
}
pub(super) use put;

/// A thread: what `/proc/PID` shows is that of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Whose {
    pid: u32,
    tid: u32,
}

/// Where in `/proc` a directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// `/proc`
    Root,
    /// `/proc/PID`, or `/proc/PID/task/TID`.
    Process { pid: u32, tid: Option<u32> },
    /// `/proc/PID/fd`, or `/proc/PID/task/TID/fd`
    Descriptors(Whose),
    /// `/proc/PID/fdinfo`, or `/proc/PID/task/TID/fdinfo`
    DescriptorInfos(Whose),
    /// `/proc/PID/task`
    Tasks(u32),
    /// `/proc/sys` and below: the path below it, ending in a slash unless empty.
    Settings(String),
    /// `/proc/sysvipc`
    SystemV,
    /// `/proc/PID/net`
    Net,
}

struct ProcDirectory {
    shared: Arc<Shared>,
    place: Place,
}

/// Makes the link of a process or thread.
type MakeLink = fn(Whose) -> LinkKind;

/// Links and directories of a process that the tables of files do not have.
const PROCESS_LINKS: [(&str, MakeLink); 3] =
    [("exe", LinkKind::Executable), ("cwd", LinkKind::Directory), ("root", LinkKind::Root)];

impl ProcDirectory {
    fn directory(&self, place: Place) -> Node {
        Node::Directory(Arc::new(Self { shared: Arc::clone(&self.shared), place }))
    }

    fn link(&self, kind: LinkKind) -> Node {
        Node::Symlink(Arc::new(Link::new(&self.shared, kind)))
    }

    fn file(&self, name: &str, make: node::Make) -> Node {
        Node::Regular(Arc::new(TextFile::new(&self.shared, self.ino_of(name), make)))
    }

    /// A number that stays the same for a place and a name.
    fn ino_of(&self, name: &str) -> u64 {
        ino_of(&format!("{:?}/{name}", self.place))
    }

    /// The names in this directory, as they are now.
    fn names(&self) -> Result<Vec<(String, FileType)>> {
        let file = |name: &&str| (String::from(*name), FileType::Regular);
        let directory = |name: &str| (String::from(name), FileType::Directory);
        let link = |name: &str| (String::from(name), FileType::Symlink);
        let number = |number: u32, kind: FileType| (format!("{number}"), kind);
        let mut names = Vec::new();
        match &self.place {
            Place::Root => {
                let kernel = self.shared.kernel()?;
                names.extend(["self", "thread-self", "mounts", "net"].map(link));
                names.extend(["sys", "sysvipc"].map(directory));
                names.extend(system::FILES.iter().map(|(name, _)| file(name)));
                let processes = kernel.processes.all();
                names.extend(processes.iter().map(|p| number(p.pid, FileType::Directory)));
            }
            Place::Process { pid, tid } => {
                self.shared.process(*pid)?;
                names.extend(PROCESS_LINKS.iter().map(|(name, _)| link(name)));
                names.extend(["fd", "fdinfo", "net"].map(directory));
                if tid.is_none() {
                    names.push(directory("task"));
                }
                names.extend(process::FILES.iter().map(|(name, _)| file(name)));
            }
            Place::Descriptors(of) | Place::DescriptorInfos(of) => {
                let is_link = matches!(self.place, Place::Descriptors(_));
                let kind = if is_link { FileType::Symlink } else { FileType::Regular };
                let (files, _) = self.shared.tables(*of)?;
                names.extend(files.numbers(0, usize::MAX).into_iter().map(|fd| number(fd, kind)));
            }
            Place::Tasks(pid) => {
                let threads = self.shared.process(*pid)?.threads();
                names.extend(threads.iter().map(|thread| number(thread.tid(), FileType::Directory)));
            }
            Place::Net => names.extend(net::FILES.iter().map(|(name, _)| file(name))),
            Place::SystemV => names.extend(sysvipc::FILES.iter().map(|(name, _)| file(name))),
            Place::Settings(prefix) => {
                for (path, _) in system::SETTINGS {
                    let Some(rest) = path.strip_prefix(prefix.as_str()) else { continue };
                    let entry = match rest.split_once('/') {
                        Some((name, _)) => directory(name),
                        None => file(&rest),
                    };
                    if names.last() != Some(&entry) {
                        names.push(entry);
                    }
                }
            }
        }
        Ok(names)
    }

    fn find(&self, name: &str) -> Result<Node> {
        let absent = Error::new(Errno::ENOENT, "no such name");
        let number = name.parse::<u32>().ok().filter(|number| format!("{number}") == name);
        match (&self.place, number) {
            (Place::Root, Some(pid)) => {
                // Linux shows threads too, but only to who knows their numbers.
                let kernel = self.shared.kernel()?;
                if kernel.processes.process(pid).is_some() {
                    return Ok(self.directory(Place::Process { pid, tid: None }));
                }
                let thread = kernel.processes.thread(pid).ok_or(absent)?;
                let process = thread.process().ok_or(absent)?;
                Ok(self.directory(Place::Process { pid: process.pid, tid: Some(pid) }))
            }
            (Place::Root, None) => match name {
                "self" => Ok(self.link(LinkKind::Myself)),
                "thread-self" => Ok(self.link(LinkKind::MyThread)),
                "mounts" => Ok(self.link(LinkKind::Mounts)),
                "net" => Ok(self.link(LinkKind::Net)),
                "sys" => Ok(self.directory(Place::Settings(String::new()))),
                "sysvipc" => Ok(self.directory(Place::SystemV)),
                _ => {
                    let (_, make) = system::FILES.iter().find(|(n, _)| *n == name).ok_or(absent)?;
                    Ok(self.file(name, node::Make::System(*make)))
                }
            },
            (Place::Process { pid, tid }, _) => {
                self.shared.process(*pid)?;
                let of = Whose { pid: *pid, tid: tid.unwrap_or(*pid) };
                if let Some((_, kind)) = PROCESS_LINKS.iter().find(|(n, _)| *n == name) {
                    return Ok(self.link(kind(of)));
                }
                match name {
                    "fd" => Ok(self.directory(Place::Descriptors(of))),
                    "fdinfo" => Ok(self.directory(Place::DescriptorInfos(of))),
                    "net" => Ok(self.directory(Place::Net)),
                    "task" if tid.is_none() => Ok(self.directory(Place::Tasks(*pid))),
                    _ => {
                        let (_, make) = process::FILES.iter().find(|(n, _)| *n == name).ok_or(absent)?;
                        Ok(self.file(name, node::Make::Process { of, make: *make }))
                    }
                }
            }
            (Place::Descriptors(of), Some(fd)) => {
                self.shared.tables(*of)?.0.get(crate::syscall::Fd(fd)).map_err(|_| absent)?;
                Ok(self.link(LinkKind::Descriptor(*of, fd)))
            }
            (Place::DescriptorInfos(of), Some(fd)) => {
                self.shared.tables(*of)?.0.get(crate::syscall::Fd(fd)).map_err(|_| absent)?;
                Ok(self.file(name, node::Make::Descriptor { of: *of, fd }))
            }
            (Place::Tasks(pid), Some(tid)) => {
                self.shared.thread(*pid, tid)?;
                Ok(self.directory(Place::Process { pid: *pid, tid: Some(tid) }))
            }
            (Place::SystemV | Place::Net, _) => {
                let files = if self.place == Place::Net { net::FILES } else { sysvipc::FILES };
                let (_, make) = files.iter().find(|(n, _)| *n == name).ok_or(absent)?;
                Ok(self.file(name, node::Make::System(*make)))
            }
            (Place::Settings(prefix), _) => {
                let path = format!("{prefix}{name}");
                if let Some((_, make)) = system::SETTINGS.iter().find(|(p, _)| *p == path) {
                    return Ok(self.file(name, node::Make::System(*make)));
                }
                let below = format!("{path}/");
                if system::SETTINGS.iter().any(|(p, _)| p.starts_with(&below)) {
                    return Ok(self.directory(Place::Settings(below)));
                }
                Err(absent)
            }
            _ => Err(absent),
        }
    }
}

/// FNV-1a: a number for a path.
fn ino_of(path: &str) -> u64 {
    let hash = path
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    (hash >> 16) | 1
}

/// Attributes of a node of `/proc`.
fn metadata(shared: &Shared, ino: u64, kind: FileType, mode: u32) -> Metadata {
    let now = shared.kernel().map_or(0, |kernel| kernel.platform().realtime_ns().cast_signed());
    Metadata {
        dev: shared.dev,
        ino,
        kind,
        mode,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: 0,
        blocks: 0,
        blksize: 1024,
        atime_ns: now,
        mtime_ns: now,
        ctime_ns: now,
    }
}

impl Inode for ProcDirectory {
    fn metadata(&self) -> Result<Metadata> {
        let mode = if matches!(self.place, Place::Descriptors(_)) { 0o500 } else { 0o555 };
        Ok(metadata(&self.shared, self.ino_of(""), FileType::Directory, mode))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Directory for ProcDirectory {
    fn lookup(&self, name: Name<'_>) -> Result<Node> {
        let name = core::str::from_utf8(name.as_bytes());
        self.find(name.map_err(|_| Error::new(Errno::ENOENT, "no such name"))?)
    }

    /// The cursor is the place in the list of names, so an entry may be missed while processes come and go.
    fn entries(&self, cursor: u64, max: usize) -> Result<Vec<DirectoryEntry>> {
        let start = usize::try_from(cursor).unwrap_or(usize::MAX);
        let names = self.names()?.into_iter().enumerate().skip(start).take(max);
        let entries = names.map(|(index, (name, kind))| DirectoryEntry {
            ino: self.ino_of(&name),
            name: name.into_bytes(),
            kind,
            next: index as u64 + 1,
        });
        Ok(entries.collect())
    }
}
