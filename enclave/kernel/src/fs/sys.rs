//! `/sys`: the few files that programs look at to find out about processors and memory.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use kbase::{Errno, Result, SliceSource};
use vfs::{Create, Directory, Name, Node};

/// Fills an empty `/sys` for a machine with so many processors.
///
/// # Errors
/// ENOSPC.
pub(super) fn populate(root: &Arc<dyn Directory>, cpus: u32) -> Result<()> {
    let last = cpus.max(1) - 1;
    let range = if last == 0 { String::from("0\n") } else { format!("0-{last}\n") };
    for path in ["online", "possible", "present"] {
        file(root, &format!("devices/system/cpu/{path}"), &range)?;
    }
    for number in 0..=last {
        let topology = format!("devices/system/cpu/cpu{number}/topology");
        file(root, &format!("{topology}/core_id"), &format!("{number}\n"))?;
        file(root, &format!("{topology}/physical_package_id"), "0\n")?;
    }
    file(root, "devices/system/node/online", "0\n")?;
    file(root, "devices/system/node/possible", "0\n")?;
    file(root, "devices/system/node/node0/cpulist", &range)?;
    file(root, "kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n")?;
    file(root, "kernel/mm/transparent_hugepage/hpage_pmd_size", "2097152\n")?;
    for path in ["block", "class/net", "fs/cgroup"] {
        directory(root, path)?;
    }
    Ok(())
}

fn directory(root: &Arc<dyn Directory>, path: &str) -> Result<Arc<dyn Directory>> {
    let mut at = Arc::clone(root);
    for part in path.split('/') {
        let name = Name::new(part.as_bytes())?;
        let node = match at.lookup(name) {
            Err(error) if error.errno() == Errno::ENOENT => at.create(name, Create::Directory, 0o755, 0)?,
            result => result?,
        };
        at = Arc::clone(node.as_directory()?);
    }
    Ok(at)
}

fn file(root: &Arc<dyn Directory>, path: &str, content: &str) -> Result<()> {
    let (folder, name) = path.rsplit_once('/').unwrap_or_default();
    let node = directory(root, folder)?.create(Name::new(name.as_bytes())?, Create::Regular, 0o444, 0)?;
    if let Node::Regular(file) = node {
        file.write_at(0, &mut SliceSource::new(content.as_bytes()))?;
    }
    Ok(())
}
