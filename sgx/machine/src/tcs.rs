//! Thread control structures: the processor's copy of each TCS of an enclave.
//!
//! A TCS page is accessible to no software, so its fields live here from EADD or EACCEPT on.

use sgx_arch::Tcs;
use sgx_model::Elrange;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, PoisonError, RwLock};

/// One TCS. All addresses are linear.
#[derive(Debug)]
pub(crate) struct ThreadControl {
    /// Of the TCS page.
    pub(crate) address: u64,
    /// First SSA frame.
    pub(crate) ssa: u64,
    /// Number of SSA frames.
    pub(crate) nssa: u32,
    /// Entry point.
    pub(crate) entry: u64,
    /// FS base at entry.
    pub(crate) fsbase: u64,
    /// GS base at entry.
    pub(crate) gsbase: u64,
    /// Current slot of the SSA. Only the thread that holds `busy` writes it.
    pub(crate) cssa: AtomicU32,
    /// TCS.STATE: a logical processor uses it.
    pub(crate) busy: AtomicBool,
    /// Cleared when the page is no longer a TCS.
    pub(crate) live: AtomicBool,
}

/// All TCSs of an enclave, by address.
#[derive(Default)]
pub(crate) struct Threads {
    by_address: RwLock<Registry>,
}

#[derive(Default)]
struct Registry {
    live: HashMap<u64, Arc<ThreadControl>>,
    /// Threads keep pointers to what they ran last, so that nothing is freed before the enclave is.
    dead: Vec<Arc<ThreadControl>>,
}

impl Threads {
    /// A page became a TCS.
    pub(crate) fn insert(&self, address: u64, tcs: &Tcs, elrange: Elrange) {
        // The model checked that the offsets are below the size of ELRANGE.
        let linear = |offset: u64| elrange.base.wrapping_add(offset);
        let control = Arc::new(ThreadControl {
            address,
            ssa: linear(tcs.ossa),
            nssa: tcs.nssa,
            entry: linear(tcs.oentry),
            fsbase: linear(tcs.ofsbase),
            gsbase: linear(tcs.ogsbase),
            cssa: AtomicU32::new(0),
            busy: AtomicBool::new(false),
            live: AtomicBool::new(true),
        });
        let mut registry = self.by_address.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = registry.live.insert(address, control) {
            registry.dead.push(old);
        }
    }

    /// A page is no longer a TCS.
    pub(crate) fn remove(&self, address: u64) {
        let mut registry = self.by_address.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = registry.live.remove(&address) {
            old.live.store(false, std::sync::atomic::Ordering::Release);
            registry.dead.push(old);
        }
    }

    /// The TCS at an address. The pointer stays valid for as long as `self` does.
    pub(crate) fn get(&self, address: u64) -> Option<*const ThreadControl> {
        let registry = self.by_address.read().unwrap_or_else(PoisonError::into_inner);
        registry.live.get(&address).map(Arc::as_ptr)
    }
}
