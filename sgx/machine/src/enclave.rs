//! An enclave of the software machine: the supervisor's leaves, and entering.

use crate::entry::{self, kind};
use crate::memory::PAGE;
use crate::pages::{Pages, Touch};
use crate::patch::{self, Stubs};
use crate::tcs::{ThreadControl, Threads};
use crate::thread::{self, NO_VECTOR, ThreadBlock};
use crate::{filter, signal, xsave};
use sgx_arch::{
    ErrorCode, GPRSGX_FROM_END, Miscselect, PageType, Secinfo, SecinfoFlags, Secs, Sigstruct, Tcs,
};
use sgx_device::{EnclaveRun, Exit, Leaf, SgxEnclave};
use sgx_model::epcm::{self, Access};
use sgx_model::fault::{Fault, PageFaultCode};
use sgx_model::keys::{Identity, Root};
use sgx_model::secs::{self, Features, Measurement};
use sgx_model::{sigstruct, tcs};
use std::io;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use zerocopy::FromBytes;

/// What signal handlers and stubs need of an enclave. It does not move and lives as long as the enclave.
pub(crate) struct Core {
    id: u64,
    pages: Pages,
    threads: Threads,
    frame_size: usize,
    xsave_size: usize,
    xfrm: u64,
    miscselect: Miscselect,
    initialized: AtomicBool,
    root: Root,
    identity: OnceLock<Identity>,
    stubs: OnceLock<Stubs>,
}

impl Core {
    pub(crate) const fn pages(&self) -> &Pages {
        &self.pages
    }

    pub(crate) const fn threads(&self) -> &Threads {
        &self.threads
    }

    /// The machine's keys, and what the enclave is.
    pub(crate) fn identity(&self) -> Option<(&Root, &Identity)> {
        Some((&self.root, self.identity.get()?))
    }

    pub(crate) fn stubs(&self) -> Option<&Stubs> {
        self.stubs.get()
    }

    /// Bytes of an SSA frame.
    pub(crate) const fn frame_size(&self) -> usize {
        self.frame_size
    }

    /// Bytes of the XSAVE area in an SSA frame.
    pub(crate) const fn xsave_size(&self) -> usize {
        self.xsave_size
    }

    pub(crate) const fn xfrm(&self) -> u64 {
        self.xfrm
    }

    pub(crate) const fn miscselect(&self) -> Miscselect {
        self.miscselect
    }

    fn is_initialized(&self) -> bool {
        self.initialized.load(Ordering::Acquire)
    }

    /// SSA frame `index` of a TCS.
    pub(crate) fn frame_address(&self, tcs: &ThreadControl, index: u64) -> *mut u8 {
        let address = tcs.ssa.wrapping_add(index.wrapping_mul(self.frame_size as u64));
        ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap_or(0))
    }

    /// Whether an SSA frame is there and writable, as EENTER, AEX and ERESUME ask; the host can write it then.
    pub(crate) fn frame_is_writable(&self, frame: *mut u8) -> bool {
        let address = frame.addr() as u64;
        let Some(first) = self.pages.index(address) else { return false };
        (first..first + self.frame_size / PAGE).all(|index| {
            // What the host may write, the enclave may.
            self.pages.is_writable(index)
                || self.pages.page(index).accessible().contains(SecinfoFlags::RW)
                    && self.pages.touch(index, Access::Write, true) == Touch::Retry
        })
    }

    /// A page fault of enclave code. `None`: the access is allowed now; else the error code for the enclave.
    pub(crate) fn page_fault(&self, address: u64, error_code: u32) -> Option<u32> {
        let Some(index) = self.pages.index(address) else { return Some(error_code) };
        let access = signal::access(error_code);
        match self.pages.touch(index, access, self.is_initialized()) {
            Touch::Retry => None,
            Touch::Epcm => Some(PageFaultCode::epcm(access).bits()),
            Touch::Paging => {
                let code = PageFaultCode::paging(access).bits();
                Some(if self.pages.page(index).is_valid() { code } else { code & !PageFaultCode::P })
            }
        }
    }
}

