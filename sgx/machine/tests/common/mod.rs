//! A test enclave on the software machine.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(unreachable_pub, reason = "the module is included by several tests")]
#![allow(missing_docs, reason = "a test's own helpers")]
#![allow(clippy::unwrap_used, reason = "a test's own helpers")]

pub mod image;

pub use image::Function;
use sgx_arch::{
    Attributes, AttributesFlags, Miscselect, SIGSTRUCT_HEADER, SIGSTRUCT_HEADER2, Secinfo, SecinfoFlags,
    Secs, Sigstruct, Tcs,
};
use sgx_device::{EnclaveRun, Exit, Leaf, SgxDevice, SgxEnclave};
use sgx_image::SigningKey;
use sgx_machine::SoftwareSgx;
use sgx_model::secs::Measurement;
use sgx_model::sigstruct::quotients;
use std::io;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

pub const ELRANGE: u64 = 1 << 36;
pub const CODE: u64 = 0x10_0000;
pub const THREADS: u64 = 0x20_0000;
pub const STRIDE: u64 = 0x10_0000;
/// Memory that the tests add on demand.
pub const FREE: u64 = 0x4000_0000;
pub const SSA_FRAMES: u64 = 3;
pub const FRAME: u64 = 4 * 4096;
pub const PAGE: u64 = 4096;
/// The RDI with which the enclave's exception handler leaves.
pub const RESUME: u64 = 2;

/// What GS points to in the test enclave.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(64))]
pub struct Thread {
    pub this: u64,
    pub return_address: u64,
    pub host_rsp: u64,
    pub stack: u64,
    pub ssa: u64,
    pub cssa: u64,
    pub count: u64,
    pub exitinfo: u64,
    pub rip: u64,
    pub maddr: u64,
    pub errcd: u64,
    /// 0: nothing; 1: add `skip` to RIP; 2: EACCEPT of the page that faulted.
    pub action: u64,
    pub skip: u64,
    pub status: u64,
    pub unused: [u64; 2],
    pub secinfo: Secinfo,
}

pub fn secinfo(page_type: sgx_arch::PageType, flags: SecinfoFlags) -> Secinfo {
    let mut info = Secinfo::new(page_type, SecinfoFlags::empty());
    info.flags |= flags;
    info
}

pub fn pending_rw() -> Secinfo {
    secinfo(sgx_arch::PageType::Reg, SecinfoFlags::RW | SecinfoFlags::PENDING)
}

pub fn key() -> &'static SigningKey {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    KEY.get_or_init(|| SigningKey::from_pem(include_str!("../../../image/tests/data/test-key.pem")).unwrap())
}

pub fn sign(sigstruct: Sigstruct) -> Sigstruct {
    let mut signature = key().sign(&sigstruct.signing_bytes()).unwrap();
    signature.reverse();
    let modulus = key().public_key().modulus();
    let (q1, q2) = quotients(&signature, &modulus).unwrap();
    Sigstruct { modulus, exponent: 3, signature, q1, q2, ..sigstruct }
}

/// A machine that leaves no file behind.
pub fn machine() -> SoftwareSgx {
    SoftwareSgx::with_secret(&[7; 32]).unwrap()
}

/// Only one enclave at address 0 at a time.
static ONE: Mutex<()> = Mutex::new(());

/// How a test enclave is made.
#[derive(Clone, Copy)]
pub struct Options {
    pub threads: u64,
    pub attributes: AttributesFlags,
    pub xfrm: u64,
    pub miscselect: Miscselect,
    /// Something to make MRENCLAVE differ.
    pub salt: u8,
    pub isvprodid: u16,
    pub isvsvn: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: 2,
            attributes: AttributesFlags::MODE64BIT,
            xfrm: machine().xfrm(),
            miscselect: Miscselect::EXINFO,
            salt: 0,
            isvprodid: 0,
            isvsvn: 0,
        }
    }
}

pub struct Enclave {
    pub device: Box<dyn SgxEnclave>,
    pub secs: Secs,
    pub measurement: Measurement,
    pub options: Options,
    _one: MutexGuard<'static, ()>,
}

impl Enclave {
    /// An initialized enclave, ready to be entered by the calling thread.
    pub fn start() -> Self {
        Self::with(&Options::default())
    }

    pub fn with(options: &Options) -> Self {
        Self::started(&machine(), options)
    }

