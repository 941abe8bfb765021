//! The file systems of the enclave and where they are mounted.

use super::FsShared;
use super::device;
use super::pipe::Fifos;
use super::proc::ProcFs;
use super::sys;
use super::tty;
use crate::Kernel;
use crate::kernel::BootExtra;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use boot_config::{BootConfig, MountSource};
use fs_host::HostFs;
use fs_image::{CacheSize, ImageFs, PlatformSource};
use fs_mem::{Clock, MemFs, Space};
use kbase::{Errno, Result};
use linux_abi::fs::make_dev;
use platform::{Level, Platform};
use vfs::{FileSystem, MountOptions, Name, Namespace, Node};

/// The part of the kernel heap that files in memory may take, all file systems together. Half of the heap is for the pages of
/// forked processes; what is left is for caches and everything else.
const FILES_PART: u64 = 4;

/// Entries of a directory that are looked at together.
const ENTRIES_AT_ONCE: usize = 128;

/// The mounted file systems.
pub(crate) struct Mounts {
    namespace: Arc<Namespace>,
    shared: Arc<FsShared>,
    /// Where `memfd_create(2)` makes its files.
    unnamed: Arc<MemFs>,
    fifos: Fifos,
    /// The mounts of `/proc`, to be told of the kernel.
    proc: Vec<Arc<ProcFs>>,
}

impl Mounts {
    /// Mounts what the configuration says, then what the host adds where that is allowed. Without a root in the
    /// configuration the root is an empty tmpfs.
    ///
    /// # Errors
    /// EIO the image is corrupt; EINVAL a mount point is wrong.
    pub(crate) fn boot(platform: &Arc<dyn Platform>, config: &BootConfig, extra: &BootExtra) -> Result<Self> {
        let space = files_space(platform, config.limits.kernel_heap_max);
        let mut builder = Builder { platform, config, space, next_dev: 1, proc: Vec::new() };
        let root = config.mounts.iter().find(|mount| mount.target == "/");
        let (fs, options) = match root {
            Some(mount) => builder.make(&mount.source, mount.read_only)?,
            None => builder.make(&MountSource::Tmpfs { max_size: None, mode: 0o755 }, false)?,
        };
        let namespace = Namespace::new(fs, options);
        for mount in config.mounts.iter().filter(|mount| mount.target != "/") {
            let (fs, options) = builder.make(&mount.source, mount.read_only)?;
            namespace.mount(mount.target.as_bytes(), fs, options)?;
        }
        let shared = FsShared::new(platform, namespace.root());
        namespace.set_watcher(shared.watches.clone());
        for mount in config.mounts.iter().filter(|mount| matches!(mount.source, MountSource::Dev)) {
            let terminals = tty::devpts::DevPts::new(&shared.terminals, builder.dev());
            let options = MountOptions { source: "devpts".into(), ..MountOptions::default() };
            namespace.mount(format!("{}/pts", mount.target).as_bytes(), terminals, options)?;
        }
        for mount in &extra.mounts {
            // A folder at its own place shows what the image was packed from: what was measured stays what is seen.
            let is_at_its_place = mount.host == mount.guest;
            let kept = if is_at_its_place { files_below(&namespace, &mount.guest)? } else { Vec::new() };
            // They are allowed for trying things out, and so is what a socket in them leads to.
            let (fs, options) = builder.host(&mount.host, mount.read_only, true)?;
            namespace.mount(&mount.guest, fs, options)?;
            for (path, node) in kept {
                namespace.attach(&path, node)?;
            }
        }
        let unnamed = builder.memory("tmpfs", 0o777);
        for file in &extra.files {
            let node = unnamed.unnamed_file(0o644);
            node.write_at(0, &mut kbase::SliceSource::new(&file.content))?;
            namespace.attach(&file.path, Node::Regular(node))?;
        }
        Ok(Self { namespace, shared, unnamed, fifos: Fifos::default(), proc: builder.proc })
    }

    /// Tells `/proc` of the kernel.
    pub(crate) fn bind(&self, kernel: &Arc<Kernel>) {
        for proc in &self.proc {
            proc.bind(kernel);
        }
    }

    /// The tree of all files.
    pub(crate) const fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// What open files need.
    pub(crate) const fn shared(&self) -> &Arc<FsShared> {
        &self.shared
    }

    /// The FIFOs that are open.
    pub(crate) const fn fifos(&self) -> &Fifos {
        &self.fifos
    }

    /// Where files without names are made.
    pub(crate) const fn unnamed(&self) -> &Arc<MemFs> {
        &self.unnamed
    }
}

struct Builder<'a> {
    platform: &'a Arc<dyn Platform>,
    config: &'a BootConfig,
    /// What all files in memory share.
    space: Arc<Space>,
    next_dev: u32,
    proc: Vec<Arc<ProcFs>>,
}

