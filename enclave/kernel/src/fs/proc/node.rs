//! Files and links of `/proc`.

use super::{Shared, Text, Whose, ino_of, metadata, process};
use crate::Kernel;
use crate::syscall::Fd;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use kbase::sync::Mutex;
use kbase::{ByteSink, ByteSource, Errno, Error, Result};
use vfs::{Dentry, File, FileType, Inode, Metadata, Node, Regular, Special, Symlink, WalkFlags};

/// How the text of a file is made.
pub(super) enum Make {
    /// From the kernel.
    System(system::Make),
    /// From a thread of a process.
    Process { of: Whose, make: process::Make },
    /// From a descriptor.
    Descriptor { of: Whose, fd: u32 },
}

use super::system;

/// A file whose text is made when it is read from the start, and kept for reading on.
pub(super) struct TextFile {
    shared: Arc<Shared>,
    ino: u64,
    make: Make,
    text: Mutex<Option<Arc<[u8]>>>,
}

impl TextFile {
    pub(super) fn new(shared: &Arc<Shared>, ino: u64, make: Make) -> Self {
        Self { shared: Arc::clone(shared), ino, make, text: Mutex::default() }
    }

    fn make(&self) -> Result<Arc<[u8]>> {
        let mut text = Text::default();
        match &self.make {
            Make::System(make) => make(&*self.shared.kernel()?, &self.shared, &mut text)?,
            Make::Process { of, make } => {
                let process = self.shared.process(of.pid)?;
                let thread = self.shared.thread(of.pid, of.tid);
                let gone = Error::new(Errno::ESRCH, "the thread has ended");
                let subject = process::Subject {
                    kernel: &*self.shared.kernel()?,
                    process: &process,
                    thread: &*thread.map_err(|_| gone)?,
                };
                make(&subject, &mut text)?;
            }
            Make::Descriptor { of, fd } => {
                process::descriptor(&*self.shared.tables(*of)?.0.get(Fd(*fd))?, &mut text);
            }
        }
        Ok(text.0.into())
    }

    /// Whether a program may write, and is told that it did.
    fn takes_writes(&self) -> bool {
        matches!(self.make, Make::Process { make, .. } if process::takes_writes(make))
    }
}

