//! The processor: user code is a closure.

use crate::{CURRENT, FakePlatform, lock};
use platform::{CpuidResult, Trap, UserCpu, UserRegisters};
use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

/// Bytes of the extended state: x87, SSE and AVX.
const XSTATE_LEN: usize = 832;

/// The extended state of a new program: control words as the processor resets them.
pub(crate) fn initial_xstate() -> Vec<u8> {
    let mut state = vec![0; XSTATE_LEN];
    state[0..2].copy_from_slice(&0x37fu16.to_le_bytes());
    state[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
    state[512] = 3;
    state
}

impl FakePlatform {
    fn run_once(&self, registers: &mut UserRegisters) -> Trap {
        let me = CURRENT.with(Cell::get);
        if lock(&self.sleepers).interrupts.remove(&me) {
            return Trap::Interrupt;
        }
        // The closure is taken out, so that it may call the platform.
        let mut code = lock(&self.code).remove(&me).expect("the test set the code of this thread");
        let trap = code(self, registers);
        lock(&self.code).entry(me).or_insert(code);
        trap
    }
}

impl UserCpu for FakePlatform {
    fn run_user(&self, registers: &RefCell<UserRegisters>, kernel: &mut dyn FnMut(Trap) -> ControlFlow<()>) {
        loop {
            let trap = self.run_once(&mut registers.borrow_mut());
            if kernel(trap).is_break() {
                return;
            }
        }
    }

    fn xstate_reset(&self) {
        *lock(&self.xstate) = initial_xstate();
    }

    fn xstate_len(&self) -> usize {
        XSTATE_LEN
    }

    fn xstate_features(&self) -> u64 {
        7
    }

    fn xstate_save(&self, into: &mut [u8]) {
        into[..XSTATE_LEN].copy_from_slice(&lock(&self.xstate));
    }

    fn xstate_restore(&self, from: &[u8]) {
        let mut state = lock(&self.xstate);
        let len = from.len().min(XSTATE_LEN);
        state[..len].copy_from_slice(&from[..len]);
    }

    fn syscall_entry(&self) -> u64 {
        0xE_0000_1000
    }

    fn cpuid_entry(&self) -> u64 {
        0xE_0000_2000
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> CpuidResult {
        CpuidResult { eax: leaf, ebx: subleaf, ecx: 0x1234, edx: 0x5678 }
    }

    fn has_rdtsc(&self) -> bool {
        true
    }

    fn tsc(&self) -> u64 {
        self.now_ns.load(Ordering::SeqCst) * 3
    }
}
