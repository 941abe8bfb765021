//! The user leaves of ENCLU, executed for the enclave.
//!
//! A leaf gets here in two ways: `enclu` is an undefined instruction to the host and traps, or its site was
//! patched ([`crate::patch`]) and calls [`fast`] on the enclave's own stack. The fast way does what needs neither
//! a lock nor a system call; for everything else, faults among it, it declines and traps after all, so that
//! there is one place where the rules of the leaves are played out.

use crate::enclave::Core;
use crate::entry;
use crate::memory::PAGE;
use crate::pages::Touch;
use crate::signal::{Bases, register};
use crate::thread::ThreadBlock;
use libc::ucontext_t;
use sgx_arch::{Enclu, ErrorCode, Keyrequest, PageType, Secinfo, Targetinfo, Tcs};
use sgx_model::epcm::{self, Access, Answer, Page};
use sgx_model::fault::{Fault, PageFaultCode};
use sgx_model::{keys, tcs};
use std::ptr;
use std::sync::atomic::Ordering;
use zerocopy::{FromBytes, IntoBytes};

/// The bytes of `enclu`.
pub(crate) const ENCLU: [u8; 3] = [0x0f, 0x01, 0xd7];

/// What became of an undefined instruction in the enclave.
pub(crate) enum Trapped {
    /// It was something else.
    NotEnclu,
    /// The leaf is done, and the registers in the signal frame say so.
    Done,
    /// The leaf faults; RIP is at `enclu`.
    Fault(Fault),
}

/// Registers that a leaf changes when it does not fault.
struct Effect {
    /// RAX and ZF; `None` leaves both alone.
    status: Option<Answer<()>>,
}

/// Executes the `enclu` at RIP of a signal frame, if it is one.
pub(crate) fn trapped(
    core: &Core,
    context: &mut ucontext_t,
    bases: &mut Bases,
    block: &ThreadBlock,
) -> Trapped {
    let rip = register(context, libc::REG_RIP).cast_unsigned();
    let next = if let Some(site) = core.stubs().and_then(|stubs| stubs.site_of_trap(rip)) {
        // The fast way declined. Whoever looks at RIP is to see the site.
        *register(context, libc::REG_RIP) = site.enclu.cast_signed();
        site.next
    } else if instruction_at(core, rip) == Some(ENCLU) {
        rip.wrapping_add(ENCLU.len() as u64)
    } else {
        return Trapped::NotEnclu;
    };
    let mut get = |index| register(context, index).cast_unsigned();
    let (rax, rbx, rcx, rdx) =
        (get(libc::REG_RAX), get(libc::REG_RBX), get(libc::REG_RCX), get(libc::REG_RDX));
    let leaf = u32::try_from(rax & 0xffff_ffff).ok().and_then(Enclu::from_number);
    if leaf == Some(Enclu::Eexit) {
        return match eexit(context, bases, block, rbx) {
            Ok(()) => Trapped::Done,
            Err(fault) => Trapped::Fault(fault),
        };
    }
    match execute(core, leaf, rbx, rcx, rdx) {
        Err(fault) => Trapped::Fault(fault),
        Ok(effect) => {
            *register(context, libc::REG_RIP) = next.cast_signed();
            if let Some(status) = effect.status {
                const ZF: i64 = 1 << 6;
                // CF, PF, AF, SF and OF are cleared.
                let flags = register(context, libc::REG_EFL);
                *flags &= !0x8d5;
                let code = match status {
                    Ok(()) => 0,
                    Err(error) => {
                        *flags |= ZF;
                        error as i64
                    }
                };
                *register(context, libc::REG_RAX) = code;
            }
            Trapped::Done
        }
    }
}

/// Three bytes of code, if the host can read them.
fn instruction_at(core: &Core, rip: u64) -> Option<[u8; 3]> {
    let pages = core.pages();
    let first = pages.index(rip)?;
    let last = pages.index(rip.wrapping_add(2))?;
    if !pages.is_readable(first) || !pages.is_readable(last) {
        return None;
    }
    let code = ptr::with_exposed_provenance::<[u8; 3]>(usize::try_from(rip).ok()?);
    // SAFETY: both pages are mapped readable; another thread of the enclave may write them, hence volatile.
    Some(unsafe { code.read_volatile() })
}