impl Inode for TextFile {
    fn metadata(&self) -> Result<Metadata> {
        let mode = if self.takes_writes() { 0o644 } else { 0o444 };
        Ok(metadata(&self.shared, self.ino, FileType::Regular, mode))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Regular for TextFile {
    fn read_at(&self, offset: u64, into: &mut dyn ByteSink) -> Result<usize> {
        let kept = self.text.lock().clone().filter(|_| offset > 0);
        let text = match kept {
            Some(text) => text,
            None => {
                let text = self.make()?;
                *self.text.lock() = Some(Arc::clone(&text));
                text
            }
        };
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        into.put(text.get(start..).unwrap_or_default())
    }

    fn write_at(&self, _offset: u64, from: &mut dyn ByteSource) -> Result<usize> {
        if self.takes_writes() {
            let mut bytes = [0; 64];
            let len = from.remaining();
            from.take(&mut bytes)?;
            return Ok(len);
        }
        Err(Error::new(Errno::EACCES, "the setting cannot be changed"))
    }

    fn truncate(&self, _size: u64) -> Result<()> {
        Ok(())
    }
}

/// Where a link leads.
#[derive(Clone, Copy, Debug)]
pub(super) enum LinkKind {
    /// `/proc/self`
    Myself,
    /// `/proc/thread-self`
    MyThread,
    /// `/proc/mounts`
    Mounts,
    /// `/proc/net`
    Net,
    /// `/proc/PID/exe`
    Executable(Whose),
    /// `/proc/PID/cwd`
    Directory(Whose),
    /// `/proc/PID/root`
    Root(Whose),
    /// `/proc/PID/fd/N`
    Descriptor(Whose, u32),
}

/// A link.
pub(super) struct Link {
    shared: Arc<Shared>,
    kind: LinkKind,
}

impl Link {
    pub(super) fn new(shared: &Arc<Shared>, kind: LinkKind) -> Self {
        Self { shared: Arc::clone(shared), kind }
    }

    /// The place it leads to, for links that are no text.
    fn place(&self, kernel: &Kernel) -> Result<Option<Arc<Dentry>>> {
        let places = |of: Whose| -> Result<_> { Ok(self.shared.tables(of)?.1.places()) };
        Ok(match self.kind {
            LinkKind::Myself | LinkKind::MyThread | LinkKind::Mounts | LinkKind::Net => None,
            LinkKind::Executable(of) => {
                let process = self.shared.process(of.pid)?;
                let root = process.world().2.places().root;
                let start = vfs::Start { root: &root, directory: &root };
                let path = process.executable();
                Some(kernel.mounts.namespace().resolve(start, &path, WalkFlags::FOLLOW)?)
            }
            LinkKind::Directory(of) => Some(places(of)?.directory),
            LinkKind::Root(of) => Some(places(of)?.root),
            LinkKind::Descriptor(of, fd) => {
                let (files, _) = self.shared.tables(of)?;
                let open = files.get(Fd(fd)).map_err(|_| Error::new(Errno::ENOENT, "no such descriptor"))?;
                match open.dentry() {
                    Some(dentry) => Some(Arc::clone(dentry)),
                    None => {
                        let file = Arc::clone(open.file());
                        let name = file.display_name().unwrap_or_else(|| String::from("anon_inode:[file]"));
                        let node = Node::Special(Arc::new(Reopened { file }));
                        Some(Dentry::anonymous(node, None, name.as_bytes()))
                    }
                }
            }
        })
    }
}

impl Inode for Link {
    fn metadata(&self) -> Result<Metadata> {
        let mode = match self.kind {
            LinkKind::Descriptor(of, fd) => {
                let open = self.shared.tables(of)?.0.get(Fd(fd)).ok();
                let bit = |is_set: bool, bits: u32| if is_set { bits } else { 0 };
                open.map_or(0o700, |open| {
                    0o100 | bit(open.is_readable(), 0o400) | bit(open.is_writable(), 0o200)
                })
            }
            _ => 0o777,
        };
        let ino = ino_of(&format!("{:?}", self.kind));
        Ok(metadata(&self.shared, ino, FileType::Symlink, mode))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Symlink for Link {
    fn target(&self) -> Result<Vec<u8>> {
        let kernel = self.shared.kernel()?;
        let text = match self.kind {
            LinkKind::Myself => {
                let process = self.shared.current()?.process();
                let process = process.ok_or(Error::new(Errno::ENOENT, "the process has ended"))?;
                format!("{}", process.pid)
            }
            LinkKind::MyThread => {
                let thread = self.shared.current()?;
                let pid = thread.process().map_or(0, |process| process.pid);
                format!("{pid}/task/{}", thread.tid())
            }
            LinkKind::Mounts => String::from("self/mounts"),
            LinkKind::Net => String::from("self/net"),
            LinkKind::Executable(of) => return Ok(self.shared.process(of.pid)?.executable()),
            _ => {
                let place = self.place(&kernel)?;
                let place = place.ok_or(Error::new(Errno::ENOENT, "it leads nowhere"))?;
                return Ok(place.path_from(kernel.mounts.namespace().root()).into_display());
            }
        };
        Ok(text.into_bytes())
    }

    fn jump(&self) -> Result<Option<Arc<Dentry>>> {
        self.place(&*self.shared.kernel()?)
    }
}

/// A file without a place, reached through `/proc/PID/fd`: opening it gives the same file.
struct Reopened {
    file: Arc<dyn File>,
}

impl Inode for Reopened {
    fn metadata(&self) -> Result<Metadata> {
        self.file.metadata()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Special for Reopened {
    fn open(&self) -> Result<Option<Arc<dyn File>>> {
        Ok(Some(Arc::clone(&self.file)))
    }
}
