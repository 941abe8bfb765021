//! A host that answers whatever it likes: the runtime and the kernel behind a program with sockets and files of the host.
//!
//! The input is read from both ends. From the front comes what the program does: system calls with arguments that mostly make
//! sense. From the back comes what the host says to them: plausible answers, errors, numbers and bytes of any kind. Each way of
//! ending is fine for the program; what is looked for is a panic, an overflow, and work that neither ends nor heeds a signal: a
//! timer kills the program when the host has let three seconds pass.
#![no_main]

#[path = "host/answers.rs"]
mod answers;
#[path = "host/platform.rs"]
mod platform;
#[path = "host/program.rs"]
mod program;
#[path = "host/ring.rs"]
mod ring;

use ::platform::HostFd;
use answers::Answers;
use boot_config::network::{Network, Ports};
use boot_config::{BootConfig, Mount, MountSource};
use fake_platform::FakePlatform;
use kernel::{BootExtra, Kernel};
use libfuzzer_sys::fuzz_target;
use platform::Border;
use program::Program;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An input that is consumed from both ends. What is over gives zeros.
struct Input {
    bytes: Vec<u8>,
    front: AtomicUsize,
    back: AtomicUsize,
}

impl Input {
    fn new(bytes: &[u8]) -> Arc<Self> {
        Arc::new(Self {
            bytes: bytes.to_vec(),
            front: AtomicUsize::new(0),
            back: AtomicUsize::new(bytes.len()),
        })
    }

    fn is_over(&self) -> bool {
        self.front.load(Ordering::Relaxed) >= self.back.load(Ordering::Relaxed)
    }

    fn front(&self) -> u8 {
        if self.is_over() { 0 } else { self.bytes[self.front.fetch_add(1, Ordering::Relaxed)] }
    }

    fn back(&self) -> u8 {
        if self.is_over() { 0 } else { self.bytes[self.back.fetch_sub(1, Ordering::Relaxed) - 1] }
    }
}

fuzz_target!(|data: &[u8]| {
    let input = Input::new(data);
    let fake = FakePlatform::new();
    fake.add_host_file("/shared/program", &program::file());
    let border = Border::new(fake.clone());
    let config = BootConfig {
        entry_points: vec!["/".to_owned()],
        mounts: vec![Mount {
            target: "/mnt".to_owned(),
            source: MountSource::HostFs { path: "/shared".to_owned(), sockets: true },
            read_only: false,
        }],
        network: Network { publish: Ports::all(), host_loopback: Ports::all() },
        io_uring: data.len() % 2 == 0,
        ..BootConfig::default()
    };
    let kernel = Kernel::boot(border.clone(), config, BootExtra::default());
    let kernel = kernel.expect("an honest host lets the kernel start");
    let stdio = [Some(HostFd(0)), Some(HostFd(1)), Some(HostFd(2))];
    let argv = vec![b"program".to_vec()];
    let pid = kernel.create_process(b"/mnt/program", argv, Vec::new(), stdio, b"/");
    let pid = pid.expect("an honest host lets the program start");
    let mut answers = Answers::new(input.clone(), fake.clone());
    rt::fuzzing::install(Box::new(move |number, args, buffer| answers.answer(number, args, buffer)));
    let mut program = Program::new(input);
    fake.run(move |fake, registers| program.step(fake, registers));
    border.lie();
    let _ = kernel.run_thread(pid);
    // The file systems of a kernel know each other for ever, and so their platform: its memory goes here.
    fake.forget_pages();
});
