//! The enclave as a whole: pages, measurement, signature and file, against Enarx's `sgx` where it can judge.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Elf, KEY_PEM, enclave, key, options};
use edge_abi::layout::{
    self, EnclaveLayout, HEAP_BASE, IMAGE_BASE, PAGE_SIZE, THREADS_BASE, ThreadArea, slot, thread_slot,
};
use sgx::crypto::PrivateKey;
use sgx::crypto::rcrypto::{RS256PrivateKey, S256Digest};
use sgx::page::{Class, Flags, SecInfo};
use sgx::signature::Hasher;
use sgx_arch::{
    Attributes, AttributesFlags, ErrorCode, Miscselect, PageType, SIGNED_PART, SecinfoFlags, Secs, Sigstruct,
    Tcs,
};
use sgx_image::{
    BuildOptions, Chunk, Content, EnclaveImage, Error, Kss, PublicKey, SignedEnclave, SigningKey, build,
};
use sgx_model::secs::{InitError, einit};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use zerocopy::FromBytes;

type Pages = BTreeMap<u64, (SecinfoFlags, Vec<u8>)>;

/// Every page by itself.
fn pages(chunks: &[Chunk<'_>]) -> Pages {
    let mut pages = Pages::new();
    for chunk in chunks {
        for (offset, page) in chunk.pages() {
            let old = pages.insert(offset, (chunk.secinfo.flags, page.to_vec()));
            assert!(old.is_none(), "page {offset:#x} is added twice");
        }
        assert_eq!(chunk.end(), chunk.offset + chunk.content.len());
        assert!(chunk.measure);
    }
    pages
}

fn at<T: FromBytes>(pages: &Pages, address: u64) -> T {
    T::read_from_prefix(&pages[&address].1).unwrap().0
}

#[test]
fn every_page_is_where_the_layout_says() {
    let image = enclave();
    let pages = pages(image.chunks());
    let config_page = IMAGE_BASE + 0x8000;

    let layout: EnclaveLayout = at(&pages, config_page);
    assert_eq!(&layout, image.layout());
    assert_eq!(
        (layout.image_end, layout.config),
        (config_page, config_page + size_of::<EnclaveLayout>() as u64)
    );
    let start = usize::try_from(layout.config - config_page).unwrap();
    assert_eq!(pages[&config_page].1[start..start + 14], *b"configuration\0");
    assert_eq!(layout.config_len, 13);
    assert_eq!(pages[&config_page].0, SecinfoFlags::of_type(PageType::Reg) | SecinfoFlags::R);
    assert_eq!((layout.initial_threads, layout.max_threads, layout.heap_base), (2, 256, HEAP_BASE));

    for index in 0..2 {
        let base = thread_slot(index);
        assert_eq!(pages[&base].0, SecinfoFlags::of_type(PageType::Tcs));
        let tcs: Tcs = at(&pages, base);
        assert_eq!((tcs.ossa, tcs.nssa, tcs.cssa), (base + slot::SSA, 3, 0));
        assert_eq!(tcs.oentry, IMAGE_BASE + 0x1010);
        assert_eq!((tcs.ofsbase, tcs.ogsbase), (base + slot::AREA, base + slot::AREA));
        assert_eq!((tcs.fslimit & 0xfff, tcs.gslimit & 0xfff), (0xfff, 0xfff));
        let area: ThreadArea = at(&pages, base + slot::AREA);
        assert_eq!((area.this, area.index, area.layout), (base + slot::AREA, index, config_page));
        assert_eq!((area.tcs, area.ssa), (base, base + slot::SSA));
        assert_eq!(area.kernel_stack, base + slot::END);
        assert_eq!(area.xsave, base + slot::AREA + 4096);
        for (start, count) in [
            (slot::SSA, 12),
            (slot::AREA, slot::AREA_PAGES),
            (slot::EXCEPTION_STACK, slot::EXCEPTION_STACK_PAGES),
            (slot::KERNEL_STACK, slot::KERNEL_STACK_PAGES),
        ] {
            assert!((0..count).all(|page| {
                let (flags, _) = &pages[&(base + start + page * PAGE_SIZE)];
                flags.permissions() == SecinfoFlags::RW
            }));
        }
        // Guard pages below the stacks.
        assert!(!pages.contains_key(&(base + slot::EXCEPTION_STACK - PAGE_SIZE)));
        assert!(!pages.contains_key(&(base + slot::KERNEL_STACK - PAGE_SIZE)));
    }
    assert!(!pages.contains_key(&thread_slot(2)));
    assert_eq!(pages.len(), 8 + 1 + 2 * (1 + 12 + 5 + 4 + 64));
    assert!(pages.values().all(|(flags, _)| !flags.contains(SecinfoFlags::W | SecinfoFlags::X)));
}

#[test]
fn mrenclave_is_what_enarx_computes() {
    let image = enclave();
    let size = usize::try_from(layout::ELRANGE_SIZE).unwrap();
    let mut hasher = Hasher::<S256Digest>::new(size, NonZeroU32::new(4).unwrap());
    for chunk in image.chunks() {
        let flags = Flags::from_bits_retain(chunk.secinfo.flags.bits().to_le_bytes()[0]);
        let class = match chunk.secinfo.flags.page_type().unwrap() {
            PageType::Tcs => Class::Tcs,
            PageType::Reg => Class::Regular,
            other => panic!("{other:?}"),
        };
        for (offset, page) in chunk.pages() {
            let offset = usize::try_from(offset).unwrap();
            hasher.load(page, offset, SecInfo::new(class, flags), true).unwrap();
        }
    }
    assert_eq!(image.mrenclave().as_slice(), hasher.finish().as_slice());
}

#[test]
fn the_signature_is_what_enarx_makes() {
    let signed = enclave().sign(&key()).unwrap();
    let ours = signed.sigstruct();
    let (author, body) =
        (ours.signing_bytes()[..SIGNED_PART].to_vec(), ours.signing_bytes()[SIGNED_PART..].to_vec());
    let pem = &KEY_PEM[KEY_PEM.find("-----").unwrap()..];
    let theirs = RS256PrivateKey::from_pem(pem).unwrap().sign(&author, &body).unwrap();
    assert_eq!(ours.signature, theirs.signature);
    assert_eq!(ours.modulus, theirs.modulus);
    assert_eq!(ours.exponent, theirs.exponent);
    assert_eq!(ours.q1, theirs.q1);
    assert_eq!(ours.q2, theirs.q2);
    assert_eq!(sgx_model::sigstruct::verify(ours), Ok(()));
    assert_eq!(signed.mrsigner(), key().public_key().mrsigner());
}

#[test]
fn a_changed_sigstruct_does_not_verify() {
    let signed = enclave().sign(&key()).unwrap();
    let bytes = zerocopy::IntoBytes::as_bytes(signed.sigstruct()).to_vec();
    for index in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[index] ^= 0x40;
        let result = sgx_model::sigstruct::verify(&Sigstruct::read_from_bytes(&bad).unwrap());
        assert!(matches!(result, Err(ErrorCode::InvalidSigStruct | ErrorCode::InvalidSignature)), "{index}");
    }
}