/// What is under construction before EINIT.
struct Build {
    secs: Secs,
    /// `None` after EINIT.
    measurement: Option<Measurement>,
}

/// An enclave of [`crate::SoftwareSgx`].
pub(crate) struct SoftwareEnclave {
    core: Box<Core>,
    build: Mutex<Build>,
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// The errno of a leaf's refusal, as the driver answers.
fn refused(code: ErrorCode) -> io::Error {
    match code {
        ErrorCode::PageNotModifiable => {
            io::Error::new(io::ErrorKind::WouldBlock, "a page is not accepted yet")
        }
        _ => invalid("a page is missing or of another type"),
    }
}

impl From<Unfit> for io::Error {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Host(error) => error,
            Unfit::Malformed => invalid("EADD: the SECINFO or the TCS is malformed"),
            Unfit::Present => invalid("EADD: there is a page already"),
        }
    }
}

enum Unfit {
    Host(io::Error),
    Malformed,
    Present,
}

impl From<io::Error> for Unfit {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

impl From<Fault> for Unfit {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Page { .. } => Self::Present,
            Fault::GeneralProtection => Self::Malformed,
        }
    }
}

impl SoftwareEnclave {
    /// ECREATE.
    pub(crate) fn create(secs: &Secs, root: Root) -> io::Result<Self> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let xfrm = secs.attributes.xfrm;
        let xsave_size = xsave::area_size(xfrm);
        let features = Features { xfrm: xsave::offered(), xsave_size };
        let elrange = secs::ecreate(secs, features)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let size = |bytes: u64| usize::try_from(bytes).map_err(|_| invalid("too large"));
        let core = Core {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            pages: Pages::new(elrange)?,
            threads: Threads::default(),
            frame_size: size(u64::from(secs.ssaframesize) * PAGE as u64)?,
            xsave_size: size(xsave_size)?,
            xfrm,
            miscselect: secs.miscselect,
            initialized: AtomicBool::new(false),
            root,
            identity: OnceLock::new(),
            stubs: OnceLock::new(),
        };
        let measurement = Some(Measurement::ecreate(secs));
        Ok(Self { core: Box::new(core), build: Mutex::new(Build { secs: *secs, measurement }) })
    }

    fn running(&self) -> io::Result<()> {
        if self.core.is_initialized() { Ok(()) } else { Err(invalid("the enclave is not initialized")) }
    }

    fn address_of(&self, index: usize) -> u64 {
        self.core.pages.address(index) as u64
    }

    fn look_up(&self, block: &ThreadBlock, address: u64) -> Option<*const ThreadControl> {
        let cached = block.tcs.load(Ordering::Relaxed);
        if block.core_id.load(Ordering::Relaxed) == self.core.id {
            // SAFETY: it came from this enclave's `Threads`, which lives and frees nothing before it ends.
            if let Some(tcs) = unsafe { cached.as_ref() }
                && tcs.address == address
                && tcs.live.load(Ordering::Acquire)
            {
                return Some(cached);
            }
        }
        let tcs = self.core.threads.get(address)?;
        block.tcs.store(tcs.cast_mut(), Ordering::Relaxed);
        block.core.store(ptr::from_ref::<Core>(&self.core).cast_mut(), Ordering::Relaxed);
        block.core_id.store(self.core.id, Ordering::Relaxed);
        Some(tcs)
    }

    /// EENTER or ERESUME up to where registers change. Returns the frame in use when the enclave runs.
    fn set_up(&self, block: &ThreadBlock, control: &ThreadControl, leaf: Leaf) -> Option<u32> {
        let cssa = control.cssa.load(Ordering::Relaxed);
        let index = match leaf {
            Leaf::Eenter => tcs::eenter_frame(cssa, control.nssa),
            Leaf::Eresume => tcs::eresume_frame(cssa),
        }
        .ok()?;
        let frame = self.core.frame_address(control, u64::from(index));
        if !self.core.frame_is_writable(frame) {
            return None;
        }
        let frame = frame.addr() as u64;
        let gprsgx = frame + self.core.frame_size as u64 - GPRSGX_FROM_END;
        block.gprsgx.store(gprsgx, Ordering::Relaxed);
        block.cssa.store(u64::from(index), Ordering::Relaxed);
        match leaf {
            Leaf::Eenter => {
                block.entry.store(control.entry, Ordering::Relaxed);
                block.fsbase.store(control.fsbase, Ordering::Relaxed);
                block.gsbase.store(control.gsbase, Ordering::Relaxed);
                block.tcs_address.store(control.address, Ordering::Relaxed);
                // The enclave looks at what it was told before it runs user code again. An exception handler looks at
                // one exception: what came since then is for the ERESUME that follows.
                if index == 0 {
                    block.pending.store(0, Ordering::Relaxed);
                }
            }
            Leaf::Eresume => {
                block.xsave.store(frame, Ordering::Relaxed);
                block.xfrm.store(self.core.xfrm, Ordering::Relaxed);
                control.cssa.store(index, Ordering::Relaxed);
            }
        }
        Some(index)
    }
}

