//! System V IPC (`svipc(7)`) and POSIX message queues (`mq_overview(7)`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The key that finds nothing.
pub const IPC_PRIVATE: i32 = 0;
/// IPC_CREAT.
pub const IPC_CREAT: u32 = 0o1000;
/// IPC_EXCL.
pub const IPC_EXCL: u32 = 0o2000;
/// IPC_NOWAIT.
pub const IPC_NOWAIT: u32 = 0o4000;

/// Commands that all kinds have.
#[allow(missing_docs, reason = "each is the command of its name")]
pub mod command {
    pub const IPC_RMID: u32 = 0;
    pub const IPC_SET: u32 = 1;
    pub const IPC_STAT: u32 = 2;
    pub const IPC_INFO: u32 = 3;
    pub const MSG_STAT: u32 = 11;
    pub const MSG_INFO: u32 = 12;
    pub const MSG_STAT_ANY: u32 = 13;
    pub const SHM_LOCK: u32 = 11;
    pub const SHM_UNLOCK: u32 = 12;
    pub const SHM_STAT: u32 = 13;
    pub const SHM_INFO: u32 = 14;
    pub const SHM_STAT_ANY: u32 = 15;
    pub const GETPID: u32 = 11;
    pub const GETVAL: u32 = 12;
    pub const GETALL: u32 = 13;
    pub const GETNCNT: u32 = 14;
    pub const GETZCNT: u32 = 15;
    pub const SETVAL: u32 = 16;
    pub const SETALL: u32 = 17;
    pub const SEM_STAT: u32 = 18;
    pub const SEM_INFO: u32 = 19;
    pub const SEM_STAT_ANY: u32 = 20;
}

/// `sem_flg`: undo the operation when the process ends.
pub const SEM_UNDO: u16 = 0x1000;
/// `msgrcv`: cut a message that is too long.
pub const MSG_NOERROR: u32 = 0o10000;
/// `msgrcv`: the first message that is *not* of the type.
pub const MSG_EXCEPT: u32 = 0o20000;
/// `msgrcv`: leave the message in the queue.
pub const MSG_COPY: u32 = 0o40000;
/// `shmat`: read only.
pub const SHM_RDONLY: u32 = 0o10000;
/// `shmat`: round the address down.
pub const SHM_RND: u32 = 0o20000;
/// `shmat`: replace what is mapped there.
pub const SHM_REMAP: u32 = 0o40000;
/// `shmat`: executable.
pub const SHM_EXEC: u32 = 0o100_000;
/// `shmget`: huge pages.
pub const SHM_HUGETLB: u32 = 0o4000;
/// Mode bit: the segment goes with its last attachment.
pub const SHM_DEST: u32 = 0o1000;

/// `struct ipc64_perm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "fields of struct ipc_perm, see svipc(7)")]
pub struct IpcPerm {
    pub key: i32,
    pub uid: u32,
    pub gid: u32,
    pub cuid: u32,
    pub cgid: u32,
    pub mode: u32,
    pub seq: u16,
    pub pad: [u16; 3],
    pub unused: [u64; 2],
}
const _: () = assert!(size_of::<IpcPerm>() == 48);

/// `struct semid64_ds`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "fields of struct semid_ds, see semctl(2)")]
pub struct SemidDs {
    pub sem_perm: IpcPerm,
    pub sem_otime: i64,
    pub unused1: u64,
    pub sem_ctime: i64,
    pub unused2: u64,
    pub sem_nsems: u64,
    pub unused3: [u64; 2],
}
const _: () = assert!(size_of::<SemidDs>() == 104);

/// `struct sembuf`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "fields of struct sembuf, see semop(2)")]
pub struct Sembuf {
    pub sem_num: u16,
    pub sem_op: i16,
    pub sem_flg: u16,
}

/// `struct seminfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "fields of struct seminfo, see semctl(2)")]
pub struct Seminfo {
    pub semmap: i32,
    pub semmni: i32,
    pub semmns: i32,
    pub semmnu: i32,
    pub semmsl: i32,
    pub semopm: i32,
    pub semume: i32,
    pub semusz: i32,
    pub semvmx: i32,
    pub semaem: i32,
}

/// `struct msqid64_ds`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "fields of struct msqid_ds, see msgctl(2)")]
pub struct MsqidDs {
    pub msg_perm: IpcPerm,
    pub msg_stime: i64,
    pub msg_rtime: i64,
    pub msg_ctime: i64,
    pub msg_cbytes: u64,
    pub msg_qnum: u64,
    pub msg_qbytes: u64,
    pub msg_lspid: u32,
    pub msg_lrpid: u32,
    pub unused: [u64; 2],
}
const _: () = assert!(size_of::<MsqidDs>() == 120);

/// `struct msginfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "fields of struct msginfo, see msgctl(2)")]
pub struct Msginfo {
    pub msgpool: i32,
    pub msgmap: i32,
    pub msgmax: i32,
    pub msgmnb: i32,
    pub msgmni: i32,
    pub msgssz: i32,
    pub msgtql: i32,
    pub msgseg: u16,
    pub pad: u16,
}

/// `struct shmid64_ds`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "fields of struct shmid_ds, see shmctl(2)")]
pub struct ShmidDs {
    pub shm_perm: IpcPerm,
    pub shm_segsz: u64,
    pub shm_atime: i64,
    pub shm_dtime: i64,
    pub shm_ctime: i64,
    pub shm_cpid: u32,
    pub shm_lpid: u32,
    pub shm_nattch: u64,
    pub unused: [u64; 2],
}
const _: () = assert!(size_of::<ShmidDs>() == 112);

/// `struct shminfo64`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "fields of struct shminfo, see shmctl(2)")]
pub struct Shminfo {
    pub shmmax: u64,
    pub shmmin: u64,
    pub shmmni: u64,
    pub shmseg: u64,
    pub shmall: u64,
    pub unused: [u64; 4],
}

/// `struct mq_attr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "fields of struct mq_attr, see mq_getattr(3)")]
pub struct MqAttr {
    pub mq_flags: i64,
    pub mq_maxmsg: i64,
    pub mq_msgsize: i64,
    pub mq_curmsgs: i64,
    pub reserved: [i64; 4],
}
const _: () = assert!(size_of::<MqAttr>() == 64);
