//! The enclave as a list of pages: image, configuration, thread slots.
//!
//! Everything is placed by `edge_abi::layout`. Guard pages are simply not added, and neither are user memory and
//! heap: the enclave accepts those pages on demand.

use crate::chunk::{Chunk, Content, sparse, zeros};
use crate::{Error, Image, Result};
use edge_abi::EDGE_VERSION;
use edge_abi::layout::{self, EnclaveLayout, PAGE_SIZE, ThreadArea, slot, thread_slot};
use sgx_arch::{
    Attributes, AttributesFlags, Miscselect, SIGSTRUCT_HEADER, SIGSTRUCT_HEADER2, Secinfo, SecinfoFlags,
    Secs, Sigstruct, Tcs,
};
use sgx_model::secs::Measurement;
use std::borrow::Cow;
use zerocopy::IntoBytes;

/// XFRM bits that every enclave has: x87 and SSE.
const XFRM_REQUIRED: u64 = 3;
/// XFRM bits that may be had besides: AVX and AVX-512. The XSAVE area of all of them fits an SSA frame.
const XFRM_KNOWN: u64 = 0xe7;
/// FS and GS limits of a TCS: their low 12 bits must be set (EADD); 64-bit mode ignores them.
const SEGMENT_LIMIT: u32 = 0xfff;

/// Key separation and sharing: finer names for a product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kss {
    /// SIGSTRUCT.ISVEXTPRODID.
    pub isvextprodid: [u8; 16],
    /// SIGSTRUCT.ISVFAMILYID.
    pub isvfamilyid: [u8; 16],
}

/// What [`build`] is told besides the LibOS.
#[derive(Clone, Debug)]
pub struct BuildOptions<'a> {
    /// Boot configuration, opaque here; it is measured.
    pub config: &'a [u8],
    /// Thread slots that are part of the image: at least 1.
    pub initial_threads: u64,
    /// Most thread slots, at most [`layout::MAX_THREADS`]. The others are added on demand.
    pub max_threads: u64,
    /// Most bytes of user memory that may be committed at once; page-aligned.
    pub user_limit: u64,
    /// Most bytes of heap; page-aligned.
    pub heap_limit: u64,
    /// Whether it is a debug enclave: the host can look into it, so it protects nothing.
    pub debuggable: bool,
    /// XFRM bits that the machine may enable besides x87 and SSE; of 0xe7.
    pub xfrm_allowed: u64,
    /// SIGSTRUCT.ISVPRODID.
    pub isvprodid: u16,
    /// SIGSTRUCT.ISVSVN.
    pub isvsvn: u16,
    /// SIGSTRUCT.DATE: `yyyymmdd` in BCD, as in `0x2026_0131`.
    pub date: u32,
    /// Sets ATTRIBUTES.KSS.
    pub kss: Option<Kss>,
}

impl<'a> BuildOptions<'a> {
    /// A release enclave of product 0, with 8 of at most 256 threads, 4 GiB of user memory and 1 GiB of heap.
    #[must_use]
    pub fn new(config: &'a [u8], date: u32) -> Self {
        Self {
            config,
            initial_threads: 8,
            max_threads: 256,
            user_limit: 4 << 30,
            heap_limit: 1 << 30,
            debuggable: false,
            xfrm_allowed: XFRM_KNOWN,
            isvprodid: 0,
            isvsvn: 0,
            date,
            kss: None,
        }
    }

    fn check(&self) -> Result<()> {
        let bcd = (0..8).all(|digit| self.date >> (4 * digit) & 0xf <= 9);
        let avx512 = self.xfrm_allowed & 0xe0;
        let rules = [
            (self.initial_threads >= 1, "an enclave needs at least one initial thread"),
            (self.initial_threads <= self.max_threads, "there are more initial threads than may exist"),
            (self.max_threads <= layout::MAX_THREADS, "the thread limit is above what fits (1792)"),
            (self.user_limit.is_multiple_of(PAGE_SIZE), "the user memory limit is not a multiple of 4096"),
            (
                self.user_limit <= layout::USER_END - layout::USER_BASE,
                "the user memory limit is above 56 GiB",
            ),
            (self.heap_limit.is_multiple_of(PAGE_SIZE), "the heap limit is not a multiple of 4096"),
            (self.heap_limit > 0, "an enclave needs a heap"),
            (self.heap_limit <= layout::HEAP_END - layout::HEAP_BASE, "the heap limit is above 6 GiB"),
            (self.xfrm_allowed & !XFRM_KNOWN == 0, "XFRM has bits other than x87, SSE, AVX and AVX-512"),
            (avx512 == 0 || self.xfrm_allowed & 0xe4 == 0xe4, "XFRM has only a part of what AVX-512 needs"),
            (bcd, "the date is not in binary-coded decimal"),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, message)) => Err(Error::Option(message)),
            None => Ok(()),
        }
    }
}