impl SgxEnclave for SoftwareEnclave {
    fn add_pages(&self, source: &[u8], offset: u64, secinfo: &Secinfo, measure: bool) -> io::Result<()> {
        let mut build = self.build.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(measurement) = &mut build.measurement else {
            return Err(invalid("EADD: the enclave is initialized"));
        };
        let core = &*self.core;
        let range = core.pages.range(offset, source.len() as u64)?;
        let (pages, _) = source.as_chunks::<PAGE>();
        let is_tcs = secinfo.flags.page_type() == Some(PageType::Tcs);
        let elrange = core.pages.elrange();
        let mut threads = Vec::new();
        if is_tcs {
            for page in pages {
                let control = Tcs::read_from_bytes(page).map_err(|_| Unfit::Malformed)?;
                tcs::check_new(&control, elrange).map_err(Unfit::from)?;
                threads.push(control);
            }
        }
        let first = range.start;
        core.pages.add(
            range,
            |index, page| epcm::eadd(secinfo, self.address_of(index), page).map_err(Unfit::from),
            pages.iter().any(|page| *page != ZERO).then_some(|start| fill(start, pages)),
        )?;
        for (index, control) in threads.iter().enumerate() {
            core.threads.insert(self.address_of(first + index), control, elrange);
        }
        let mut at = offset;
        for page in pages {
            measurement.eadd(at, secinfo);
            if measure {
                measurement.eextend(at, page);
            }
            at += PAGE as u64;
        }
        Ok(())
    }

    fn init(&self, sigstruct: &Sigstruct) -> io::Result<()> {
        let mut build = self.build.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(measurement) = &build.measurement else {
            return Err(invalid("EINIT: the enclave is initialized"));
        };
        let mrenclave = measurement.finish();
        let denied = |why: &str| io::Error::new(io::ErrorKind::PermissionDenied, format!("EINIT: {why}"));
        sigstruct::verify(sigstruct).map_err(|code| {
            denied(match code {
                ErrorCode::InvalidSignature => "the signature in SIGSTRUCT does not verify",
                _ => "SIGSTRUCT is malformed",
            })
        })?;
        secs::einit(&build.secs, &mrenclave, sigstruct).map_err(|error| denied(&error.to_string()))?;
        if let Some(stubs) = patch::patch(&self.core)? {
            let _ = self.core.stubs.set(stubs);
        }
        let _ = self.core.identity.set(Identity::new(&build.secs, mrenclave, sigstruct));
        build.measurement = None;
        self.core.initialized.store(true, Ordering::Release);
        Ok(())
    }

    fn restrict_permissions(&self, offset: u64, length: u64, permissions: u64) -> io::Result<()> {
        self.running()?;
        let permissions = SecinfoFlags::from_bits_retain(permissions);
        if !SecinfoFlags::RWX.contains(permissions) {
            return Err(invalid("EMODPR: only R, W and X can be restricted"));
        }
        let range = self.core.pages.range(offset, length)?;
        self.core.pages.update_range(range, |_, page| epcm::emodpr(permissions, page).map_err(refused))
    }

