//! A file system on which one change of many fails.

use super::*;
use kbase::{ByteSink, ByteSource, Error, Result};
use std::any::Any;
use vfs::{DirectoryEntry, Inode, Metadata, SetAttributes, Special, StatFs, Symlink};

/// Counts changes down; the one at which it comes to zero fails.
#[derive(Default)]
pub(super) struct Faults(AtomicI64);

impl Faults {
    /// Lets change number `index` from now on fail, and no other; 0 for none.
    pub(super) fn arm(&self, index: i64) {
        self.0.store(index, Ordering::Relaxed);
    }

    /// Whether the change that was to fail has come.
    pub(super) fn has_fired(&self) -> bool {
        self.0.load(Ordering::Relaxed) <= 0
    }

    fn change(&self) -> Result<()> {
        if self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            return Err(Error::new(Errno::ENOSPC, "this change was to fail"));
        }
        Ok(())
    }
}

pub(super) struct FaultyFs {
    inner: Arc<MemFs>,
    faults: Arc<Faults>,
}

impl FaultyFs {
    pub(super) fn new(inner: &Arc<MemFs>, faults: &Arc<Faults>) -> Arc<Self> {
        Arc::new(Self { inner: Arc::clone(inner), faults: Arc::clone(faults) })
    }
}

impl FileSystem for FaultyFs {
    fn type_name(&self) -> &'static str {
        "faulty"
    }

    fn root(&self) -> Arc<dyn Directory> {
        Arc::new(Faulty { inner: self.inner.root(), faults: Arc::clone(&self.faults) })
    }

    fn statfs(&self) -> Result<StatFs> {
        self.inner.statfs()
    }
}

struct Faulty<T: ?Sized> {
    inner: Arc<T>,
    faults: Arc<Faults>,
}

impl<T: Inode + ?Sized> Faulty<T> {
    fn wrap(&self, node: Node) -> Node {
        fn faulty<T: ?Sized>(inner: Arc<T>, faults: &Arc<Faults>) -> Arc<Faulty<T>> {
            Arc::new(Faulty { inner, faults: Arc::clone(faults) })
        }
        match node {
            Node::Regular(node) => Node::Regular(faulty(node, &self.faults)),
            Node::Directory(node) => Node::Directory(faulty(node, &self.faults)),
            Node::Symlink(node) => Node::Symlink(faulty(node, &self.faults)),
            Node::Special(node) => Node::Special(faulty(node, &self.faults)),
        }
    }
}

fn unwrap(node: &Node) -> Node {
    fn inner<T: ?Sized + 'static>(node: &Node) -> Arc<T> {
        Arc::clone(&node.inode().as_any().downcast_ref::<Faulty<T>>().unwrap().inner)
    }
    match node {
        Node::Regular(_) => Node::Regular(inner(node)),
        Node::Directory(_) => Node::Directory(inner(node)),
        Node::Symlink(_) => Node::Symlink(inner(node)),
        Node::Special(_) => Node::Special(inner(node)),
    }
}

impl<T: Inode + ?Sized> Inode for Faulty<T> {
    fn metadata(&self) -> Result<Metadata> {
        self.inner.metadata()
    }

    fn set_attributes(&self, change: &SetAttributes) -> Result<()> {
        self.faults.change()?;
        self.inner.set_attributes(change)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Regular for Faulty<dyn Regular> {
    fn read_at(&self, offset: u64, into: &mut dyn ByteSink) -> Result<usize> {
        self.inner.read_at(offset, into)
    }

    fn write_at(&self, offset: u64, from: &mut dyn ByteSource) -> Result<usize> {
        self.faults.change()?;
        self.inner.write_at(offset, from)
    }

    fn truncate(&self, size: u64) -> Result<()> {
        self.faults.change()?;
        self.inner.truncate(size)
    }
}

impl Symlink for Faulty<dyn Symlink> {
    fn target(&self) -> Result<Vec<u8>> {
        self.inner.target()
    }
}

impl Special for Faulty<dyn Special> {}

impl Directory for Faulty<dyn Directory> {
    fn lookup(&self, name: Name<'_>) -> Result<Node> {
        self.inner.lookup(name).map(|node| self.wrap(node))
    }

    fn entries(&self, cursor: u64, max: usize) -> Result<Vec<DirectoryEntry>> {
        self.inner.entries(cursor, max)
    }

    fn create(&self, name: Name<'_>, what: Create<'_>, mode: u32, now_ns: i64) -> Result<Node> {
        self.faults.change()?;
        self.inner.create(name, what, mode, now_ns).map(|node| self.wrap(node))
    }

    fn create_unnamed(&self, mode: u32, now_ns: i64) -> Result<Node> {
        self.faults.change()?;
        self.inner.create_unnamed(mode, now_ns).map(|node| self.wrap(node))
    }

    fn link(&self, name: Name<'_>, node: &Node) -> Result<()> {
        self.faults.change()?;
        self.inner.link(name, &unwrap(node))
    }

    fn unlink(&self, name: Name<'_>, directory: bool) -> Result<()> {
        self.faults.change()?;
        self.inner.unlink(name, directory)
    }

    fn rename(
        &self,
        from: Name<'_>,
        to: &Arc<dyn Directory>,
        to_name: Name<'_>,
        no_replace: bool,
    ) -> Result<()> {
        self.faults.change()?;
        let to = &to.as_any().downcast_ref::<Self>().unwrap().inner;
        self.inner.rename(from, to, to_name, no_replace)
    }
}