/// EEXIT: leaves to RBX, with the host's FS and GS, and the AEP in RCX.
fn eexit(context: &mut ucontext_t, bases: &mut Bases, block: &ThreadBlock, target: u64) -> Result<(), Fault> {
    // Bits 63:47 of a canonical address are equal.
    if !matches!(target.cast_signed() >> 47, 0 | -1) {
        return Err(Fault::GeneralProtection);
    }
    *register(context, libc::REG_RCX) = entry::aep_address().cast_signed();
    *register(context, libc::REG_RIP) = target.cast_signed();
    bases.become_host(block);
    block.inside.store(0, Ordering::Relaxed);
    Ok(())
}

fn execute(core: &Core, leaf: Option<Enclu>, rbx: u64, rcx: u64, rdx: u64) -> Result<Effect, Fault> {
    let status = |answer: Answer<Page>| Effect { status: Some(answer.map(|_| ())) };
    match leaf {
        Some(Enclu::Eaccept) => {
            let secinfo = read_operand::<Secinfo>(core, rbx)?;
            if is_of_tcs(&secinfo) { accept_tcs(core, &secinfo, rcx) } else { accept(core, &secinfo, rcx) }
                .map(status)
        }
        Some(Enclu::Emodpe) => {
            let secinfo = read_operand::<Secinfo>(core, rbx)?;
            extend(core, &secinfo, rcx)?;
            Ok(Effect { status: None })
        }
        Some(Enclu::Eacceptcopy) => accept_copy(core, rbx, rcx, rdx).map(status),
        Some(Enclu::Ereport) => {
            report(core, rbx, rcx, rdx)?;
            Ok(Effect { status: None })
        }
        Some(Enclu::Egetkey) => get_key(core, rbx, rcx).map(|answer| Effect { status: Some(answer) }),
        // EENTER and ERESUME inside an enclave, and leaves that there are not.
        _ => Err(Fault::GeneralProtection),
    }
}

/// Index of the page at an operand that must be a whole page of ELRANGE.
fn page_operand(core: &Core, address: u64) -> Result<usize, Fault> {
    if !address.is_multiple_of(PAGE as u64) {
        return Err(Fault::GeneralProtection);
    }
    core.pages().index(address).ok_or(Fault::GeneralProtection)
}

/// Index of the page of an operand that must be aligned.
fn place(core: &Core, address: u64, align: u64) -> Result<usize, Fault> {
    if !address.is_multiple_of(align) {
        return Err(Fault::GeneralProtection);
    }
    core.pages().index(address).ok_or(Fault::GeneralProtection)
}

/// Index of the page of an operand of type `T`, which lies in one page because it is aligned to its size.
fn operand<T>(core: &Core, address: u64) -> Result<usize, Fault> {
    place(core, address, size_of::<T>() as u64)
}

/// Opens the page of an operand for the host, if the enclave itself may access it so.
fn open(core: &Core, index: usize, address: u64, access: Access) -> Result<(), Fault> {
    core.pages().page(index).check(access, address)?;
    let open = match access {
        Access::Write => core.pages().is_writable(index),
        _ => core.pages().is_readable(index),
    };
    if open || core.pages().touch(index, access, true) == Touch::Retry {
        Ok(())
    } else {
        Err(Fault::page(address, PageFaultCode::paging(access)))
    }
}

/// Reads an operand from the enclave's memory.
fn read_operand<T: FromBytes + Copy>(core: &Core, address: u64) -> Result<T, Fault> {
    let index = operand::<T>(core, address)?;
    open(core, index, address, Access::Read)?;
    read_open(address)
}