    fn modify_types(&self, offset: u64, length: u64, page_type: u8) -> io::Result<()> {
        self.running()?;
        let page_type =
            PageType::from_number(page_type).ok_or_else(|| invalid("EMODT: no such page type"))?;
        let range = self.core.pages.range(offset, length)?;
        let were_tcs = self.of_type(range.clone(), PageType::Tcs);
        self.core.pages.update_range(range, |_, page| epcm::emodt(page_type, page).map_err(refused))?;
        for index in were_tcs {
            self.core.threads.remove(self.address_of(index));
        }
        Ok(())
    }

    fn remove_pages(&self, offset: u64, length: u64) -> io::Result<()> {
        self.running()?;
        let range = self.core.pages.range(offset, length)?;
        self.core.pages.update_range(range.clone(), |_, page| {
            epcm::eremove(page).map_err(|_| {
                io::Error::new(io::ErrorKind::PermissionDenied, "EREMOVE: a page is not trimmed and accepted")
            })
        })?;
        self.core.pages.discard(range)
    }

    fn map_permissions(&self, offset: u64, length: u64, permissions: u64) -> io::Result<()> {
        let permissions = SecinfoFlags::from_bits_retain(permissions);
        if !SecinfoFlags::RWX.contains(permissions) {
            return Err(invalid("only R, W and X can be mapped"));
        }
        let range = self.core.pages.range(offset, length)?;
        self.core.pages.set_paging(range, permissions)
    }

    fn prepare_thread(&self) -> io::Result<()> {
        signal::install()?;
        let elrange = self.core.pages.elrange();
        thread::prepare(elrange)?;
        filter::trap_below(elrange.end())
    }

    fn enter(&self, run: &mut EnclaveRun) -> Exit {
        let Some(block) = thread::current().filter(|_| self.core.is_initialized()) else {
            return Exit::Failed;
        };
        let Some(control) = self.look_up(block, run.tcs) else { return Exit::Failed };
        // SAFETY: `look_up` answers pointers that are valid for as long as the enclave.
        let control = unsafe { &*control };
        if control.busy.swap(true, Ordering::Acquire) {
            return Exit::Failed;
        }
        let how = self.set_up(block, control, run.leaf).map(|frame| {
            // SAFETY: `set_up` filled in the block of this thread, and checked the frame; `self` is borrowed.
            (unsafe { entry::enter(block, run) }, frame)
        });
        let exit = match how {
            Some((kind::EEXIT, _)) => Exit::Eexit,
            Some((kind::AEX, _)) => last_aex(block),
            Some((kind::INTERRUPTED, frame)) => {
                control.cssa.store(frame + 1, Ordering::Relaxed);
                block.pending.store(0, Ordering::Relaxed);
                Exit::Interrupt
            }
            Some((_, frame)) => {
                control.cssa.store(frame + 1, Ordering::Relaxed);
                Exit::Failed
            }
            None => Exit::Failed,
        };
        control.busy.store(false, Ordering::Release);
        exit
    }
}

impl SoftwareEnclave {
    fn of_type(&self, range: Range<usize>, page_type: PageType) -> Vec<usize> {
        range.filter(|index| self.core.pages.page(*index).page_type() == Some(page_type)).collect()
    }
}

fn last_aex(block: &ThreadBlock) -> Exit {
    let vector = block.exit_vector.load(Ordering::Relaxed);
    if vector == NO_VECTOR {
        return Exit::Interrupt;
    }
    Exit::Exception {
        vector: vector.to_le_bytes()[0],
        error_code: u16::try_from(block.exit_error.load(Ordering::Relaxed) & 0xffff).unwrap_or(0),
        address: block.exit_address.load(Ordering::Relaxed),
    }
}

static ZERO: [u8; PAGE] = [0; PAGE];

/// Copies pages to where they go. Zero pages are left to the host, which has them zero already.
fn fill(start: *mut u8, pages: &[[u8; PAGE]]) {
    for (index, page) in pages.iter().enumerate() {
        if *page != ZERO {
            let target = start.wrapping_add(index * PAGE);
            // SAFETY: `Pages::add` made the range, of as many pages, writable; nothing else uses it yet.
            unsafe { ptr::copy_nonoverlapping(page.as_ptr(), target, PAGE) };
        }
    }
}
