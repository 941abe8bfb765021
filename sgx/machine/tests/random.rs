//! The machine against the model: random operations on pages, and after each what accesses do.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Enclave, FREE, Function, PAGE, pending_rw, secinfo};
use sgx_arch::{PageType, Secinfo, SecinfoFlags};
use sgx_device::Exit;
use sgx_model::epcm::{self, Access, Page};
use sgx_model::fault::PageFaultCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// The pages lie on both sides of a border of 2 MiB.
const FIRST: u64 = FREE + 2 * (2 << 20) - 8 * PAGE;
const COUNT: usize = 16;

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    /// Rights, mostly sensible ones.
    fn rights(&mut self) -> SecinfoFlags {
        let choices = [
            SecinfoFlags::empty(),
            SecinfoFlags::R,
            SecinfoFlags::RW,
            SecinfoFlags::RW,
            SecinfoFlags::RX,
            SecinfoFlags::RWX,
        ];
        choices[self.below(choices.len())]
    }
}

/// What the model says.
struct Reference {
    pages: [Page; COUNT],
    paging: [SecinfoFlags; COUNT],
}

fn address(index: usize) -> u64 {
    FIRST + index as u64 * PAGE
}

impl Reference {
    /// EAUG when a missing page is touched.
    fn touch(&mut self, index: usize) {
        if !self.pages[index].is_valid() && self.paging[index].contains(SecinfoFlags::RW) {
            self.pages[index] = epcm::eaug(0, Page::INVALID).unwrap();
        }
    }

    /// The error code of an access, or `None`.
    fn access(&mut self, index: usize, access: Access) -> Option<u32> {
        self.touch(index);
        let right = access.right();
        let page = self.pages[index];
        if !self.paging[index].contains(right) {
            let code = PageFaultCode::paging(access).bits();
            return Some(if page.is_valid() { code } else { code & !PageFaultCode::P });
        }
        if page.accessible().contains(right) { None } else { Some(PageFaultCode::epcm(access).bits()) }
    }

    /// A leaf of the enclave: the new page, an error code in RAX, or the vector of a fault.
    fn leaf(&mut self, index: usize, info: &Secinfo, leaf: u64) -> Result<u64, u8> {
        self.touch(index);
        let page = self.pages[index];
        let new = match leaf {
            5 => epcm::eaccept(info, 0, page).map(|answer| answer.map_err(|code| code as u64)),
            _ => epcm::emodpe(info, 0, page).map(Ok),
        };
        match new {
            Ok(Ok(page)) => {
                self.pages[index] = page;
                Ok(if leaf == 5 { 0 } else { leaf })
            }
            Ok(Err(code)) => Ok(code),
            Err(sgx_model::fault::Fault::Page { .. }) => Err(14),
            Err(_) => Err(13),
        }
    }
}

fn check(enclave: &Enclave, reference: &mut Reference, index: usize) {
    for (function, access) in [(Function::Read, Access::Read), (Function::Write, Access::Write)] {
        enclave.skip(3);
        let outcome = enclave.call(function, [address(index), 1, 0, 0]);
        let code = match outcome.exits[..] {
            [] => None,
            [Exit::Exception { vector: 14, error_code, .. }] => Some(u32::from(error_code)),
            _ => panic!("{outcome:?}"),
        };
        assert_eq!(code, reference.access(index, access), "page {index}, {access:?}");
    }
}

