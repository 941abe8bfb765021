//! Host files in a map of paths.

use crate::net::Net;
use crate::{FakePlatform, lock};
use linux_abi::Errno;
use platform::{HostError, HostFd, HostFiles, HostPoll, HostResult, HostStat, HostStatFs, TimeSetting};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const O_ACCMODE: u32 = 3;
const O_CREAT: u32 = 0o100;
const O_EXCL: u32 = 0o200;
const O_TRUNC: u32 = 0o1000;
const O_APPEND: u32 = 0o2000;
const O_DIRECTORY: u32 = 0o200_000;
const AT_REMOVEDIR: u32 = 0x200;
const RENAME_NOREPLACE: u32 = 1;
const POLLIN: u16 = 1;
const POLLERR: u16 = 8;
const POLLHUP: u16 = 0x10;
const POLLOUT: u16 = 4;

/// A file of the host.
struct HostNode {
    ino: u64,
    mode: u32,
    kind: Kind,
    times: [i64; 2],
}

enum Kind {
    File(Vec<u8>),
    Directory,
    Symlink(Vec<u8>),
    Socket,
}

/// An open file, by its path: one that has none any more has a hidden one.
#[derive(Clone)]
struct Open {
    path: Vec<u8>,
    position: usize,
    flags: u32,
}

/// All host files.
pub(crate) struct Files {
    nodes: BTreeMap<Vec<u8>, HostNode>,
    open: BTreeMap<i32, Open>,
    streams: [Vec<u8>; 3],
    next_ino: u64,
    /// Calls with names.
    pub(crate) calls: usize,
    /// Paths of files that nobody may open for writing.
    pub(crate) protected: BTreeSet<Vec<u8>>,
    /// What the next writes to streams come to: so many bytes, or EINTR.
    cut_writes: VecDeque<usize>,
}

fn fail<T>(errno: Errno) -> HostResult<T> {
    Err(HostError(errno))
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = dir.to_vec();
    if !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

fn parent(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(0) | None => b"/",
        Some(at) => &path[..at],
    }
}

impl Files {
    pub(crate) fn new() -> Self {
        let mut files = Self {
            nodes: BTreeMap::new(),
            open: BTreeMap::new(),
            streams: Default::default(),
            next_ino: 1,
            calls: 0,
            protected: BTreeSet::new(),
            cut_writes: VecDeque::new(),
        };
        files.insert(b"/", 0o755, Kind::Directory);
        files
    }

    fn insert(&mut self, path: &[u8], mode: u32, kind: Kind) {
        self.hide(path);
        let ino = self.next_ino;
        self.next_ino += 1;
        self.nodes.insert(path.to_vec(), HostNode { ino, mode, kind, times: [0; 2] });
    }

    /// What is at a path loses its name. Who has it open keeps it.
    fn hide(&mut self, path: &[u8]) {
        let Some(node) = self.nodes.remove(path) else { return };
        let hidden = format!("deleted {}", node.ino).into_bytes();
        let mut is_open = false;
        for open in self.open.values_mut().filter(|open| open.path == path) {
            open.path.clone_from(&hidden);
            is_open = true;
        }
        if is_open {
            self.nodes.insert(hidden, node);
        }
    }

    pub(crate) fn add(&mut self, path: &[u8], content: &[u8]) {
        self.add_kind(path, Kind::File(content.to_vec()));
    }

    pub(crate) fn add_socket(&mut self, path: &[u8]) {
        self.add_kind(path, Kind::Socket);
    }

    fn add_kind(&mut self, path: &[u8], kind: Kind) {
        let mut at = parent(path).to_vec();
        while at != b"/" {
            if !self.nodes.contains_key(&at) {
                self.insert(&at, 0o755, Kind::Directory);
            }
            at = parent(&at).to_vec();
        }
        self.insert(path, 0o644, kind);
    }

    pub(crate) fn content(&self, path: &[u8]) -> Option<Vec<u8>> {
        match &self.nodes.get(path)?.kind {
            Kind::File(content) => Some(content.clone()),
            _ => None,
        }
    }

    pub(crate) fn output(&self, fd: i32) -> Vec<u8> {
        usize::try_from(fd).ok().and_then(|fd| self.streams.get(fd)).cloned().unwrap_or_default()
    }

