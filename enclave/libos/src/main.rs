//! The enclave image: glue between the runtime, which has the border, and the kernel, which has the system calls.
#![no_std]
#![no_main]

extern crate alloc;

mod memory;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use boot_config::BootConfig;
use core::arch::naked_asm;
use core::panic::PanicInfo;
use kernel::{BootExtra, HostFile, HostMount, Kernel};
use linux_abi::Errno;
use platform::{Level, Log, Platform};
use rt::runtime::ProcessRequest;
use rt::{Ecalls, Runtime, Start};
use spin::Once;

#[global_allocator]
static HEAP: rt::heap::Heap = rt::heap::new();

struct Libos {
    kernel: Once<Arc<Kernel>>,
}

static LIBOS: Libos = Libos { kernel: Once::new() };

/// TCS.OENTRY.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn enclave_entry() {
    naked_asm!("lea r11, [rip + {ecall}]", "jmp {enter}", ecall = sym ecall, enter = sym rt::entry::enter)
}

extern "C" fn ecall(number: u64, frame: u64) {
    rt::runtime::dispatch(&LIBOS, enclave_entry as *const () as u64, number, frame);
}

impl Libos {
    fn kernel(&self) -> Result<&Arc<Kernel>, Errno> {
        self.kernel.get().ok_or(Errno::EAGAIN)
    }
}

impl Ecalls for Libos {
    fn init(&self, start: Start) -> Result<(), Errno> {
        let config = BootConfig::decode(&start.config).map_err(|_| Errno::EINVAL)?;
        let platform: Arc<dyn Platform> = Arc::new(Runtime);
        let extra = BootExtra { mounts: mounts(&start.mounts), files: files(&start.host_files) };
        let kernel = Kernel::boot(platform, config, extra).map_err(|error| {
            Runtime.log(Level::Error, format_args!("the LibOS does not start: {error:?}"));
            error.errno()
        })?;
        self.kernel.call_once(|| kernel);
        Ok(())
    }

    fn new_process(&self, request: ProcessRequest) -> Result<u64, Errno> {
        let ProcessRequest { path, argv, envp, stdio, cwd } = request;
        self.kernel()?.create_process(&path, argv, envp, stdio, &cwd).map(u64::from).map_err(|error| {
            Runtime.log(Level::Error, format_args!("the program does not start: {error:?}"));
            error.errno()
        })
    }

    fn run_thread(&self, tid: u64) -> Result<u64, Errno> {
        let tid = u32::try_from(tid).map_err(|_| Errno::ESRCH)?;
        let status = self.kernel()?.run_thread(tid).map_err(|error| error.errno())?;
        Ok(u64::from(status.cast_unsigned()))
    }

    fn kill(&self, pid: i64, signal: u64) -> Result<(), Errno> {
        let pid = i32::try_from(pid).map_err(|_| Errno::EINVAL)?;
        let signal = u32::try_from(signal).map_err(|_| Errno::EINVAL)?;
        self.kernel()?.kill(pid, signal).map_err(|error| error.errno())
    }

    fn ready(&self) {
        if let Ok(kernel) = self.kernel() {
            kernel.take_readiness();
        }
    }

    fn statistics(&self) -> String {
        self.kernel.get().map_or_else(String::new, |kernel| kernel.statistics())
    }
}

/// NUL-terminated fields, in groups of `N`. An incomplete last group is dropped.
fn groups<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [Vec<u8>; N]> + '_ {
    let mut fields = bytes.split(|&byte| byte == 0).map(<[u8]>::to_vec);
    core::iter::from_fn(move || {
        let group: Vec<Vec<u8>> = fields.by_ref().take(N).collect();
        group.try_into().ok()
    })
}

fn mounts(bytes: &[u8]) -> Vec<HostMount> {
    groups(bytes).map(|[host, guest, mode]| HostMount { host, guest, read_only: mode != b"rw" }).collect()
}

fn files(bytes: &[u8]) -> Vec<HostFile> {
    groups(bytes).map(|[path, content]| HostFile { path, content }).collect()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    rt::panic::abort_with(format_args!("{info}"))
}