#[test]
fn the_machine_does_what_the_model_says() {
    let enclave = Enclave::start();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut reference = Reference { pages: [Page::INVALID; COUNT], paging: [SecinfoFlags::RWX; COUNT] };
    for step in 0..6000 {
        let first = random.below(COUNT);
        let last = (first + random.below(4)).min(COUNT - 1);
        let (at, len) = (address(first), (last - first + 1) as u64 * PAGE);
        let rights = random.rights();
        match random.below(7) {
            0 => {
                enclave.map(at, len, rights);
                reference.paging[first..=last].fill(rights);
            }
            1 => {
                let allowed = enclave.device.restrict_permissions(at, len, rights.bits()).is_ok();
                let new: Result<Vec<_>, _> =
                    reference.pages[first..=last].iter().map(|page| epcm::emodpr(rights, *page)).collect();
                assert_eq!(allowed, new.is_ok(), "step {step}: EMODPR");
                if let Ok(new) = new {
                    reference.pages[first..=last].copy_from_slice(&new);
                }
            }
            2 => {
                let allowed = enclave.device.modify_types(at, len, PageType::Trim as u8).is_ok();
                let new: Result<Vec<_>, _> = reference.pages[first..=last]
                    .iter()
                    .map(|page| epcm::emodt(PageType::Trim, *page))
                    .collect();
                assert_eq!(allowed, new.is_ok(), "step {step}: EMODT");
                if let Ok(new) = new {
                    reference.pages[first..=last].copy_from_slice(&new);
                }
            }
            3 => {
                let allowed = enclave.device.remove_pages(at, len).is_ok();
                let new: Result<Vec<_>, _> =
                    reference.pages[first..=last].iter().map(|page| epcm::eremove(*page)).collect();
                assert_eq!(allowed, new.is_ok(), "step {step}: EREMOVE");
                if let Ok(new) = new {
                    reference.pages[first..=last].copy_from_slice(&new);
                }
            }
            operation => {
                // What would be right, or something else.
                let page = reference.pages[first];
                let right = Secinfo {
                    flags: page.flags() | SecinfoFlags::of_type(page.page_type().unwrap_or(PageType::Reg)),
                    ..Secinfo::default()
                };
                let info = match random.below(4) {
                    0 => pending_rw(),
                    1 => secinfo(PageType::Reg, rights | SecinfoFlags::PR),
                    _ if operation == 6 => Secinfo::reg(rights),
                    _ => right,
                };
                let leaf = if operation == 6 { 6 } else { 5 };
                enclave.change_thread(0, |thread| thread.secinfo = info);
                let patched = random.below(2) == 0;
                enclave.skip(if patched { 14 } else { 3 });
                let outcome = match (patched, leaf) {
                    (false, _) => enclave.enclu(leaf, enclave.secinfo_address(), at, 0),
                    (true, 5) => enclave.call(Function::Eaccept, [0, enclave.secinfo_address(), at, 0]),
                    (true, _) => enclave.call(Function::Emodpe, [0, enclave.secinfo_address(), at, 0]),
                };
                let got = if outcome.exits.is_empty() { Ok(outcome.value) } else { Err(outcome.vector()) };
                let before = reference.pages[first];
                let expected = reference.leaf(first, &info, leaf);
                assert_eq!(got, expected, "step {step}: leaf {leaf} of page {first}: {before:?} {info:?}");
            }
        }
        for index in first.saturating_sub(1)..(last + 2).min(COUNT) {
            // Accesses add pages, so not always.
            if random.below(3) == 0 {
                check(&enclave, &mut reference, index);
            }
        }
    }
}

#[test]
fn interrupts_in_the_middle_of_leaves_do_no_harm() {
    let enclave = Enclave::start();
    enclave.change_thread(0, |thread| thread.secinfo = pending_rw());
    let done = AtomicBool::new(false);
    // SAFETY: always possible.
    let main = unsafe { libc::pthread_self() } as u64;
    std::thread::scope(|scope| {
        let done = &done;
        scope.spawn(move || {
            let mut pause = 20_u32;
            while !done.load(Ordering::Relaxed) {
                // SAFETY: the thread waits for this one.
                unsafe { libc::pthread_kill(main as libc::pthread_t, 64) };
                let start = std::time::Instant::now();
                while start.elapsed().as_micros() < pause.into() {
                    std::hint::spin_loop();
                }
                pause = (pause * 7 + 3) % 101 + 15;
            }
        });
        let mut wrong = 0;
        let mut interrupts = 0;
        let started = std::time::Instant::now();
        let mut page = 0;
        while page < 16_000 && started.elapsed() < std::time::Duration::from_secs(10) {
            let at = FREE + page * PAGE;
            let fast = enclave.call(Function::Eaccept, [0, enclave.secinfo_address(), at, 0]);
            let write = enclave.call(Function::Write, [at, 7, 0, 0]);
            wrong += usize::from(fast.value != 0 || fast.r9 != 1 || write.value != 42);
            interrupts += fast.exits.len() + write.exits.len();
            page += 1;
        }
        done.store(true, Ordering::Relaxed);
        assert_eq!(wrong, 0, "of {page} pages with {interrupts} interrupts");
    });
}