/// Reads an operand from a page that is open.
fn read_open<T: FromBytes + Copy>(address: u64) -> Result<T, Fault> {
    let address = usize::try_from(address).map_err(|_| Fault::GeneralProtection)?;
    let place = ptr::with_exposed_provenance::<T>(address);
    // SAFETY: `operand` checked that it is aligned and in one page, and that page is readable by the host. Other
    // threads of the enclave may write it: any bytes are a valid `T`, and the copy is what is checked and used.
    Ok(unsafe { place.read_volatile() })
}

/// Writes an operand to a page that is open.
fn write_open<T: IntoBytes>(address: u64, value: T) -> Result<(), Fault> {
    let address = usize::try_from(address).map_err(|_| Fault::GeneralProtection)?;
    let place = ptr::with_exposed_provenance_mut::<T>(address);
    // SAFETY: callers checked that it is aligned and in one page, and that page is writable by the host. It is
    // memory of the enclave, to which Rust has no references.
    unsafe { place.write_volatile(value) };
    Ok(())
}

/// EAUG of a page that is missing, as the driver does when a leaf touches it.
fn add_missing(core: &Core, index: usize, address: u64) {
    if core.pages().can_augment(index) {
        // Whether another thread was faster makes no difference.
        let _ = core.pages().update(index, |page| epcm::eaug(address, page));
    }
}

/// EACCEPT's rule, with both kinds of refusal in one type.
fn accept_rule(secinfo: &Secinfo, address: u64, page: Page) -> Result<Page, Result<ErrorCode, Fault>> {
    match epcm::eaccept(secinfo, address, page) {
        Ok(Ok(new)) => Ok(new),
        Ok(Err(code)) => Err(Ok(code)),
        Err(fault) => Err(Err(fault)),
    }
}

/// EACCEPT of a page other than a TCS. Takes no lock.
fn accept(core: &Core, secinfo: &Secinfo, address: u64) -> Result<Answer<Page>, Fault> {
    let index = page_operand(core, address)?;
    add_missing(core, index, address);
    match core.pages().update(index, |page| accept_rule(secinfo, address, page)) {
        Ok(page) => Ok(Ok(page)),
        Err(refusal) => refusal.map(Err),
    }
}

/// EACCEPT of a page that became a TCS: its content is checked, and from now on the processor's own.
fn accept_tcs(core: &Core, secinfo: &Secinfo, address: u64) -> Result<Answer<Page>, Fault> {
    let pages = core.pages();
    let index = page_operand(core, address)?;
    if let Err(refusal) = accept_rule(secinfo, address, pages.page(index)) {
        return refusal.map(Err);
    }
    let content = pages
        .with_access(index..index + 1, |page| {
            // SAFETY: the page is mapped for the machine, and no code of the enclave can access it.
            unsafe { page.cast::<Tcs>().read() }
        })
        .map_err(|_| Fault::page(address, PageFaultCode::paging(Access::Read)))?;
    tcs::check_new(&content, pages.elrange())?;
    let accepted = accept(core, secinfo, address)?;
    if accepted.is_ok() {
        core.threads().insert(address, &content, pages.elrange());
    }
    Ok(accepted)
}

/// Whether the SECINFO is one of a TCS.
fn is_of_tcs(secinfo: &Secinfo) -> bool {
    secinfo.flags.page_type() == Some(PageType::Tcs)
}

/// EMODPE.
fn extend(core: &Core, secinfo: &Secinfo, address: u64) -> Result<(), Fault> {
    let index = page_operand(core, address)?;
    add_missing(core, index, address);
    core.pages().update(index, |page| epcm::emodpe(secinfo, address, page)).map(|_| ())
}

