//! `/proc/sysvipc`: the objects of System V IPC, as `ipcs(1)` reads them.

use super::system::Make;
use super::{Shared, Text, put};
use crate::Kernel;
use crate::ipc::segment;
use kbase::Result;

/// The files, by name.
pub(super) const FILES: &[(&str, Make)] = &[("msg", messages), ("sem", semaphores), ("shm", segments)];

fn messages(kernel: &Kernel, _shared: &Shared, text: &mut Text) -> Result<()> {
    text.bytes(b"       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid");
    text.bytes(b"      stime      rtime      ctime\n");
    for queue in kernel.ipc.messages.list() {
        let (of, about) = (queue.permission(), queue.value.describe());
        put!(text, "{:10} {:10}  {:4o}  ", of.key, queue.id, of.mode);
        put!(
            text,
            "{:10} {:10} {:5} {:5} ",
            about.msg_cbytes,
            about.msg_qnum,
            about.msg_lspid,
            about.msg_lrpid
        );
        put!(text, "{:5} {:5} {:5} {:5} ", of.uid, of.gid, of.cuid, of.cgid);
        put!(text, "{:10} {:10} {:10}\n", about.msg_stime, about.msg_rtime, about.msg_ctime);
    }
    Ok(())
}

fn semaphores(kernel: &Kernel, _shared: &Shared, text: &mut Text) -> Result<()> {
    text.bytes(b"       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n");
    for set in kernel.ipc.semaphores.list() {
        let (of, (operated, changed)) = (set.permission(), set.value.times_s());
        put!(text, "{:10} {:10}  {:4o} {:10} ", of.key, set.id, of.mode, set.value.len());
        put!(text, "{:5} {:5} {:5} {:5} ", of.uid, of.gid, of.cuid, of.cgid);
        put!(text, "{operated:10} {changed:10}\n");
    }
    Ok(())
}

fn segments(kernel: &Kernel, _shared: &Shared, text: &mut Text) -> Result<()> {
    text.bytes(
        b"       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid",
    );
    text.bytes(b"      atime      dtime      ctime                   rss                  swap\n");
    segment::sweep(kernel);
    for segment in kernel.ipc.segments.list() {
        let about = segment::describe(kernel, &segment);
        let of = about.shm_perm;
        put!(text, "{:10} {:10}  {:4o} {:21} ", of.key, segment.id, of.mode, about.shm_segsz);
        put!(text, "{:5} {:5}  {:5} ", about.shm_cpid, about.shm_lpid, about.shm_nattch);
        put!(text, "{:5} {:5} {:5} {:5} ", of.uid, of.gid, of.cuid, of.cgid);
        put!(text, "{:10} {:10} {:10} ", about.shm_atime, about.shm_dtime, about.shm_ctime);
        put!(text, "{:21} {:21}\n", about.shm_segsz.next_multiple_of(4096), 0);
    }
    Ok(())
}