    pub(crate) fn cut_writes(&mut self, lens: &[usize]) {
        self.cut_writes.extend(lens);
    }

    pub(crate) fn set_input(&mut self, bytes: &[u8]) {
        self.streams[0] = bytes.to_vec();
    }

    pub(crate) fn count_open(&self) -> usize {
        self.open.len()
    }

    fn open(&mut self, path: &[u8], flags: u32, mode: u32) -> HostResult<HostFd> {
        if flags & O_ACCMODE != 0 && self.protected.contains(path) {
            return fail(Errno::EACCES);
        }
        match self.nodes.get_mut(path) {
            None if flags & O_CREAT == 0 => return fail(Errno::ENOENT),
            None => {
                if !matches!(self.nodes.get(parent(path)).map(|n| &n.kind), Some(Kind::Directory)) {
                    return fail(Errno::ENOENT);
                }
                self.insert(path, mode & 0o7777, Kind::File(Vec::new()));
            }
            Some(_) if flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL => return fail(Errno::EEXIST),
            Some(node) => match &mut node.kind {
                Kind::Symlink(_) => return fail(Errno::ELOOP),
                Kind::Socket => return fail(Errno::ENXIO),
                Kind::Directory if flags & O_ACCMODE != 0 => return fail(Errno::EISDIR),
                Kind::File(_) if flags & O_DIRECTORY != 0 => return fail(Errno::ENOTDIR),
                Kind::File(content) if flags & O_TRUNC != 0 => content.clear(),
                Kind::File(_) | Kind::Directory => {}
            },
        }
        let fd = (3..).find(|fd| !self.open.contains_key(fd)).unwrap_or(i32::MAX);
        self.open.insert(fd, Open { path: path.to_vec(), position: 0, flags });
        Ok(HostFd(fd))
    }

    fn opened(&self, fd: HostFd) -> HostResult<Open> {
        self.open.get(&fd.0).cloned().ok_or(HostError(Errno::EBADF))
    }

    fn bytes(&mut self, fd: HostFd) -> HostResult<&mut Vec<u8>> {
        let path = self.opened(fd)?.path;
        match self.nodes.get_mut(&path).map(|node| &mut node.kind) {
            Some(Kind::File(content)) => Ok(content),
            Some(Kind::Directory) => fail(Errno::EISDIR),
            _ => fail(Errno::EBADF),
        }
    }

    fn read_at(&mut self, fd: HostFd, offset: usize, into: &mut [u8]) -> HostResult<usize> {
        let content = self.bytes(fd)?;
        let from = content.get(offset..).unwrap_or_default();
        let len = from.len().min(into.len());
        into[..len].copy_from_slice(&from[..len]);
        Ok(len)
    }

    fn write_at(&mut self, fd: HostFd, offset: usize, from: &[u8]) -> HostResult<usize> {
        let content = self.bytes(fd)?;
        let end = offset + from.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[offset..end].copy_from_slice(from);
        Ok(from.len())
    }

    fn stat(&self, path: &[u8]) -> HostResult<HostStat> {
        let node = self.nodes.get(path).ok_or(HostError(Errno::ENOENT))?;
        let (kind, size) = match &node.kind {
            Kind::File(content) => (0o100_000, content.len()),
            Kind::Directory => (0o040_000, 4096),
            Kind::Symlink(target) => (0o120_000, target.len()),
            Kind::Socket => (0o140_000, 0),
        };
        Ok(HostStat {
            dev: 1,
            ino: node.ino,
            mode: kind | node.mode,
            nlink: 1,
            size: size as u64,
            blocks: size.div_ceil(512) as u64,
            blksize: 4096,
            atime_ns: node.times[0],
            mtime_ns: node.times[1],
            ..HostStat::default()
        })
    }

    fn children(&self, path: &[u8]) -> Vec<(Vec<u8>, u64, u8)> {
        let prefix = join(path, b"");
        let in_folder = self.nodes.iter().filter_map(|(child, node)| {
            let name = child.strip_prefix(&*prefix)?;
            let kind = match node.kind {
                Kind::File(_) => 8,
                Kind::Directory => 4,
                Kind::Symlink(_) => 10,
                Kind::Socket => 12,
            };
            (!name.is_empty() && !name.contains(&b'/')).then(|| (name.to_vec(), node.ino, kind))
        });
        in_folder.collect()
    }
}

