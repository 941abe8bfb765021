//! The enclave file: a header, a table of chunks, and the pages that are not zero.
//!
//! Pages start at page boundaries of the file, so that a loader can map it and hand the pages to EADD as they
//! are. Integers are little-endian. The host is not trusted with the file: what counts is what EINIT finds
//! measured, and the parser's business is only never to panic or to read outside.

use crate::chunk::{Chunk, Content};
use crate::sign::check;
use crate::{EnclaveImage, Error, Result};
use edge_abi::EDGE_VERSION;
use edge_abi::layout::EnclaveLayout;
use sgx_arch::{PAGE_SIZE, Secinfo, SecinfoFlags, Secs, Sigstruct};
use std::borrow::Cow;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const MAGIC: [u8; 8] = *b"ENCLAVE\n";
const VERSION: u32 = 1;
/// [`Record::data`] of zero pages.
const ZEROS: u64 = u64::MAX;
const MEASURE: u64 = 1;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: u32,
    ssaframesize: u32,
    chunks: u64,
    layout: EnclaveLayout,
    sigstruct: Sigstruct,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Record {
    /// From the base of ELRANGE.
    offset: u64,
    /// Bytes in memory.
    len: u64,
    /// Offset in the file, or [`ZEROS`].
    data: u64,
    /// SECINFO.FLAGS.
    secinfo: u64,
    /// [`MEASURE`] or 0.
    flags: u64,
}

const _: () = assert!(cfg!(target_endian = "little"));

/// An enclave with its SIGSTRUCT, ready to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedEnclave<'a> {
    pub(crate) image: EnclaveImage<'a>,
    pub(crate) sigstruct: Sigstruct,
}

impl<'a> SignedEnclave<'a> {
    /// Reads an enclave file. The pages stay where they are in `file`.
    ///
    /// Neither signature nor measurement is checked: EINIT does that. See [`SignedEnclave::verify`].
    ///
    /// # Errors
    /// [`Error::File`] it is not such a file, or damaged.
    pub fn from_bytes(file: &'a [u8]) -> Result<Self> {
        let (header, mut rest) =
            Header::read_from_prefix(file).map_err(|_| Error::File("it is too short"))?;
        if header.magic != MAGIC {
            return Err(Error::File("it does not start like one"));
        }
        if header.version != VERSION || header.layout.version != EDGE_VERSION {
            return Err(Error::File("it is of another version"));
        }
        let mut chunks = Vec::new();
        for _ in 0..header.chunks {
            let (record, tail) =
                Record::read_from_prefix(rest).map_err(|_| Error::File("its table of pages is cut off"))?;
            chunks.push(chunk(&record, file, header.layout.elrange_size)?);
            rest = tail;
        }
        let Header { layout, ssaframesize, sigstruct, .. } = header;
        let unsigned =
            Sigstruct { modulus: [0; 384], signature: [0; 384], q1: [0; 384], q2: [0; 384], ..sigstruct };
        let image = EnclaveImage { layout, ssaframesize, chunks, sigstruct: unsigned };
        Ok(Self { image, sigstruct })
    }

    /// Writes an enclave file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let chunks = &self.image.chunks;
        let header = Header {
            magic: MAGIC,
            version: VERSION,
            ssaframesize: self.image.ssaframesize,
            chunks: chunks.len() as u64,
            layout: self.image.layout,
            sigstruct: self.sigstruct,
        };
        let table = size_of::<Header>() + chunks.len() * size_of::<Record>();
        let mut data = table.next_multiple_of(PAGE_SIZE);
        let mut file = header.as_bytes().to_vec();
        for chunk in chunks {
            let at = match &chunk.content {
                Content::Zeros(_) => ZEROS,
                Content::Bytes(bytes) => {
                    data += bytes.len();
                    (data - bytes.len()) as u64
                }
            };
            let record = Record {
                offset: chunk.offset,
                len: chunk.content.len(),
                data: at,
                secinfo: chunk.secinfo.flags.bits(),
                flags: if chunk.measure { MEASURE } else { 0 },
            };
            file.extend_from_slice(record.as_bytes());
        }
        file.resize(table.next_multiple_of(PAGE_SIZE), 0);
        for chunk in chunks {
            if let Content::Bytes(bytes) = &chunk.content {
                file.extend_from_slice(bytes);
            }
        }
        file
    }

    /// The SECS for ECREATE on a machine whose enclaves may use the extended features `xfrm`
    /// (`SgxDevice::xfrm`): those that the author allows are enabled.
    #[must_use]
    pub fn secs(&self, xfrm: u64) -> Secs {
        self.image.secs(xfrm)
    }

    /// For EINIT.
    #[must_use]
    pub fn sigstruct(&self) -> &Sigstruct {
        &self.sigstruct
    }

    /// The pages in the order of EADD.
    #[must_use]
    pub fn chunks(&self) -> &[Chunk<'a>] {
        &self.image.chunks
    }

    /// Where things are in the enclave.
    #[must_use]
    pub fn layout(&self) -> &EnclaveLayout {
        &self.image.layout
    }

    /// MRENCLAVE as signed.
    #[must_use]
    pub fn mrenclave(&self) -> [u8; 32] {
        self.sigstruct.enclavehash
    }

    /// MRSIGNER: the hash of the author's public key.
    #[must_use]
    pub fn mrsigner(&self) -> [u8; 32] {
        sgx_model::sigstruct::mrsigner(&self.sigstruct.modulus)
    }

    /// Checks signature and measurement as EINIT would.
    ///
    /// # Errors
    /// [`Error::Signature`] the SIGSTRUCT does not verify; [`Error::Measurement`] the pages are others.
    pub fn verify(&self) -> Result<()> {
        check(&self.sigstruct)?;
        if self.image.measure() == self.mrenclave() { Ok(()) } else { Err(Error::Measurement) }
    }

    /// The enclave without its signature, to be signed by another author.
    #[must_use]
    pub fn into_image(self) -> EnclaveImage<'a> {
        self.image
    }
}

/// Checks one record against file and ELRANGE.
fn chunk<'a>(record: &Record, file: &'a [u8], elrange_size: u64) -> Result<Chunk<'a>> {
    let page = PAGE_SIZE as u64;
    let aligned = record.offset.is_multiple_of(page) && record.len.is_multiple_of(page);
    let end = record.offset.checked_add(record.len).filter(|&end| end <= elrange_size);
    if !aligned || record.len == 0 || end.is_none() {
        return Err(Error::File("some pages lie outside the enclave"));
    }
    let content = if record.data == ZEROS {
        Content::Zeros(record.len)
    } else {
        let bytes = (record.data.is_multiple_of(page))
            .then(|| {
                let start = usize::try_from(record.data).ok()?;
                file.get(start..start.checked_add(usize::try_from(record.len).ok()?)?)
            })
            .flatten();
        Content::Bytes(Cow::Borrowed(bytes.ok_or(Error::File("some pages lie outside the file"))?))
    };
    let secinfo = Secinfo { flags: SecinfoFlags::from_bits_retain(record.secinfo), ..Secinfo::default() };
    let measure = match record.flags {
        0 => false,
        MEASURE => true,
        _ => return Err(Error::File("some pages have unknown flags")),
    };
    Ok(Chunk { offset: record.offset, secinfo, content, measure })
}
