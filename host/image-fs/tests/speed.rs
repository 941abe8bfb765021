//! How fast an image is written. Run with `cargo test --release -- --ignored --nocapture`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{self, Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use image_fs::{ImageWriter, Options, Policy};

/// Takes everything and keeps nothing.
struct Nowhere(u64);

impl Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Nowhere {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        if let SeekFrom::Start(at) = to {
            self.0 = at;
        }
        Ok(self.0)
    }
}

#[test]
#[ignore = "writes a gigabyte"]
fn a_gigabyte_takes_about_a_second() {
    const SIZE: usize = 1 << 20;
    let directory = tempfile::tempdir().unwrap();
    let mut chunk = vec![0u8; SIZE];
    for n in 0..1024u32 {
        for part in chunk.chunks_mut(1024) {
            part[..4].copy_from_slice(&n.to_le_bytes());
        }
        fs::write(directory.path().join(n.to_string()), &chunk).unwrap();
    }
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let mut writer = ImageWriter::new(Options::default());
        writer.add_tree(directory.path(), "/", &Policy::default()).unwrap();
        let start = Instant::now();
        let info = writer.finish(Nowhere(0)).unwrap();
        best = best.min(start.elapsed());
        assert!(info.erofs_len > 1 << 30);
    }
    println!("1 GiB: {best:.2?}, {:.2} GB/s", 1.074 / best.as_secs_f64());
    assert!(best < Duration::from_secs(4));
}