impl FakePlatform {
    fn at(&self, dir: HostFd, name: &[u8]) -> HostResult<Vec<u8>> {
        let path = lock(&self.files).opened(dir)?.path.clone();
        Ok(if name == b"." { path } else { join(&path, name) })
    }
}

impl HostFiles for FakePlatform {
    fn host_open_path(&self, path: &[u8], flags: u32, mode: u32) -> HostResult<HostFd> {
        lock(&self.files).open(path, flags, mode)
    }

    fn host_open_at(&self, dir: HostFd, name: &[u8], flags: u32, mode: u32) -> HostResult<HostFd> {
        lock(&self.files).calls += 1;
        let path = self.at(dir, name)?;
        lock(&self.files).open(&path, flags, mode)
    }

    fn host_close(&self, fd: HostFd) {
        lock(&self.files).open.remove(&fd.0);
    }

    fn host_read(&self, fd: HostFd, into: &mut [u8]) -> HostResult<usize> {
        let mut files = lock(&self.files);
        if fd.0 == 0 {
            let len = files.streams[0].len().min(into.len());
            for (to, from) in into.iter_mut().zip(files.streams[0].drain(..len)) {
                *to = from;
            }
            return Ok(len);
        }
        let position = files.opened(fd)?.position;
        let len = files.read_at(fd, position, into)?;
        files.open.entry(fd.0).and_modify(|open| open.position += len);
        Ok(len)
    }

    fn host_write(&self, fd: HostFd, from: &[u8]) -> HostResult<usize> {
        let mut files = lock(&self.files);
        if let Ok(stream @ 1..=2) = usize::try_from(fd.0) {
            let len = files.cut_writes.pop_front().map_or(from.len(), |most| most.min(from.len()));
            if len == 0 && !from.is_empty() {
                return fail(Errno::EINTR);
            }
            files.streams[stream].extend_from_slice(&from[..len]);
            return Ok(len);
        }
        let open = files.opened(fd)?;
        let position = if open.flags & O_APPEND != 0 { files.bytes(fd)?.len() } else { open.position };
        let len = files.write_at(fd, position, from)?;
        files.open.entry(fd.0).and_modify(|open| open.position = position + len);
        Ok(len)
    }

    fn host_read_at(&self, fd: HostFd, offset: u64, into: &mut [u8]) -> HostResult<usize> {
        lock(&self.files).read_at(fd, usize::try_from(offset).unwrap_or(usize::MAX), into)
    }

    fn host_write_at(&self, fd: HostFd, offset: u64, from: &[u8]) -> HostResult<usize> {
        lock(&self.files).write_at(fd, usize::try_from(offset).unwrap_or(usize::MAX), from)
    }

    fn host_seek(&self, fd: HostFd, offset: i64, whence: u32) -> HostResult<u64> {
        let mut files = lock(&self.files);
        let base = match whence {
            0 => 0,
            1 => files.opened(fd)?.position,
            2 => files.bytes(fd)?.len(),
            _ => return fail(Errno::EINVAL),
        };
        let position = isize::try_from(offset).ok().and_then(|offset| base.checked_add_signed(offset));
        let position = position.ok_or(HostError(Errno::EINVAL))?;
        files.open.entry(fd.0).and_modify(|open| open.position = position);
        Ok(position as u64)
    }

    fn host_stat(&self, fd: HostFd) -> HostResult<HostStat> {
        let files = lock(&self.files);
        if (0..3).contains(&fd.0) {
            return Ok(HostStat { mode: 0o020_620, blksize: 1024, ..HostStat::default() });
        }
        files.stat(&files.opened(fd)?.path)
    }