/// An enclave that is laid out and measured, but not signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnclaveImage<'a> {
    pub(crate) layout: EnclaveLayout,
    pub(crate) ssaframesize: u32,
    pub(crate) chunks: Vec<Chunk<'a>>,
    /// Everything but the key and the signature.
    pub(crate) sigstruct: Sigstruct,
}

impl EnclaveImage<'_> {
    /// Where things are.
    #[must_use]
    pub fn layout(&self) -> &EnclaveLayout {
        &self.layout
    }

    /// The pages in the order of EADD.
    #[must_use]
    pub fn chunks(&self) -> &[Chunk<'_>] {
        &self.chunks
    }

    /// MRENCLAVE as built.
    #[must_use]
    pub fn mrenclave(&self) -> [u8; 32] {
        self.sigstruct.enclavehash
    }

    /// The SIGSTRUCT without key and signature. Whoever signs elsewhere signs its
    /// [`signing_bytes`](Sigstruct::signing_bytes), as RSASSA-PKCS1-v1_5 with SHA-256.
    #[must_use]
    pub fn sigstruct(&self) -> &Sigstruct {
        &self.sigstruct
    }

    /// The SECS for ECREATE on a machine whose enclaves may use the extended features `xfrm`
    /// (`SgxDevice::xfrm`): those that the author allows are enabled.
    #[must_use]
    pub fn secs(&self, xfrm: u64) -> Secs {
        let Sigstruct { attributes, attributemask, miscselect, .. } = self.sigstruct;
        Secs {
            size: self.layout.elrange_size,
            baseaddr: self.layout.elrange_base,
            ssaframesize: self.ssaframesize,
            miscselect,
            attributes: Attributes {
                flags: attributes.flags.difference(AttributesFlags::INIT),
                xfrm: attributes.xfrm & attributemask.xfrm | xfrm & !attributemask.xfrm,
            },
            ..Secs::default()
        }
    }

    /// Measures the pages anew.
    #[must_use]
    pub fn measure(&self) -> [u8; 32] {
        let mut measurement = Measurement::ecreate(&self.secs(0));
        for chunk in &self.chunks {
            for (offset, page) in chunk.pages() {
                measurement.eadd(offset, &chunk.secinfo);
                if chunk.measure {
                    measurement.eextend(offset, page);
                }
            }
        }
        measurement.finish()
    }
}

