//! ELF files that a program executes: the kernel's parser.
#![no_main]

use kbase::SliceSource;
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};

static MEMORY: LazyLock<Arc<fs_mem::MemFs>> =
    LazyLock::new(|| fs_mem::MemFs::new(1, 64 << 20, 0o755, Arc::new(|| 0)));

fuzz_target!(|data: &[u8]| {
    let file = MEMORY.unnamed_file(0o755);
    file.write_at(0, &mut SliceSource::new(data)).expect("a small file fits");
    kernel::fuzzing::program(&*file);
});
