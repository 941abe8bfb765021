//! Leaf numbers of ENCLS and ENCLU, and the error codes the leaves put into RAX.

/// Supervisor leaves (SDM "Supervisor and User Mode Enclave Instruction Leaf Functions").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Encls {
    /// Makes an enclave.
    Ecreate = 0,
    /// Adds a page before EINIT.
    Eadd = 1,
    /// Checks SIGSTRUCT and starts the enclave.
    Einit = 2,
    /// Takes a page out of the EPC.
    Eremove = 3,
    /// Reads a debug enclave.
    Edbgrd = 4,
    /// Writes a debug enclave.
    Edbgwr = 5,
    /// Measures 256 bytes.
    Eextend = 6,
    /// Loads a page back as blocked.
    Eldb = 7,
    /// Loads a page back.
    Eldu = 8,
    /// Blocks a page.
    Eblock = 9,
    /// Makes a version array.
    Epa = 10,
    /// Writes a page out.
    Ewb = 11,
    /// Starts a tracking epoch.
    Etrack = 12,
    /// Adds a page after EINIT.
    Eaug = 13,
    /// Restricts a page's permissions.
    Emodpr = 14,
    /// Changes a page's type.
    Emodt = 15,
}

/// User leaves (SDM "Supervisor and User Mode Enclave Instruction Leaf Functions").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Enclu {
    /// Makes a report.
    Ereport = 0,
    /// Derives a key.
    Egetkey = 1,
    /// Enters.
    Eenter = 2,
    /// Continues after an AEX.
    Eresume = 3,
    /// Leaves.
    Eexit = 4,
    /// Accepts a changed page.
    Eaccept = 5,
    /// Extends a page's permissions.
    Emodpe = 6,
    /// Accepts a new page with the content of another.
    Eacceptcopy = 7,
    /// Checks a TDX report.
    Everifyreport2 = 8,
    /// Decrements CSSA.
    Edeccssa = 9,
}

impl Enclu {
    /// The leaf of a number.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Ereport),
            1 => Some(Self::Egetkey),
            2 => Some(Self::Eenter),
            3 => Some(Self::Eresume),
            4 => Some(Self::Eexit),
            5 => Some(Self::Eaccept),
            6 => Some(Self::Emodpe),
            7 => Some(Self::Eacceptcopy),
            8 => Some(Self::Everifyreport2),
            9 => Some(Self::Edeccssa),
            _ => None,
        }
    }
}

/// What a leaf leaves in RAX when it fails without faulting (SDM "Information and Error Codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ErrorCode {
    /// SGX_INVALID_SIG_STRUCT.
    InvalidSigStruct = 1,
    /// SGX_INVALID_ATTRIBUTE.
    InvalidAttribute = 2,
    /// SGX_BLKSTATE.
    Blkstate = 3,
    /// SGX_INVALID_MEASUREMENT.
    InvalidMeasurement = 4,
    /// SGX_NOTBLOCKABLE.
    Notblockable = 5,
    /// SGX_PG_INVLD.
    PgInvld = 6,
    /// SGX_EPC_PAGE_CONFLICT.
    EpcPageConflict = 7,
    /// SGX_INVALID_SIGNATURE.
    InvalidSignature = 8,
    /// SGX_MAC_COMPARE_FAIL.
    MacCompareFail = 9,
    /// SGX_PAGE_NOT_BLOCKED.
    PageNotBlocked = 10,
    /// SGX_NOT_TRACKED.
    NotTracked = 11,
    /// SGX_VA_SLOT_OCCUPIED.
    VaSlotOccupied = 12,
    /// SGX_CHILD_PRESENT.
    ChildPresent = 13,
    /// SGX_ENCLAVE_ACT.
    EnclaveAct = 14,
    /// SGX_ENTRYEPOCH_LOCKED.
    EntryepochLocked = 15,
    /// SGX_INVALID_EINITTOKEN.
    InvalidEinittoken = 16,
    /// SGX_PREV_TRK_INCMPL.
    PrevTrkIncmpl = 17,
    /// SGX_PG_IS_SECS.
    PgIsSecs = 18,
    /// SGX_PAGE_ATTRIBUTES_MISMATCH.
    PageAttributesMismatch = 19,
    /// SGX_PAGE_NOT_MODIFIABLE.
    PageNotModifiable = 20,
    /// SGX_PAGE_NOT_DEBUGGABLE.
    PageNotDebuggable = 21,
    /// SGX_INVALID_COUNTER.
    InvalidCounter = 25,
    /// SGX_PG_NONEPC.
    PgNonepc = 26,
    /// SGX_TRACK_NOT_REQUIRED.
    TrackNotRequired = 27,
    /// SGX_INVALID_REPORTMACSTRUCT.
    InvalidReportmacstruct = 28,
    /// SGX_INVALID_CPUSVN.
    InvalidCpusvn = 32,
    /// SGX_INVALID_ISVSVN.
    InvalidIsvsvn = 64,
    /// SGX_UNMASKED_EVENT.
    UnmaskedEvent = 128,
    /// SGX_INVALID_KEYNAME.
    InvalidKeyname = 256,
}