    pub fn started(machine: &SoftwareSgx, options: &Options) -> Self {
        let mut enclave = Self::loaded(machine, options);
        let sigstruct = sign(enclave.unsigned());
        enclave.device.init(&sigstruct).unwrap();
        enclave.secs.mrenclave = sigstruct.enclavehash;
        enclave.device.prepare_thread().unwrap();
        enclave
    }

    pub fn loaded(machine: &SoftwareSgx, options: &Options) -> Self {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let secs = Secs {
            size: ELRANGE,
            ssaframesize: 4,
            miscselect: options.miscselect,
            attributes: Attributes { flags: options.attributes, xfrm: options.xfrm },
            ..Secs::default()
        };
        let device = machine.create(&secs).unwrap();
        let mut this =
            Self { device, secs, measurement: Measurement::ecreate(&secs), options: *options, _one: one };
        let code = image::pages();
        this.add(&code, CODE, &Secinfo::reg(SecinfoFlags::RX), true).unwrap();
        this.map(CODE, code.len() as u64, SecinfoFlags::RX);
        for index in 0..options.threads {
            this.add_thread(index);
        }
        let salt = vec![options.salt; 4096];
        this.add(&salt, CODE + STRIDE - PAGE, &Secinfo::reg(SecinfoFlags::R), true).unwrap();
        this.map(FREE, 64 << 20, SecinfoFlags::RWX);
        this
    }

    pub fn add(&mut self, source: &[u8], offset: u64, secinfo: &Secinfo, measure: bool) -> io::Result<()> {
        self.device.add_pages(source, offset, secinfo, measure)?;
        for (index, page) in source.as_chunks::<4096>().0.iter().enumerate() {
            let at = offset + index as u64 * PAGE;
            self.measurement.eadd(at, secinfo);
            if measure {
                self.measurement.eextend(at, page);
            }
        }
        Ok(())
    }

    pub fn tcs_content(index: u64) -> Tcs {
        let slot = Self::slot(index);
        Tcs {
            ossa: slot + PAGE,
            nssa: u32::try_from(SSA_FRAMES).unwrap(),
            oentry: CODE,
            ofsbase: 0,
            ogsbase: Self::area(index),
            fslimit: 0xfff,
            gslimit: 0xfff,
            ..Tcs::default()
        }
    }

    fn add_thread(&mut self, index: u64) {
        let slot = Self::slot(index);
        let area = Self::area(index);
        let thread = Thread { this: area, ssa: slot + PAGE, stack: area + 8 * PAGE, ..Thread::new_zeroed() };
        let mut data = vec![0; 8 * 4096];
        data[..size_of::<Thread>()].copy_from_slice(thread.as_bytes());
        self.add(Self::tcs_content(index).as_bytes(), slot, &Secinfo::tcs(), true).unwrap();
        let ssa = vec![0; usize::try_from(SSA_FRAMES * FRAME).unwrap()];
        self.add(&ssa, slot + PAGE, &Secinfo::reg(SecinfoFlags::RW), false).unwrap();
        self.add(&data, area, &Secinfo::reg(SecinfoFlags::RW), true).unwrap();
        self.map(slot + PAGE, area + 8 * PAGE - slot - PAGE, SecinfoFlags::RW);
    }

    pub fn map(&self, offset: u64, length: u64, flags: SecinfoFlags) {
        self.device.map_permissions(offset, length, flags.bits()).unwrap();
    }

    pub fn unsigned(&self) -> Sigstruct {
        Sigstruct {
            header: SIGSTRUCT_HEADER,
            header2: SIGSTRUCT_HEADER2,
            date: 0x2026_1124,
            exponent: 3,
            enclavehash: self.measurement.finish(),
            attributes: self.secs.attributes,
            attributemask: Attributes { flags: AttributesFlags::from_bits_retain(!1), xfrm: !0 },
            miscselect: self.secs.miscselect,
            miscmask: Miscselect::from_bits_retain(!0),
            isvprodid: self.options.isvprodid,
            isvsvn: self.options.isvsvn,
            ..Sigstruct::new_zeroed()
        }
    }

    pub const fn slot(index: u64) -> u64 {
        THREADS + index * STRIDE
    }

    pub const fn area(index: u64) -> u64 {
        Self::slot(index) + PAGE + SSA_FRAMES * FRAME
    }

    /// What GS of thread `index` points to. The pages are readable and writable for the host too.
    pub fn thread(&self, index: u64) -> Thread {
        read(Self::area(index))
    }