    fn host_look_up(
        &self,
        dir: HostFd,
        path: &[u8],
        flags: Option<u32>,
    ) -> HostResult<(HostStat, Option<HostFd>)> {
        let path = self.at(dir, path)?;
        let mut files = lock(&self.files);
        files.calls += 1;
        let above = files.opened(dir)?.path.len();
        let slashes = path.iter().enumerate().skip(above + 1).filter(|&(_, &byte)| byte == b'/');
        for folder in slashes.map(|(slash, _)| &path[..slash]) {
            if !matches!(files.nodes.get(folder).map(|node| &node.kind), Some(Kind::Directory)) {
                return fail(Errno::ELOOP);
            }
        }
        let stat = files.stat(&path)?;
        let flags = flags.filter(|_| stat.mode & 0o170_000 == 0o100_000);
        Ok((stat, flags.and_then(|flags| files.open(&path, flags, 0).ok())))
    }

    fn host_statfs(&self, _fd: HostFd) -> HostResult<HostStatFs> {
        Ok(HostStatFs {
            block_size: 4096,
            blocks: 1000,
            free: 500,
            available: 500,
            files: 100,
            files_free: 50,
        })
    }

    fn host_read_directory(&self, fd: HostFd, into: &mut [u8]) -> HostResult<usize> {
        let mut files = lock(&self.files);
        let open = files.opened(fd)?;
        let mut children = vec![(b".".to_vec(), 1, 4), (b"..".to_vec(), 1, 4)];
        children.extend(files.children(&open.path));
        let (mut len, mut position) = (0, open.position);
        for (name, ino, kind) in children.into_iter().skip(open.position) {
            let record = (19 + name.len() + 1).next_multiple_of(8);
            let Some(to) = into.get_mut(len..len + record) else { break };
            position += 1;
            to.fill(0);
            to[0..8].copy_from_slice(&ino.to_le_bytes());
            to[8..16].copy_from_slice(&(position as u64).to_le_bytes());
            to[16..18].copy_from_slice(&u16::try_from(record).unwrap_or(0).to_le_bytes());
            to[18] = kind;
            to[19..19 + name.len()].copy_from_slice(&name);
            len += record;
        }
        files.open.entry(fd.0).and_modify(|open| open.position = position);
        Ok(len)
    }

    fn host_read_link_at(&self, dir: HostFd, name: &[u8], into: &mut [u8]) -> HostResult<usize> {
        let path = self.at(dir, name)?;
        match lock(&self.files).nodes.get(&path).map(|node| &node.kind) {
            Some(Kind::Symlink(target)) => {
                let len = target.len().min(into.len());
                into[..len].copy_from_slice(&target[..len]);
                Ok(len)
            }
            Some(_) => fail(Errno::EINVAL),
            None => fail(Errno::ENOENT),
        }
    }

    fn host_mkdir_at(&self, dir: HostFd, name: &[u8], mode: u32) -> HostResult<()> {
        let path = self.at(dir, name)?;
        let mut files = lock(&self.files);
        if files.nodes.contains_key(&path) {
            return fail(Errno::EEXIST);
        }
        files.insert(&path, mode & 0o7777, Kind::Directory);
        Ok(())
    }

    fn host_unlink_at(&self, dir: HostFd, name: &[u8], flags: u32) -> HostResult<()> {
        let path = self.at(dir, name)?;
        let mut files = lock(&self.files);
        let is_directory = match files.nodes.get(&path).map(|node| &node.kind) {
            None => return fail(Errno::ENOENT),
            Some(kind) => matches!(kind, Kind::Directory),
        };
        match (is_directory, flags & AT_REMOVEDIR != 0) {
            (true, false) => return fail(Errno::EISDIR),
            (false, true) => return fail(Errno::ENOTDIR),
            (true, true) if !files.children(&path).is_empty() => return fail(Errno::ENOTEMPTY),
            _ => {}
        }
        files.hide(&path);
        Ok(())
    }

