//! Building: how fast an image is written, and what looking for system calls costs.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]

use criterion::{Criterion, Throughput};
use image_fs::{ImageWriter, Options, Policy};
use std::fs;
use std::hint::black_box;
use std::io::Cursor;

const IMAGE: usize = 256 << 20;
/// Programs with much text, of which the first that is there is taken.
const PROGRAMS: [&str; 3] = [
    "/usr/bin/python3.11",
    "/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
    "/usr/lib/x86_64-linux-gnu/libc.so.6",
];

fn main() {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    write_image(&mut criterion);
    look_for_calls(&mut criterion);
    criterion.final_summary();
}

/// 256 files of 1 MiB: they are read, hashed and written.
fn write_image(criterion: &mut Criterion) {
    let folder = tempfile::TempDir::with_prefix_in("occlum-bench-", "/var/tmp").unwrap();
    let mut content = vec![0u8; 1 << 20];
    for n in 0..IMAGE >> 20 {
        for part in content.chunks_mut(1024) {
            part[..8].copy_from_slice(&n.to_le_bytes());
        }
        fs::write(folder.path().join(n.to_string()), &content).unwrap();
    }
    let mut group = criterion.benchmark_group("image");
    group.throughput(Throughput::Bytes(IMAGE as u64));
    group.bench_function("write", |bencher| {
        bencher.iter(|| {
            let mut writer = ImageWriter::new(Options::default());
            writer.add_tree(folder.path(), "/", &Policy::default()).unwrap();
            let mut image = Cursor::new(Vec::with_capacity(IMAGE + (IMAGE >> 5)));
            writer.finish(&mut image).unwrap()
        });
    });
    // What a copy of the same files costs.
    group.bench_function("only read", |bencher| {
        bencher.iter(|| {
            for n in 0..IMAGE >> 20 {
                black_box(fs::read(folder.path().join(n.to_string())).unwrap());
            }
        });
    });
}

/// Per byte of the file: nine tenths of it is text.
fn look_for_calls(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rewriting");
    for path in PROGRAMS {
        let Ok(program) = fs::read(path) else { continue };
        group.throughput(Throughput::Bytes(program.len() as u64));
        group.bench_function(path, |bencher| bencher.iter(|| image_fs::sites::analyse(black_box(&program))));
    }
}