/// Builds the enclave of a LibOS.
///
/// # Errors
/// [`Error::Elf`] and [`Error::Relocation`] from [`Image::parse`]; [`Error::Option`] an option is out of range,
/// or image and configuration do not fit below the thread slots.
pub fn build(elf: &[u8], options: &BuildOptions<'_>) -> Result<EnclaveImage<'static>> {
    options.check()?;
    let image = Image::parse(elf)?;
    let layout_address = layout::IMAGE_BASE + image.span();
    let layout = EnclaveLayout {
        version: EDGE_VERSION,
        debuggable: options.debuggable.into(),
        elrange_base: layout::ELRANGE_BASE,
        elrange_size: layout::ELRANGE_SIZE,
        image_base: layout::IMAGE_BASE,
        image_end: layout_address,
        user_base: layout::USER_BASE,
        user_end: layout::USER_END,
        user_limit: options.user_limit,
        heap_base: layout::HEAP_BASE,
        heap_limit: options.heap_limit,
        initial_threads: options.initial_threads,
        max_threads: options.max_threads,
        config: layout_address + size_of::<EnclaveLayout>() as u64,
        config_len: options.config.len() as u64,
    };
    if layout.config.saturating_add(layout.config_len) > layout::THREADS_BASE {
        return Err(Error::Option("the configuration does not fit behind the LibOS image"));
    }

    let mut chunks = Vec::new();
    for run in image.runs() {
        chunks.extend(sparse(layout::IMAGE_BASE + run.offset, Secinfo::reg(run.permissions), run.bytes));
    }
    let config = [layout.as_bytes(), options.config].concat();
    chunks.extend(sparse(layout_address, Secinfo::reg(SecinfoFlags::R), &config));
    for index in 0..options.initial_threads {
        add_thread(&mut chunks, index, layout_address, image.entry());
    }
    for chunk in &mut chunks {
        chunk.offset -= layout::ELRANGE_BASE;
    }

    let mut enclave = EnclaveImage {
        layout,
        ssaframesize: u32::try_from(layout::SSA_FRAME_PAGES).unwrap_or(u32::MAX),
        chunks,
        sigstruct: unsigned(options),
    };
    enclave.sigstruct.enclavehash = enclave.measure();
    Ok(enclave)
}

/// Adds the pages of one thread slot.
fn add_thread(chunks: &mut Vec<Chunk<'static>>, index: u64, layout_address: u64, entry: u64) {
    let read_write = Secinfo::reg(SecinfoFlags::RW);
    let base = thread_slot(index);
    let tcs = Tcs {
        ossa: base + slot::SSA - layout::ELRANGE_BASE,
        nssa: u32::try_from(layout::SSA_FRAMES).unwrap_or(u32::MAX),
        oentry: layout::IMAGE_BASE + entry - layout::ELRANGE_BASE,
        ofsbase: base + slot::AREA - layout::ELRANGE_BASE,
        ogsbase: base + slot::AREA - layout::ELRANGE_BASE,
        fslimit: SEGMENT_LIMIT,
        gslimit: SEGMENT_LIMIT,
        ..Tcs::default()
    };
    let area = ThreadArea {
        this: base + slot::AREA,
        index,
        layout: layout_address,
        tcs: base + slot::TCS,
        ssa: base + slot::SSA,
        kernel_stack: base + slot::KERNEL_STACK + slot::KERNEL_STACK_PAGES * PAGE_SIZE,
        exception_stack: base + slot::EXCEPTION_STACK + slot::EXCEPTION_STACK_PAGES * PAGE_SIZE,
        xsave: base + slot::AREA + slot::XSAVE_IN_AREA,
        state: [0; 64],
    };
    chunks.push(Chunk {
        offset: base + slot::TCS,
        secinfo: Secinfo::tcs(),
        content: Content::Bytes(Cow::Owned(tcs.as_bytes().to_vec())),
        measure: true,
    });
    chunks.push(zeros(base + slot::SSA, read_write, layout::SSA_FRAMES * layout::SSA_FRAME_PAGES));
    chunks.extend(sparse(base + slot::AREA, read_write, area.as_bytes()));
    chunks.push(zeros(base + slot::AREA + PAGE_SIZE, read_write, slot::AREA_PAGES - 1));
    chunks.push(zeros(base + slot::EXCEPTION_STACK, read_write, slot::EXCEPTION_STACK_PAGES));
    chunks.push(zeros(base + slot::KERNEL_STACK, read_write, slot::KERNEL_STACK_PAGES));
}

/// What the author allows. Each attribute is as signed: a release enclave cannot be started as a debug enclave,
/// nor the other way round. XFRM alone is left to the machine, within `xfrm_allowed`.
fn unsigned(options: &BuildOptions<'_>) -> Sigstruct {
    let mut flags = AttributesFlags::MODE64BIT;
    flags.set(AttributesFlags::DEBUG, options.debuggable);
    flags.set(AttributesFlags::KSS, options.kss.is_some());
    let kss = options.kss.unwrap_or_default();
    Sigstruct {
        header: SIGSTRUCT_HEADER,
        date: options.date,
        header2: SIGSTRUCT_HEADER2,
        exponent: 3,
        miscselect: Miscselect::EXINFO,
        miscmask: Miscselect::from_bits_retain(u32::MAX),
        cet_attributes_mask: u8::MAX,
        isvfamilyid: kss.isvfamilyid,
        attributes: Attributes { flags, xfrm: XFRM_REQUIRED },
        attributemask: Attributes {
            flags: AttributesFlags::from_bits_retain(u64::MAX),
            xfrm: !(options.xfrm_allowed & !XFRM_REQUIRED),
        },
        isvextprodid: kss.isvextprodid,
        isvprodid: options.isvprodid,
        isvsvn: options.isvsvn,
        ..Sigstruct::default()
    }
}