    fn host_rename_at(
        &self,
        from_dir: HostFd,
        from: &[u8],
        to_dir: HostFd,
        to: &[u8],
        flags: u32,
    ) -> HostResult<()> {
        let (from, to) = (self.at(from_dir, from)?, self.at(to_dir, to)?);
        let mut files = lock(&self.files);
        if flags & RENAME_NOREPLACE != 0 && files.nodes.contains_key(&to) {
            return fail(Errno::EEXIST);
        }
        let below = join(&from, b"");
        let moved: Vec<Vec<u8>> =
            files.nodes.keys().filter(|path| **path == from || path.starts_with(&below)).cloned().collect();
        if moved.is_empty() {
            return fail(Errno::ENOENT);
        }
        if from != to {
            files.hide(&to);
        }
        for path in moved {
            if let Some(node) = files.nodes.remove(&path) {
                let new = [&to, &path[from.len()..]].concat();
                for open in files.open.values_mut().filter(|open| open.path == path) {
                    open.path.clone_from(&new);
                }
                files.nodes.insert(new, node);
            }
        }
        Ok(())
    }

    fn host_symlink_at(&self, target: &[u8], dir: HostFd, name: &[u8]) -> HostResult<()> {
        let path = self.at(dir, name)?;
        let mut files = lock(&self.files);
        if files.nodes.contains_key(&path) {
            return fail(Errno::EEXIST);
        }
        files.insert(&path, 0o777, Kind::Symlink(target.to_vec()));
        Ok(())
    }

    fn host_link_at(&self, _: HostFd, _: &[u8], _: HostFd, _: &[u8]) -> HostResult<()> {
        fail(Errno::EPERM)
    }

    fn host_truncate(&self, fd: HostFd, size: u64) -> HostResult<()> {
        let size = usize::try_from(size).map_err(|_| HostError(Errno::EFBIG))?;
        lock(&self.files).bytes(fd)?.resize(size, 0);
        Ok(())
    }

    fn host_allocate(&self, fd: HostFd, _mode: u32, _offset: u64, _len: u64) -> HostResult<()> {
        lock(&self.files).opened(fd).map(|_| ())
    }

    fn host_chmod(&self, fd: HostFd, mode: u32) -> HostResult<()> {
        let mut files = lock(&self.files);
        let path = files.opened(fd)?.path;
        files.nodes.get_mut(&path).ok_or(HostError(Errno::ENOENT))?.mode = mode & 0o7777;
        Ok(())
    }

    fn host_set_times(&self, fd: HostFd, atime: TimeSetting, mtime: TimeSetting) -> HostResult<()> {
        let mut files = lock(&self.files);
        let path = files.opened(fd)?.path;
        let node = files.nodes.get_mut(&path).ok_or(HostError(Errno::ENOENT))?;
        for (time, setting) in node.times.iter_mut().zip([atime, mtime]) {
            match setting {
                TimeSetting::Keep => {}
                TimeSetting::Now => *time = 1,
                TimeSetting::At(ns) => *time = ns,
            }
        }
        Ok(())
    }

    fn host_sync(&self, fd: HostFd, _data_only: bool) -> HostResult<()> {
        lock(&self.files).opened(fd).map(|_| ())
    }

    fn host_status_flags(&self, fd: HostFd, set: Option<u32>) -> HostResult<u32> {
        let mut files = lock(&self.files);
        if (0..3).contains(&fd.0) {
            return Ok(2);
        }
        let old = files.opened(fd)?.flags;
        if let Some(flags) = set {
            files.open.entry(fd.0).and_modify(|open| open.flags = flags);
        }
        Ok(set.unwrap_or(old))
    }

    fn host_ioctl(&self, _fd: HostFd, _request: u32, _argument: &mut [u8]) -> HostResult<u32> {
        fail(Errno::ENOTTY)
    }

    fn host_poll(&self, rows: &mut [HostPoll], deadline_ns: Option<u64>) -> HostResult<usize> {
        let look = |net: &Net, row: &HostPoll| {
            let ready = net.ready(row.fd.0).unwrap_or(POLLIN | POLLOUT);
            ready & (row.events | POLLERR | POLLHUP)
        };
        let is_done = |net: &Net| rows.iter().any(|row| look(net, row) != 0);
        let is_ready = is_done(&lock(&self.net));
        if !is_ready && deadline_ns != Some(0) {
            self.sleep_for_net(deadline_ns, |net| is_done(net) || net.has_operations_done());
        }
        let net = lock(&self.net);
        for row in rows.iter_mut() {
            row.revents = look(&net, row);
        }
        Ok(rows.iter().filter(|row| row.revents != 0).count())
    }
}