    pub fn change_thread(&self, index: u64, change: impl FnOnce(&mut Thread)) {
        let mut thread = self.thread(index);
        change(&mut thread);
        write(Self::area(index), thread);
    }

    pub fn enter(&self, run: &mut EnclaveRun, leaf: Leaf) -> Exit {
        run.leaf = leaf;
        self.device.enter(run)
    }

    /// Calls a function on thread 0, until it returns.
    pub fn call(&self, function: Function, arguments: [u64; 4]) -> Outcome {
        self.call_on(0, function, arguments)
    }

    pub fn call_on(&self, thread: u64, function: Function, arguments: [u64; 4]) -> Outcome {
        let [rsi, rdx, r8, r9] = arguments;
        let mut run = run(thread, function.offset(), [rsi, rdx, r8, r9]);
        let mut exits = Vec::new();
        let mut exit = self.enter(&mut run, Leaf::Eenter);
        while exit != Exit::Eexit {
            exits.push(exit);
            assert_ne!(exit, Exit::Failed, "{function:?} after {exits:?}");
            assert!(exits.len() < 10_000_000, "{function:?} makes no progress");
            let mut handler = run;
            let mut inner = self.enter(&mut handler, Leaf::Eenter);
            while inner == Exit::Interrupt {
                // In the handler, which needs no handler for that.
                inner = self.enter(&mut handler, Leaf::Eresume);
            }
            assert_eq!(inner, Exit::Eexit, "{function:?}: {exits:?}");
            assert_eq!(handler.rdi, RESUME);
            exit = self.enter(&mut run, Leaf::Eresume);
        }
        Outcome { value: run.rdi, r8: run.r8, r9: run.r9, exits }
    }

    /// An `enclu` that traps.
    pub fn enclu(&self, leaf: u64, rbx: u64, rcx: u64, rdx: u64) -> Outcome {
        self.call(Function::Enclu, [leaf, rbx, rcx, rdx])
    }

    /// EACCEPT with a SECINFO of the test's choice, by trap.
    pub fn eaccept(&self, info: Secinfo, page: u64) -> Outcome {
        self.change_thread(0, |thread| thread.secinfo = info);
        self.enclu(5, self.secinfo_address(), page, 0)
    }

    pub fn emodpe(&self, info: Secinfo, page: u64) -> Outcome {
        self.change_thread(0, |thread| thread.secinfo = info);
        self.enclu(6, self.secinfo_address(), page, 0)
    }

    pub fn secinfo_address(&self) -> u64 {
        Self::area(0) + std::mem::offset_of!(Thread, secinfo) as u64
    }

    /// Makes the handler skip the instruction that faults, which is `bytes` long.
    pub fn skip(&self, bytes: u64) {
        self.change_thread(0, |thread| (thread.action, thread.skip) = (1, bytes));
    }

    /// Makes the handler EACCEPT the page that faults.
    pub fn accept_on_fault(&self) {
        self.change_thread(0, |thread| {
            thread.action = 2;
            thread.secinfo = pending_rw();
        });
    }
}

/// How a call ended.
#[derive(Debug)]
pub struct Outcome {
    pub value: u64,
    pub r8: u64,
    pub r9: u64,
    pub exits: Vec<Exit>,
}

impl Outcome {
    /// The vector of the only exception on the way.
    pub fn vector(&self) -> u8 {
        match self.exits[..] {
            [Exit::Exception { vector, .. }] => vector,
            _ => panic!("{:?}", self.exits),
        }
    }
}

pub fn run(thread: u64, rdi: u64, [rsi, rdx, r8, r9]: [u64; 4]) -> EnclaveRun {
    EnclaveRun { tcs: Enclave::slot(thread), leaf: Leaf::Eenter, rdi, rsi, rdx, r8, r9 }
}

pub fn read<T: FromBytes + Copy>(address: u64) -> T {
    let place = std::ptr::with_exposed_provenance::<T>(usize::try_from(address).unwrap());
    // SAFETY: the tests pass addresses of pages that they made accessible; all types are plain data.
    unsafe { place.read_volatile() }
}

pub fn write<T: IntoBytes>(address: u64, value: T) {
    let place = std::ptr::with_exposed_provenance_mut::<T>(usize::try_from(address).unwrap());
    // SAFETY: as for `read`.
    unsafe { place.write_volatile(value) };
}

/// Address of something of the host, for the enclave.
pub fn host<T>(value: &T) -> u64 {
    std::ptr::from_ref(value).expose_provenance() as u64
}