#[test]
fn building_twice_gives_the_same_bytes_and_each_input_counts() {
    let elf = Elf::sample().bytes();
    let file = |options: &BuildOptions<'_>| build(&elf, options).unwrap().sign(&key()).unwrap().to_bytes();
    let plain = options(b"configuration");
    assert_eq!(file(&plain), file(&plain));

    let measured: [fn(&mut BuildOptions<'_>); 6] = [
        |options| options.config = b"Configuration",
        |options| options.initial_threads = 3,
        |options| options.max_threads = 3,
        |options| options.user_limit += PAGE_SIZE,
        |options| options.heap_limit += PAGE_SIZE,
        |options| options.debuggable = true,
    ];
    let mut seen = vec![enclave().mrenclave()];
    for change in measured {
        let mut changed = plain.clone();
        change(&mut changed);
        let found = build(&elf, &changed).unwrap().mrenclave();
        assert!(!seen.contains(&found));
        seen.push(found);
    }
    let signed: [fn(&mut BuildOptions<'_>); 5] = [
        |options| options.isvprodid = 1,
        |options| options.isvsvn = 1,
        |options| options.date += 1,
        |options| options.xfrm_allowed = 3,
        |options| options.kss = Some(Kss::default()),
    ];
    for change in signed {
        let mut changed = plain.clone();
        change(&mut changed);
        let image = build(&elf, &changed).unwrap();
        assert_eq!(image.mrenclave(), seen[0]);
        assert_ne!(image.sigstruct().signing_bytes(), enclave().sigstruct().signing_bytes());
    }
}

#[test]
fn options_out_of_range_are_refused() {
    let bad: [fn(&mut BuildOptions<'_>); 11] = [
        |options| options.initial_threads = 0,
        |options| options.max_threads = 1,
        |options| options.max_threads = layout::MAX_THREADS + 1,
        |options| options.user_limit = 1,
        |options| options.user_limit = layout::USER_END,
        |options| options.heap_limit = 0,
        |options| options.heap_limit = 100,
        |options| options.heap_limit = !0xfff,
        |options| options.xfrm_allowed = 0x8,
        |options| options.xfrm_allowed = 0x27,
        |options| options.date = 0x2026_0a01,
    ];
    for (index, change) in bad.into_iter().enumerate() {
        let mut options = options(b"");
        change(&mut options);
        assert!(matches!(build(&Elf::sample().bytes(), &options), Err(Error::Option(_))), "{index}");
    }
    let huge = vec![0; usize::try_from(THREADS_BASE - IMAGE_BASE).unwrap()];
    assert!(matches!(build(&Elf::sample().bytes(), &options(&huge)), Err(Error::Option(_))));
}

#[test]
fn secs_takes_what_the_author_fixes_and_the_machine_may_choose() {
    let kss = Kss { isvextprodid: [1; 16], isvfamilyid: [2; 16] };
    let options = BuildOptions { debuggable: true, kss: Some(kss), xfrm_allowed: 7, ..options(b"") };
    let signed = build(&Elf::sample().bytes(), &options).unwrap().sign(&key()).unwrap();
    let secs = signed.secs(0xe7);
    assert_eq!((secs.size, secs.baseaddr, secs.ssaframesize), (1 << 36, 0, 4));
    assert_eq!(secs.miscselect, Miscselect::EXINFO);
    assert_eq!(
        secs.attributes.flags,
        AttributesFlags::MODE64BIT | AttributesFlags::DEBUG | AttributesFlags::KSS
    );
    assert_eq!(secs.attributes.xfrm, 7);
    assert_eq!(signed.secs(3).attributes.xfrm, 3);
    assert_eq!(signed.secs(0).attributes.xfrm, 3);
    let sigstruct = signed.sigstruct();
    assert_eq!((sigstruct.isvextprodid, sigstruct.isvfamilyid), ([1; 16], [2; 16]));
    for xfrm in [0, 3, 7, 0xe7, u64::MAX] {
        assert_eq!(einit(&signed.secs(xfrm), &signed.mrenclave(), sigstruct), Ok(()));
    }
    let debug_off = Attributes { flags: AttributesFlags::MODE64BIT | AttributesFlags::KSS, xfrm: 3 };
    let other = Secs { attributes: debug_off, ..secs };
    assert_eq!(einit(&other, &signed.mrenclave(), sigstruct), Err(InitError::Debug));
    let too_much = Secs { attributes: Attributes { xfrm: 0xe7, ..secs.attributes }, ..secs };
    assert_eq!(einit(&too_much, &signed.mrenclave(), sigstruct), Err(InitError::Xfrm));
}

#[test]
fn a_detached_signature_is_as_good() {
    let here = enclave().sign(&key()).unwrap();
    let public = PublicKey::from_pem(&key().public_key().to_pem().unwrap()).unwrap();
    let signature = key().sign(&enclave().sigstruct().signing_bytes()).unwrap();
    assert_eq!(enclave().attach_signature(&public, &signature).unwrap(), here);

    let mut wrong = signature;
    wrong[200] ^= 1;
    assert!(matches!(enclave().attach_signature(&public, &wrong), Err(Error::Signature(_))));
    assert!(matches!(enclave().attach_signature(&public, &signature[1..]), Err(Error::Signature(_))));
    let above = enclave().attach_signature(&public, &[0xff; 384]).unwrap_err();
    assert!(matches!(above, Error::Signature("it is by another key")), "above the modulus: {above}");
    let of_other = key().sign(b"something else").unwrap();
    assert!(matches!(enclave().attach_signature(&public, &of_other), Err(Error::Signature(_))));
}

#[test]
fn keys_are_rsa_3072_with_exponent_3_in_either_pem_form() {
    let pkcs8 = SigningKey::from_pem(include_str!("data/test-key.pkcs8.pem")).unwrap();
    assert_eq!(pkcs8.public_key(), key().public_key());
    assert_eq!(SigningKey::from_pem(&key().to_pem().unwrap()).unwrap().public_key(), key().public_key());
    for (pem, word) in [
        (include_str!("data/rsa-2048.pem"), "3072"),
        (include_str!("data/rsa-65537.pem"), "exponent"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "PEM"),
        ("", "PEM"),
    ] {
        let error = SigningKey::from_pem(pem).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
    assert!(PublicKey::from_pem(KEY_PEM).is_err());
    assert!(!format!("{:?}", key()).contains("primes"), "a private key does not print itself");
}

#[test]
fn generated_keys_sign() {
    let key = SigningKey::generate().unwrap();
    enclave().sign(&key).unwrap().verify().unwrap();
}

#[test]
fn the_file_round_trips_and_borrows_its_pages() {
    let signed = enclave().sign(&key()).unwrap();
    let file = signed.to_bytes();
    let read = SignedEnclave::from_bytes(&file).unwrap();
    assert_eq!(read, signed);
    assert_eq!(read.verify(), Ok(()));
    assert_eq!(read.to_bytes(), file);
    assert!(file.len() < 100 << 10, "zero pages take no room: {}", file.len());
    for chunk in read.chunks() {
        if let Content::Bytes(bytes) = &chunk.content {
            let within = bytes.as_ptr().addr() - file.as_ptr().addr();
            assert!(within < file.len() && within.is_multiple_of(4096));
        }
    }
    let again: EnclaveImage<'_> = read.into_image();
    assert_eq!(again.sign(&key()).unwrap(), signed);
}

#[test]
fn changed_pages_do_not_verify() {
    let mut file = enclave().sign(&key()).unwrap().to_bytes();
    let last = file.len() - 1;
    file[last] ^= 1;
    assert_eq!(SignedEnclave::from_bytes(&file).unwrap().verify(), Err(Error::Measurement));
}

#[test]
fn the_file_parser_survives_garbage() {
    let file = enclave().sign(&key()).unwrap().to_bytes();
    let table = file.len().min(8192);
    for at in 0..table {
        for value in [0, 1, 0x7f, 0x80, 0xff, file[at] ^ 0x10] {
            let mut bad = file[..table.max(at + 1)].to_vec();
            bad[at] = value;
            // Too short for its pages: either refused, or all its pages lie within.
            if let Ok(enclave) = SignedEnclave::from_bytes(&bad) {
                assert!(enclave.chunks().iter().all(|chunk| chunk.end() <= enclave.layout().elrange_size));
            }
            let mut bad = file.clone();
            bad[at] = value;
            if let Ok(enclave) = SignedEnclave::from_bytes(&bad) {
                assert!(enclave.chunks().iter().all(|chunk| chunk.end() <= enclave.layout().elrange_size));
                let _ = enclave.secs(7);
            }
        }
    }
    for len in 0..table {
        assert!(SignedEnclave::from_bytes(&file[..len]).is_err());
    }
}