impl Builder<'_> {
    fn make(&mut self, source: &MountSource, read_only: bool) -> Result<(Arc<dyn FileSystem>, MountOptions)> {
        let options =
            |source: &str| MountOptions { source: source.into(), read_only, ..MountOptions::default() };
        Ok(match source {
            MountSource::Image => (self.image()?, options("image")),
            MountSource::ImageWithTmpfs => {
                let lower = self.image()?;
                let fs = MemFs::over(lower, self.dev(), Arc::clone(&self.space), clock(self.platform));
                (fs, options("overlay"))
            }
            MountSource::Tmpfs { max_size, mode } => {
                let space = match max_size {
                    Some(size) => Space::part(&self.space, *size),
                    None => Arc::clone(&self.space),
                };
                (MemFs::with_type("tmpfs", self.dev(), space, *mode, clock(self.platform)), options("tmpfs"))
            }
            MountSource::HostFs { path, sockets } => {
                return self.host(path.as_bytes(), read_only, *sockets);
            }
            MountSource::Proc => {
                let fs = ProcFs::new(self.platform, self.dev());
                self.proc.push(Arc::clone(&fs));
                (fs, options("proc"))
            }
            MountSource::Sys => {
                let fs = self.memory("sysfs", 0o555);
                sys::populate(&fs.root(), self.platform.host_facts().cpus)?;
                (fs, MountOptions { read_only: true, ..options("sysfs") })
            }
            MountSource::Dev => {
                let fs = self.memory("devtmpfs", 0o755);
                device::populate(&*fs.root())?;
                (fs, options("devtmpfs"))
            }
        })
    }

    fn dev(&mut self) -> u64 {
        let dev = make_dev(0, self.next_dev);
        self.next_dev = self.next_dev.saturating_add(1);
        dev
    }

    fn memory(&mut self, type_name: &'static str, mode: u32) -> Arc<MemFs> {
        MemFs::with_type(type_name, self.dev(), Arc::clone(&self.space), mode, clock(self.platform))
    }

    fn image(&mut self) -> Result<Arc<dyn FileSystem>> {
        let source = Arc::new(PlatformSource(Arc::clone(self.platform)));
        let fs = ImageFs::open(source, &self.config.image_digest, CacheSize::default(), self.dev())?;
        Ok(fs)
    }

    fn host(
        &mut self,
        path: &[u8],
        read_only: bool,
        sockets: bool,
    ) -> Result<(Arc<dyn FileSystem>, MountOptions)> {
        let source: String = format!("{}", path.escape_ascii());
        if self.platform.level() >= Some(Level::Debug) {
            self.platform.log(Level::Debug, format_args!("mounting host folder {source}, untrusted"));
        }
        let fs = HostFs::open(self.platform, path, fs_host::Options { read_only, sockets }, self.dev())?;
        Ok((
            fs,
            MountOptions { source: source.to_string(), read_only, no_dev: true, ..MountOptions::default() },
        ))
    }
}

/// The files below a folder, with their paths.
///
/// # Errors
/// EIO.
fn files_below(namespace: &Namespace, folder: &[u8]) -> Result<Vec<(Vec<u8>, Node)>> {
    let mut found = Vec::new();
    let mut at = namespace.root().node().clone();
    for name in folder.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
        let Node::Directory(directory) = &at else { return Ok(found) };
        match directory.lookup(Name::new(name)?) {
            Ok(node) => at = node,
            Err(error) if error.errno() == Errno::ENOENT => return Ok(found),
            Err(error) => return Err(error),
        }
    }
    let mut left = alloc::vec![(folder.to_vec(), at)];
    while let Some((path, node)) = left.pop() {
        let Node::Directory(directory) = &node else {
            found.push((path, node));
            continue;
        };
        let mut cursor = 0;
        loop {
            let entries = directory.entries(cursor, ENTRIES_AT_ONCE)?;
            let Some(last) = entries.last() else { break };
            cursor = last.next;
            for entry in &entries {
                let path = [&path[..], b"/", &entry.name[..]].concat();
                left.push((path, directory.lookup(Name::new(&entry.name)?)?));
            }
        }
    }
    Ok(found)
}

/// Room for all files in memory of a kernel whose heap grows to `heap_max` bytes. Who finds it full is told what to raise.
fn files_space(platform: &Arc<dyn Platform>, heap_max: u64) -> Arc<Space> {
    let platform = Arc::clone(platform);
    let limit = heap_max / FILES_PART;
    Space::telling(limit, move || {
        if platform.level() >= Some(Level::Warn) {
            let text = "files in memory are a quarter of resource_limits.kernel_space_heap_max_size: raise it in Occlum.json";
            platform.log(Level::Warn, format_args!("no space left: {text} ({} MiB now)", limit >> 20));
        }
    })
}

/// The clock for times of files.
fn clock(platform: &Arc<dyn Platform>) -> Clock {
    let platform = Arc::clone(platform);
    Arc::new(move || platform.realtime_ns().cast_signed())
}