/// EACCEPTCOPY.
fn accept_copy(core: &Core, rbx: u64, rcx: u64, rdx: u64) -> Result<Answer<Page>, Fault> {
    let pages = core.pages();
    operand::<Secinfo>(core, rbx)?;
    let target = page_operand(core, rcx)?;
    let source = page_operand(core, rdx)?;
    let secinfo = read_operand::<Secinfo>(core, rbx)?;
    add_missing(core, target, rcx);
    let rule = |page: Page| epcm::eacceptcopy(&secinfo, rdx, pages.page(source), page);
    if let Err(code) = rule(pages.page(target))? {
        return Ok(Err(code));
    }
    open(core, source, rdx, Access::Read)?;
    let from = ptr::with_exposed_provenance::<u8>(pages.address(source));
    // No other thread may see the page before it has all its content.
    if !pages.fill_hidden(target, source) {
        let copied = pages.with_access(target..target + 1, |to| {
            // Rights are taken away only under the lock that is held here.
            if pages.is_readable(source) {
                // SAFETY: both pages are mapped, and differ, since one is pending and the other is not.
                unsafe { ptr::copy_nonoverlapping(from, to, PAGE) };
            }
        });
        if copied.is_err() {
            return Err(Fault::page(rcx, PageFaultCode::paging(Access::Write)));
        }
    }
    let settled = pages.update(target, |page| match rule(page) {
        Ok(Ok(new)) => Ok(new),
        Ok(Err(code)) => Err(Ok(code)),
        Err(fault) => Err(Err(fault)),
    });
    match settled {
        Ok(page) => Ok(Ok(page)),
        Err(refusal) => refusal.map(Err),
    }
}

/// EREPORT: RBX = TARGETINFO, RCX = 64 bytes of REPORTDATA, RDX = where the REPORT goes.
fn report(core: &Core, rbx: u64, rcx: u64, rdx: u64) -> Result<(), Fault> {
    let Some((root, identity)) = core.identity() else { return Err(Fault::GeneralProtection) };
    place(core, rbx, 512)?;
    place(core, rcx, 128)?;
    place(core, rdx, 512)?;
    let target = read_operand::<Targetinfo>(core, rbx)?;
    let data = read_operand::<[u8; 64]>(core, rcx)?;
    let output = place(core, rdx, 512)?;
    open(core, output, rdx, Access::Write)?;
    write_open(rdx, keys::ereport(root, identity, &target, &data))
}

/// EGETKEY: RBX = KEYREQUEST, RCX = where the key goes.
fn get_key(core: &Core, rbx: u64, rcx: u64) -> Result<Answer<()>, Fault> {
    let Some((root, identity)) = core.identity() else { return Err(Fault::GeneralProtection) };
    place(core, rbx, 128)?;
    let output = place(core, rcx, 16)?;
    let request = read_operand::<Keyrequest>(core, rbx)?;
    open(core, output, rcx, Access::Write)?;
    match keys::egetkey(root, identity, &request)? {
        Ok(key) => write_open(rcx, key).map(Ok),
        Err(code) => Ok(Err(code)),
    }
}

/// [`fast`] declines.
pub(crate) const DECLINED: u64 = u64::MAX;

/// A leaf from a patched site: EACCEPT and EMODPE when they succeed. Returns RAX, or [`DECLINED`].
///
/// Runs on the enclave's stack, with the enclave's FS and GS, and may be interrupted by an AEX and resumed: it takes
/// no lock, uses no thread-local storage, does not panic and keeps nothing outside its frame.
pub(crate) fn fast(core: &Core, leaf: u32, rbx: u64, rcx: u64) -> u64 {
    let Ok(index) = operand::<Secinfo>(core, rbx) else { return DECLINED };
    let pages = core.pages();
    if !pages.is_readable(index) || epcm::secinfo_operand(rbx, pages.page(index)).is_err() {
        return DECLINED;
    }
    let Ok(secinfo) = read_open::<Secinfo>(rbx) else { return DECLINED };
    match Enclu::from_number(leaf) {
        Some(Enclu::Eaccept) if !is_of_tcs(&secinfo) => match accept(core, &secinfo, rcx) {
            Ok(Ok(_)) => 0,
            _ => DECLINED,
        },
        Some(Enclu::Emodpe) => match extend(core, &secinfo, rcx) {
            Ok(()) => u64::from(leaf),
            Err(_) => DECLINED,
        },
        _ => DECLINED,
    }
}
